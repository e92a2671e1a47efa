package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func TestNatives(t *testing.T) {
	var n natives
	n.set(append(prefixes("10.0.0.7/8", "fd00::/48", "10.0.0.0/8"), netip.Prefix{}))
	rows, changed, err := n.desired()
	if err != nil || len(rows) != 2 || rows[netip.MustParsePrefix("10.0.0.0/8")] != 1 || rows[netip.MustParsePrefix("fd00::/48")] != 1 {
		t.Fatalf("rows are %v, %v", rows, err)
	}
	n.set(prefixes("fd00::/48", "10.0.0.0/8"))
	select {
	case <-changed:
		t.Error("the same destinations are a change")
	default:
	}
	n.set(nil)
	<-changed
	if rows, _, _ = n.desired(); len(rows) != 0 {
		t.Errorf("rows are %v, want none", rows)
	}
	c := nativeCodec()
	for _, p := range prefixes("0.0.0.0/0", "10.1.2.3/32", "::/0", "fd00::/48", "2001:db8::1/128") {
		if got := c.fromKey(c.key(p)); got != p {
			t.Errorf("%s comes back as %s", p, got)
		}
	}
}

func TestTranslationConstants(t *testing.T) {
	n := native()
	n.cfg.IPv4, n.cfg.IPv6, n.hz = true, true, 250
	n.cfg.Services = ServiceConfig{
		Enabled: true, Reject: true, SocketsOfHostOnly: true, MaglevSize: 251, MaglevSeed: [12]byte{4: 1, 7: 2, 8: 3, 11: 4},
	}
	n.cfg.Masquerade = MasqueradeConfig{IPv4: true, IPv6: true}
	n.translation = translation{ports: portRange{1024, 29999}, hostNetns: 7}
	var c abi.CConfig
	n.translationConstants(&c)
	want := abi.CConfig{
		SyncJiffies: 250, Services: 1, Reject: 1, Masquerade4: 1, NatPortFirst: 1024, NatPorts: 28976, MaglevSize: 251,
		HashSeed: hashSeed(n.cfg.NodeName), MaglevSeed4: 0x01000002, MaglevSeed6: 0x03000004,
		MasqueradeIp4: netorder.Addr(first(n.devices, false)), HostNetns: 7, SockHostOnly: 1,
	}
	sources := []netip.Addr{first(n.devices, false)}
	if six := first(n.devices, true); six.IsValid() {
		sources = append(sources, six)
		want.MasqueradeIp6, want.Masquerade6 = netorder.Addr(six), 1
	}
	if c != want {
		t.Errorf("constants are\n%+v, want\n%+v", c, want)
	}
	if got := n.sources(); got.Ports != int(want.NatPorts) || !slices.Equal(got.Addrs, sources) {
		t.Errorf("translated flows get %+v, want %v with %d ports", got, sources, want.NatPorts)
	}
	// Nothing is translated to an address that the node has not.
	n.devices = nil
	c = abi.CConfig{}
	if n.translationConstants(&c); c.Masquerade4 != 0 || c.Masquerade6 != 0 {
		t.Errorf("a node without addresses masquerades: %+v", c)
	}
	if got := (node{}).sources(); got.Ports != 0 {
		t.Errorf("a node that translates nothing has %d ports for it", got.Ports)
	}
	// The seed must be the same after a restart, with any version of the agent.
	if one, two := hashSeed("node1"), hashSeed("node2"); one == two || one != 0xf4e2874 {
		t.Errorf("the seeds of two nodes are %#x and %#x", one, two)
	}
}

func TestServingAddrs(t *testing.T) {
	addrs := func(texts ...string) (out []netip.Addr) {
		for _, s := range texts {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	native, all := addrs("192.0.2.9", "192.0.2.1", "2001:db8::1"), addrs("192.0.2.9", "192.0.2.1", "2001:db8::1", "10.9.0.1", "172.16.0.1")
	for _, tc := range []struct {
		name     string
		ip4, ip6 bool
		prefixes []netip.Prefix
		want     []netip.Addr
	}{
		{"those of the native devices", true, true, nil, addrs("192.0.2.1", "192.0.2.9", "2001:db8::1")},
		{"of one family", true, false, nil, addrs("192.0.2.1", "192.0.2.9")},
		{"of the other", false, true, nil, addrs("2001:db8::1")},
		{"in prefixes", true, true, prefixes("10.0.0.0/8", "192.0.2.1/32"), addrs("10.9.0.1", "192.0.2.1")},
		{"in none", true, true, prefixes("203.0.113.0/24"), nil},
	} {
		got := servingAddrs(native, all, Config{IPv4: tc.ip4, IPv6: tc.ip6, Services: ServiceConfig{NodePortAddresses: tc.prefixes}})
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestNodeAddrsChange(t *testing.T) {
	var n nodeAddrs
	_, changed := n.get()
	n.set([]netip.Addr{netip.MustParseAddr("192.0.2.1")})
	<-changed
	got, changed := n.get()
	if len(got) != 1 {
		t.Errorf("addresses are %v", got)
	}
	n.set(got)
	select {
	case <-changed:
		t.Error("the same addresses are a change")
	default:
	}
}
