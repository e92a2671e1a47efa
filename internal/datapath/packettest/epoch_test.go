package packettest

import (
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// What a permission was good for ends with the next packet in either direction,
// once it is gone and the epoch moved. Not before.
func testRevoked(t *testing.T, n *node) {
	for _, c := range []struct {
		proto  layers.IPProtocol
		stages []string
	}{
		{overTCP, []string{"embryonic", "answered", "established"}},
		{overUDP, []string{"established"}},
		{overICMP, []string{"embryonic"}},
	} {
		for _, k := range n.talks(c.proto) {
			for _, stage := range c.stages {
				testRevokedOnce(t, n, k, stage, true)
				testRevokedOnce(t, n, k, stage, false)
			}
		}
	}
}

// testRevokedOnce takes the permission of one flow away. aFirst tells who sends
// the first packet after that.
func testRevokedOnce(t *testing.T, n *node, k namedTalk, stage string, aFirst bool) {
	n.fresh(t)
	n.allow(t, rules, map[uint64]uint64{uint64(identityOf(k.b.Addr())): allPorts})
	n.allow(t, rules+1, map[uint64]uint64{uint64(identityOf(k.a.Addr())): allPorts})
	egress := podOf(k.a.Addr()) != nil
	switch {
	case egress:
		n.under(t, *podOf(k.a.Addr()), security{egress: rules})
	default:
		n.under(t, *podOf(k.b.Addr()), security{ingress: rules + 1})
	}
	n.passes(t, "first", k.says(t, n, "S"))
	if stage != "embryonic" {
		n.passes(t, "answer", k.answers(t, n, "SA"))
	}
	if stage == "established" {
		n.passes(t, "second", k.says(t, n, "A"))
	}
	if egress {
		n.forbid(t, rules, uint64(identityOf(k.b.Addr())))
	} else {
		n.forbid(t, rules+1, uint64(identityOf(k.a.Addr())))
	}
	// A SYN asks again each time, and so cheaply that a flood of them costs little.
	n.passes(t, k.name+", "+stage+": packet without a new epoch", k.says(t, n, "A"))
	n.passes(t, k.name+", "+stage+": answer without a new epoch", k.answers(t, n, "SA"))
	n.bump(t)
	order := []input{k.says(t, n, "A"), k.answers(t, n, "A")}
	if !aFirst {
		order[0], order[1] = order[1], order[0]
	}
	for range 2 {
		for _, in := range order {
			if isNode(k.a.Addr()) {
				n.passes(t, k.name+", "+stage+": of a flow of the node itself", in)
			} else {
				n.drops(t, k.name+", "+stage+": after the permission went", abi.CReasonDROP_POLICY, in)
			}
		}
	}
}

// A permission that comes touches no entry, and what it allows begins at once.
func testGranted(t *testing.T, n *node) {
	n.fresh(t)
	n.allow(t, rules, map[uint64]uint64{identityB: allPorts})
	n.under(t, podA, security{egress: rules})
	k := tcpTalk()
	n.establish(t, k)
	other := talk{overTCP, at(podA.ip4, 40000), at(podC.ip4, 80)}
	n.drops(t, "to another pod", abi.CReasonDROP_POLICY, other.says(t, n, "S"))
	before := n.find(t, k)
	n.allow(t, rules, map[uint64]uint64{identityC: allPorts})
	n.passes(t, "to another pod that is allowed now", other.says(t, n, "S"))
	if after := n.find(t, k); after != before {
		t.Errorf("the flow that was allowed before changed from %+v to %+v", before, after)
	}
	n.passes(t, "the flow that was allowed before", k.says(t, n, "A"))
	if after := n.find(t, k); after.State != before.State || after.Epoch != before.Epoch {
		t.Errorf("the flow that was allowed before changed from %+v to %+v", before, after)
	}
}

// Where nothing was taken away, a new epoch changes nothing but the epoch, in
// whichever direction the next packet goes.
func testEpochAlone(t *testing.T, n *node) {
	for _, k := range n.talks(overTCP) {
		n.fresh(t)
		n.allow(t, rules, map[uint64]uint64{uint64(identityOf(k.b.Addr())): list})
		n.allow(t, rules+1, map[uint64]uint64{uint64(identityOf(k.a.Addr())): list})
		n.ports(t, list, portRange(protoTCP, 80, 80)) // of b: not those of a
		if a := podOf(k.a.Addr()); a != nil {
			n.under(t, *a, security{ingress: closed, egress: rules})
		}
		if b := podOf(k.b.Addr()); b != nil {
			n.under(t, *b, security{ingress: rules + 1, egress: closed})
		}
		n.establish(t, k.talk)
		n.passes(t, "answer", k.answers(t, n, "A"))
		before := n.find(t, k.talk)
		for i, in := range []input{k.says(t, n, "A"), k.answers(t, n, "A"), k.answers(t, n, "A"), k.says(t, n, "A")} {
			n.bump(t)
			n.passes(t, k.name+": in the next epoch", in)
			after := n.find(t, k.talk)
			if after.State != before.State || after.Epoch != before.Epoch+uint32(i)+1 || after.Identity != before.Identity {
				t.Errorf("%s: the entry changed from %+v to %+v", k.name, before, after)
			}
		}
	}
}

// Once a flow is allowed, it is no longer one that policy would have dropped.
func testAuditEnds(t *testing.T, n *node) {
	n.fresh(t)
	n.under(t, podB, security{ingress: rules, flags: auditIngress})
	k := tcpTalk()
	n.marked(t, "SYN", k.says(t, n, "S"))
	n.allow(t, rules, map[uint64]uint64{identityA: allPorts})
	n.bump(t)
	n.passes(t, "SYN, now allowed", k.says(t, n, "S"))
	n.has(t, "after it is allowed", k, embryonic, 0)
}
