package datapath

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/fib"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// comparable by value: netip types and keys.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, fib.Route{}))
}

var (
	macA, macB = state.MAC{2, 0, 0, 0, 0, 10}, state.MAC{2, 0, 0, 0, 0, 11}

	podA = state.Endpoint{
		ID: 7, HostIfName: "plca", HostIndex: 20, MAC: macA, IPv4: addr("10.1.1.5"), IPv6: addr("fd00:1::5"),
	}
	podB = state.Endpoint{ // IPv4 alone, limited
		ID: 8, HostIfName: "plcb", HostIndex: 21, MAC: macB, IPv4: addr("10.1.1.6"),
		Bandwidth: state.Bandwidth{IngressRate: 1e6},
	}
	podC = state.Endpoint{ // IPv6 alone, limited in what it sends
		ID: 9, HostIfName: "plcc", HostIndex: 22, MAC: macB, IPv6: addr("fd00:1::7"), Bandwidth: state.Bandwidth{EgressRate: 1e6},
	}

	eth0 = agentapi.Device{
		Name: "eth0", Index: 2, MTU: 1500, Role: roleNative, Addrs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")},
	}
	node1 = state.Node{
		Name: "one", Addrs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")},
		PodCIDRs: []netip.Prefix{prefix("10.1.1.0/24"), prefix("fd00:1::/64")},
	}
	node2 = state.Node{
		Name: "two", Addrs: []netip.Addr{addr("192.0.2.2"), addr("2001:db8::2")},
		PodCIDRs: []netip.Prefix{prefix("10.1.2.0/24"), prefix("fd00:2::/64")},
	}
	node4 = state.Node{ // IPv4 alone
		Name: "four", Addrs: []netip.Addr{addr("192.0.2.4")}, PodCIDRs: []netip.Prefix{prefix("10.1.4.0/24"), prefix("fd00:4::/64")},
	}
	fresh = state.Node{Name: "fresh", Addrs: []netip.Addr{addr("192.0.2.5")}}
)

func native() node {
	return node{
		cfg:     Config{NodeName: "one", AutoDirectRoutes: true, IPv4: true, IPv6: true},
		devices: []agentapi.Device{eth0}, mtu: MTUs{1500, 1500, 1500},
	}
}

func tunnel() node {
	n := native()
	n.cfg.Tunnel = true
	n.mtu.Route = 1450
	n.overlay = agentapi.Device{Name: OverlayDevice, Index: 9, MTU: 1450, Role: roleOverlay}
	return n
}

func TestEndpointRows(t *testing.T) {
	const (
		host   = uint32(abi.CEndpointFlagsENDPOINT_HOST)
		shaped = uint32(abi.CEndpointFlagsENDPOINT_SHAPED)
		local  = uint32(abi.CEndpointFlagsENDPOINT_LINK_LOCAL)
		audit  = uint32(abi.CEndpointFlagsENDPOINT_AUDIT_INGRESS)
	)
	security := map[uint32]Security{7: {Identity: 300, Policy: policy.EndpointPolicy{Ingress: 11, Egress: policy.SetClosed, AuditIngress: true}}}
	got := endpointRows([]state.Endpoint{podA, podB, podC}, security, []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")})
	want := map[netip.Addr]endpointRow{
		addr("192.0.2.1"):       {Flags: host},
		addr("2001:db8::1"):     {Flags: host},
		addr("10.1.1.5"):        {Index: 20, ID: 7, MAC: macA, Flags: audit, Identity: 300, Ingress: 11, Egress: policy.SetClosed},
		addr("fd00:1::5"):       {Index: 20, ID: 7, MAC: macA, Flags: audit, Identity: 300, Ingress: 11, Egress: policy.SetClosed},
		addr("fe80::ff:fe00:a"): {Index: 20, ID: 7, MAC: macA, Flags: audit | local, Identity: 300, Ingress: 11, Egress: policy.SetClosed},
		addr("10.1.1.6"):        {Index: 21, ID: 8, MAC: macB, Flags: shaped},
		addr("fd00:1::7"):       {Index: 22, ID: 9, MAC: macB},
		addr("fe80::ff:fe00:b"): {Index: 22, ID: 9, MAC: macB, Flags: local},
	}
	if d := diff(want, got); d != "" {
		t.Errorf("rows (-want +got):\n%s", d)
	}
	if rows := endpointRows(nil, nil, nil); len(rows) != 0 {
		t.Errorf("rows of nothing: %v", rows)
	}
}

func TestIPCacheRows(t *testing.T) {
	six := tunnel()
	six.underlay6 = true
	for _, tc := range []struct {
		name string
		node node
		want map[netip.Prefix]netip.Addr
	}{
		{"underlay IPv4", tunnel(), map[netip.Prefix]netip.Addr{
			prefix("10.1.2.0/24"): addr("192.0.2.2"), prefix("fd00:2::/64"): addr("192.0.2.2"),
			prefix("192.0.2.2/32"): addr("192.0.2.2"), prefix("2001:db8::2/128"): addr("192.0.2.2"),
			prefix("10.1.4.0/24"): addr("192.0.2.4"), prefix("fd00:4::/64"): addr("192.0.2.4"),
			prefix("192.0.2.4/32"): addr("192.0.2.4"), prefix("192.0.2.5/32"): addr("192.0.2.5"),
		}},
		{"underlay IPv6: a node without IPv6 cannot be reached", six, map[netip.Prefix]netip.Addr{
			prefix("10.1.2.0/24"): addr("2001:db8::2"), prefix("fd00:2::/64"): addr("2001:db8::2"),
			prefix("192.0.2.2/32"): addr("2001:db8::2"), prefix("2001:db8::2/128"): addr("2001:db8::2"),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := diff(tc.want, ipcacheRows(tc.node, []state.Node{node1, node2, node4, fresh})); d != "" {
				t.Errorf("rows (-want +got):\n%s", d)
			}
		})
	}
}

func TestNodeRoutes(t *testing.T) {
	all := func(netip.Addr) (int, bool) { return 2, true }
	nobody := func(netip.Addr) (int, bool) { return 0, false }
	blackhole, unreachable := fib.Route{Kind: fib.Blackhole}, fib.Route{Kind: fib.Unreachable}
	direct := func(gw string, mtu int) fib.Route {
		return fib.Route{Kind: fib.Unicast, Index: 2, Gateway: addr(gw), MTU: mtu}
	}
	overlay := func(src string) fib.Route {
		return fib.Route{Kind: fib.Unicast, Index: 9, MTU: 1450, Source: addr(src)}
	}
	for _, tc := range []struct {
		name   string
		node   func() node
		onLink func(netip.Addr) (int, bool)
		want   map[netip.Prefix]fib.Route
	}{
		{"native, one segment", native, all, map[netip.Prefix]fib.Route{
			prefix("10.1.1.0/24"): blackhole, prefix("fd00:1::/64"): blackhole,
			prefix("10.1.2.0/24"): direct("192.0.2.2", 0), prefix("fd00:2::/64"): direct("2001:db8::2", 0),
			prefix("10.1.4.0/24"): direct("192.0.2.4", 0), // no IPv6 address to go by
		}},
		{"native, other segments are the network's", native, nobody, map[netip.Prefix]fib.Route{
			prefix("10.1.1.0/24"): blackhole, prefix("fd00:1::/64"): blackhole,
		}},
		{"native, no direct routes", func() node { n := native(); n.cfg.AutoDirectRoutes = false; return n }, all, map[netip.Prefix]fib.Route{
			prefix("10.1.1.0/24"): blackhole, prefix("fd00:1::/64"): blackhole,
		}},
		{"native, MTU smaller than the device's", func() node { n := native(); n.mtu = MTUs{1400, 1400, 1400}; return n }, all, map[netip.Prefix]fib.Route{
			prefix("10.1.1.0/24"): blackhole, prefix("fd00:1::/64"): blackhole,
			prefix("10.1.2.0/24"): direct("192.0.2.2", 1400), prefix("fd00:2::/64"): direct("2001:db8::2", 1400),
			prefix("10.1.4.0/24"): direct("192.0.2.4", 1400),
		}},
		{"unreachable routes", func() node { n := native(); n.cfg.UnreachableRoutes = true; return n }, nobody, map[netip.Prefix]fib.Route{
			prefix("10.1.1.0/24"): unreachable, prefix("fd00:1::/64"): unreachable,
		}},
		{"tunnel", tunnel, nobody, map[netip.Prefix]fib.Route{
			prefix("10.1.1.0/24"): blackhole, prefix("fd00:1::/64"): blackhole,
			prefix("10.1.2.0/24"): overlay("192.0.2.1"), prefix("fd00:2::/64"): overlay("2001:db8::1"),
			prefix("10.1.4.0/24"): overlay("192.0.2.1"), prefix("fd00:4::/64"): overlay("2001:db8::1"),
		}},
		{"tunnel over IPv6", func() node { n := tunnel(); n.underlay6 = true; return n }, nobody, map[netip.Prefix]fib.Route{
			prefix("10.1.1.0/24"): blackhole, prefix("fd00:1::/64"): blackhole,
			prefix("10.1.2.0/24"): overlay("192.0.2.1"), prefix("fd00:2::/64"): overlay("2001:db8::1"),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := nodeRoutes(tc.node(), []state.Node{node1, node2, node4, fresh}, tc.onLink)
			if d := diff(tc.want, got); d != "" {
				t.Errorf("routes (-want +got):\n%s", d)
			}
		})
	}
}

func TestPodRows(t *testing.T) {
	eps := []state.Endpoint{podA, podB}
	routes := map[netip.Prefix]fib.Route{
		prefix("10.1.1.5/32"):   {Kind: fib.Unicast, Index: 20, Source: addr("192.0.2.1")},
		prefix("fd00:1::5/128"): {Kind: fib.Unicast, Index: 20, Source: addr("2001:db8::1")},
		prefix("10.1.1.6/32"):   {Kind: fib.Unicast, Index: 21, Source: addr("192.0.2.1")},
	}
	if d := diff(routes, podRoutes(native(), eps)); d != "" {
		t.Errorf("routes (-want +got):\n%s", d)
	}
	neighbours := map[fib.NeighbourKey]state.MAC{
		{Index: 20, Addr: addr("10.1.1.5")}: macA, {Index: 20, Addr: addr("fd00:1::5")}: macA,
		{Index: 21, Addr: addr("10.1.1.6")}: macB,
	}
	if d := diff(neighbours, neighbourRows(eps)); d != "" {
		t.Errorf("neighbours (-want +got):\n%s", d)
	}
}

func TestLinkRows(t *testing.T) {
	want := map[loader.LinkKey]int{
		{Device: "plca", Program: loader.FromPod}: 20, {Device: "plca", Program: loader.ToPod}: 20,
		{Device: "eth0", Program: loader.FromNetdev}: 2, {Device: "eth0", Program: loader.ToNetdev}: 2,
	}
	if d := diff(want, linkRows(native(), []state.Endpoint{podA})); d != "" {
		t.Errorf("native links (-want +got):\n%s", d)
	}
	want[loader.LinkKey{Device: OverlayDevice, Program: loader.FromOverlay}] = 9
	want[loader.LinkKey{Device: OverlayDevice, Program: loader.ToOverlay}] = 9
	if d := diff(want, linkRows(tunnel(), []state.Endpoint{podA})); d != "" {
		t.Errorf("tunnel links (-want +got):\n%s", d)
	}
}

func TestComputeMTUs(t *testing.T) {
	dev := func(name string, mtu int) agentapi.Device { return agentapi.Device{Name: name, MTU: mtu} }
	for _, tc := range []struct {
		name      string
		cfg       Config
		devices   []agentapi.Device
		underlay6 bool
		want      MTUs
		err       []string
	}{
		{"native", Config{}, []agentapi.Device{dev("a", 1500)}, false, MTUs{1500, 1500, 1500}, nil},
		{"native over IPv6", Config{}, []agentapi.Device{dev("a", 1500)}, true, MTUs{1500, 1500, 1500}, nil},
		{"smallest of two devices", Config{}, []agentapi.Device{dev("a", 9000), dev("b", 1500)}, false, MTUs{1500, 1500, 1500}, nil},
		{"given", Config{MTU: 1400}, []agentapi.Device{dev("a", 1500)}, false, MTUs{1400, 1400, 1400}, nil},
		{"tunnel", Config{Tunnel: true}, []agentapi.Device{dev("a", 1500)}, false, MTUs{1500, 1500, 1450}, nil},
		{"tunnel over IPv6", Config{Tunnel: true}, []agentapi.Device{dev("a", 1500)}, true, MTUs{1500, 1500, 1430}, nil},
		{"tunnel, jumbo, given", Config{Tunnel: true, MTU: 8950}, []agentapi.Device{dev("a", 9000)}, false, MTUs{8950, 8950, 8900}, nil},
		{"just enough for IPv6", Config{IPv6: true, Tunnel: true}, []agentapi.Device{dev("a", 1330)}, false, MTUs{1330, 1330, 1280}, nil},
		{"not enough for IPv6", Config{IPv6: true, Tunnel: true}, []agentapi.Device{dev("a", 1329)}, false, MTUs{}, []string{"1279", "1329", "1280", "enable-ipv6"}},
		{"small, without IPv6", Config{}, []agentapi.Device{dev("a", 1000)}, false, MTUs{1000, 1000, 1000}, nil},
		{"more than a device takes", Config{MTU: 9000}, []agentapi.Device{dev("a", 9000), dev("b", 1500)}, false, MTUs{}, []string{"key mtu", "9000", "b", "1500"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := computeMTUs(tc.cfg, tc.devices, tc.underlay6)
			if got != tc.want || (err != nil) != (tc.err != nil) {
				t.Fatalf("computeMTUs = %+v, %v; want %+v", got, err, tc.want)
			}
			for _, part := range tc.err {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not say %q: %v", part, err)
				}
			}
		})
	}
}

func TestProblemWith(t *testing.T) {
	six := tunnel()
	six.underlay6 = true
	with := func(change func(*state.Node)) state.Node {
		n := node2
		change(&n)
		return n
	}
	for _, tc := range []struct {
		name  string
		node  node
		other state.Node
		want  string // part of it; "" is none
	}{
		{"none", native(), node2, ""},
		{"it says the same", native(), with(func(n *state.Node) { n.MTU, n.RoutingMode = 1500, state.RoutingNative }), ""},
		{"none in a tunnel", tunnel(), with(func(n *state.Node) { n.MTU, n.RoutingMode = 1450, state.RoutingTunnel }), ""},
		{"another mode", native(), with(func(n *state.Node) { n.RoutingMode = state.RoutingTunnel }), "routing-mode is tunnel there and native here"},
		{"another mode than tunnel", tunnel(), with(func(n *state.Node) { n.RoutingMode = state.RoutingNative }), "routing-mode is native there and tunnel here"},
		{"another MTU", native(), with(func(n *state.Node) { n.MTU = 9000 }), "9000 there and 1500 here"},
		{"no CIDR", native(), fresh, "no pod CIDR"},
		{"no address for the tunnel", six, node4, "no address of the tunnel's family"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.node.problemWith(tc.other)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("problem %q, want %q", got, tc.want)
			}
		})
	}
}

func TestConstants(t *testing.T) {
	n := tunnel()
	n.underlay6 = true
	want := abi.CConfig{
		RouterIp4: netorder.Addr(addr("192.0.2.1")), RouterIp6: netorder.Addr(addr("2001:db8::1")),
		RouterMac: pair.RouterMAC(), PodMtu: 1500, OverlayMtu: 1450, Tunnel: 1, TunnelUnderlay6: 1,
		OverlayIfindex: 9, TunnelVni: TunnelVNI,
		MasqueradeIp4: netorder.Addr(addr("192.0.2.1")), MasqueradeIp6: netorder.Addr(addr("2001:db8::1")),
		HashSeed: hashSeed(n.cfg.NodeName), MaglevSize: loadbalance.DefaultMaglevSize,
	}
	if got := n.constants(); got != want {
		t.Errorf("constants are %+v, want %+v", got, want)
	}
	n = native()
	n.devices = nil
	if got := n.constants(); got.Tunnel != 0 || got.RouterIp4 != (abi.CAddr{}) || got.OverlayIfindex != 0 {
		t.Errorf("constants of a node without addresses are %+v", got)
	}
}

func TestCodecs(t *testing.T) {
	ec, ic := endpointCodec(), ipcacheCodec()
	for addr, row := range endpointRows([]state.Endpoint{podA, podB, podC}, nil, []netip.Addr{addr("192.0.2.1")}) {
		if got := ec.fromKey(ec.key(addr)); got != addr {
			t.Errorf("key %s comes back as %s", addr, got)
		}
		if got := ec.fromValue(ec.value(row)); got != row {
			t.Errorf("row %+v comes back as %+v", row, got)
		}
	}
	for p, a := range ipcacheRows(tunnel(), []state.Node{node2, node4}) {
		if got := ic.fromKey(ic.key(p)); got != p {
			t.Errorf("key %s comes back as %s", p, got)
		}
		if got := ic.fromValue(ic.value(a)); got != a {
			t.Errorf("%s comes back as %s", a, got)
		}
	}
	if got := ic.key(prefix("10.1.2.0/24")).PrefixLen; got != 120 {
		t.Errorf("an IPv4 /24 has %d bits in the 128-bit form, want 120", got)
	}
}

// TestReasonTexts keeps every reason of the programs readable.
func TestReasonTexts(t *testing.T) {
	seen := map[string]abi.CReason{}
	for r := range abi.CReasonREASON_COUNT {
		text := ReasonText(r)
		if strings.HasPrefix(text, "Reason ") {
			continue // the number is not in use
		}
		if other, ok := seen[text]; ok {
			t.Errorf("reasons %d and %d are both %q", other, r, text)
		}
		seen[text] = r
	}
	if len(seen) < 20 || ReasonText(abi.CReasonDROP_INVALID_SOURCE) != "Invalid source ip" || ReasonText(77) != "Reason 77" {
		t.Errorf("texts are %v", seen)
	}
	for hook, h := range hookNames() {
		if h.program == "" || h.direction == "" {
			t.Errorf("hook %d has no name", hook)
		}
	}
}
