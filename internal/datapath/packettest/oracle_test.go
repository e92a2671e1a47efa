package packettest

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// This file says what from_pod must do with any packet, without looking at how it
// does it: one fact after the other, on slices that end where the packet ends,
// with linear searches for addresses and routes.

// answer is what must become of a packet.
type answer struct {
	verdict verdict
	reason  abi.CReason
	to      netip.Addr // the pod that gets it, if one does
}

func dropped(r abi.CReason) answer { return answer{verdict: shot, reason: r} }

func forwarded() answer {
	return answer{verdict: redirected, reason: abi.CReasonREASON_FORWARDED}
}

func toStack() answer { return answer{verdict: pass, reason: abi.CReasonREASON_TO_STACK} }

// told is a drop that the sender is told of where that is allowed.
func (f facts) told(r abi.CReason) answer {
	if f.mayTell() {
		return answer{verdict: redirected, reason: r}
	}
	return dropped(r)
}

// facts are what a packet says of itself.
type facts struct {
	frame    []byte
	l3       []byte // header and payload, as long as the header says
	l4       []byte
	src, dst netip.Addr
	proto    byte
	hops     byte
	keep     bool // must not be cut up
	later    bool // a fragment but the first
	whole    bool // L4 header begins right after the fixed IPv6 header
	size     int  // bytes of L3 on the wire: a segment's
}

const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// oracle gives what from_pod must do with a frame that pod p sends, in trains of
// gso bytes a segment unless gso is 0, on a node without tunnel and policy.
func oracle(p pod, frame []byte, gso int) answer {
	f, a, decided := beforePolicy(p, frame, gso)
	if decided {
		return a
	}
	return f.afterPolicy()
}

// beforePolicy reads a frame that pod p sends. It tells what becomes of it where
// that is decided before anyone asks for policy.
func beforePolicy(p pod, frame []byte, gso int) (f facts, a answer, decided bool) {
	if binary.BigEndian.Uint16(frame[12:]) == 0x0806 {
		return f, oracleARP(p, frame), true
	}
	f, bad := read(frame, gso)
	if bad != 0 {
		return f, dropped(bad), true
	}
	if f.src == netip.IPv6Unspecified() && linkMulticast(f.dst) {
		return f, dropped(abi.CReasonREASON_IGNORED), true
	}
	if bad := speaksFor(p, f.src, frame); bad != 0 {
		return f, dropped(bad), true
	}
	if f.whole && f.proto == protoICMPv6 && f.l4[0] == 135 {
		return f, f.solicitation(p), true
	}
	if f.toMany() || f.dst.Is6() && f.dst.IsLinkLocalUnicast() || f.src == p.linkLocal {
		if linkMulticast(f.dst) {
			return f, dropped(abi.CReasonREASON_IGNORED), true
		}
		return f, dropped(abi.CReasonDROP_UNKNOWN_TARGET), true
	}
	return f, a, false
}

// read reads the headers of a frame; it returns why they are malformed, or 0.
func read(frame []byte, gso int) (f facts, bad abi.CReason) {
	f.frame = frame
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		bad = f.read4(gso)
	case 0x86dd:
		bad = f.read6(gso)
	default:
		bad = abi.CReasonDROP_UNKNOWN_L3
	}
	return f, bad
}

// toMany tells whether the packet is for more than one.
func (f facts) toMany() bool {
	return f.dst.Is4() && f.dst.As4()[0] == 255 || f.dst.IsMulticast()
}

// afterPolicy is what becomes of a packet of a pod that may pass.
func (f facts) afterPolicy() answer {
	if f.dst == node4 || f.dst == node6 {
		return toStack()
	}
	for _, other := range pods {
		if f.dst == other.ip4 || f.dst == other.ip6 {
			return f.toPod()
		}
	}
	return f.byRoute()
}

// oracleToPod gives what to_pod must do with a frame that the node's stack sends
// to pod p, without policy.
func oracleToPod(p pod, frame []byte, gso int) answer {
	_, a, _ := beforeIngress(p, frame, gso)
	return a
}

// beforeIngress is beforePolicy for to_pod. What is not decided is delivered
// where nothing isolates the pod.
func beforeIngress(p pod, frame []byte, gso int) (f facts, a answer, decided bool) {
	delivered := answer{verdict: pass, reason: abi.CReasonREASON_FORWARDED}
	kind := binary.BigEndian.Uint16(frame[12:])
	if kind != 0x0800 && kind != 0x86dd {
		return f, delivered, true
	}
	f, bad := read(frame, gso)
	if bad != 0 {
		return f, dropped(bad), true
	}
	onLink := f.dst.Is6() && (f.dst.IsLinkLocalUnicast() || f.src.IsLinkLocalUnicast())
	if f.toMany() || onLink {
		return f, delivered, true
	}
	if f.dst != p.ip4 && f.dst != p.ip6 {
		return f, dropped(abi.CReasonDROP_STALE_TARGET), true
	}
	return f, delivered, false
}

// speaksFor tells why the pod may not send a frame in the name of src.
func speaksFor(p pod, src netip.Addr, frame []byte) abi.CReason {
	if src != p.ip4 && src != p.ip6 && src != p.linkLocal {
		return abi.CReasonDROP_INVALID_SOURCE
	}
	if !bytes.Equal(frame[6:12], p.mac) {
		return abi.CReasonDROP_INVALID_MAC
	}
	return 0
}

func linkMulticast(a netip.Addr) bool {
	if a.Is4() {
		return netip.MustParsePrefix("224.0.0.0/24").Contains(a)
	}
	b := a.As16()
	return b[0] == 0xff && b[1]&0xf <= 2
}

func oracleARP(p pod, frame []byte) answer {
	sound := []byte{0, 1, 8, 0, 6, 4}
	if len(frame) < ethLen+28 || !bytes.Equal(frame[ethLen:ethLen+6], sound) {
		return dropped(abi.CReasonDROP_INVALID_ARP)
	}
	arp := frame[ethLen:]
	operation := binary.BigEndian.Uint16(arp[6:])
	senderMAC, sender, wanted := arp[8:14], netip.AddrFrom4([4]byte(arp[14:])), netip.AddrFrom4([4]byte(arp[24:]))
	if sender.IsUnspecified() {
		sender = wanted // a probe
	}
	if bad := speaksFor(p, sender, frame); bad != 0 {
		return dropped(bad)
	}
	if !bytes.Equal(senderMAC, p.mac) {
		return dropped(abi.CReasonDROP_INVALID_ARP)
	}
	if operation != 1 || sender == wanted {
		return dropped(abi.CReasonREASON_IGNORED)
	}
	return answer{verdict: redirected, reason: abi.CReasonREASON_ANSWERED}
}

func (f facts) solicitation(p pod) answer {
	nd := f.l4
	if len(nd) != 32 || binary.BigEndian.Uint16(f.l3[4:]) != 32 || f.hops != 255 || nd[1] != 0 || nd[8] == 0xff || nd[24] != 1 || nd[25] != 1 || !bytes.Equal(nd[26:32], p.mac) {
		return dropped(abi.CReasonDROP_INVALID_ND)
	}
	return answer{verdict: redirected, reason: abi.CReasonREASON_ANSWERED}
}

// read4 reads an IPv4 packet; it returns why it is malformed, or 0.
func (f *facts) read4(gso int) abi.CReason {
	ip := f.frame[ethLen:]
	if len(ip) < ip4Len {
		return abi.CReasonDROP_INVALID_PACKET
	}
	header, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if total == 0 && gso != 0 {
		total = len(ip)
	}
	if ip[0]>>4 != 4 || header < ip4Len || total < header || total > len(ip) {
		return abi.CReasonDROP_INVALID_PACKET
	}
	f.l3, f.l4 = ip[:total], ip[header:total]
	f.src, f.dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	f.hops, f.proto = ip[8], ip[9]
	fragment := binary.BigEndian.Uint16(ip[6:])
	f.keep, f.later = fragment&0x4000 != 0, fragment&0x1fff != 0
	f.size = total
	if f.later {
		if f.proto == protoTCP && fragment&0x1fff == 1 {
			return abi.CReasonDROP_INVALID_PACKET
		}
		if gso != 0 {
			f.size = segment(header, 0, gso)
		}
		return 0
	}
	return f.readL4(header, gso)
}

// read6 is read4 for IPv6.
func (f *facts) read6(gso int) abi.CReason {
	ip := f.frame[ethLen:]
	if len(ip) < ip6Len {
		return abi.CReasonDROP_INVALID_PACKET
	}
	total := int(binary.BigEndian.Uint16(ip[4:])) + ip6Len
	if total == ip6Len && gso != 0 {
		total = len(ip)
	}
	if ip[0]>>4 != 6 || total > len(ip) {
		return abi.CReasonDROP_INVALID_PACKET
	}
	f.l3 = ip[:total]
	f.src, f.dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	if f.src.Is4In6() || f.dst.Is4In6() {
		return abi.CReasonDROP_INVALID_PACKET
	}
	f.hops, f.keep, f.size = ip[7], true, total
	headers, ok := f.walk(ip[6])
	if !ok {
		return abi.CReasonDROP_INVALID_EXT_HEADER
	}
	f.l4, f.whole = f.l3[headers:], headers == ip6Len
	if f.later {
		if gso != 0 {
			f.size = segment(headers, 0, gso)
		}
		return 0
	}
	return f.readL4(headers, gso)
}

// walk goes over the extension headers: at most six, each whole, all within 256
// bytes of the frame, hop-by-hop options only first, and no routing header of
// type 0. It returns the bytes of L3 before the upper layer.
func (f *facts) walk(next byte) (headers int, ok bool) {
	headers = ip6Len
	for count := 0; ; count++ {
		f.proto = next
		if next != hopByHop && next != routing && next != fragment && next != authHeader && next != destination {
			return headers, true
		}
		rest := f.l3[headers:]
		if count == 6 || len(rest) < 8 || next == hopByHop && count > 0 || next == routing && rest[2] == 0 {
			return 0, false
		}
		size := (int(rest[1]) + 1) * 8
		switch next {
		case fragment:
			size = 8
		case authHeader:
			size = (int(rest[1]) + 2) * 4
		}
		if size > len(rest) || ethLen+headers+size > 256 {
			return 0, false
		}
		headers += size
		if next == fragment && binary.BigEndian.Uint16(rest[2:])>>3 != 0 {
			f.later, f.proto = true, rest[0]
			return headers, true
		}
		next = rest[0]
	}
}

// readL4 wants a whole header of each protocol that Placid knows.
func (f *facts) readL4(before, gso int) abi.CReason {
	header, known := map[byte]int{protoTCP: 20, protoUDP: 8, protoICMP: 8, protoICMPv6: 8, protoSCTP: 12}[f.proto]
	if gso != 0 {
		f.size = segment(before, header, gso)
	}
	if !known {
		return 0
	}
	if len(f.l4) < header {
		return abi.CReasonDROP_INVALID_L4
	}
	switch f.proto {
	case protoTCP:
		own := int(f.l4[12]>>4) * 4
		if own < header || own > len(f.l4) {
			return abi.CReasonDROP_INVALID_L4
		}
		if gso != 0 {
			f.size = segment(before, own, gso)
		}
	case protoUDP:
		if binary.BigEndian.Uint16(f.l4[4:]) < 8 && gso == 0 {
			return abi.CReasonDROP_INVALID_L4
		}
	}
	return 0
}

// segment is the size of one segment of a train.
func segment(before, header, gso int) int {
	if gso == gsoByFrags {
		gso = 0 // each has its own
	}
	return before + header + gso
}

// mayTell: RFC 1122, 3.2.2 and RFC 4443, 2.4. The source is the pod's own.
func (f facts) mayTell() bool {
	if f.later || f.frame[0]&1 != 0 {
		return false
	}
	if f.proto == protoICMP && f.src.Is4() {
		return f.l4[0] == 0 || f.l4[0] == 8
	}
	if f.proto == protoICMPv6 {
		return f.l4[0] >= 128
	}
	return true
}

func (f facts) toPod() answer {
	switch {
	case f.hops <= 1:
		return f.told(abi.CReasonDROP_TTL_EXCEEDED)
	case f.size > podMTU:
		return f.tooBig()
	}
	a := forwarded()
	a.to = f.dst
	return a
}

func (f facts) tooBig() answer {
	if f.keep {
		return f.told(abi.CReasonDROP_FRAG_NEEDED)
	}
	return toStack()
}

// byRoute asks the list that the kernel's routing table was made from.
func (f facts) byRoute() answer {
	if f.dst.IsUnspecified() {
		return dropped(abi.CReasonDROP_UNKNOWN_TARGET)
	}
	mtu := 1500
	switch routeOf(f.dst) {
	case blackhole:
		return dropped(abi.CReasonDROP_STALE_TARGET)
	case unreachable:
		return f.told(abi.CReasonDROP_HOST_UNREACHABLE)
	case prohibited:
		return f.told(abi.CReasonDROP_FIB_FAILED)
	case noRoute, localAddr:
		return toStack()
	case viaNarrow:
		mtu = routeMTU
	case viaKnown, viaUnknown:
	}
	switch {
	case f.size > mtu:
		return f.tooBig()
	case f.hops <= 1:
		return f.told(abi.CReasonDROP_TTL_EXCEEDED)
	}
	return forwarded()
}

// routeOf is a longest-prefix match by looking at all.
func routeOf(dst netip.Addr) outcome {
	entries := append(fib(),
		fibEntry{netip.MustParsePrefix("192.0.2.0/24"), viaUnknown, netip.Addr{}},
		fibEntry{netip.MustParsePrefix("192.0.2.255/32"), localAddr, netip.Addr{}},
		fibEntry{netip.MustParsePrefix("2001:db8::/64"), viaUnknown, netip.Addr{}},
		fibEntry{netip.MustParsePrefix("2001:db8::/128"), localAddr, netip.Addr{}}, // the routers' anycast address
	)
	best := fibEntry{dst: netip.PrefixFrom(dst, 0), outcome: noRoute}
	for _, e := range entries {
		if e.dst.Contains(dst) && e.dst.Bits() > best.dst.Bits() {
			best = e
		}
	}
	return best.outcome
}
