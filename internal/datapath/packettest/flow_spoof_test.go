package packettest

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// unchanged checks that a packet left no trace in a flow, also not that it is
// still in use.
func (n *node) unchanged(t *testing.T, what string, k talk, reason abi.CReason, in input) {
	t.Helper()
	n.age(t, k, margin)
	before := n.find(t, k)
	n.drops(t, what, reason, in)
	if after := n.find(t, k); after != before {
		t.Errorf("%s: the flow's entry changed from %+v to %+v", what, before, after)
	}
}

// by is the packet as pod p sends it, with a MAC.
func by(in input, p pod, mac []byte) input {
	in.device, in.frame = p.device, patched(in.frame, 6, mac...)
	return in
}

// A flow that is established is no licence for others to speak in the name of
// its ends.
func testOtherPodsCannotSpeak(t *testing.T, n *node) {
	for _, k := range []talk{
		tcpTalk(), udpTalk(),
		{overTCP, at(podA.ip4, 40000), at(remote4, 80)},
		{overTCP, at(podA.ip6, 40000), at(remote6, 80)},
		{overUDP, at(remote4, 40000), at(podA.ip4, 80)},
		{overICMP, at(podA.ip4, 4), at(podB.ip4, 0)},
		{overTCP, at(podA.ip6, 40000), at(podB.ip6, 80)},
		{overTCP, at(node4, 40000), at(podA.ip4, 80)},
	} {
		t.Run(k.String(), func(t *testing.T) {
			n.fresh(t)
			n.establish(t, k)
			says := k.says(t, n, "A")
			if podOf(k.a.Addr()) == nil {
				says = k.answers(t, n, "A") // the pod's
			}
			n.unchanged(t, "another pod in the pod's name, its own MAC", k, abi.CReasonDROP_INVALID_SOURCE, by(says, podC, podC.mac))
			n.unchanged(t, "another pod in the pod's name, the pod's MAC", k, abi.CReasonDROP_INVALID_SOURCE, by(says, podC, podA.mac))
			n.unchanged(t, "the pod with another MAC", k, abi.CReasonDROP_INVALID_MAC, by(says, podA, podC.mac))
			n.unchanged(t, "the pod with the gateway's MAC", k, abi.CReasonDROP_INVALID_MAC, by(says, podA, routerMAC))
			other := k.b.Addr()
			if podOf(k.a.Addr()) == nil {
				other = k.a.Addr()
			}
			frame := func(eth *layers.Ethernet) []byte {
				return n.reversed(t, says, other, eth)
			}
			n.unchanged(t, "another pod in the other end's name", k, abi.CReasonDROP_INVALID_SOURCE, fromPod(podC, frame(podC.ether(0))))
			n.unchanged(t, "the pod itself in the other end's name", k, abi.CReasonDROP_INVALID_SOURCE, fromPod(podA, frame(podA.ether(0))))
			n.passes(t, "the pod itself", says)
		})
	}
}

// reversed is a packet of the other end of the flow that in is of.
func (n *node) reversed(t *testing.T, in input, src netip.Addr, eth *layers.Ethernet) []byte {
	t.Helper()
	out := append([]byte(nil), in.frame...)
	copy(out, eth.DstMAC)
	copy(out[6:], eth.SrcMAC)
	size, offset, l4 := 4, ethLen+12, ethLen+ip4Len
	if src.Is6() {
		size, offset, l4 = 16, ethLen+8, ethLen+ip6Len
	}
	copy(out[offset:], in.frame[offset+size:offset+2*size])
	copy(out[offset+size:], in.frame[offset:offset+size])
	if proto := out[ethLen+9]; size == 16 || proto == protoTCP || proto == protoUDP {
		copy(out[l4:], in.frame[l4+2:l4+4])
		copy(out[l4+2:], in.frame[l4:l4+2])
	} else {
		out[l4] ^= 8 // echo: a request's reply, a reply's request
	}
	return out
}

func testWireCannotSpeakForPods(t *testing.T, n *node) {
	for _, k := range []talk{
		tcpTalk(), udpTalk(),
		{overTCP, at(podA.ip6, 40000), at(podB.ip6, 80)},
		{overTCP, at(node4, 40000), at(podA.ip4, 80)},
		{overTCP, at(podA.ip6, 40000), at(node6, 80)},
	} {
		n.fresh(t)
		n.establish(t, k)
		for _, in := range []input{k.says(t, n, "A"), k.answers(t, n, "A")} {
			wire := fromNetdev(patched(in.frame, 0, append(append([]byte(nil), nativeMAC...), nextMAC...)...))
			if isNode(destinationOf(in.frame)) {
				n.age(t, k, margin)
				before := n.find(t, k)
				n.passes(t, "to the node itself", wire) // its stack knows martians
				if n.find(t, k) != before {
					t.Errorf("%s: a packet from the wire in a pod's name changed the flow", k)
				}
				continue
			}
			n.unchanged(t, k.String()+" from the wire", k, abi.CReasonDROP_INVALID_SOURCE, wire)
		}
	}
	// In the name of a pod to the outside: no pod gets it, and no flow knows it.
	n.fresh(t)
	k := talk{overTCP, at(podA.ip4, 40000), at(remote4, 80)}
	n.establish(t, k)
	n.age(t, k, margin)
	before := n.find(t, k)
	in := k.says(t, n, "A")
	f := n.send(t, fromNetdev(patched(in.frame, 0, append(append([]byte(nil), nativeMAC...), nextMAC...)...)))
	if f.reason != abi.CReasonREASON_TO_STACK || n.find(t, k) != before {
		t.Errorf("a pod's packet from the wire: %s, flow changed: %t", f, n.find(t, k) != before)
	}
}

func destinationOf(frame []byte) netip.Addr {
	if frame[ethLen]>>4 == 4 {
		return netip.AddrFrom4([4]byte(frame[ethLen+16:]))
	}
	return netip.AddrFrom16([16]byte(frame[ethLen+24:]))
}

func testOverlayCannotSpeakForPods(t *testing.T, n *node) {
	for _, c := range []struct {
		k      talk
		reason abi.CReason
	}{
		{tcpTalk(), abi.CReasonDROP_INVALID_SOURCE},
		{talk{overUDP, at(podA.ip6, 40000), at(podB.ip6, 53)}, abi.CReasonDROP_INVALID_SOURCE},
		{talk{overTCP, at(node4, 40000), at(podA.ip4, 80)}, abi.CReasonDROP_INVALID_SOURCE},
		{talk{overTCP, at(podA.ip4, 40000), at(far4, 80)}, abi.CReasonDROP_STALE_TARGET}, // not into the tunnel again
	} {
		n.fresh(t)
		n.establish(t, c.k)
		in := c.k.says(t, n, "A")
		in.program, in.device, in.prelude = loader.FromOverlay, overlayDevice, n.tunnelled
		n.unchanged(t, c.k.String(), c.k, c.reason, in)
	}
}

// An address of a pod that went is another pod's: the agent writes its row and
// moves the epoch.
func testAddressMovesOn(t *testing.T, n *node) {
	for _, k := range []talk{
		{overTCP, at(remote4, 40000), at(podA.ip4, 80)}, {overTCP, at(podA.ip4, 40000), at(podB.ip4, 80)},
	} {
		n.fresh(t)
		n.establish(t, k)
		says := k.says(t, n, "A")
		if podOf(k.a.Addr()) != &pods[0] {
			says = k.answers(t, n, "A")
		}
		n.under(t, podC, security{})
		moved := podA
		moved.mac = podC.mac
		old := n.index[podA.device]
		n.index[podA.device] = n.index[podC.device]
		n.under(t, moved, security{})
		n.index[podA.device] = old
		n.drops(t, "the new owner, before the epoch moves", abi.CReasonDROP_INVALID_MAC, by(says, podC, podA.mac))
		n.bump(t)
		n.drops(t, "the old owner", abi.CReasonDROP_INVALID_SOURCE, says)
		n.passes(t, "the new owner", by(says, podC, podC.mac))
		r := n.find(t, k)
		side := r.a
		if podOf(k.a.Addr()) != &pods[0] {
			side ^= 1
		}
		if w := r.Way[side]; w.Ifindex != uint32(n.index[podC.device]) || w.Dmac != [6]byte(podC.mac) {
			t.Errorf("%s: answers go to device %d and % x", k, w.Ifindex, w.Dmac)
		}
		n.drops(t, "the old owner, after the new one spoke", abi.CReasonDROP_INVALID_SOURCE, says)
	}
}
