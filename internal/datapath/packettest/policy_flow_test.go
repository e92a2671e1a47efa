package packettest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// The node reaches its pods whatever they are under, by its addresses and by
// others that nobody else has.
func testNodeReachesItsPods(t *testing.T, n *node) {
	for _, src := range []string{node4.String(), "172.17.0.1", "203.0.113.9", node6.String(), "2001:db8:f::1"} {
		n.fresh(t)
		n.under(t, podA, security{ingress: closed, egress: closed})
		from, to := netip.MustParseAddr(src), podA.ip4
		if from.Is6() {
			to = podA.ip6
		}
		k := talk{overTCP, at(from, 40000), at(to, 80)}
		own := toPod(podA, "", n.toPodFrame(t, k, "S"))
		n.passes(t, "SYN of the node from "+src, own)
		if r := n.find(t, k); r.flags() != fromHost || r.Identity[r.a] != uint32(abi.CIdentityIDENTITY_HOST) {
			t.Errorf("from %s: flags %#x, identity %d; want the node's", src, r.flags(), r.Identity[r.a])
		}
		n.passes(t, "answer", k.answers(t, n, "SA"))
		n.passes(t, "ACK", toPod(podA, "", n.toPodFrame(t, k, "A")))
		n.bump(t)
		n.passes(t, "answer in the next epoch", k.answers(t, n, "A"))
		n.bump(t)
		n.passes(t, "packet in the next epoch", toPod(podA, "", n.toPodFrame(t, k, "A")))
		if r := n.find(t, k); r.table != tcpTable || r.flags() != fromHost|established {
			t.Errorf("from %s: in %s with flags %#x", src, r.table, r.flags())
		}
	}
	// By one of its own addresses also what another device brought in: a masqueraded
	// packet, or one of a container without Placid.
	n.fresh(t)
	n.under(t, podA, security{ingress: closed})
	k := talk{overTCP, at(node4, 40000), at(podA.ip4, 80)}
	n.passes(t, "by the node's address", toPod(podA, nativeDevice, n.toPodFrame(t, k, "S")))
	other := talk{overTCP, at(netip.MustParseAddr("172.17.0.1"), 40000), at(podA.ip4, 80)}
	n.drops(t, "by another address, from a device", abi.CReasonDROP_POLICY, toPod(podA, nativeDevice, n.toPodFrame(t, other, "S")))
}

// toPodFrame is what a says as the node's stack sends it to b.
func (n *node) toPodFrame(t *testing.T, k talk, flags string) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: routerMAC, DstMAC: podOf(k.b.Addr()).mac}
	if k.a.Addr().Is4() {
		return packet4(t, eth, k.a.Addr(), k.b.Addr(), proto4(k.proto), k.layers4(flags, false)...)
	}
	return packet6(t, eth, k.a.Addr(), k.b.Addr(), next6(k.proto), k.layers4(flags, false)...)
}

// What a pod sends to its node is judged as anything else.
func testPodToNode(t *testing.T, n *node) {
	for _, to := range []netip.Addr{node4, node6} {
		k := talk{overTCP, at(podA.ip4, 40000), at(to, 443)}
		if to.Is6() {
			k.a = at(podA.ip6, 40000)
		}
		n.fresh(t)
		n.under(t, podA, security{ingress: closed, egress: rules})
		n.allows(t, "no entry", k, false)
		n.allow(t, rules, map[uint64]uint64{uint64(abi.CIdentityIDENTITY_HOST): list})
		n.ports(t, list, portRange(protoTCP, 443, 443))
		n.allows(t, "the node's identity", k, true)
		n.passes(t, "answer, though ingress is closed", k.answers(t, n, "SA"))
		n.passes(t, "ACK", k.says(t, n, "A"))
		n.has(t, "in the end", k, tcpTable, established)
	}
}

// Answers pass, though nothing may come or go that they were not asked for.
func testAnswersPass(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overTCP, overUDP, overSCTP, overICMP} {
		for _, k := range n.talks(proto) {
			n.fresh(t)
			n.allow(t, rules, map[uint64]uint64{uint64(identityOf(k.b.Addr())): allPorts})
			n.allow(t, rules+1, map[uint64]uint64{uint64(identityOf(k.a.Addr())): allPorts})
			if a := podOf(k.a.Addr()); a != nil {
				n.under(t, *a, security{ingress: closed, egress: rules})
			}
			if b := podOf(k.b.Addr()); b != nil {
				n.under(t, *b, security{ingress: rules + 1, egress: closed})
			}
			if !isNode(k.b.Addr()) {
				n.drops(t, k.name+": an answer that was not asked for", abi.CReasonDROP_POLICY, k.answers(t, n, "SA"))
			}
			for range 3 {
				n.passes(t, k.name+": packet", k.says(t, n, "S"))
				n.passes(t, k.name+": answer", k.answers(t, n, "SA"))
				n.passes(t, k.name+": packet", k.says(t, n, "A"))
				n.passes(t, k.name+": answer", k.answers(t, n, "A"))
			}
			if r := n.find(t, k.talk); r.table != k.settled() || !r.byA() {
				t.Errorf("%s is in %s", k.name, r.table)
			}
			// Another flow of the same two is another one.
			if podOf(k.b.Addr()) != nil && podOf(k.a.Addr()) != nil && proto != overICMP {
				n.drops(t, k.name+": from another port", abi.CReasonDROP_POLICY, k.from(40001).answers(t, n, "SA"))
			}
		}
	}
}

// A pod without a number yet is an init pod, and an unknown address the world.
func testNameless(t *testing.T, n *node) {
	initial, world := uint64(abi.CIdentityIDENTITY_INIT), uint64(abi.CIdentityIDENTITY_WORLD)
	n.fresh(t)
	n.under(t, podA, security{identity: nameless})
	n.under(t, podB, security{ingress: rules})
	n.allow(t, rules, map[uint64]uint64{identityA: allPorts, world: allPorts})
	n.allows(t, "a nameless pod", tcpTalk(), false)
	n.allow(t, rules, map[uint64]uint64{initial: allPorts})
	n.allows(t, "a nameless pod, where init is allowed", tcpTalk(), true)
	if r := n.find(t, tcpTalk()); r.Identity[r.a] != uint32(initial) {
		t.Errorf("identity %d, want %d", r.Identity[r.a], initial)
	}

	n.fresh(t)
	n.under(t, podB, security{ingress: rules, egress: rules})
	in, out := talk{overTCP, at(remote4, 1), at(podB.ip4, 80)}, talk{overTCP, at(podB.ip4, 1), at(remote4, 80)}
	n.allow(t, rules, map[uint64]uint64{world: allPorts})
	n.allows(t, "from the world", in, true)
	n.allows(t, "to the world", out, true)
	n.identify(t, remote4, uint32(abi.CIdentityIDENTITY_REMOTE_NODE))
	n.allows(t, "from another node", in.from(2), false)
	n.allows(t, "to another node", out.from(2), false)
	n.allow(t, rules, map[uint64]uint64{uint64(abi.CIdentityIDENTITY_REMOTE_NODE): allPorts})
	n.allows(t, "from another node that is allowed", in.from(3), true)
	n.allows(t, "to another node that is allowed", out.from(3), true)
}

// Packets that the node's stack passes on to a pod are judged like others.
func testForwardedByTheStack(t *testing.T, n *node) {
	for _, k := range []talk{
		{overTCP, at(remote4, 40000), at(podB.ip4, 80)},
		{overUDP, at(remote6, 40000), at(podB.ip6, 80)},
		{overTCP, at(podA.ip4, 40000), at(podB.ip4, 80)},
	} {
		for _, c := range []struct {
			a, b security
			want bool
		}{
			{security{}, security{}, true},
			{security{}, security{ingress: closed}, false},
			{security{egress: closed}, security{}, podOf(k.a.Addr()) == nil},
			{security{}, security{ingress: rules}, true},
		} {
			n.fresh(t)
			n.allow(t, rules, map[uint64]uint64{uint64(identityOf(k.a.Addr())): allPorts})
			n.under(t, podA, c.a)
			n.under(t, podB, c.b)
			in := toPod(podB, nativeDevice, n.toPodFrame(t, k, "S"))
			if f := n.send(t, in); f.passed() != c.want {
				t.Errorf("%s, %+v, %+v: %s; want it to pass: %t", k, c.a, c.b, f, c.want)
			}
		}
	}
	n.fresh(t)
	n.drops(t, "to a pod of another device", abi.CReasonDROP_STALE_TARGET,
		toPod(podC, nativeDevice, n.toPodFrame(t, tcpTalk(), "S")))
	n.drops(t, "to nobody", abi.CReasonDROP_STALE_TARGET,
		toPod(podB, "", packet4(t, fromWire(), node4, netip.MustParseAddr("10.0.0.99"), nil)))
}

// marked checks that a packet passed, and was counted as one that policy would
// have dropped.
func (n *node) marked(t *testing.T, what string, in input) {
	t.Helper()
	if f := n.send(t, in); !f.passed() || !slices.Equal(f.marks, []abi.CReason{abi.CReasonREASON_AUDITED}) {
		t.Errorf("%s: %s; want it to pass and be counted", what, f)
	}
}

// In audit mode nothing is dropped. A flow is counted once, when it is judged.
func testAudit(t *testing.T, n *node) {
	for _, k := range n.talks(overTCP) {
		for _, egress := range []bool{true, false} {
			p := podOf(k.b.Addr())
			s := security{ingress: closed, flags: auditIngress}
			if egress {
				p, s = podOf(k.a.Addr()), security{egress: closed, flags: auditEgress}
			}
			if p == nil || isNode(k.a.Addr()) {
				continue
			}
			n.fresh(t)
			n.under(t, *p, s)
			n.marked(t, k.name+": SYN", k.says(t, n, "S"))
			n.has(t, "after SYN", k.talk, embryonic, audited)
			n.passes(t, k.name+": SYN, ACK", k.answers(t, n, "SA"))
			n.passes(t, k.name+": ACK", k.says(t, n, "A"))
			n.has(t, "after ACK", k.talk, tcpTable, established|audited)
			n.passes(t, k.name+": data", k.says(t, n, "A"))
			n.bump(t)
			n.marked(t, k.name+": answer in the next epoch", k.answers(t, n, "A"))
			n.passes(t, k.name+": data in the next epoch", k.says(t, n, "A"))
			n.under(t, *p, security{ingress: s.ingress, egress: s.egress})
			n.passes(t, k.name+": the old flow, no audit any more", k.says(t, n, "A"))
			n.drops(t, k.name+": new flow, no audit any more", abi.CReasonDROP_POLICY, k.from(2).says(t, n, "S"))
			n.bump(t)
			n.drops(t, k.name+": the old flow in the next epoch", abi.CReasonDROP_POLICY, k.says(t, n, "A"))
		}
	}
}

// Audit of one direction does not open the other.
func testAuditBothSides(t *testing.T, n *node) {
	audit := map[bool]abi.CEndpointFlags{true: auditEgress | auditIngress}
	for _, c := range []struct {
		out, in           uint64
		auditOut, auditIn bool
		passes, counted   bool
	}{
		{closed, open, true, false, true, true},
		{open, closed, false, true, true, true},
		{closed, closed, true, true, true, true},
		{closed, closed, true, false, false, false},
		{closed, closed, false, true, false, false},
		{rules, closed, true, true, true, true},
		{closed, rules, true, true, true, true},
		{rules, rules, true, true, true, false},
		{rules, closed, true, false, false, false},
	} {
		n.fresh(t)
		n.allow(t, rules, map[uint64]uint64{anyPeer: allPorts})
		n.under(t, podA, security{egress: c.out, flags: audit[c.auditOut]})
		n.under(t, podB, security{ingress: c.in, flags: audit[c.auditIn]})
		switch in := tcpTalk().says(t, n, "S"); {
		case c.counted:
			n.marked(t, "audited", in)
		case c.passes:
			n.passes(t, "allowed", in)
		default:
			n.drops(t, "not audited", abi.CReasonDROP_POLICY, in)
		}
	}
	// The flags are a direction's own.
	n.fresh(t)
	n.under(t, podA, security{egress: closed, flags: auditIngress})
	n.under(t, podB, security{ingress: closed, flags: auditEgress})
	n.drops(t, "egress under audit of ingress", abi.CReasonDROP_POLICY, tcpTalk().says(t, n, "S"))
	n.under(t, podA, security{})
	n.drops(t, "ingress under audit of egress", abi.CReasonDROP_POLICY, tcpTalk().says(t, n, "S"))
}

func testDroppedLeavesNothing(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overTCP, overUDP, overICMP, overGRE} {
		for _, k := range n.talks(proto) {
			b := podOf(k.b.Addr())
			if b == nil || isNode(k.a.Addr()) {
				continue
			}
			n.fresh(t)
			n.under(t, *b, security{ingress: closed})
			for range 3 {
				n.drops(t, k.name, abi.CReasonDROP_POLICY, k.says(t, n, "S"))
			}
			n.has(t, "after drops", k.talk, nowhere, 0)
		}
	}
}
