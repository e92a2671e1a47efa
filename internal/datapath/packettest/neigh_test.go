package packettest

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/testutil"
)

// arpRequest asks for target, in a frame that pod p broadcasts.
func arpRequest(t testing.TB, p pod, mac net.HardwareAddr, ip netip.Addr, target string) []byte {
	t.Helper()
	dst := netip.MustParseAddr(target)
	return arpFrame(t, &layers.Ethernet{SrcMAC: p.mac, DstMAC: broadcastMAC}, layers.ARP{
		Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: ip.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: dst.AsSlice(),
	})
}

func arpFrame(t testing.TB, eth *layers.Ethernet, arp layers.ARP) []byte {
	t.Helper()
	eth.EthernetType = layers.EthernetTypeARP
	if arp.AddrType == 0 {
		arp.AddrType = layers.LinkTypeEthernet
	}
	arp.Protocol = layers.EthernetTypeIPv4
	arp.HwAddressSize, arp.ProtAddressSize = 6, 4
	return testutil.Frame(t, eth, &arp)
}

// arpReply tells pod p that target is at the router.
func arpReply(t testing.TB, p pod, target string) []byte {
	t.Helper()
	return arpFrame(t, &layers.Ethernet{SrcMAC: routerMAC, DstMAC: p.mac}, layers.ARP{
		Operation: layers.ARPReply, SourceHwAddress: routerMAC, SourceProtAddress: netip.MustParseAddr(target).AsSlice(),
		DstHwAddress: p.mac, DstProtAddress: p.ip4.AsSlice(),
	})
}

func answeredRow(name string, in, out []byte) row {
	return row{
		name: name, input: fromPod(podA, in), verdict: redirected, reason: abi.CReasonREASON_ANSWERED,
		to: target{way: byDevice, device: podA.device}, out: out,
	}
}

func ignoredRow(name string, in []byte) row {
	return row{name: name, input: fromPod(podA, in), verdict: shot, reason: abi.CReasonREASON_IGNORED}
}

func testARP(t *testing.T, n *node) {
	const gateway = "169.254.1.1"
	request := arpRequest(t, podA, podA.mac, podA.ip4, gateway)
	unicast := patched(request, 0, routerMAC...)
	padded := append(append([]byte(nil), request...), make([]byte, 18)...)
	reply := patched(arpReply(t, podB, gateway), 6, podA.mac...)
	wrongFrame := patched(request, 6, podB.mac...)
	spoofed := func(offset int, with ...byte) []byte { return patched(request, ethLen+offset, with...) }
	rows := []row{
		answeredRow("request", request, arpReply(t, podA, gateway)),
		answeredRow("unicast request", unicast, arpReply(t, podA, gateway)),
		answeredRow("padded request", padded, append(arpReply(t, podA, gateway), make([]byte, 18)...)),
		answeredRow("request for another pod", arpRequest(t, podA, podA.mac, podA.ip4, podB.ip4.String()), arpReply(t, podA, podB.ip4.String())),
		answeredRow("request with rubbish in the target MAC", spoofed(18, 1, 2, 3, 4, 5, 6), arpReply(t, podA, gateway)),
		ignoredRow("probe for its own address", arpRequest(t, podA, podA.mac, netip.IPv4Unspecified(), podA.ip4.String())),
		ignoredRow("gratuitous request", arpRequest(t, podA, podA.mac, podA.ip4, podA.ip4.String())),
		ignoredRow("gratuitous reply", patched(arpRequest(t, podA, podA.mac, podA.ip4, podA.ip4.String()), ethLen+6, 0, 2)),
		ignoredRow("reply", spoofed(6, 0, 2)),
		ignoredRow("RARP's operation", spoofed(6, 0, 3)),
		dropRow("probe for another's address", abi.CReasonDROP_INVALID_SOURCE,
			arpRequest(t, podA, podA.mac, netip.IPv4Unspecified(), podB.ip4.String())),
		dropRow("probe for the gateway", abi.CReasonDROP_INVALID_SOURCE, arpRequest(t, podA, podA.mac, netip.IPv4Unspecified(), gateway)),
		dropRow("all zero addresses", abi.CReasonDROP_INVALID_SOURCE, arpRequest(t, podA, podA.mac, netip.IPv4Unspecified(), "0.0.0.0")),
		dropRow("another pod's address", abi.CReasonDROP_INVALID_SOURCE, arpRequest(t, podA, podA.mac, podB.ip4, gateway)),
		dropRow("the node's address", abi.CReasonDROP_INVALID_SOURCE, arpRequest(t, podA, podA.mac, node4, gateway)),
		dropRow("the gateway's address", abi.CReasonDROP_INVALID_SOURCE, arpRequest(t, podA, podA.mac, netip.MustParseAddr(gateway), podB.ip4.String())),
		dropRow("another sender MAC", abi.CReasonDROP_INVALID_ARP, arpRequest(t, podA, podB.mac, podA.ip4, gateway)),
		dropRow("another sender MAC, gratuitous", abi.CReasonDROP_INVALID_ARP, arpRequest(t, podA, podB.mac, podA.ip4, podA.ip4.String())),
		dropRow("another MAC in the frame", abi.CReasonDROP_INVALID_MAC, wrongFrame),
		dropRow("reply for another pod's address", abi.CReasonDROP_INVALID_SOURCE, reply),
		dropRow("hardware type", abi.CReasonDROP_INVALID_ARP, spoofed(0, 0, 6)),
		dropRow("protocol type", abi.CReasonDROP_INVALID_ARP, spoofed(2, 0x86, 0xdd)),
		dropRow("hardware length", abi.CReasonDROP_INVALID_ARP, spoofed(4, 8)),
		dropRow("protocol length", abi.CReasonDROP_INVALID_ARP, spoofed(5, 16)),
	}
	for size := ethLen + 1; size < len(request); size++ {
		rows = append(rows, dropRow("truncated", abi.CReasonDROP_INVALID_ARP, request[:size]))
	}
	n.check(t, rows)
}

// solicitation asks the solicited-node group of target for it.
func solicitation(t testing.TB, src netip.Addr, target string, options ...layers.ICMPv6Option) []byte {
	t.Helper()
	to := netip.MustParseAddr(target).As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: to[13], 14: to[14], 15: to[15]})
	eth := podA.ether(0)
	eth.DstMAC = net.HardwareAddr{0x33, 0x33, 0xff, to[13], to[14], to[15]}
	return packet6(t, eth, src, group, hopsNext(255, 58),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)},
		&layers.ICMPv6NeighborSolicitation{TargetAddress: to[:], Options: options})
}

func sourceMAC(mac net.HardwareAddr) layers.ICMPv6Option {
	return layers.ICMPv6Option{Type: layers.ICMPv6OptSourceAddress, Data: mac}
}

// advertisement tells pod a's address dst that target is at the router:
// solicited, override, and not from a router.
func advertisement(t testing.TB, dst netip.Addr, target string) []byte {
	t.Helper()
	to := netip.MustParseAddr(target)
	return packet6(t, &layers.Ethernet{SrcMAC: routerMAC, DstMAC: podA.mac}, to, dst, hopsNext(255, 58),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(136, 0)},
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: to.AsSlice(), Options: layers.ICMPv6Options{
			{Type: layers.ICMPv6OptTargetAddress, Data: routerMAC},
		}})
}

func testNeighbourSolicitation(t *testing.T, n *node) {
	const gateway = "fe80::1"
	mac := sourceMAC(podA.mac)
	sound := solicitation(t, podA.linkLocal, gateway, mac)
	toGateway := patched(patched(sound, ethLen+24, netip.MustParseAddr(gateway).AsSlice()...), 0, routerMAC...)
	edit := func(offset int, with ...byte) []byte { return patched(sound, offset, with...) }
	const icmp, option = ethLen + ip6Len, ethLen + ip6Len + 24
	invalid := func(name string, in []byte) row { return dropRow(name, abi.CReasonDROP_INVALID_ND, in) }
	rows := []row{
		answeredRow("from the link-local address", sound, advertisement(t, podA.linkLocal, gateway)),
		answeredRow("from the pod's address", solicitation(t, podA.ip6, gateway, mac), advertisement(t, podA.ip6, gateway)),
		answeredRow("for another pod", solicitation(t, podA.ip6, podB.ip6.String(), mac), advertisement(t, podA.ip6, podB.ip6.String())),
		answeredRow("unicast, as it is probed whether the gateway is alive", toGateway, advertisement(t, podA.linkLocal, gateway)),
		answeredRow("padded frame", append(append([]byte(nil), sound...), 0, 0),
			append(advertisement(t, podA.linkLocal, gateway), 0, 0)),
		ignoredRow("duplicate address detection", solicitation(t, netip.IPv6Unspecified(), podA.ip6.String())),
		ignoredRow("duplicate address detection with a nonce", solicitation(t, netip.IPv6Unspecified(), podA.ip6.String(),
			layers.ICMPv6Option{Type: 14, Data: []byte{1, 2, 3, 4, 5, 6}})),
		invalid("hop limit 254", edit(ethLen+7, 254)),
		invalid("hop limit 1", edit(ethLen+7, 1)),
		invalid("code", edit(icmp+1, 1)),
		invalid("target is multicast", edit(icmp+8, 0xff, 2)),
		invalid("target option instead of source", edit(option, 2)),
		invalid("option of two units", edit(option+1, 2)),
		invalid("option of no length", edit(option+1, 0)),
		invalid("another MAC in the option", solicitation(t, podA.linkLocal, gateway, sourceMAC(podB.mac))),
		invalid("no option", solicitation(t, podA.linkLocal, gateway)),
		invalid("two options", solicitation(t, podA.linkLocal, gateway, mac, mac)),
		dropRow("another pod's address", abi.CReasonDROP_INVALID_SOURCE, solicitation(t, podB.ip6, gateway, mac)),
		dropRow("another pod's link-local address", abi.CReasonDROP_INVALID_SOURCE, solicitation(t, podB.linkLocal, gateway, mac)),
		dropRow("the gateway's address", abi.CReasonDROP_INVALID_SOURCE, solicitation(t, netip.MustParseAddr(gateway), podB.ip6.String(), mac)),
		dropRow("another MAC in the frame", abi.CReasonDROP_INVALID_MAC, edit(6, podB.mac...)),
		// RFC 6980: never in a fragment, whole or not. It goes nowhere, unanswered.
		ignoredRow("in a fragment header", packet6(t, podA.ether(0), podA.linkLocal, netip.MustParseAddr("ff02::1:ff00:1"),
			hopsNext(255, fragment), chain(bytesOf(sound[icmp:]), fragmentHeader(58, 0, false))...)),
		ignoredRow("behind a hop-by-hop header", packet6(t, podA.ether(0), podA.linkLocal, netip.MustParseAddr("ff02::1:ff00:1"),
			hopsNext(255, hopByHop), chain(bytesOf(sound[icmp:]), padding(58, 1))...)),
	}
	for size := icmp + 8; size < len(sound); size++ {
		// Truncated with lengths that agree: the header alone is whole.
		rows = append(rows, invalid("cut short", edit(ethLen+4, 0, byte(size-icmp))[:size]))
	}
	n.check(t, rows)
}

func bytesOf(b []byte) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{gopacket.Payload(b)}
}
