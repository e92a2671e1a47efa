package flood

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// closedPort is where nobody listens.
const closedPort = 7

// target is what the flood is aimed at.
type target struct {
	srcMAC, dstMAC net.HardwareAddr
	addrs          [2]netip.Addr // of the pod: IPv4, IPv6
	random         *rand.Rand
}

// frames makes n frames, each from another source: SYNs and datagrams, of both
// families.
func frames(t target, n int) ([][]byte, error) {
	out := make([][]byte, 0, n)
	buf := gopacket.NewSerializeBuffer()
	for i := range n {
		if err := t.frame(buf, i&1 == 0, i&2 != 0); err != nil {
			return nil, fmt.Errorf("build a frame of the flood: %w", err)
		}
		out = append(out, append([]byte(nil), buf.Bytes()...))
	}
	return out, nil
}

func (t target) frame(buf gopacket.SerializeBuffer, syn, is6 bool) error {
	eth := &layers.Ethernet{SrcMAC: t.srcMAC, DstMAC: t.dstMAC, EthernetType: layers.EthernetTypeIPv4}
	protocol := layers.IPProtocolUDP
	if syn {
		protocol = layers.IPProtocolTCP
	}
	source := t.stranger(is6).AsSlice()
	var ip gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if is6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: source, DstIP: t.addrs[1].AsSlice()}
		ip, network = ip6, ip6
	} else {
		ip4 := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: protocol, SrcIP: source, DstIP: t.addrs[0].AsSlice()}
		ip, network = ip4, ip4
	}
	port := 1024 + t.random.IntN(60000)
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if syn {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(port), DstPort: closedPort, SYN: true, Seq: t.random.Uint32(), Window: 1024}
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			return err
		}
		return gopacket.SerializeLayers(buf, opts, eth, ip, tcp)
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(port), DstPort: closedPort}
	if err := udp.SetNetworkLayerForChecksum(network); err != nil {
		return err
	}
	return gopacket.SerializeLayers(buf, opts, eth, ip, udp, gopacket.Payload("flood"))
}

// stranger is an address that nobody here has.
func (t target) stranger(is6 bool) netip.Addr {
	if is6 {
		a := [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 4: 0xff}
		for i := 8; i < len(a); i++ {
			a[i] = byte(t.random.Uint32())
		}
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{
		100 + byte(t.random.IntN(20)), byte(t.random.Uint32()), byte(t.random.Uint32()), byte(t.random.Uint32()),
	})
}
