package packettest

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
)

func TestDenies(t *testing.T) {
	suite{
		{"BeatAllows", testDeniesBeatAllows},
		{"Outside", testOutside},
		{"EveryProtocol", testEveryProtocol},
		{"ICMPTypes", testICMPTypes},
		{"BothSides", testDenyBothSides},
		{"Audit", testDenyAudited},
		{"Revoked", testDenyRevokes},
	}.run(t, options{sizes: small()})
}

func deny(r abi.CPortRange) abi.CPortRange {
	r.Flags |= uint8(abi.CPortFlagsPORT_DENY)
	return r
}

func outside(r abi.CPortRange) abi.CPortRange {
	r.Flags |= uint8(abi.CPortFlagsPORT_OUTSIDE)
	return r
}

// everything is every protocol and port.
func everything() abi.CPortRange { return portRange(0, 0, 65535) }

// denying writes a list, and lets the programs know that it may deny.
func (n *node) denying(t testing.TB, list uint64, ranges ...abi.CPortRange) {
	t.Helper()
	n.ports(t, list, ranges...)
	n.change(t, func(s *abi.CSettings) { s.HasDenies = 1 })
}

// judged checks what becomes of the first packet of a new flow: 0 for allowed.
func (n *node) judged(t *testing.T, what string, k talk, want abi.CReason) {
	t.Helper()
	if want == 0 {
		n.allows(t, what, k, true)
		return
	}
	n.drops(t, what+": "+k.String(), want, k.says(t, n, "S"))
}

const (
	passed = abi.CReason(0)
	unsaid = abi.CReasonDROP_POLICY
	denied = abi.CReasonDROP_POLICY_DENY
)

// Whichever entry denies, and whichever allow: one that denies is enough.
func testDeniesBeatAllows(t *testing.T, n *node) {
	const allows, denies, silent = list, list + 100, list + 200
	entries := map[string]uint64{"identity": identityFar, "any": anyPeer, "prefix": prefix}
	k := talk{overTCP, at(far4, 40000), at(podB.ip4, 80)}
	for name, peer := range entries {
		for other, with := range entries {
			n.fresh(t)
			n.under(t, podB, security{ingress: rules})
			n.block(t, far4.String()+"/32", prefix)
			n.denying(t, denies, deny(portRange(protoTCP, 80, 80)), portRange(protoTCP, 70, 90))
			n.ports(t, allows, portRange(protoTCP, 1, 100))
			n.ports(t, silent, portRange(protoUDP, 80, 80))
			if other != name {
				n.allow(t, rules, map[uint64]uint64{with: allows})
			}
			n.allow(t, rules, map[uint64]uint64{peer: denies})
			n.judged(t, name+" denies, "+other+" allows", k, denied)
			n.judged(t, name+" denies another port", talk{k.proto, k.a, at(podB.ip4, 81)}.from(2), passed)
			n.allow(t, rules, map[uint64]uint64{peer: silent})
			want := passed
			if other == name {
				want = unsaid
			}
			n.judged(t, name+" says nothing, "+other+" allows", k.from(3), want)
			n.allow(t, rules, map[uint64]uint64{peer: allPorts})
			n.judged(t, name+" allows all", k.from(4), passed)
		}
	}
}

// A range that is for the outside counts neither for pods nor for nodes.
func testOutside(t *testing.T, n *node) {
	for _, c := range []struct {
		name   string
		ranges []abi.CPortRange
		world  abi.CReason
		others abi.CReason
	}{
		{"allowed", []abi.CPortRange{outside(portRange(protoTCP, 80, 80))}, passed, unsaid},
		{"denied", []abi.CPortRange{outside(deny(portRange(protoTCP, 80, 80))), everything()}, denied, passed},
		{"allowed all, others denied", []abi.CPortRange{deny(portRange(protoTCP, 1, 70)), portRange(protoTCP, 80, 80)}, passed, passed},
	} {
		for _, v6 := range []bool{false, true} {
			n.fresh(t)
			n.under(t, podB, security{ingress: rules})
			n.block(t, "0.0.0.0/0", prefix)
			n.block(t, "::/0", prefix+1)
			n.denying(t, list, c.ranges...)
			n.allow(t, rules, map[uint64]uint64{prefix: list, prefix + 1: list})
			peers := map[netip.Addr]abi.CReason{remote4: c.world, far4: c.others, podA.ip4: c.others}
			to := podB.ip4
			if v6 {
				peers = map[netip.Addr]abi.CReason{remote6: c.world, far6: c.others, podA.ip6: c.others}
				to = podB.ip6
			}
			for from, want := range peers {
				n.judged(t, c.name, talk{overTCP, at(from, 40000), at(to, 80)}, want)
			}
		}
	}
}

// Protocol 0 is every protocol, with ports or without.
func testEveryProtocol(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overTCP, overUDP, overSCTP, overICMP, overGRE} {
		k := talk{proto, at(far4, 7), at(podB.ip4, 80)}
		if proto == overICMP || proto == overGRE {
			k = talk{proto, at(far4, 7), at(podB.ip4, 0)}
		}
		if proto == overGRE {
			k.a = at(far4, 0)
		}
		n.fresh(t)
		n.under(t, podB, security{ingress: rules})
		n.ports(t, list, everything())
		n.allow(t, rules, map[uint64]uint64{identityFar: list})
		n.judged(t, "allowed", k, passed)
		n.fresh(t)
		n.under(t, podB, security{ingress: rules})
		n.denying(t, list, deny(everything()))
		n.allow(t, rules, map[uint64]uint64{identityFar: list, anyPeer: allPorts})
		n.judged(t, "denied", k, denied)
		n.judged(t, "another peer", talk{k.proto, netip.AddrPortFrom(podA.ip4, k.a.Port()), k.b}, passed)
	}
}

// Policy knows an ICMP flow by the type of its first packet, also when it is an
// answer that is judged.
func testICMPTypes(t *testing.T, n *node) {
	const request4, request6, reply4, reply6 = 8, 128, 0, 129
	for _, c := range []struct {
		k              talk
		request, reply uint16
	}{
		{talk{overICMP, at(podA.ip4, 9), at(podB.ip4, 0)}, request4, reply4},
		{talk{overICMPv6, at(podA.ip6, 9), at(podB.ip6, 0)}, request6, reply6},
	} {
		proto := uint8(c.k.proto)
		for _, r := range []struct {
			what string
			in   abi.CPortRange
			want abi.CReason
		}{
			{"the request", portRange(proto, c.request, c.request), passed},
			{"the reply", portRange(proto, c.reply, c.reply), unsaid},
			{"all types", portRange(proto, 0, 65535), passed},
			{"another type", portRange(proto, c.request+1, c.request+1), unsaid},
			{"the other version", portRange(58+1-proto, c.request, c.request), unsaid},
		} {
			n.fresh(t)
			n.under(t, podB, security{ingress: rules})
			n.ports(t, list, r.in)
			n.allow(t, rules, map[uint64]uint64{identityA: list})
			n.judged(t, r.what, c.k, r.want)
			if r.want != passed {
				continue
			}
			n.passes(t, "answer", c.k.answers(t, n, ""))
			n.change(t, func(s *abi.CSettings) { s.Epoch++ })
			n.passes(t, r.what+": answer, judged again", c.k.answers(t, n, ""))
		}
	}
}

// Either side of a flow between two pods of the node can deny it, with the same
// reason.
func testDenyBothSides(t *testing.T, n *node) {
	for _, egress := range []bool{true, false} {
		n.fresh(t)
		n.isolate(t, tcpTalk(), egress, rules)
		n.denying(t, list, deny(portRange(protoTCP, 80, 80)))
		peer := uint64(identityA)
		if egress {
			peer = identityB
		}
		n.allow(t, rules, map[uint64]uint64{peer: list, anyPeer: allPorts})
		n.judged(t, "denied", tcpTalk(), denied)
		n.judged(t, "another port", talk{overTCP, at(podA.ip4, 1), at(podB.ip4, 81)}, passed)
	}
}

// In audit mode a rule that denies only counts.
func testDenyAudited(t *testing.T, n *node) {
	n.fresh(t)
	n.under(t, podB, security{ingress: rules, flags: auditIngress})
	n.denying(t, list, deny(everything()))
	n.allow(t, rules, map[uint64]uint64{identityA: list, anyPeer: allPorts})
	f := n.send(t, tcpTalk().says(t, n, "S"))
	if !f.passed() || len(f.marks) != 1 || f.marks[0] != abi.CReasonREASON_AUDITED {
		t.Errorf("denied in audit mode: %s; want it passed and marked as audited", f)
	}
}

// A flow that is established ends when a rule that denies comes.
func testDenyRevokes(t *testing.T, n *node) {
	n.fresh(t)
	n.under(t, podB, security{ingress: rules})
	n.allow(t, rules, map[uint64]uint64{anyPeer: allPorts})
	n.establish(t, tcpTalk())
	n.denying(t, list, deny(portRange(protoTCP, 80, 80)))
	n.allow(t, rules, map[uint64]uint64{identityA: list})
	n.passes(t, "before the epoch moves", tcpTalk().says(t, n, "A"))
	n.change(t, func(s *abi.CSettings) { s.Epoch++ })
	n.drops(t, "data", denied, tcpTalk().says(t, n, "A"))
	n.drops(t, "answer", denied, tcpTalk().answers(t, n, "A"))
}
