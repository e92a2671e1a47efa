package testutil

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Sizes of headers without options, in bytes, and what follows an Ethernet header.
const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	udpLen      = 8
	tcpLen      = 20
	icmpLen     = 8

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoICMPv6   = 58
)

// Frame serialises an Ethernet header and the layers in it, outermost first,
// with lengths and checksums filled in. TCP, UDP and ICMPv6 checksums cover the
// IP layer before them, also when extension headers (as gopacket.Payload) lie
// between. Short frames are not padded.
func Frame(t testing.TB, eth *layers.Ethernet, stack ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range stack {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if s, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok && network != nil {
			if err := s.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatalf("build frame: %v", err)
			}
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatalf("build frame: %v", err)
	}
	inner := append([]byte(nil), buf.Bytes()...)
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, eth); err != nil {
		t.Fatalf("build Ethernet header: %v", err)
	}
	return append(buf.Bytes()[:ethernetLen:ethernetLen], inner...) // gopacket pads to 60 bytes
}

// Layer decodes the first layer of type T in the frame. It ends the test when
// there is none, or when any layer is malformed.
func Layer[T gopacket.Layer](t testing.TB, frame []byte) T {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("decode frame % x: %v", frame, e.Error())
	}
	for _, l := range p.Layers() {
		if found, ok := l.(T); ok {
			return found
		}
	}
	var want T
	t.Fatalf("no %T in frame: %s", want, p)
	return want
}

// Checksum is the Internet checksum (RFC 1071) over the concatenation of parts,
// each of which but the last has an even length. Sound data that contains its
// own checksum yields 0.
func Checksum(parts ...[]byte) uint16 {
	var sum uint64
	for _, p := range parts {
		for ; len(p) >= 2; p = p[2:] {
			sum += uint64(p[0])<<8 | uint64(p[1])
		}
		if len(p) == 1 {
			sum += uint64(p[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// CheckSums computes every checksum of an Ethernet frame anew, without the code
// that built it: the IPv4 header's, and that of TCP, UDP, ICMP or ICMPv6 right
// after an IP header. Fragments' and unknown protocols' payloads are not looked
// at. The error names the checksum that is wrong.
func CheckSums(frame []byte) error {
	if len(frame) < ethernetLen {
		return fmt.Errorf("frame of %d bytes is shorter than its Ethernet header", len(frame))
	}
	ip := frame[ethernetLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeIPv4:
		return checkSums4(ip)
	case etherTypeIPv6:
		if len(ip) < ipv6Len {
			return fmt.Errorf("IPv6 header has only %d bytes", len(ip))
		}
		payload := ip[ipv6Len:]
		if n := int(binary.BigEndian.Uint16(ip[4:])); n <= len(payload) {
			payload = payload[:n]
		}
		return checkSumL4(ip[6], ip[8:ipv6Len], payload)
	}
	return nil
}

func checkSums4(ip []byte) error {
	if len(ip) < ipv4Len || int(ip[0]&0xf)*4 > len(ip) {
		return fmt.Errorf("IPv4 header has only %d bytes", len(ip))
	}
	header := ip[:int(ip[0]&0xf)*4]
	if sum := Checksum(header); sum != 0 {
		return fmt.Errorf("IPv4 header checksum %#04x is off by %#04x", binary.BigEndian.Uint16(ip[10:]), sum)
	}
	if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		return nil
	}
	payload := ip[len(header):]
	if n := int(binary.BigEndian.Uint16(ip[2:])) - len(header); n >= 0 && n <= len(payload) {
		payload = payload[:n]
	}
	return checkSumL4(ip[9], ip[12:ipv4Len], payload)
}

// checkSumL4 takes source and destination address as they follow each other in
// the IP header.
func checkSumL4(proto byte, addrs, payload []byte) error {
	var pseudo []byte
	name, least := "", 0
	switch proto {
	case protoICMP:
		name, least = "ICMP", icmpLen
	case protoICMPv6:
		name, least = "ICMPv6", icmpLen
	case protoTCP:
		name, least = "TCP", tcpLen
	case protoUDP:
		name, least = "UDP", udpLen
	default:
		return nil
	}
	if len(payload) < least {
		return fmt.Errorf("%s header has only %d bytes", name, len(payload))
	}
	if proto == protoUDP && payload[6] == 0 && payload[7] == 0 && len(addrs) == 8 {
		return nil // sent without
	}
	if proto != protoICMP {
		pseudo = binary.BigEndian.AppendUint32(append(pseudo, addrs...), uint32(len(payload)))
		pseudo = append(pseudo, 0, 0, 0, proto)
	}
	if sum := Checksum(pseudo, payload); sum != 0 {
		return fmt.Errorf("%s checksum is off by %#04x", name, sum)
	}
	return nil
}
