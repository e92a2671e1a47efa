package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// maxMasqFile is the largest file that MasqueradeExclusions reads, in bytes; a
// ConfigMap cannot be larger.
const maxMasqFile = 1 << 20

// NativeCIDRs are the destinations that pods reach with their own address, of the
// families that are on. Where the native routing range of a family is empty, they
// are its pools of ipam cluster-pool; with another ipam nothing is added for it.
func (c Config) NativeCIDRs() []netip.Prefix {
	var out []netip.Prefix
	for _, f := range []struct {
		on    bool
		cidr  netip.Prefix
		pools []netip.Prefix
	}{
		{c.EnableIPv4, c.NativeRoutingCIDR4, c.ClusterPoolIPv4CIDR},
		{c.EnableIPv6, c.NativeRoutingCIDR6, c.ClusterPoolIPv6CIDR},
	} {
		switch {
		case !f.on:
		case f.cidr.IsValid():
			out = append(out, f.cidr)
		case c.IPAM == ipamClusterPool:
			out = append(out, f.pools...)
		}
	}
	return out
}

// unboundedMasquerade finds a family in which what leaves the cluster cannot be
// told from what stays in it.
func unboundedMasquerade(c Config, family string, masquerade bool) string {
	cidr := c.NativeRoutingCIDR4
	if family == familyIPv6 {
		cidr = c.NativeRoutingCIDR6
	}
	if !masquerade || cidr.IsValid() || c.RoutingMode != routingNative || c.IPAM == ipamClusterPool || c.EnableIPMasqAgent {
		return ""
	}
	return fmt.Sprintf("nothing says which destinations pods reach with their own address: "+
		"set %s-native-routing-cidr to a range that holds all pod CIDRs, or enable-%s-masquerade=false", family, family)
}

// idleMasqAgent finds exclusions from a masquerading that is off.
func idleMasqAgent(c Config, _ func(string) bool) string {
	if !c.EnableIPMasqAgent || c.EnableIPv4 && c.EnableIPv4Masquerade || c.EnableIPv6 && c.EnableIPv6Masquerade {
		return ""
	}
	return "nothing is masqueraded, so there is nothing to exclude; set enable-ip-masq-agent=false or switch masquerading on"
}

// masqFile is the file of ip-masq-agent-config-path.
type masqFile struct {
	NonMasqueradeCIDRs []string `json:"nonMasqueradeCIDRs"`
	MasqLinkLocal      bool     `json:"masqLinkLocal"`
	MasqLinkLocalIPv6  bool     `json:"masqLinkLocalIPv6"`
	// ResyncInterval is how often ip-masq-agent reads the file; it says nothing here.
	ResyncInterval string `json:"resyncInterval"`
}

// MasqueradeExclusions reads the file of ip-masq-agent-config-path: destinations
// that pods reach with their own address, sorted, each once. Without the file, or
// when it is empty, they are the private and reserved ranges of IPv4, as
// ip-masq-agent has them. The link-local ranges are added unless the file says that
// they are masqueraded too. An error names the file and what is wrong in it.
func MasqueradeExclusions(path string) ([]netip.Prefix, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxMasqFile {
		return nil, fmt.Errorf("key ip-masq-agent-config-path: %s has %d bytes; at most %d are read", path, info.Size(), maxMasqFile)
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key ip-masq-agent-config-path: %w", err)
	}
	out, err := parseMasqFile(data)
	if err != nil {
		return nil, fmt.Errorf("key ip-masq-agent-config-path: %s: %w", path, err)
	}
	return out, nil
}

func parseMasqFile(data []byte) ([]netip.Prefix, error) {
	var file masqFile
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		file.NonMasqueradeCIDRs = strings.Fields(reservedRanges)
	}
	if !file.MasqLinkLocal {
		file.NonMasqueradeCIDRs = append(file.NonMasqueradeCIDRs, "169.254.0.0/16")
	}
	if !file.MasqLinkLocalIPv6 {
		file.NonMasqueradeCIDRs = append(file.NonMasqueradeCIDRs, "fe80::/10")
	}
	var out []netip.Prefix
	for i, text := range file.NonMasqueradeCIDRs {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("nonMasqueradeCIDRs[%d] is %s: allowed are CIDRs such as 10.0.0.0/8", i, quote(text))
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}

// reservedRanges are what ip-masq-agent leaves alone unless it is told otherwise.
const reservedRanges = `10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 192.0.0.0/24 192.0.2.0/24
	192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4`
