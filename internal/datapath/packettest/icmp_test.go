package packettest

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/testutil"
)

// toldRow is a packet of pod a that is dropped, and answered with the ICMP error.
func toldRow(name string, reason abi.CReason, in, out []byte) row {
	return row{
		name: name, input: fromPod(podA, in), verdict: redirected, reason: reason,
		to: target{way: byDevice, device: podA.device}, out: out,
	}
}

// What the two families call the errors: type and code.
type icmpKind struct{ type4, code4, type6, code6 uint8 }

var (
	timeExceeded    = icmpKind{11, 0, 3, 0}
	tooBig          = icmpKind{3, 4, 2, 0}
	hostUnreachable = icmpKind{3, 1, 1, 3}
	netUnreachable  = icmpKind{3, 0, 1, 0}
)

func (k icmpKind) about(t testing.TB, in []byte, mtu uint32) []byte {
	t.Helper()
	if in[ethLen]>>4 == 4 {
		return icmpError(t, in, k.type4, k.code4, mtu)
	}
	return icmpError(t, in, k.type6, k.code6, mtu)
}

func testTimeExceeded(t *testing.T, n *node) {
	b4, b6 := podB.ip4.String(), podB.ip6.String()
	var rows []row
	told := func(name string, in []byte) {
		out := timeExceeded.about(t, in, 0)
		if err := testutil.CheckSums(out); err != nil {
			t.Fatalf("expected answer of %s: %v", name, err)
		}
		rows = append(rows, toldRow(name, abi.CReasonDROP_TTL_EXCEEDED, in, out))
	}
	silent := func(name string, in []byte) {
		rows = append(rows, dropRow(name, abi.CReasonDROP_TTL_EXCEEDED, in))
	}
	last4 := func(proto layers.IPProtocol) func(*layers.IPv4) {
		return func(ip *layers.IPv4) { ip.TTL, ip.Protocol = 1, proto }
	}
	for ttl := range uint8(2) {
		told(fmt.Sprintf("IPv4 TTL %d to a pod", ttl), podA.to4(t, b4, ttl4(ttl)))
		told(fmt.Sprintf("IPv6 hop limit %d to a pod", ttl), podA.to6(t, b6, hops6(ttl)))
		told(fmt.Sprintf("IPv4 TTL %d to a shaped pod", ttl), podA.to4(t, podC.ip4.String(), ttl4(ttl)))
		told(fmt.Sprintf("IPv4 TTL %d to the network", ttl), podA.to4(t, "10.1.0.5", ttl4(ttl)))
		told(fmt.Sprintf("IPv6 hop limit %d to the network", ttl), podA.to6(t, "fd00:1::5", hops6(ttl)))
		told(fmt.Sprintf("IPv4 TTL %d by an unknown neighbour", ttl), podA.to4(t, "10.2.0.5", ttl4(ttl)))
	}
	told("IPv4 TCP", podA.to4(t, b4, last4(6), tcp()...))
	told("IPv4 echo request", podA.to4(t, b4, last4(1), icmp4(8)...))
	told("IPv4 echo reply", podA.to4(t, b4, last4(1), icmp4(0)...))
	told("IPv4 unknown protocol", podA.to4(t, b4, last4(200), gopacket.Payload(payload)))
	told("IPv4 options", podA.to4(t, b4, func(ip *layers.IPv4) { options4(ip); ip.TTL = 1 }))
	told("IPv4 first fragment", podA.to4(t, b4, func(ip *layers.IPv4) { ip.TTL, ip.Flags = 1, layers.IPv4MoreFragments }))
	told("IPv4 padded frame", append(podA.to4(t, b4, ttl4(1), &layers.UDP{}), make([]byte, 18)...))
	told("IPv4 bare header", podA.to4(t, b4, last4(200), gopacket.Payload("")))
	told("IPv6 echo request", podA.to6(t, b6, hopsNext(1, 58), icmp6(128)...))
	told("IPv6 behind extension headers", podA.to6(t, b6, hopsNext(1, hopByHop), chain(udp(), padding(destination, 1), padding(17, 3))...))
	told("IPv6 bare header", podA.to6(t, b6, hopsNext(1, 59), gopacket.Payload("")))

	for _, kind := range []uint8{3, 4, 5, 11, 12, 13} {
		silent(fmt.Sprintf("IPv4 ICMP type %d", kind), podA.to4(t, b4, last4(1), icmp4(kind)...))
	}
	for _, kind := range []uint8{1, 2, 3, 4, 127} {
		silent(fmt.Sprintf("IPv6 ICMP type %d", kind), podA.to6(t, b6, hopsNext(1, 58), icmp6(kind)...))
	}
	silent("IPv6 ICMP error behind an extension header", podA.to6(t, b6, hopsNext(1, destination), chain(icmp6(1), padding(58, 1))...))
	silent("IPv4 later fragment", podA.to4(t, b4, func(ip *layers.IPv4) { ip.TTL, ip.FragOffset = 1, 100 }))
	silent("IPv6 later fragment", podA.to6(t, b6, hopsNext(1, fragment), chain(udp(), fragmentHeader(17, 100, false))...))
	// RFC 1122, 3.2.2: not about what was sent to many at the link layer.
	silent("IPv4 in a broadcast frame", patched(podA.to4(t, b4, ttl4(1)), 0, broadcastMAC...))
	silent("IPv6 in a multicast frame", patched(podA.to6(t, b6, hops6(1)), 0, 0x33, 0x33, 0, 0, 0, 1))
	n.check(t, rows)
}

// The answer must be right for every length up to and over that of the quote.
func testTimeExceededLengths(t *testing.T, n *node) {
	for size := range 140 {
		data := gopacket.Payload(make([]byte, size))
		for i := range data {
			data[i] = byte(i * 37)
		}
		for _, in := range [][]byte{
			podA.to4(t, podB.ip4.String(), ttl4(1), &layers.UDP{DstPort: 9}, data),
			podA.to6(t, podB.ip6.String(), hops6(1), &layers.UDP{DstPort: 9}, data),
		} {
			want := timeExceeded.about(t, in, 0)
			flags := uint32(0)
			if !trimmed(toldRow("", abi.CReasonDROP_TTL_EXCEEDED, in, want)) {
				flags = checksumComplete
			}
			res, err := n.run(t, fromPod(podA, in), flags)
			if err != nil {
				t.Fatal(err)
			}
			if err := testutil.CheckSums(res.frame); err != nil {
				t.Errorf("%d bytes of payload: %v", size, err)
			}
			if !bytes.Equal(res.frame, want) {
				t.Errorf("%d bytes of payload: answer\n%s\nwant\n%s", size, indent(res.frame), indent(want))
			}
		}
	}
}

// What the answer says, as a reader of packets sees it.
func testICMPErrorDecodes(t *testing.T, n *node) {
	in := podA.to4(t, "10.4.0.5", dontFragment, sized(routeMTU+1, ip4Len)...)
	res, err := n.run(t, fromPod(podA, in), 0)
	if err != nil {
		t.Fatal(err)
	}
	ip, icmp := testutil.Layer[*layers.IPv4](t, res.frame), testutil.Layer[*layers.ICMPv4](t, res.frame)
	if ip.SrcIP.String() != node4.String() || ip.DstIP.String() != podA.ip4.String() || ip.TTL != 64 {
		t.Errorf("answer from %s to %s with TTL %d", ip.SrcIP, ip.DstIP, ip.TTL)
	}
	if icmp.TypeCode.String() != "DestinationUnreachable(FragmentationNeeded)" || icmp.Seq != routeMTU {
		t.Errorf("answer is %s with MTU %d", icmp.TypeCode, icmp.Seq)
	}
	in = podA.to6(t, "fd00:4::5", nil, sized(routeMTU+1, ip6Len)...)
	if res, err = n.run(t, fromPod(podA, in), 0); err != nil {
		t.Fatal(err)
	}
	ip6, icmp6 := testutil.Layer[*layers.IPv6](t, res.frame), testutil.Layer[*layers.ICMPv6](t, res.frame)
	if ip6.SrcIP.String() != node6.String() || ip6.DstIP.String() != podA.ip6.String() || icmp6.TypeCode.Type() != layers.ICMPv6TypePacketTooBig {
		t.Errorf("answer from %s to %s is %s", ip6.SrcIP, ip6.DstIP, icmp6.TypeCode)
	}
}

func testTooBig(t *testing.T, n *node) {
	told := func(name string, in []byte, mtu uint32) row {
		return toldRow(name, abi.CReasonDROP_FRAG_NEEDED, in, tooBig.about(t, in, mtu))
	}
	big4 := func(dst string, edit func(*layers.IPv4), size int) []byte {
		return podA.to4(t, dst, edit, sized(size, ip4Len)...)
	}
	big6 := func(dst string, size int) []byte { return podA.to6(t, dst, nil, sized(size, ip6Len)...) }
	b4, b6 := podB.ip4.String(), podB.ip6.String()
	later := podA.to4(t, b4, func(ip *layers.IPv4) { dontFragment(ip); ip.FragOffset = 1 }, sized(podMTU+1, ip4Len)...)
	n.check(t, []row{
		told("IPv4 to a pod", big4(b4, dontFragment, podMTU+1), podMTU),
		told("IPv6 to a pod", big6(b6, podMTU+1), podMTU),
		told("IPv4 by the device's MTU", big4("10.1.0.5", dontFragment, 1501), 1500),
		told("IPv6 by the device's MTU", big6("fd00:1::5", 1501), 1500),
		told("IPv4 by the route's MTU", big4("10.4.0.5", dontFragment, routeMTU+1), routeMTU),
		told("IPv6 by the route's MTU", big6("fd00:4::5", routeMTU+1), routeMTU),
		told("IPv4 by far", big4(b4, dontFragment, 3000), podMTU),
		stackRow("IPv4 to be cut, by the route's MTU", big4("10.4.0.5", nil, routeMTU+1)),
		stackRow("IPv4 to be cut, to a pod", big4(b4, nil, podMTU+1)),
		stackRow("IPv4 to be cut, to a shaped pod", big4(podC.ip4.String(), nil, podMTU+1)),
		dropRow("IPv4 later fragment", abi.CReasonDROP_FRAG_NEEDED, later),
	})
}

func testTooBigTunnel(t *testing.T, n *node) {
	in4 := podA.to4(t, "10.9.3.4", dontFragment, sized(overlayMTU+1, ip4Len)...)
	in6 := podA.to6(t, "fd00:9::4", nil, sized(overlayMTU+1, ip6Len)...)
	last4 := podA.to4(t, "10.9.3.4", ttl4(1))
	n.check(t, []row{
		toldRow("IPv4", abi.CReasonDROP_FRAG_NEEDED, in4, tooBig.about(t, in4, overlayMTU)),
		toldRow("IPv6", abi.CReasonDROP_FRAG_NEEDED, in6, tooBig.about(t, in6, overlayMTU)),
		toldRow("IPv4 TTL 1", abi.CReasonDROP_TTL_EXCEEDED, last4, timeExceeded.about(t, last4, 0)),
	})
}

// A train of segments is as large as its segments.
func testSegmentTrains(t *testing.T, n *node) {
	long := func(l4 ...gopacket.SerializableLayer) []gopacket.SerializableLayer {
		return append(l4, gopacket.Payload(make([]byte, 3000)))
	}
	train := func(name string, gso uint16, in []byte) row {
		r := forwardRow(name, in, routed(in, podB.mac, routerMAC), target{way: byPeer, device: podB.device})
		r.gso = gso
		return r
	}
	b4, b6 := podB.ip4.String(), podB.ip6.String()
	tcp4 := podA.to4(t, b4, func(ip *layers.IPv4) { dontFragment(ip); ip.Protocol = 6 }, long(&layers.TCP{ACK: true})...)
	tcp6 := podA.to6(t, b6, next6(6), long(&layers.TCP{ACK: true})...)
	fat4 := toldRow("IPv4 TCP, segments too large", abi.CReasonDROP_FRAG_NEEDED, tcp4, tooBig.about(t, tcp4, podMTU))
	fat4.gso = podMTU - ip4Len - 20 + 1
	fat6 := toldRow("IPv6 TCP, segments too large", abi.CReasonDROP_FRAG_NEEDED, tcp6, tooBig.about(t, tcp6, podMTU))
	fat6.gso = podMTU - ip6Len - 20 + 1
	// More than 64 KiB: the header's length is zero.
	huge4, huge6 := patched(tcp4, ethLen+2, 0, 0), patched(tcp6, ethLen+4, 0, 0)
	routing := podA.to4(t, "10.4.0.5", dontFragment, long(&layers.UDP{DstPort: 9})...)
	narrow := toldRow("IPv4 UDP, segments larger than the route takes", abi.CReasonDROP_FRAG_NEEDED, routing, tooBig.about(t, routing, routeMTU))
	narrow.gso = routeMTU - ip4Len - 8 + 1
	n.check(t, []row{
		train("IPv4 TCP", podMTU-ip4Len-20, tcp4),
		train("IPv6 TCP", podMTU-ip6Len-20, tcp6),
		train("IPv4 TCP without a total length", podMTU-ip4Len-20, routed(huge4, huge4, huge4[6:12])),
		train("IPv6 TCP without a payload length", podMTU-ip6Len-20, huge6),
		train("IPv4 UDP", podMTU-ip4Len-8, podA.to4(t, b4, dontFragment, long(&layers.UDP{DstPort: 9})...)),
		// Every segment of SCTP has its own length; the sender knows the path.
		train("IPv4 SCTP", gsoByFrags, podA.to4(t, b4, func(ip *layers.IPv4) { dontFragment(ip); ip.Protocol = 132 }, long(&layers.SCTP{})...)),
		train("IPv6 SCTP", gsoByFrags, podA.to6(t, b6, next6(132), long(&layers.SCTP{})...)),
		fat4, fat6, narrow,
	})
}

func testUnreachable(t *testing.T, n *node) {
	gone4, gone6 := podA.to4(t, "10.0.0.200", nil), podA.to6(t, "fd00:10::c8", nil)
	barred4, barred6 := podA.to4(t, "10.3.0.5", nil), podA.to6(t, "fd00:3::5", nil)
	expired := podA.to4(t, "10.0.0.200", ttl4(1))
	n.check(t, []row{
		toldRow("IPv4 address that a pod gave back", abi.CReasonDROP_HOST_UNREACHABLE, gone4, hostUnreachable.about(t, gone4, 0)),
		toldRow("IPv6 address that a pod gave back", abi.CReasonDROP_HOST_UNREACHABLE, gone6, hostUnreachable.about(t, gone6, 0)),
		toldRow("IPv4 prohibited", abi.CReasonDROP_FIB_FAILED, barred4, netUnreachable.about(t, barred4, 0)),
		toldRow("IPv6 prohibited", abi.CReasonDROP_FIB_FAILED, barred6, netUnreachable.about(t, barred6, 0)),
		toldRow("IPv4 given back, TTL 1", abi.CReasonDROP_HOST_UNREACHABLE, expired, hostUnreachable.about(t, expired, 0)),
		dropRow("IPv4 given back, about an ICMP error", abi.CReasonDROP_HOST_UNREACHABLE,
			podA.to4(t, "10.0.0.200", proto4(1), icmp4(3)...)),
	})

	forwarding := func(value string) {
		n.ns.Sysctl(t, "net/ipv4/conf/"+podA.device+"/forwarding", value)
		n.ns.Sysctl(t, "net/ipv6/conf/"+podA.device+"/forwarding", value)
	}
	forwarding("0")
	defer forwarding("1")
	off4, off6 := podA.to4(t, "10.1.0.5", nil), podA.to6(t, "fd00:1::5", nil)
	n.check(t, []row{
		toldRow("IPv4, the device does not forward", abi.CReasonDROP_FIB_FAILED, off4, netUnreachable.about(t, off4, 0)),
		toldRow("IPv6, the device does not forward", abi.CReasonDROP_FIB_FAILED, off6, netUnreachable.about(t, off6, 0)),
	})
}

// One CPU sends a burst of errors and then one a millisecond. What is not told
// is still dropped and counted.
func testICMPRateLimit(t *testing.T, n *node) {
	const burst, interval, tick = 100, time.Millisecond, 10 * time.Millisecond
	in := fromPod(podA, podA.to4(t, podB.ip4.String(), ttl4(1)))
	n.ns.Do(t, func() {
		onOneCPU(t)
		if err := n.refillICMP(); err != nil {
			t.Fatal(err)
		}
		before, err := n.counters()
		if err != nil {
			t.Fatal(err)
		}
		const sent = 1000
		answers, silences := 0, 0
		var most time.Duration
		send := func(count int) {
			start := time.Now()
			for range count {
				var res result
				res, err = n.testRun(n.loader.Program(in.program), in, 0, 1)
				if err != nil {
					t.Fatal(err)
				}
				switch res.verdict {
				case redirected:
					answers++
				case shot:
					silences++
				default:
					t.Fatalf("verdict %s", res.verdict)
				}
			}
			most += time.Since(start)
		}
		send(sent)
		if limit := burst + int((most+tick)/interval); answers < burst || answers > limit {
			t.Errorf("%d answers to %d packets in %s, want %d to %d", answers, sent, most, burst, limit)
		}
		if silences == 0 && most < (sent-burst)*interval {
			t.Errorf("%d packets in %s were all answered", sent, most)
		}
		after, err := n.counters()
		if err != nil {
			t.Fatal(err)
		}
		c := counter{abi.CHookHOOK_FROM_POD, abi.CReasonDROP_TTL_EXCEEDED}
		if got := after[c].Packets - before[c].Packets; got != sent {
			t.Errorf("%d of %d drops were counted", got, sent)
		}
		answers, silences = 0, 0
		time.Sleep(50 * time.Millisecond)
		send(20)
		if answers != 20 {
			t.Errorf("after a pause of 50 ms, %d of 20 packets were answered", answers)
		}
	})
}

// onOneCPU keeps the calling goroutine, which has its thread to itself, on the
// CPU that it runs on until the test ends.
func onOneCPU(t *testing.T) {
	t.Helper()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		t.Fatal(err)
	}
	for cpu := range runtime.NumCPU() * 64 {
		if old.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	// The thread goes with the goroutine: it is never unlocked again.
	runtime.LockOSThread()
}

// No error goes to an address that cannot be the sender's, whoever lets such a
// packet through.
func testNoErrorToOddSources(t *testing.T, n *node) {
	var rows []row
	for _, src := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "::", "::1", "ff02::5", "fe80::77"} {
		a := netip.MustParseAddr(src)
		eth := &layers.Ethernet{SrcMAC: nextMAC, DstMAC: nativeMAC}
		in := fromNetdev(nil)
		if a.Is4() {
			in.frame = packet4(t, eth, a, netip.MustParseAddr("10.0.0.200"), nil)
		} else {
			in.frame = packet6(t, eth, a, netip.MustParseAddr("fd00:10::c8"), nil)
		}
		r := row{name: src, input: in, verdict: shot, reason: abi.CReasonDROP_HOST_UNREACHABLE}
		if a.Is6() && !a.IsUnspecified() { // for these the routing table has no answer
			r.verdict, r.reason = pass, abi.CReasonREASON_TO_STACK
		}
		rows = append(rows, r)
	}
	n.check(t, rows)
}
