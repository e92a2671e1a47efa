package packettest

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/testutil"
)

var (
	remote4 = netip.MustParseAddr("10.1.0.5")
	remote6 = netip.MustParseAddr("fd00:1::5")
)

func fromNetdev(frame []byte) input {
	return input{program: loader.FromNetdev, device: nativeDevice, frame: frame}
}

func fromWire() *layers.Ethernet { return &layers.Ethernet{SrcMAC: nextMAC, DstMAC: nativeMAC} }

func testFromNetdev(t *testing.T, n *node) {
	to4 := func(dst string, edit func(*layers.IPv4), l4 ...gopacket.SerializableLayer) []byte {
		return packet4(t, fromWire(), remote4, netip.MustParseAddr(dst), edit, l4...)
	}
	to6 := func(dst string, edit func(*layers.IPv6), l4 ...gopacket.SerializableLayer) []byte {
		return packet6(t, fromWire(), remote6, netip.MustParseAddr(dst), edit, l4...)
	}
	from := func(src string, dst pod) []byte {
		a := netip.MustParseAddr(src)
		if a.Is4() {
			return packet4(t, fromWire(), a, dst.ip4, nil)
		}
		return packet6(t, fromWire(), a, dst.ip6, nil)
	}
	forward := func(name string, in []byte, dst pod, w way) row {
		return row{
			name: name, input: fromNetdev(in), verdict: redirected, reason: abi.CReasonREASON_FORWARDED,
			to: target{way: w, device: dst.device}, out: routed(in, dst.mac, routerMAC),
		}
	}
	stack := func(name string, in []byte) row {
		return row{name: name, input: fromNetdev(in), verdict: pass, reason: abi.CReasonREASON_TO_STACK}
	}
	drop := func(name string, reason abi.CReason, in []byte) row {
		return row{name: name, input: fromNetdev(in), verdict: shot, reason: reason}
	}
	told := func(name string, reason abi.CReason, in, out []byte) row {
		return row{
			name: name, input: fromNetdev(in), verdict: redirected, reason: reason,
			to: target{way: byDevice, device: nativeDevice}, out: out,
		}
	}
	b4, b6 := podB.ip4.String(), podB.ip6.String()
	pod4, pod6 := to4(b4, nil), to6(b6, nil)
	node := to4(node4.String(), nil)
	expired4, expired6 := to4(b4, ttl4(1)), to6(b6, hops6(1))
	gone4, gone6 := to4("10.0.0.200", nil), to6("fd00:10::c8", nil)
	big4, big6 := to4(b4, dontFragment, sized(podMTU+1, ip4Len)...), to6(b6, nil, sized(podMTU+1, ip6Len)...)
	tagged := fromNetdev(pod4)
	tagged.prelude = prelude(t, n, loader.FromNetdev, pushVLAN(7))
	otherMAC := net.HardwareAddr{2, 0, 0, 0, 0xe0, 0x77}
	arp := arpFrame(t, &layers.Ethernet{SrcMAC: nextMAC, DstMAC: broadcastMAC}, layers.ARP{
		Operation: layers.ARPRequest, SourceHwAddress: nextMAC, SourceProtAddress: remote4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: node4.AsSlice(),
	})
	rows := []row{
		forward("IPv4 to a pod", pod4, podB, byPeer),
		forward("IPv6 to a pod", pod6, podB, byPeer),
		forward("IPv4 to a shaped pod", to4(podC.ip4.String(), nil), podC, byDevice),
		forward("IPv6 to a shaped pod", to6(podC.ip6.String(), nil), podC, byDevice),
		forward("IPv4 from the node's neighbour", from("192.0.2.2", podB), podB, byPeer),
		forward("IPv4 from class E, which some clouds use", from("240.1.2.3", podB), podB, byPeer),
		forward("IPv4 later fragment", to4(b4, func(ip *layers.IPv4) { ip.FragOffset = 10 }), podB, byPeer),
		forward("IPv6 behind extension headers", to6(b6, next6(hopByHop), chain(udp(), padding(17, 2))...), podB, byPeer),
		stack("IPv4 to the node", node),
		stack("IPv6 to the node", to6(node6.String(), nil)),
		stack("IPv4 to the node, TTL 1", to4(node4.String(), ttl4(1))),
		stack("IPv4 to the node, bad L4", patched(to4(node4.String(), proto4(6), tcp()...), ethLen+ip4Len+12, 0x10)),
		stack("IPv6 to the node, routing header type 0", to6(node6.String(), next6(routing), chain(udp(), routingType(17, 0))...)),
		stack("IPv4 to elsewhere", to4("203.0.113.1", nil)),
		stack("IPv6 to elsewhere", to6("2001:db8:ffff::1", nil)),
		stack("IPv4 to elsewhere, by a route", to4("10.1.0.9", nil)),
		stack("IPv4 multicast", to4("224.0.0.5", nil)),
		stack("IPv4 multicast beyond the link", to4("239.1.1.1", nil)),
		stack("IPv4 broadcast", to4("255.255.255.255", nil)),
		stack("IPv4 to the unspecified address", to4("0.0.0.0", nil)),
		stack("IPv6 multicast", to6("ff02::1", nil)),
		stack("IPv6 to a pod's link-local address", to6("fe80::b", nil)),
		stack("ARP", arp),
		stack("another host's frame", patched(pod4, 0, otherMAC...)),
		stack("another host's frame, malformed", patched(pod4, 0, append(otherMAC[:6:6], pod4[6:12]...)...)[:30]),
		stack("broadcast frame", patched(pod4, 0, broadcastMAC...)),
		stack("multicast frame", patched(pod6, 0, 0x33, 0x33, 0, 0, 0, 1)),
		stack("tag in the frame", withTag(pod4, 7)),
		{name: "tag beside the frame", input: tagged, verdict: pass, reason: abi.CReasonREASON_TO_STACK},
		stack("unknown EtherType", patched(pod4, 12, 0x88, 0xb5)),
		drop("IPv4 of the node's own range, nobody there", abi.CReasonDROP_STALE_TARGET, to4("10.0.0.99", nil)),
		drop("IPv6 of the node's own range, nobody there", abi.CReasonDROP_STALE_TARGET, to6("fd00:10::99", nil)),
		told("IPv4 address that a pod gave back", abi.CReasonDROP_HOST_UNREACHABLE, gone4, hostUnreachable.about(t, gone4, 0)),
		told("IPv6 address that a pod gave back", abi.CReasonDROP_HOST_UNREACHABLE, gone6, hostUnreachable.about(t, gone6, 0)),
		told("IPv4 TTL 1", abi.CReasonDROP_TTL_EXCEEDED, expired4, timeExceeded.about(t, expired4, 0)),
		told("IPv6 hop limit 1", abi.CReasonDROP_TTL_EXCEEDED, expired6, timeExceeded.about(t, expired6, 0)),
		told("IPv4 too big", abi.CReasonDROP_FRAG_NEEDED, big4, tooBig.about(t, big4, podMTU)),
		told("IPv6 too big", abi.CReasonDROP_FRAG_NEEDED, big6, tooBig.about(t, big6, podMTU)),
		stack("IPv4 too big, to be cut", to4(b4, nil, sized(podMTU+1, ip4Len)...)),
		drop("IPv4 to a pod, bad L4", abi.CReasonDROP_INVALID_L4, patched(to4(b4, proto4(6), tcp()...), ethLen+ip4Len+12, 0x10)),
		drop("IPv6 to a pod, routing header type 0", abi.CReasonDROP_INVALID_EXT_HEADER,
			to6(b6, next6(routing), chain(udp(), routingType(17, 0))...)),
		drop("IPv4 version", abi.CReasonDROP_INVALID_PACKET, patched(node, ethLen, 0x55)),
		drop("IPv4 header length", abi.CReasonDROP_INVALID_PACKET, patched(node, ethLen, 0x44)),
		drop("IPv4 total length", abi.CReasonDROP_INVALID_PACKET, patched(node, ethLen+2, 0xff)),
		drop("IPv4 cut short", abi.CReasonDROP_INVALID_PACKET, node[:ethLen+19]),
		drop("IPv6 version", abi.CReasonDROP_INVALID_PACKET, patched(pod6, ethLen, 0x40)),
		drop("IPv6 payload length", abi.CReasonDROP_INVALID_PACKET, patched(pod6, ethLen+4, 0xff)),
	}
	// Who cannot be answered is not passed on; the stack knows what to say.
	for _, src := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "::", "::1", "ff02::5", "fe80::77"} {
		rows = append(rows, stack("to a pod from "+src, from(src, podB)))
	}
	n.check(t, rows)
}

func testToNetdev(t *testing.T, n *node) {
	out := func(name string, frame []byte) row {
		return row{
			name: name, input: input{program: loader.ToNetdev, device: nativeDevice, frame: frame},
			verdict: pass, reason: abi.CReasonREASON_FORWARDED,
		}
	}
	n.check(t, []row{
		out("IPv4", packet4(t, fromWire(), node4, remote4, nil)),
		out("IPv6", packet6(t, fromWire(), node6, remote6, nil)),
		out("rubbish", testutil.Frame(t, &layers.Ethernet{SrcMAC: nativeMAC, DstMAC: nextMAC, EthernetType: 0x88b5}, gopacket.Payload("x"))),
	})
}
