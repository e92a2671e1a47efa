package packettest

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

func fromTunnel() *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: routerMAC, DstMAC: routerMAC}
}

// A remote pod, whose node the ipcache names.
var (
	far4 = netip.MustParseAddr("10.9.3.4")
	far6 = netip.MustParseAddr("fd00:9::4")
)

// farEnd is the address of the remote node.
func farEnd(underlay6 bool) netip.Addr {
	if underlay6 {
		return farEnd6
	}
	return farEnd4
}

func testFromOverlay(t *testing.T, n *node) {
	underlay6 := n.cfg.TunnelUnderlay6 == 1
	received := prelude(t, n, loader.FromOverlay, setTunnelKey(tunnelKey{id: vni, remote: farEnd(underlay6)}))
	in := func(src, dst string, edit func(*layers.IPv4)) input {
		s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
		i := input{program: loader.FromOverlay, device: overlayDevice, prelude: received}
		if s.Is4() {
			i.frame = packet4(t, fromTunnel(), s, d, edit)
		} else {
			i.frame = packet6(t, fromTunnel(), s, d, nil)
		}
		return i
	}
	a4, a6 := podA.ip4.String(), podA.ip6.String()
	forward := func(name string, i input, dst pod) row {
		return row{
			name: name, input: i, verdict: redirected, reason: abi.CReasonREASON_FORWARDED,
			out: routed(i.frame, dst.mac, routerMAC),
		}
	}
	drop := func(name string, reason abi.CReason, i input) row {
		return row{name: name, input: i, verdict: shot, reason: reason}
	}
	told := func(name string, reason abi.CReason, i input, out []byte) row {
		return row{name: name, input: i, verdict: redirected, reason: reason, out: out}
	}
	sound := in(far4.String(), a4, nil)
	noKey, otherVNI, otherFamily := sound, sound, sound
	noKey.prelude = nil
	otherVNI.prelude = prelude(t, n, loader.FromOverlay, setTunnelKey(tunnelKey{id: vni + 1, remote: farEnd(underlay6)}))
	otherFamily.prelude = prelude(t, n, loader.FromOverlay, setTunnelKey(tunnelKey{id: vni, remote: farEnd(!underlay6)}))
	malformed, badL4 := sound, sound
	malformed.frame = patched(sound.frame, ethLen, 0x44)
	badL4.frame = patched(sound.frame, ethLen+ip4Len+4, 0, 7)
	arp := sound
	arp.frame = patched(sound.frame, 12, 0x08, 0x06)
	expired, gone := in(far4.String(), a4, ttl4(1)), in(far4.String(), "10.0.0.200", nil)
	gone6 := in(far6.String(), "fd00:10::c8", nil)
	n.check(t, []row{
		forward("IPv4 to a pod", sound, podA),
		forward("IPv6 to a pod", in(far6.String(), a6, nil), podA),
		forward("IPv4 to a shaped pod", in(far4.String(), podC.ip4.String(), nil), podC),
		{name: "IPv4 to the node", input: in(far4.String(), node4.String(), nil), verdict: pass, reason: abi.CReasonREASON_TO_STACK},
		{name: "IPv6 to the node", input: in(far6.String(), node6.String(), nil), verdict: pass, reason: abi.CReasonREASON_TO_STACK},
		drop("no metadata", abi.CReasonDROP_NO_TUNNEL_KEY, noKey),
		drop("metadata of the other family", abi.CReasonDROP_NO_TUNNEL_KEY, otherFamily),
		drop("another network identifier", abi.CReasonDROP_INVALID_VNI, otherVNI),
		drop("IPv4 of the node's own range, nobody there", abi.CReasonDROP_STALE_TARGET, in(far4.String(), "10.0.0.99", nil)),
		drop("IPv4 to elsewhere", abi.CReasonDROP_STALE_TARGET, in(far4.String(), "203.0.113.1", nil)),
		drop("IPv4 to elsewhere, by a route", abi.CReasonDROP_STALE_TARGET, in(far4.String(), "10.1.0.5", nil)),
		drop("IPv4 back into the tunnel", abi.CReasonDROP_STALE_TARGET, in(far4.String(), "10.9.8.8", nil)),
		drop("IPv4 multicast", abi.CReasonDROP_STALE_TARGET, in(far4.String(), "224.0.0.5", nil)),
		drop("IPv6 to a pod's link-local address", abi.CReasonDROP_UNKNOWN_TARGET, in(far6.String(), "fe80::a", nil)),
		told("IPv4 address that a pod gave back", abi.CReasonDROP_HOST_UNREACHABLE, gone, hostUnreachable.about(t, gone.frame, 0)),
		told("IPv6 address that a pod gave back", abi.CReasonDROP_HOST_UNREACHABLE, gone6, hostUnreachable.about(t, gone6.frame, 0)),
		told("IPv4 TTL 1", abi.CReasonDROP_TTL_EXCEEDED, expired, timeExceeded.about(t, expired.frame, 0)),
		drop("malformed L3", abi.CReasonDROP_INVALID_PACKET, malformed),
		drop("malformed L4", abi.CReasonDROP_INVALID_L4, badL4),
		drop("ARP", abi.CReasonDROP_UNKNOWN_L3, arp),
		drop("IPv4 from loopback", abi.CReasonDROP_INVALID_SOURCE, in("127.0.0.1", a4, nil)),
		drop("IPv4 from multicast", abi.CReasonDROP_INVALID_SOURCE, in("224.0.0.5", a4, nil)),
		drop("IPv6 from a link-local address", abi.CReasonDROP_INVALID_SOURCE, in("fe80::77", a6, nil)),
		drop("IPv6 from loopback", abi.CReasonDROP_INVALID_SOURCE, in("::1", a6, nil)),
	})
}

func testToOverlay(t *testing.T, n *node) {
	underlay6 := n.cfg.TunnelUnderlay6 == 1
	out := func(frame []byte) input {
		return input{program: loader.ToOverlay, device: overlayDevice, frame: frame}
	}
	hit4 := packet4(t, fromTunnel(), podA.ip4, far4, nil)
	hit6 := packet6(t, fromTunnel(), podA.ip6, far6, nil)
	sent := func(name string, frame []byte) row {
		return row{
			name: name, input: out(frame), verdict: pass, reason: abi.CReasonREASON_FORWARDED,
			// A device that saw its own address as the sender would take it for an echo.
			out: patched(frame, 0, 2, 0, 0, 0, 0xff, 1, 2, 0, 0, 0, 0xff, 1^0xff),
		}
	}
	drop := func(name string, reason abi.CReason, frame []byte) row {
		return row{name: name, input: out(frame), verdict: shot, reason: reason}
	}
	n.check(t, []row{
		sent("IPv4 in the ipcache", hit4),
		sent("IPv6 in the ipcache", hit6),
		sent("IPv4 TTL 1, which was counted down before", packet4(t, fromTunnel(), node4, far4, ttl4(1))),
		drop("IPv4 not in the ipcache", abi.CReasonDROP_NO_TUNNEL_ENDPOINT, packet4(t, fromTunnel(), podA.ip4, remote4, nil)),
		drop("IPv6 not in the ipcache", abi.CReasonDROP_NO_TUNNEL_ENDPOINT, packet6(t, fromTunnel(), podA.ip6, remote6, nil)),
		drop("IPv6 router solicitation of the device itself", abi.CReasonREASON_IGNORED,
			packet6(t, fromTunnel(), netip.MustParseAddr("fe80::ff"), netip.MustParseAddr("ff02::2"), hopsNext(255, 58), icmp6(133)...)),
		drop("ARP", abi.CReasonDROP_UNKNOWN_L3, patched(hit4, 12, 0x08, 0x06)),
		drop("malformed", abi.CReasonDROP_INVALID_PACKET, hit4[:ethLen+10]),
	})

	steps := newMap(t, 2, stepLen) // an array
	reader := prelude(t, n, loader.ToOverlay, readTunnelKey(steps, underlay6))
	for _, frame := range [][]byte{hit4, hit6} {
		want := tunnelKey{id: vni, remote: farEnd(underlay6), ttl: 64}
		if err := steps.Put(uint32(0), make([]byte, stepLen)); err != nil {
			t.Fatal(err)
		}
		var err error
		n.ns.Do(t, func() { _, err = n.testRun(reader, out(frame), 0, 2) })
		if err != nil {
			t.Fatal(err)
		}
		var value []byte
		if err := steps.Lookup(uint32(0), &value); err != nil {
			t.Fatal(err)
		}
		if got := keyOf(value, underlay6); got != want {
			t.Errorf("the tunnel's far end is %+v, want %+v", got, want)
		}
	}
}
