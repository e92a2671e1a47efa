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

func fromPod(p pod, frame []byte) input {
	return input{program: loader.FromPod, device: p.device, frame: frame}
}

// forwardRow is a packet of pod a that is passed on.
func forwardRow(name string, in, out []byte, to target) row {
	return row{
		name: name, input: fromPod(podA, in),
		verdict: redirected, reason: abi.CReasonREASON_FORWARDED, to: to, out: out,
	}
}

func dropRow(name string, reason abi.CReason, in []byte) row {
	return row{name: name, input: fromPod(podA, in), verdict: shot, reason: reason}
}

func stackRow(name string, in []byte) row {
	return row{name: name, input: fromPod(podA, in), verdict: pass, reason: abi.CReasonREASON_TO_STACK}
}

func testFromPodToPod(t *testing.T, n *node) {
	toB, toC := target{way: byPeer, device: podB.device}, target{way: byDevice, device: podC.device}
	var rows []row
	forward := func(name string, in []byte, dst pod, to target) {
		rows = append(rows, forwardRow(name, in, routed(in, dst.mac, routerMAC), to))
	}
	b4, b6 := podB.ip4.String(), podB.ip6.String()
	forward("IPv4 UDP", podA.to4(t, b4, nil), podB, toB)
	forward("IPv6 UDP", podA.to6(t, b6, nil), podB, toB)
	forward("IPv4 TCP", podA.to4(t, b4, proto4(6), tcp()...), podB, toB)
	forward("IPv6 TCP", podA.to6(t, b6, next6(6), tcp()...), podB, toB)
	forward("IPv4 echo", podA.to4(t, b4, proto4(1), icmp4(8)...), podB, toB)
	forward("IPv6 echo", podA.to6(t, b6, next6(58), icmp6(128)...), podB, toB)
	forward("IPv4 SCTP", podA.to4(t, b4, proto4(132), sctp()...), podB, toB)
	forward("IPv6 SCTP", podA.to6(t, b6, next6(132), sctp()...), podB, toB)
	forward("IPv4 unknown protocol", podA.to4(t, b4, proto4(200), gopacket.Payload(payload)), podB, toB)
	forward("IPv6 no next header", podA.to6(t, b6, next6(59), gopacket.Payload("")), podB, toB)
	forward("IPv4 options", podA.to4(t, b4, options4), podB, toB)
	forward("IPv4 TTL 2", podA.to4(t, b4, ttl4(2)), podB, toB)
	forward("IPv4 TTL 255", podA.to4(t, b4, ttl4(255)), podB, toB)
	forward("IPv6 hop limit 2", podA.to6(t, b6, hops6(2)), podB, toB)
	forward("IPv4 TOS and id", podA.to4(t, b4, func(ip *layers.IPv4) { ip.TOS, ip.Id = 0xb9, 0xffff }), podB, toB)
	forward("IPv6 class and flow label", podA.to6(t, b6, func(ip *layers.IPv6) { ip.TrafficClass, ip.FlowLabel = 0xb9, 0xfffff }), podB, toB)
	forward("IPv4 first fragment", podA.to4(t, b4, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }), podB, toB)
	forward("IPv4 later fragment", podA.to4(t, b4, func(ip *layers.IPv4) { ip.FragOffset = 185 }, gopacket.Payload("xyz")), podB, toB)
	forward("IPv6 first fragment", podA.to6(t, b6, next6(fragment), chain(udp(), fragmentHeader(upperUDP, 0, true))...), podB, toB)
	forward("IPv6 later fragment", podA.to6(t, b6, next6(fragment), fragmentHeader(upperUDP, 185, false), gopacket.Payload("xyz")), podB, toB)
	forward("IPv4 padded frame", append(podA.to4(t, b4, nil, &layers.UDP{}), make([]byte, 18)...), podB, toB)
	forward("IPv4 of exactly the pod's MTU", podA.to4(t, b4, dontFragment, sized(podMTU, ip4Len)...), podB, toB)
	forward("IPv6 of exactly the pod's MTU", podA.to6(t, b6, nil, sized(podMTU, ip6Len)...), podB, toB)
	forward("IPv4 to a shaped pod", podA.to4(t, podC.ip4.String(), nil), podC, toC)
	forward("IPv6 to a shaped pod", podA.to6(t, podC.ip6.String(), nil), podC, toC)
	forward("IPv4 to itself", podA.to4(t, podA.ip4.String(), nil), podA, target{way: byPeer, device: podA.device})
	n.check(t, rows)
}

func dontFragment(ip *layers.IPv4) { ip.Flags |= layers.IPv4DontFragment }

// A checksum that is updated must be the one that is computed anew, also where
// the one's complement has two zeros.
func testFromPodChecksumCorners(t *testing.T, n *node) {
	base := podA.to4(t, podB.ip4.String(), nil)
	sum := uint16(base[24])<<8 | uint16(base[25])
	for _, want := range []uint16{0x0000, 0x0001, 0x00ff, 0x0100, 0xfeff, 0xfefe, 0xff00, 0xff01, 0xfffe, 0x7fff, 0x8000} {
		// The id is a summand: move it by as much as the checksum has to move.
		id := uint32(sum) + 0xffff - uint32(want)
		id = id&0xffff + id>>16
		in := podA.to4(t, podB.ip4.String(), func(ip *layers.IPv4) { ip.Id = uint16(id) })
		if got := uint16(in[24])<<8 | uint16(in[25]); got != want {
			t.Fatalf("built a packet with checksum %#04x, want %#04x", got, want)
		}
		out := routed(in, podB.mac, routerMAC)
		n.checkRow(t, forwardRow("", in, out, target{way: byPeer, device: podB.device}), 0)
		if err := testutil.CheckSums(out); err != nil {
			t.Errorf("checksum %#04x: %v", want, err)
		}
	}
}

func testFromPodToNetwork(t *testing.T, n *node) {
	native := target{way: byDevice, device: nativeDevice}
	var rows []row
	known := func(name string, in []byte) {
		rows = append(rows, forwardRow(name, in, routed(in, nextMAC, nativeMAC), native))
	}
	unknown := func(name, nextHop string, in []byte) {
		rows = append(rows, forwardRow(name, in, ttlDecremented(in), target{way: byNeighbour, device: nativeDevice, nextHop: nextHop}))
	}
	known("IPv4 by a neighbour that is known", podA.to4(t, "10.1.0.5", nil))
	known("IPv6 by a neighbour that is known", podA.to6(t, "fd00:1::5", nil))
	known("IPv4 to a neighbour itself", podA.to4(t, "192.0.2.2", nil))
	known("IPv6 to a neighbour itself", podA.to6(t, "2001:db8::2", nil))
	known("IPv4 TOS and options", podA.to4(t, "10.1.0.5", func(ip *layers.IPv4) { ip.TOS = 0xb8; options4(ip) }))
	known("IPv4 of the pods' range of another node, without tunnel", podA.to4(t, "10.1.0.9", dontFragment))
	known("IPv4 of exactly the route's MTU", podA.to4(t, "10.4.0.5", dontFragment, sized(routeMTU, ip4Len)...))
	known("IPv6 of exactly the route's MTU", podA.to6(t, "fd00:4::5", nil, sized(routeMTU, ip6Len)...))
	unknown("IPv4 by a neighbour that is not known", "192.0.2.3", podA.to4(t, "10.2.0.5", nil))
	unknown("IPv6 by a neighbour that is not known", "2001:db8::3", podA.to6(t, "fd00:2::5", nil))
	unknown("IPv4 on link, not known", "192.0.2.77", podA.to4(t, "192.0.2.77", ttl4(2)))
	unknown("IPv6 on link, not known", "2001:db8::77", podA.to6(t, "2001:db8::77", hops6(2)))

	rows = append(rows,
		stackRow("IPv4 to the node", podA.to4(t, node4.String(), ttl4(1))),
		stackRow("IPv6 to the node", podA.to6(t, node6.String(), hops6(1))),
		stackRow("IPv4 to the subnet's broadcast address", podA.to4(t, "192.0.2.255", nil)),
		stackRow("IPv4 to loopback", podA.to4(t, "127.0.0.1", nil)),
		stackRow("IPv6 to loopback", podA.to6(t, "::1", nil)),
		stackRow("IPv4 without a route", podA.to4(t, "203.0.113.1", nil)),
		stackRow("IPv6 without a route", podA.to6(t, "2001:db8:ffff::1", nil)),
		stackRow("IPv4 in the ipcache, without tunnel and route", podA.to4(t, "10.9.0.1", nil)),
		dropRow("IPv4 of the node's own range, nobody there", abi.CReasonDROP_STALE_TARGET, podA.to4(t, "10.0.0.99", nil)),
		dropRow("IPv6 of the node's own range, nobody there", abi.CReasonDROP_STALE_TARGET, podA.to6(t, "fd00:10::99", nil)),
	)
	n.check(t, rows)
}

func testFromPodDefaultRoute(t *testing.T, n *node) {
	known := func(name string, in []byte) row {
		return forwardRow(name, in, routed(in, nextMAC, nativeMAC), target{way: byDevice, device: nativeDevice})
	}
	n.check(t, []row{
		known("IPv4 to the Internet", podA.to4(t, "203.0.113.1", nil)),
		known("IPv4 to class E, which some clouds use", podA.to4(t, "240.1.2.3", nil)),
		known("IPv6 to the Internet", podA.to6(t, "2001:db8:ffff::1", nil)),
		dropRow("IPv4 of the node's own range", abi.CReasonDROP_STALE_TARGET, podA.to4(t, "10.0.0.99", nil)),
		dropRow("IPv6 of the node's own range", abi.CReasonDROP_STALE_TARGET, podA.to6(t, "fd00:10::99", nil)),
		dropRow("IPv4 to this network", abi.CReasonDROP_UNKNOWN_TARGET, podA.to4(t, "0.0.0.0", nil)),
		dropRow("IPv6 to the unspecified address", abi.CReasonDROP_UNKNOWN_TARGET, podA.to6(t, "::", nil)),
		stackRow("IPv4 to loopback", podA.to4(t, "127.0.0.1", nil)),
		stackRow("IPv6 to loopback", podA.to6(t, "::1", nil)),
	})
}

func testFromPodTunnel(t *testing.T, n *node) {
	overlay := target{way: byDevice, device: overlayDevice}
	toTunnel := func(name string, in []byte) row {
		return forwardRow(name, in, routed(in, routerMAC, routerMAC), overlay)
	}
	toNetwork := func(name string, in []byte) row {
		return forwardRow(name, in, routed(in, nextMAC, nativeMAC), target{way: byDevice, device: nativeDevice})
	}
	n.check(t, []row{
		toTunnel("IPv4 in the ipcache", podA.to4(t, "10.9.3.4", nil)),
		toTunnel("IPv6 in the ipcache", podA.to6(t, "fd00:9::4", nil)),
		toTunnel("IPv4 of exactly the overlay's MTU", podA.to4(t, "10.9.3.4", dontFragment, sized(overlayMTU, ip4Len)...)),
		toNetwork("IPv4 not in the ipcache", podA.to4(t, "203.0.113.1", nil)),
		toNetwork("IPv6 not in the ipcache", podA.to6(t, "2001:db8:ffff::1", nil)),
		stackRow("IPv4 larger than the overlay takes, to be cut", podA.to4(t, "10.9.3.4", nil, sized(overlayMTU+1, ip4Len)...)),
		forwardRow("IPv4 to a pod of the node", podA.to4(t, podB.ip4.String(), nil),
			routed(podA.to4(t, podB.ip4.String(), nil), podB.mac, routerMAC), target{way: byPeer, device: podB.device}),
	})
}

func testFromPodSource(t *testing.T, n *node) {
	spoof4 := func(src string) []byte {
		return packet4(t, podA.ether(0), netip.MustParseAddr(src), podB.ip4, nil)
	}
	spoof6 := func(src string) []byte {
		return packet6(t, podA.ether(0), netip.MustParseAddr(src), podB.ip6, nil)
	}
	wrongMAC := podA.ether(0)
	wrongMAC.SrcMAC = net.HardwareAddr{2, 0, 0, 0, 0x0a, 2}
	otherMAC := podA.ether(0)
	otherMAC.SrcMAC = podB.mac
	n.check(t, []row{
		dropRow("IPv4 of nobody", abi.CReasonDROP_INVALID_SOURCE, spoof4("10.0.0.77")),
		dropRow("IPv6 of nobody", abi.CReasonDROP_INVALID_SOURCE, spoof6("fd00:10::77")),
		dropRow("IPv4 of another pod", abi.CReasonDROP_INVALID_SOURCE, spoof4(podB.ip4.String())),
		dropRow("IPv6 of another pod", abi.CReasonDROP_INVALID_SOURCE, spoof6(podB.ip6.String())),
		dropRow("IPv6 link-local of another pod", abi.CReasonDROP_INVALID_SOURCE, spoof6("fe80::b")),
		dropRow("IPv4 of the node", abi.CReasonDROP_INVALID_SOURCE, spoof4(node4.String())),
		dropRow("IPv6 of the node", abi.CReasonDROP_INVALID_SOURCE, spoof6(node6.String())),
		dropRow("IPv4 unspecified", abi.CReasonDROP_INVALID_SOURCE, spoof4("0.0.0.0")),
		dropRow("IPv6 unspecified", abi.CReasonDROP_INVALID_SOURCE, spoof6("::")),
		dropRow("IPv4 loopback", abi.CReasonDROP_INVALID_SOURCE, spoof4("127.0.0.1")),
		dropRow("IPv4 multicast", abi.CReasonDROP_INVALID_SOURCE, spoof4("224.0.0.1")),
		dropRow("IPv4 wrong MAC", abi.CReasonDROP_INVALID_MAC, packet4(t, wrongMAC, podA.ip4, podB.ip4, nil)),
		dropRow("IPv6 wrong MAC", abi.CReasonDROP_INVALID_MAC, packet6(t, wrongMAC, podA.ip6, podB.ip6, nil)),
		dropRow("IPv4 another pod's MAC", abi.CReasonDROP_INVALID_MAC, packet4(t, otherMAC, podA.ip4, podB.ip4, nil)),
		dropRow("IPv4 another pod's address and MAC", abi.CReasonDROP_INVALID_SOURCE, packet4(t, podB.ether(0), podB.ip4, podA.ip4, nil)),
		dropRow("IPv6 DAD's source, not to a link's multicast", abi.CReasonDROP_INVALID_SOURCE, spoof6("::")),
		// ::ffff:0:0/96 never appears on a wire; it would pass for IPv4 in every table.
		dropRow("IPv6 with its own IPv4 address as source", abi.CReasonDROP_INVALID_PACKET, mapped(t, podA.ip4, podB.ip6)),
		dropRow("IPv6 with a pod's IPv4 address as destination", abi.CReasonDROP_INVALID_PACKET, mapped(t, podA.ip6, podB.ip4)),
		dropRow("IPv6 with IPv4 addresses", abi.CReasonDROP_INVALID_PACKET, mapped(t, podA.ip4, podB.ip4)),
	})
}

// mapped is an IPv6 packet whose addresses may be IPv4, as ::ffff:a.b.c.d.
func mapped(t *testing.T, src, dst netip.Addr) []byte {
	t.Helper()
	s, d := src.As16(), dst.As16()
	frame := podA.to6(t, podB.ip6.String(), nil)
	return patched(frame, ethLen+8, append(s[:], d[:]...)...)
}

func testFromPodOnLink(t *testing.T, n *node) {
	ignored := func(name string, in []byte) row {
		return row{name: name, input: fromPod(podA, in), verdict: shot, reason: abi.CReasonREASON_IGNORED}
	}
	local := func(dst string, edit func(*layers.IPv6), l4 ...gopacket.SerializableLayer) []byte {
		return packet6(t, podA.ether(0), podA.linkLocal, netip.MustParseAddr(dst), edit, l4...)
	}
	unspecified := func(dst string, kind uint8) []byte {
		return packet6(t, podA.ether(0), netip.IPv6Unspecified(), netip.MustParseAddr(dst), hopsNext(255, 58), icmp6(kind)...)
	}
	n.check(t, []row{
		ignored("router solicitation", local("ff02::2", hopsNext(255, 58), icmp6(133)...)),
		ignored("router solicitation without a source", unspecified("ff02::2", 133)),
		ignored("MLD report", local("ff02::16", hopsNext(1, hopByHop), chain(icmp6(143), extension(58, 5, 2, 0, 0, 1, 0))...)),
		ignored("MLD report without a source", packet6(t, podA.ether(0), netip.IPv6Unspecified(), netip.MustParseAddr("ff02::16"),
			hopsNext(1, hopByHop), chain(icmp6(143), extension(58, 5, 2, 0, 0, 1, 0))...)),
		ignored("unsolicited advertisement", podA.to6(t, "ff02::1", hopsNext(255, 58), icmp6(136)...)),
		ignored("duplicate address detection", unspecified("ff02::1:ff00:a", 135)),
		ignored("IGMP report", podA.to4(t, "224.0.0.22", func(ip *layers.IPv4) { ip.TTL, ip.Protocol = 1, 2 }, gopacket.Payload(make([]byte, 16)))),
		ignored("mDNS", podA.to4(t, "224.0.0.251", nil)),
		dropRow("IPv4 multicast beyond the link", abi.CReasonDROP_UNKNOWN_TARGET, podA.to4(t, "239.1.1.1", nil)),
		dropRow("IPv6 multicast beyond the link", abi.CReasonDROP_UNKNOWN_TARGET, podA.to6(t, "ff05::1", nil)),
		dropRow("IPv4 broadcast", abi.CReasonDROP_UNKNOWN_TARGET, podA.to4(t, "255.255.255.255", nil)),
		dropRow("link-local address to the gateway", abi.CReasonDROP_UNKNOWN_TARGET, local("fe80::1", nil)),
		dropRow("link-local address to another pod's", abi.CReasonDROP_UNKNOWN_TARGET, local("fe80::b", nil)),
		dropRow("link-local address to another pod", abi.CReasonDROP_UNKNOWN_TARGET, local(podB.ip6.String(), nil)),
		dropRow("link-local address to the network", abi.CReasonDROP_UNKNOWN_TARGET, local("fd00:1::5", nil)),
		dropRow("own address to another pod's link-local", abi.CReasonDROP_UNKNOWN_TARGET, podA.to6(t, "fe80::b", nil)),
		dropRow("multicast with an expired TTL", abi.CReasonDROP_UNKNOWN_TARGET, podA.to4(t, "239.1.1.1", ttl4(1))),
	})
}

func hopsNext(hops uint8, next layers.IPProtocol) func(*layers.IPv6) {
	return func(ip *layers.IPv6) { ip.HopLimit, ip.NextHeader = hops, next }
}

func testFromPodOtherFrames(t *testing.T, n *node) {
	raw := func(kind uint16) []byte {
		return testutil.Frame(t, podA.ether(layers.EthernetType(kind)), gopacket.Payload(payload))
	}
	frame := podA.to4(t, podB.ip4.String(), nil)
	tagged := fromPod(podA, frame)
	tagged.prelude = prelude(t, n, loader.FromPod, pushVLAN(7))
	taggedARP := fromPod(podA, arpRequest(t, podA, podA.mac, podA.ip4, "10.0.0.1"))
	taggedARP.prelude = tagged.prelude
	n.check(t, []row{
		{name: "VLAN, tag beside the frame", input: tagged, verdict: shot, reason: abi.CReasonDROP_VLAN},
		{name: "VLAN ARP", input: taggedARP, verdict: shot, reason: abi.CReasonDROP_VLAN},
		dropRow("VLAN, tag in the frame", abi.CReasonDROP_UNKNOWN_L3, withTag(frame, 7)),
		dropRow("QinQ", abi.CReasonDROP_UNKNOWN_L3, raw(0x88a8)),
		dropRow("unknown EtherType", abi.CReasonDROP_UNKNOWN_L3, raw(0x88b5)),
		dropRow("802.3 length", abi.CReasonDROP_UNKNOWN_L3, raw(64)),
		dropRow("MPLS", abi.CReasonDROP_UNKNOWN_L3, raw(0x8847)),
		dropRow("PPPoE", abi.CReasonDROP_UNKNOWN_L3, raw(0x8864)),
		dropRow("IPv4 said to be IPv6", abi.CReasonDROP_INVALID_PACKET, patched(frame, 12, 0x86, 0xdd)),
		dropRow("IPv6 said to be IPv4", abi.CReasonDROP_INVALID_PACKET, patched(podA.to6(t, podB.ip6.String(), nil), 12, 0x08, 0x00)),
	})
}

// withTag puts an 802.1Q tag into the frame.
func withTag(frame []byte, vlan byte) []byte {
	out := append([]byte(nil), frame[:12]...)
	return append(append(out, 0x81, 0, 0, vlan), frame[12:]...)
}
