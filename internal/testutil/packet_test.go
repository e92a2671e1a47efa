package testutil

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// RFC 1071, section 3, has this example.
func TestChecksum(t *testing.T) {
	if got := Checksum([]byte{0x00, 0x01, 0xf2, 0x03}, []byte{0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("checksum %#04x, want %#04x", got, ^uint16(0xddf2))
	}
	if got := Checksum([]byte{0xff}); got != 0x00ff {
		t.Errorf("checksum of one byte %#04x, want 0x00ff", got)
	}
}

func TestFrameAndCheckSums(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	eth4 := &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
	eth6 := &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}
	ip4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 9, Protocol: p, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
	}
	ip6 := func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: p, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
	}
	for name, frame := range map[string][]byte{
		"ICMP":   Frame(t, eth4, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{Id: 7}, gopacket.Payload("abc")),
		"TCP":    Frame(t, eth4, ip4(layers.IPProtocolTCP), &layers.TCP{SYN: true}, gopacket.Payload("abc")),
		"UDP":    Frame(t, eth4, ip4(layers.IPProtocolUDP), &layers.UDP{DstPort: 9999}, gopacket.Payload("abc")),
		"TCP6":   Frame(t, eth6, ip6(layers.IPProtocolTCP), &layers.TCP{SYN: true}, gopacket.Payload("abc")),
		"ICMPv6": Frame(t, eth6, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: 128 << 8}, gopacket.Payload("abcd")),
	} {
		if err := CheckSums(frame); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i := ethernetLen; i < len(frame); i++ {
			if frame[ethernetLen] == 0x60 && i < ethernetLen+8 {
				continue // of these the checksums cover next header and length only
			}
			frame[i] ^= 0x10
			if CheckSums(frame) == nil {
				t.Errorf("%s: a flipped bit in byte %d is not noticed", name, i)
			}
			frame[i] ^= 0x10
		}
	}
	frame := Frame(t, eth4, ip4(layers.IPProtocolUDP), &layers.UDP{DstPort: 9999}, gopacket.Payload("abc"))
	if got := Layer[*layers.UDP](t, frame).DstPort; got != 9999 {
		t.Errorf("decoded port %d, want 9999", got)
	}
}
