package packettest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/testutil"
)

func TestRelated(t *testing.T) {
	suite{
		{"RelatedPasses", testRelatedPasses},
		{"RelatedToSenders", testRelatedToSenders},
		{"UnknownFlow", testRelatedToUnknownFlow},
		{"OddQuotes", testOddQuotes},
		{"OtherMessages", testOtherMessages},
		{"RelatedTouchesNothing", testRelatedTouchesNothing},
	}.run(t, options{sizes: small()})
}

var relatedKinds = []struct {
	name string
	icmpKind
}{
	{"port unreachable", icmpKind{3, 3, 1, 4}},
	{"host unreachable", hostUnreachable},
	{"prohibited", icmpKind{3, 13, 1, 1}},
	{"too big", tooBig},
	{"time exceeded", timeExceeded},
	{"reassembly time exceeded", icmpKind{11, 1, 3, 1}},
	{"parameter problem", icmpKind{12, 0, 4, 0}},
}

// A router on the way, which no table knows.
var (
	router4 = netip.MustParseAddr("198.51.100.77")
	router6 = netip.MustParseAddr("2001:db8:77::1")
)

func routerFor(a netip.Addr) netip.Addr {
	if a.Is4() {
		return router4
	}
	return router6
}

// quoted is the L3 packet of a frame, as it is on its way: size bytes at most.
func quoted(in input, size int) []byte {
	l3 := in.frame[ethLen:]
	return append([]byte(nil), l3[:min(len(l3), size)]...)
}

// about is an ICMP error from src to dst that quotes a packet.
func (n *node) about(t *testing.T, k icmpKind, src, dst netip.Addr, quote []byte) input {
	t.Helper()
	proto, l4 := errorLayers(k, dst, quote)
	return n.carry(t, proto, src, dst, l4...)
}

func errorLayers(k icmpKind, dst netip.Addr, quote []byte) (layers.IPProtocol, []gopacket.SerializableLayer) {
	if dst.Is4() {
		return overICMP, []gopacket.SerializableLayer{
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(k.type4, k.code4), Seq: 1400}, gopacket.Payload(quote),
		}
	}
	rest := binary.BigEndian.AppendUint32(nil, 1400)
	return overICMPv6, []gopacket.SerializableLayer{
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(k.type6, k.code6)}, gopacket.Payload(append(rest, quote...)),
	}
}

// Errors about what a pod sent reach it, though nothing else does, whoever on the
// way says so.
func testRelatedPasses(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overTCP, overUDP, overSCTP, overICMP} {
		for _, k := range n.talks(proto) {
			a := podOf(k.a.Addr())
			if a == nil || isNode(k.b.Addr()) {
				continue
			}
			for _, stage := range []string{"embryonic", "established"} {
				n.fresh(t)
				sent := k.says(t, n, "S")
				n.passes(t, "what the error is about", sent)
				if stage == "established" {
					n.establish(t, k.talk)
				}
				n.under(t, *a, security{ingress: closed, egress: closed})
				for _, kind := range relatedKinds {
					what := fmt.Sprintf("%s, %s, %s, %s", proto, k.name, stage, kind.name)
					n.passes(t, what+", by the peer", n.about(t, kind.icmpKind, k.b.Addr(), k.a.Addr(), quoted(sent, 500)))
					n.passes(t, what+", by a router", n.about(t, kind.icmpKind, routerFor(k.a.Addr()), k.a.Addr(), quoted(sent, 500)))
				}
				short := ip4Len + 8
				if k.a.Addr().Is6() {
					short = ip6Len + 8
				}
				n.passes(t, "with the shortest quote", n.about(t, tooBig, routerFor(k.a.Addr()), k.a.Addr(), quoted(sent, short)))
			}
		}
	}
}

// Errors by an isolated pod about what it was sent leave it, and reach who began.
func testRelatedToSenders(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overTCP, overUDP, overICMP} {
		for _, k := range n.talks(proto) {
			b := podOf(k.b.Addr())
			if b == nil {
				continue
			}
			n.fresh(t)
			n.under(t, *b, security{egress: closed})
			sent := k.says(t, n, "S")
			n.passes(t, "what the error is about", sent)
			if a := podOf(k.a.Addr()); a != nil {
				n.under(t, *a, security{ingress: closed})
			}
			n.passes(t, k.name+", by the pod", n.about(t, relatedKinds[0].icmpKind, k.b.Addr(), k.a.Addr(), quoted(sent, 500)))
			other := k.from(2).says(t, n, "S")
			n.drops(t, k.name+", about what it was not sent", abi.CReasonDROP_POLICY,
				n.about(t, relatedKinds[0].icmpKind, k.b.Addr(), k.a.Addr(), quoted(other, 500)))
		}
	}
}

// Errors about flows that nobody knows, or that are others', are new packets.
func testRelatedToUnknownFlow(t *testing.T, n *node) {
	limit := settings().Timeout[0]
	for _, base := range []talk{
		{overTCP, at(podA.ip4, 40000), at(remote4, 80)},
		{overUDP, at(podA.ip6, 40000), at(remote6, 53)},
		{overICMP, at(podA.ip4, 9), at(remote4, 0)},
	} {
		n.fresh(t)
		n.establish(t, base)
		n.under(t, podA, security{ingress: closed})
		n.under(t, podB, security{ingress: closed})
		judge := func(what string, k talk, dst netip.Addr) {
			t.Helper()
			n.drops(t, what, abi.CReasonDROP_POLICY, n.about(t, tooBig, routerFor(dst), dst, quoted(k.says(t, n, "A"), 500)))
		}
		sent := base.says(t, n, "A")
		n.passes(t, "the flow itself", n.about(t, tooBig, routerFor(base.a.Addr()), base.a.Addr(), quoted(sent, 500)))
		judge("another port", base.from(2), base.a.Addr())
		elsewhere := talk{base.proto, base.a, at(base.b.Addr().Next(), base.b.Port())}
		judge("another peer", elsewhere, base.a.Addr())
		if base.hasPorts() {
			judge("another port of the peer", talk{base.proto, base.a, at(base.b.Addr(), 99)}, base.a.Addr())
			judge("another protocol", talk{overSCTP, base.a, base.b}, base.a.Addr())
		}
		b := podB.ip4
		if base.a.Addr().Is6() {
			b = podB.ip6
		}
		judge("somebody else's flow", base, b)
		// What the flow's other end sent is no answer to the pod.
		back := base.answers(t, n, "A")
		n.drops(t, "what the pod did not send", abi.CReasonDROP_POLICY,
			n.about(t, tooBig, routerFor(b), base.a.Addr(), quoted(back, 500)))
		// An open pod gets all of them.
		n.under(t, podB, security{})
		n.passes(t, "somebody else's flow, to an open pod", n.about(t, tooBig, routerFor(b), b, quoted(sent, 500)))
		n.age(t, base, limit+1)
		judge("a flow that expired", base, base.a.Addr())
		n.age(t, base, -(limit + 1)) // as it was
		n.edit(t, base, func(e *abi.CCtEntry) { e.State |= uint64(abi.CCtFlagsCT_DEAD) })
		judge("a flow that is dead", base, base.a.Addr())
	}
	// New packets are not always dropped.
	n.fresh(t)
	n.under(t, podA, security{ingress: rules})
	n.allow(t, rules, map[uint64]uint64{uint64(abi.CIdentityIDENTITY_WORLD): allPorts})
	k := talk{overTCP, at(podA.ip4, 40000), at(remote4, 80)}
	n.passes(t, "an unknown flow, where routers are allowed", n.about(t, tooBig, router4, podA.ip4, quoted(k.says(t, n, "A"), 500)))
	n.has(t, "an error leaves no flow", k, nowhere, 0)
	n.under(t, podA, security{ingress: closed, flags: auditIngress})
	n.marked(t, "an unknown flow, audited", n.about(t, tooBig, router4, podA.ip4, quoted(k.says(t, n, "A"), 500)))
}

// Quotes that are not whole, or not what they should be, are nobody's.
func testOddQuotes(t *testing.T, n *node) {
	for _, k := range []talk{
		{overUDP, at(podA.ip4, 40000), at(remote4, 80)}, {overTCP, at(podA.ip6, 40000), at(remote6, 80)},
	} {
		n.fresh(t)
		n.passes(t, "what the error is about", k.says(t, n, "S"))
		n.under(t, podA, security{ingress: closed})
		whole := quoted(k.says(t, n, "S"), 500)
		header := ip4Len
		if k.a.Addr().Is6() {
			header = ip6Len
		}
		from, to := routerFor(k.a.Addr()), k.a.Addr()
		for size := range header + 8 {
			n.drops(t, fmt.Sprintf("quote of %d bytes", size), abi.CReasonDROP_POLICY, n.about(t, tooBig, from, to, whole[:size]))
		}
		odd := map[string][]byte{
			"another version":    patched(whole, 0, whole[0]^0x20),
			"no version":         patched(whole, 0, 0),
			"an error in itself": quoted(n.about(t, tooBig, from, to, whole), 500),
		}
		if header == ip4Len {
			odd["header length of 16"] = patched(whole, 0, 0x44)
			odd["header length beyond the quote"] = patched(whole, 0, 0x4f)
			odd["a later fragment"] = patched(whole, 6, 0, 1)
			odd["the last fragment"] = patched(whole, 6, 0x1f, 0xff)
		} else {
			odd["behind an extension header"] = patched(whole, 6, destination)
			odd["a fragment"] = patched(whole, 6, fragment)
		}
		for name, quote := range odd {
			n.drops(t, name, abi.CReasonDROP_POLICY, n.about(t, tooBig, from, to, quote))
		}
		if header == ip4Len {
			n.passes(t, "a first fragment", n.about(t, tooBig, from, to, patched(whole, 6, 0x20, 0)))
			options := append(append(append([]byte(nil), whole[:20]...), 148, 4, 0, 0), whole[20:]...)
			n.passes(t, "IPv4 options in the quote", n.about(t, tooBig, from, to, patched(options, 0, 0x46)))
		}
		n.passes(t, "the whole of it", n.about(t, tooBig, from, to, whole))
	}
}

// Other messages are no errors, whatever they quote.
func testOtherMessages(t *testing.T, n *node) {
	for _, k := range []talk{
		{overUDP, at(podA.ip4, 40000), at(remote4, 80)}, {overUDP, at(podA.ip6, 40000), at(remote6, 80)},
	} {
		n.fresh(t)
		n.passes(t, "what they quote", k.says(t, n, ""))
		n.under(t, podA, security{ingress: closed})
		quote := quoted(k.says(t, n, ""), 500)
		for _, kind := range []uint8{0, 4, 5, 8, 13, 14, 17, 127, 128, 129, 134, 137, 255} {
			if k.a.Addr().Is6() && kind > 0 && kind <= 4 {
				continue // these are errors there
			}
			n.drops(t, fmt.Sprintf("type %d", kind), abi.CReasonDROP_POLICY,
				n.about(t, icmpKind{kind, 0, kind, 0}, routerFor(k.a.Addr()), k.a.Addr(), quote))
		}
	}
}

// Anyone can send errors, so they keep no flow alive and move none on.
func testRelatedTouchesNothing(t *testing.T, n *node) {
	n.fresh(t)
	k := talk{overTCP, at(podA.ip4, 40000), at(remote4, 80)}
	sent := k.says(t, n, "S")
	n.passes(t, "SYN", sent)
	n.under(t, podA, security{ingress: closed})
	n.age(t, k, margin)
	before := n.find(t, k)
	n.passes(t, "error by the peer", n.about(t, tooBig, remote4, podA.ip4, quoted(sent, 500)))
	if after := n.find(t, k); after != before {
		t.Errorf("an error changed the flow from %+v to %+v", before, after)
	}
	// By the stack of the node, as one of its forwarding would be.
	proto, l4 := errorLayers(timeExceeded, podA.ip4, quoted(sent, 500))
	eth := &layers.Ethernet{SrcMAC: routerMAC, DstMAC: podA.mac}
	in := toPod(podA, nativeDevice, packet4(t, eth, router4, podA.ip4, proto4(proto), l4...))
	if err := testutil.CheckSums(in.frame); err != nil {
		t.Fatal(err)
	}
	n.passes(t, "error by a router, through the stack", in)
}
