package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

const (
	protoTCP = state.ProtocolTCP
	protoUDP = state.ProtocolUDP
)

func TestNormalise(t *testing.T) {
	for _, tc := range []struct {
		name     string
		in, want []PortRange
	}{
		{"none", nil, nil},
		{"sorted by protocol and port", []PortRange{portsFrom(protoUDP, 53, 53), portsFrom(protoTCP, 443, 443), portsFrom(protoTCP, 80, 80)}, []PortRange{portsFrom(protoTCP, 80, 80), portsFrom(protoTCP, 443, 443), portsFrom(protoUDP, 53, 53)}},
		{"adjacent", []PortRange{portsFrom(protoTCP, 81, 90), portsFrom(protoTCP, 80, 80)}, []PortRange{portsFrom(protoTCP, 80, 90)}},
		{"overlapping", []PortRange{portsFrom(protoTCP, 80, 90), portsFrom(protoTCP, 85, 100)}, []PortRange{portsFrom(protoTCP, 80, 100)}},
		{"inside", []PortRange{portsFrom(protoTCP, 80, 90), portsFrom(protoTCP, 85, 86)}, []PortRange{portsFrom(protoTCP, 80, 90)}},
		{"a gap of one", []PortRange{portsFrom(protoTCP, 80, 80), portsFrom(protoTCP, 82, 82)}, []PortRange{portsFrom(protoTCP, 80, 80), portsFrom(protoTCP, 82, 82)}},
		{"not across protocols", []PortRange{portsFrom(protoTCP, 80, 80), portsFrom(protoUDP, 81, 81)}, []PortRange{portsFrom(protoTCP, 80, 80), portsFrom(protoUDP, 81, 81)}},
		{"not across kinds", []PortRange{outsideOf(portsFrom(protoTCP, 80, 80)), denyOf(portsFrom(protoTCP, 81, 81)), portsFrom(protoTCP, 82, 82)}, []PortRange{denyOf(portsFrom(protoTCP, 81, 81)), portsFrom(protoTCP, 82, 82), outsideOf(portsFrom(protoTCP, 80, 80))}},
		{"everything allowed hides what else is", []PortRange{portsFrom(protoTCP, 80, 80), outsideOf(portsFrom(protoUDP, 0, 65535)), allowEverything}, []PortRange{allowEverything}},
		{"everything denied hides all", []PortRange{portsFrom(protoTCP, 80, 80), allowEverything, denyOf(outsideOf(allowEverything)), denyEverything}, []PortRange{denyEverything}},
		{"a deny hides what it denies alone", []PortRange{portsFrom(protoTCP, 80, 80), portsFrom(protoTCP, 80, 90), denyOf(portsFrom(protoTCP, 1, 85))}, []PortRange{denyOf(portsFrom(protoTCP, 1, 85)), portsFrom(protoTCP, 80, 90)}},
		{"a deny outside hides nothing inside", []PortRange{portsFrom(protoTCP, 80, 80), outsideOf(portsFrom(protoTCP, 90, 90)), denyOf(outsideOf(portsFrom(protoTCP, 1, 100)))}, []PortRange{denyOf(outsideOf(portsFrom(protoTCP, 1, 100))), portsFrom(protoTCP, 80, 80)}},
		{"an allow hides no deny", []PortRange{allowEverything, denyOf(portsFrom(protoTCP, 80, 80))}, []PortRange{denyOf(portsFrom(protoTCP, 80, 80)), allowEverything}},
		{"up to the last port", []PortRange{portsFrom(protoTCP, 0, 65535), portsFrom(protoTCP, 65535, 65535), portsFrom(protoTCP, 0, 0)}, []PortRange{portsFrom(protoTCP, 0, 65535)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := normalise(tc.in); !slices.Equal(got, tc.want) {
				t.Errorf("normalise(%v) = %v, want %v", tc.in, got, tc.want)
			}
		})
	}
}

func TestPortsOf(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []state.PolicyPort
		want string
	}{
		{"no list is everything", nil, "all"},
		{"protocol alone", []state.PolicyPort{{Protocol: protoUDP}}, "UDP"},
		{"range", []state.PolicyPort{tcp(8000, 8100)}, "8000-8100/TCP"},
		{"endPort equal to port", []state.PolicyPort{tcp(80, 80)}, "80/TCP"},
		{"merged", []state.PolicyPort{tcp(80), tcp(81), {Protocol: state.ProtocolSCTP, Port: 7}}, "80-81/TCP 7/SCTP"},
		{"names", []state.PolicyPort{namedTCP("b"), namedTCP("a"), namedTCP("b"), tcp(1)}, "1/TCP name:a/TCP name:b/TCP"},
		{"range backwards is nothing", []state.PolicyPort{tcp(90, 80)}, ""},
		{"endPort without port is nothing", []state.PolicyPort{{Protocol: protoTCP, EndPort: 80}}, ""},
		{"any protocol", []state.PolicyPort{{}, tcp(80)}, "all"},
		{"any protocol with a port is nothing", []state.PolicyPort{{Port: 80}}, ""},
		{"another protocol", []state.PolicyPort{{Protocol: 47}}, "47"},
		{"another protocol with a port is nothing", []state.PolicyPort{{Protocol: 47, Port: 1}}, ""},
		{"all types of ICMP", []state.PolicyPort{{Protocol: state.ProtocolICMP}}, "ICMP"},
		{"types of ICMP", []state.PolicyPort{icmpType(state.ProtocolICMPv6, 128), icmpType(state.ProtocolICMP, 0), icmpType(state.ProtocolICMP, 8)}, "0/ICMP 8/ICMP 128/ICMPv6"},
		{"ICMP with a port, TCP with a type are nothing", []state.PolicyPort{{Protocol: state.ProtocolICMP, Port: 8}, icmpType(protoTCP, 8)}, ""},
		{"ICMP by a name is nothing", []state.PolicyPort{{Protocol: state.ProtocolICMP, Name: "http"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := portsOf(tc.in, false).String(); got != tc.want {
				t.Errorf("portsOf(%+v) = %q, want %q", tc.in, got, tc.want)
			}
			denied, want := portsOf(tc.in, true).String(), cmp.Or(tc.want, "all")
			if denied != want {
				t.Errorf("in a rule that denies it is %q, want %q", denied, want)
			}
		})
	}
}

// TestNamesBesideEverything keeps no name that means nothing.
func TestNamesBesideEverything(t *testing.T) {
	named := portsOf([]state.PolicyPort{namedTCP("http")}, false)
	denied := named.flagged(true, false)
	for _, tc := range []struct {
		p    ports
		want string
	}{
		{named.plus(allPorts()), "all"},
		{denied.plus(allPorts()), "all deny name:http/TCP"},
		{denied.plus(named), "deny name:http/TCP name:http/TCP"},
		{denied.plus(named).plus(allPorts().flagged(true, false)), "deny all"},
	} {
		if got := tc.p.String(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestPortsCovers(t *testing.T) {
	all, none := allPorts(), ports{}
	web, wide := portsOf([]state.PolicyPort{tcp(80), tcp(443)}, false), portsOf([]state.PolicyPort{tcp(1, 500)}, false)
	named := portsOf([]state.PolicyPort{namedTCP("http")}, false)
	every := portsOf([]state.PolicyPort{{Protocol: protoTCP}, {Protocol: protoUDP}, {Protocol: state.ProtocolSCTP}}, false)
	for _, tc := range []struct {
		name string
		a, b ports
		want bool
	}{
		{"all covers all", all, all, true},
		{"all covers some", all, web, true},
		{"some does not cover all", wide, all, false},
		{"all ports of all named protocols is less than all", every, all, false},
		{"anything covers nothing", none, none, true},
		{"wider", wide, web, true},
		{"narrower", web, wide, false},
		{"names only by names", wide, named, false},
		{"same names", named.plus(web), named, true},
		{"everything covers names", all, named, true},
		{"a deny more", all.plus(web.flagged(true, false)), all, false},
		{"a deny fewer", all, all.plus(web.flagged(true, false)), true},
		{"a smaller deny", all.plus(web.flagged(true, false)), all.plus(wide.flagged(true, false)), true},
		{"a larger deny", all.plus(wide.flagged(true, false)), all.plus(web.flagged(true, false)), false},
		{"a deny of a name more", all.plus(named.flagged(true, false)), all, false},
		{"a deny of a name fewer", all, all.plus(named.flagged(true, false)), true},
		{"a deny of a name instead of all", all.plus(named.flagged(true, false)), all.plus(all.flagged(true, false)), true},
		{"denied before", none, web.plus(web.flagged(true, false)), true},
		{"inside for outside", web, web.flagged(false, true), true},
		{"outside for inside", web.flagged(false, true), web, false},
		{"deny outside instead of deny", all.plus(web.flagged(true, true)), all.plus(web.flagged(true, false)), true},
		{"deny instead of deny outside", all.plus(web.flagged(true, false)), all.plus(web.flagged(true, true)), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.a.covers(tc.b); got != tc.want {
				t.Errorf("%q covers %q = %v", tc.a, tc.b, got)
			}
		})
	}
}

func TestBlockOf(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   state.PolicyPeer
		want string // empty: no address
	}{
		{"plain", cidr("10.0.0.0/8"), "10.0.0.0/8"},
		{"not masked", cidr("10.1.2.3/8", "10.1.2.3/16"), "10.0.0.0/8 except 10.1.0.0/16"},
		{"excepts sorted, once, outermost", cidr("10.0.0.0/8", "10.2.0.0/16", "10.1.1.0/24", "10.1.0.0/16", "10.2.0.0/16"), "10.0.0.0/8 except 10.1.0.0/16,10.2.0.0/16"},
		{"except outside", cidr("10.0.0.0/8", "11.0.0.0/8", "fd00::/8"), "10.0.0.0/8"},
		{"except is all of it", cidr("10.0.0.0/8", "10.0.0.0/8"), ""},
		{"except is more than it", cidr("10.0.0.0/8", "0.0.0.0/0"), ""},
		{"IPv4 in IPv6", cidr("::ffff:10.0.0.0/104", "::ffff:10.1.0.0/112"), "10.0.0.0/8 except 10.1.0.0/16"},
		{"outside", outside("10.0.0.0/8", "10.1.0.0/16"), "outside 10.0.0.0/8 except 10.1.0.0/16"},
		{"not valid", state.PolicyPeer{Block: &state.IPBlock{}}, "not valid"},
		{"except not valid", state.PolicyPeer{Block: &state.IPBlock{CIDR: cidr("10.0.0.0/8").Block.CIDR, Except: []netip.Prefix{{}}}}, "not valid"},
		{"all of it, and an except not valid", state.PolicyPeer{Block: &state.IPBlock{CIDR: cidr("10.0.0.0/8").Block.CIDR, Except: []netip.Prefix{cidr("10.0.0.0/8").Block.CIDR, {}}}}, "not valid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, ok := blockOf(*tc.in.Block)
			got := b.String()
			switch {
			case !ok:
				got = "not valid"
			case b.cidr == netip.Prefix{}:
				got = ""
			}
			if got != tc.want {
				t.Errorf("blockOf = %v %v, want %q", b, ok, tc.want)
			}
		})
	}
}

func denyOf(r PortRange) PortRange {
	r.Deny = true
	return r
}

func outsideOf(r PortRange) PortRange {
	r.Outside = true
	return r
}

func portsFrom(p state.Protocol, first, last uint16) PortRange {
	return PortRange{Protocol: p, First: first, Last: last}
}
