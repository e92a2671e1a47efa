package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/placid-net/placid/internal/agentapi"
)

// routerSysctls makes the node forward packets of the families in use. The
// routing-table lookup of the programs answers only where forwarding is on.
func routerSysctls(ipv4, ipv6 bool, devices []agentapi.Device) error {
	if ipv4 {
		if err := setSysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	if !ipv6 {
		return nil
	}
	// A router ignores router advertisements unless told otherwise, and the node
	// may owe its default route to one.
	for _, d := range devices {
		key := "net/ipv6/conf/" + d.Name + "/accept_ra"
		if value, err := os.ReadFile("/proc/sys/" + key); err == nil && strings.TrimSpace(string(value)) == "1" {
			if err := setSysctl(key, "2"); err != nil {
				return err
			}
		}
	}
	return setSysctl("net/ipv6/conf/all/forwarding", "1")
}

// setSysctl writes only when the value differs: a node may allow reading alone.
func setSysctl(key, value string) error {
	path := "/proc/sys/" + key
	have, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(have)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("set %s=%s: %w: set it on the node or give the agent a writable /proc/sys",
				strings.ReplaceAll(key, "/", "."), value, err)
		}
		return fmt.Errorf("set %s=%s: %w", strings.ReplaceAll(key, "/", "."), value, err)
	}
	return nil
}
