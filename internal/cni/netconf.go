package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// The MTU that a configuration may ask for, in bytes: IPv6 needs 1280.
const (
	minMTU = 1280
	maxMTU = 65520
)

// netConf is the network configuration as the runtime hands it to the plugin.
type netConf struct {
	CNIVersion string       `json:"cniVersion"`
	Name       string       `json:"name"`
	IPAM       types.IPAM   `json:"ipam"`
	DNS        types.DNS    `json:"dns"`
	SocketPath string       `json:"socketPath"`
	PendingDir string       `json:"pendingDir"`
	MTU        int          `json:"mtu"`
	LogFile    string       `json:"logFile"`
	LogLevel   string       `json:"logLevel"`
	Runtime    runtimeConf  `json:"runtimeConfig"`
	RawValid   []attachment `json:"cni.dev/valid-attachments"`

	// RawPrevResult is judged by CHECK alone.
	RawPrevResult json.RawMessage `json:"prevResult"`
}

// runtimeConf are the values of the capabilities that the configuration names.
type runtimeConf struct {
	Bandwidth    bandwidthConf `json:"bandwidth"`
	PortMappings []portMapping `json:"portMappings"`
}

// bandwidthConf is signed so that a negative value is told from a wrong type.
type bandwidthConf struct {
	IngressRate  int64 `json:"ingressRate"`
	IngressBurst int64 `json:"ingressBurst"`
	EgressRate   int64 `json:"egressRate"`
	EgressBurst  int64 `json:"egressBurst"`
}

type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// parseConf decodes the configuration and fills in the default paths. It
// checks types only.
func parseConf(data []byte) (*netConf, error) {
	conf := &netConf{}
	if err := decode(data, conf, "network configuration"); err != nil {
		return nil, err
	}
	if conf.SocketPath == "" {
		conf.SocketPath = agentapi.DefaultSocket
	}
	if conf.PendingDir == "" {
		conf.PendingDir = agentapi.DefaultPendingDir
	}
	return conf, nil
}

// decode reads JSON into v; what names the whole of it in errors.
func decode(data []byte, v any, what string) error {
	err := json.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return types.NewError(types.ErrDecodingFailure,
			fmt.Sprintf("%s: %s is a JSON %s, want %s", what, wrong.Field, wrong.Value, wrong.Type), "")
	}
	return types.NewError(types.ErrDecodingFailure, what+": "+err.Error(), "")
}

// validatePaths checks what every command needs.
func (c *netConf) validatePaths() error {
	for _, f := range []struct{ key, value string }{
		{"socketPath", c.SocketPath}, {"pendingDir", c.PendingDir}, {"logFile", c.LogFile},
	} {
		if f.value != "" && !filepath.IsAbs(f.value) {
			return confError(fmt.Sprintf("%s is %q: it must be an absolute path", f.key, f.value))
		}
	}
	if len(c.SocketPath) > agentapi.MaxSocketPath {
		return confError(fmt.Sprintf("socketPath has %d bytes: at most %d are allowed", len(c.SocketPath), agentapi.MaxSocketPath))
	}
	return nil
}

// validate checks every value of the configuration but prevResult.
func (c *netConf) validate() error {
	if err := c.validatePaths(); err != nil {
		return err
	}
	if c.IPAM.Type != "" {
		return confError(fmt.Sprintf("ipam.type is %q: Placid gives addresses itself; remove ipam", c.IPAM.Type))
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		return confError(fmt.Sprintf("mtu is %d: allowed are %d to %d, or 0 for the node's", c.MTU, minMTU, maxMTU))
	}
	var level slog.Level
	if c.LogLevel != "" && level.UnmarshalText([]byte(c.LogLevel)) != nil {
		return confError(fmt.Sprintf("logLevel is %q: allowed are debug, info, warn and error", c.LogLevel))
	}
	b := c.Runtime.Bandwidth
	if err := validateRate("ingress", b.IngressRate, b.IngressBurst); err != nil {
		return err
	}
	if err := validateRate("egress", b.EgressRate, b.EgressBurst); err != nil {
		return err
	}
	_, err := hostPorts(c.Runtime.PortMappings)
	return err
}

func validateRate(direction string, rate, burst int64) error {
	key := "runtimeConfig.bandwidth." + direction
	switch {
	case rate < 0:
		return confError(fmt.Sprintf("%sRate is %d: it must be 0 (no limit) or bits per second", key, rate))
	case burst < 0:
		return confError(fmt.Sprintf("%sBurst is %d: it must be 0 (chosen for you) or bits", key, burst))
	case burst > 0 && rate == 0:
		return confError(fmt.Sprintf("%sBurst is %d without %sRate: set both", key, burst, direction))
	}
	return nil
}

// bandwidth is what the pod's annotations ask for; validate has checked it.
func (c *netConf) bandwidth() state.Bandwidth {
	b := c.Runtime.Bandwidth
	return state.Bandwidth{
		IngressRate: uint64(b.IngressRate), IngressBurst: uint64(b.IngressBurst),
		EgressRate: uint64(b.EgressRate), EgressBurst: uint64(b.EgressBurst),
	}
}

// hostPorts are the ports of the node that lead to the pod; validate has checked
// them.
func (c *netConf) hostPorts() []state.HostPort {
	ports, err := hostPorts(c.Runtime.PortMappings)
	if err != nil {
		return nil
	}
	return ports
}

// level is the level of the log file; info unless logLevel says otherwise.
func (c *netConf) level() slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// validAttachments is the list of a GC. A missing list is refused: taking it
// for an empty one would remove every pod's interface.
func (c *netConf) validAttachments() ([]state.AttachmentID, error) {
	const key = "cni.dev/valid-attachments"
	if c.RawValid == nil {
		return nil, confError(key + " is missing: list the attachments to keep; [] removes all")
	}
	valid := make([]state.AttachmentID, 0, len(c.RawValid))
	for i, a := range c.RawValid {
		if a.ContainerID == "" {
			return nil, confError(fmt.Sprintf("%s[%d].containerID is missing", key, i))
		}
		if a.IfName == "" {
			return nil, confError(fmt.Sprintf("%s[%d].ifname is missing", key, i))
		}
		valid = append(valid, state.AttachmentID(a))
	}
	return valid, nil
}

// prevResult is what CHECK needs of a previous result; the members are the same
// in every CNI version. It is decoded here because the library's conversion
// between versions panics on null members.
type prevResult struct {
	CNIVersion string `json:"cniVersion"`
	Interfaces []*struct {
		Name    string `json:"name"`
		Sandbox string `json:"sandbox"`
	} `json:"interfaces"`
	IPs []*struct {
		Interface *int          `json:"interface"`
		Address   *netip.Prefix `json:"address"`
	} `json:"ips"`
}

// hasPrevResult tells whether the runtime handed over a previous result.
func (c *netConf) hasPrevResult() bool {
	return len(c.RawPrevResult) > 0 && string(c.RawPrevResult) != "null"
}

// expectedAddrs are the addresses that prevResult gives the interface ifName.
func expectedAddrs(c *netConf, ifName string) ([]netip.Addr, error) {
	if !c.hasPrevResult() {
		return nil, confError("prevResult is missing: CHECK compares the attachment with it")
	}
	var prev prevResult
	if err := decode(c.RawPrevResult, &prev, "prevResult"); err != nil {
		return nil, err
	}
	if prev.CNIVersion != "" && prev.CNIVersion != c.CNIVersion {
		return nil, confError(fmt.Sprintf("prevResult.cniVersion is %q, but the configuration's is %q", prev.CNIVersion, c.CNIVersion))
	}
	addrs, err := prev.addrsOf(ifName)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, confError(fmt.Sprintf("prevResult.ips has no address of %s", ifName))
	}
	return addrs, nil
}

// addrsOf leaves out the addresses of interfaces that other plugins made.
func (p *prevResult) addrsOf(ifName string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for i, ip := range p.IPs {
		if ip == nil || ip.Address == nil || !ip.Address.IsValid() {
			return nil, confError(fmt.Sprintf("prevResult.ips[%d].address is missing", i))
		}
		if ip.Interface != nil {
			n := *ip.Interface
			if n < 0 || n >= len(p.Interfaces) || p.Interfaces[n] == nil {
				return nil, confError(fmt.Sprintf("prevResult.ips[%d].interface is %d: there is no such interface", i, n))
			}
			if p.Interfaces[n].Name != ifName || p.Interfaces[n].Sandbox == "" {
				continue
			}
		}
		addrs = append(addrs, ip.Address.Addr().Unmap())
	}
	return addrs, nil
}
