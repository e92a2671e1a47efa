package packettest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/testutil"
)

const (
	ethLen  = 14
	ip4Len  = 20
	ip6Len  = 40
	udp4    = layers.IPProtocolUDP
	payload = "Placid packet test payload, a little longer than the eight bytes of a header."
	quote   = 128 // bytes of the offending packet in an ICMP error
)

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// from gives the Ethernet header of a frame that the pod sends to its gateway.
func (p pod) ether(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: p.mac, DstMAC: routerMAC, EthernetType: kind}
}

// packet4 is an IPv4 packet from one address to another, in the frame that eth
// begins; edit may change its header before lengths and checksums are filled in.
func packet4(t testing.TB, eth *layers.Ethernet, src, dst netip.Addr, edit func(*layers.IPv4), l4 ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth.EthernetType = layers.EthernetTypeIPv4
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: udp4, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	if l4 == nil {
		l4 = udp()
	}
	if edit != nil {
		edit(ip)
	}
	return testutil.Frame(t, eth, append([]gopacket.SerializableLayer{ip}, l4...)...)
}

// packet6 is packet4 for IPv6.
func packet6(t testing.TB, eth *layers.Ethernet, src, dst netip.Addr, edit func(*layers.IPv6), l4 ...gopacket.SerializableLayer) []byte {
	t.Helper()
	eth.EthernetType = layers.EthernetTypeIPv6
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: udp4, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	if l4 == nil {
		l4 = udp()
	}
	if edit != nil {
		edit(ip)
	}
	return testutil.Frame(t, eth, append([]gopacket.SerializableLayer{ip}, l4...)...)
}

// to4 and to6 are what a pod sends to an address.
func (p pod) to4(t testing.TB, dst string, edit func(*layers.IPv4), l4 ...gopacket.SerializableLayer) []byte {
	t.Helper()
	return packet4(t, p.ether(0), p.ip4, netip.MustParseAddr(dst), edit, l4...)
}

func (p pod) to6(t testing.TB, dst string, edit func(*layers.IPv6), l4 ...gopacket.SerializableLayer) []byte {
	t.Helper()
	return packet6(t, p.ether(0), p.ip6, netip.MustParseAddr(dst), edit, l4...)
}

func udp() []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{&layers.UDP{SrcPort: 1111, DstPort: 2222}, gopacket.Payload(payload)}
}

func tcp() []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.TCP{SrcPort: 1111, DstPort: 80, SYN: true, Window: 64240, Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}},
		}},
		gopacket.Payload(payload),
	}
}

func icmp4(kind uint8) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 7, Seq: 1}, gopacket.Payload(payload),
	}
}

func icmp6(kind uint8) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}, gopacket.Payload("\x00\x07\x00\x01" + payload),
	}
}

// sctp is an INIT's common header and the start of a chunk.
func sctp() []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.SCTP{SrcPort: 1111, DstPort: 3333, VerificationTag: 1}, gopacket.Payload("\x01\x00\x00\x04"),
	}
}

func proto4(p layers.IPProtocol) func(*layers.IPv4) { return func(ip *layers.IPv4) { ip.Protocol = p } }

func next6(p layers.IPProtocol) func(*layers.IPv6) {
	return func(ip *layers.IPv6) { ip.NextHeader = p }
}

func ttl4(ttl uint8) func(*layers.IPv4) { return func(ip *layers.IPv4) { ip.TTL = ttl } }

func hops6(hops uint8) func(*layers.IPv6) { return func(ip *layers.IPv6) { ip.HopLimit = hops } }

// options4 are four bytes of IPv4 options: a router alert.
func options4(ip *layers.IPv4) {
	ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
}

// Numbers of IPv6 extension headers.
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	authHeader  = 51
	destination = 60
	upperUDP    = 17
	upperTCP    = 6
)

// extension is one IPv6 extension header that says what follows it; body is
// what comes after its first two bytes, and a multiple of eight less two long.
func extension(next byte, body ...byte) gopacket.Payload {
	return append([]byte{next, byte((len(body)+2)/8 - 1)}, body...)
}

// padding is an option header of blocks times eight bytes: one PadN.
func padding(next byte, blocks int) gopacket.Payload {
	body := make([]byte, blocks*8-2)
	body[0], body[1] = 1, byte(len(body)-2)
	return extension(next, body...)
}

func routingType(next, kind byte) gopacket.Payload { return extension(next, kind, 0, 0, 0, 0, 0) }

// fragmentHeader takes the offset in units of eight bytes.
func fragmentHeader(next byte, offset uint16, more bool) gopacket.Payload {
	field := offset << 3
	if more {
		field |= 1
	}
	return gopacket.Payload{next, 0, byte(field >> 8), byte(field), 0, 0, 0, 9}
}

// authentication is an AH of 24 bytes: twelve of them the check value.
func authentication(next byte) gopacket.Payload {
	return append(gopacket.Payload{next, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, make([]byte, 12)...)
}

// chain puts extension headers before an upper layer.
func chain(upper []gopacket.SerializableLayer, headers ...gopacket.SerializableLayer) []gopacket.SerializableLayer {
	return append(headers, upper...)
}

// routed is the packet after a router passed it on between the two addresses.
func routed(in []byte, dst, src net.HardwareAddr) []byte {
	out := append([]byte(nil), in...)
	copy(out, dst)
	copy(out[6:], src)
	ip := out[ethLen:]
	if ip[0]>>4 == 6 {
		ip[7]--
		return out
	}
	ip[8]--
	header := ip[:int(ip[0]&0xf)*4]
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], testutil.Checksum(header))
	return out
}

// ttlDecremented is routed for a packet whose Ethernet header is not written yet.
func ttlDecremented(in []byte) []byte { return routed(in, in[:6], in[6:12]) }

// icmpError is what a router answers to the packet: type, code, and the four
// bytes after the checksum.
func icmpError(t testing.TB, in []byte, kind, code uint8, rest uint32) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: in[:6], DstMAC: in[6:12]}
	ip := in[ethLen:]
	var word [4]byte
	binary.BigEndian.PutUint32(word[:], rest)
	if ip[0]>>4 == 4 {
		quoted := ip[:min(int(binary.BigEndian.Uint16(ip[2:])), quote)]
		header := &layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(kind, code),
			Id:       binary.BigEndian.Uint16(word[:]), Seq: binary.BigEndian.Uint16(word[2:]),
		}
		return packet4(t, eth, node4, netip.AddrFrom4([4]byte(ip[12:])), proto4(layers.IPProtocolICMPv4),
			header, gopacket.Payload(quoted))
	}
	quoted := ip[:min(int(binary.BigEndian.Uint16(ip[4:]))+ip6Len, quote)]
	return packet6(t, eth, node6, netip.AddrFrom16([16]byte(ip[8:])), next6(layers.IPProtocolICMPv6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}, gopacket.Payload(append(word[:], quoted...)))
}

// sized makes a UDP payload so that the packet has the number of bytes of L3.
func sized(l3, ipHeader int) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.UDP{SrcPort: 1111, DstPort: 2222}, gopacket.Payload(make([]byte, l3-ipHeader-8)),
	}
}

// patched is a copy of the frame with bytes from offset on replaced.
func patched(frame []byte, offset int, with ...byte) []byte {
	out := append([]byte(nil), frame...)
	copy(out[offset:], with)
	return out
}
