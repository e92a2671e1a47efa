package policy

import (
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
		{"other protocols are nothing", []state.PolicyPort{{Protocol: 1}, {Port: 80}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := portsOf(tc.in).String(); got != tc.want {
				t.Errorf("portsOf(%+v) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestPortsCovers(t *testing.T) {
	all, none := ports{all: true}, ports{}
	web, wide := portsOf([]state.PolicyPort{tcp(80), tcp(443)}), portsOf([]state.PolicyPort{tcp(1, 500)})
	named := portsOf([]state.PolicyPort{namedTCP("http")})
	every := portsOf([]state.PolicyPort{{Protocol: protoTCP}, {Protocol: protoUDP}, {Protocol: state.ProtocolSCTP}})
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
		{"not valid", state.PolicyPeer{Block: &state.IPBlock{}}, ""},
		{"except not valid", state.PolicyPeer{Block: &state.IPBlock{CIDR: cidr("10.0.0.0/8").Block.CIDR, Except: []netip.Prefix{{}}}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, ok := blockOf(*tc.in.Block)
			if ok != (tc.want != "") || ok && b.String() != tc.want {
				t.Errorf("blockOf = %v %v, want %q", b, ok, tc.want)
			}
		})
	}
}

func portsFrom(p state.Protocol, first, last uint16) PortRange {
	return PortRange{Protocol: p, First: first, Last: last}
}
