package packets

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/bench/internal/node"
)

// segment is a place in a TCP connection.
type segment int

// The segments. The zero one is of an established connection.
const (
	data segment = iota
	opening
	answer
)

// frame describes one TCP segment.
type frame struct {
	srcMAC, dstMAC net.HardwareAddr
	src, dst       netip.AddrPort
	segment        segment
	size           int // of the whole frame, bytes; the least that fits is taken if it is larger
}

// Ports, time to live and window of frames.
const (
	sourcePort = 40000
	targetPort = node.AllowedPort
	hops       = 64
	window     = 512
)

// bytes gives the frame's wire form.
func (f frame) bytes() ([]byte, error) {
	eth := &layers.Ethernet{SrcMAC: f.srcMAC, DstMAC: f.dstMAC, EthernetType: layers.EthernetTypeIPv4}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(f.src.Port()), DstPort: layers.TCPPort(f.dst.Port()), Seq: 1, Ack: 1,
		SYN: f.segment != data, ACK: f.segment != opening, Window: window,
	}
	src, dst := f.src.Addr(), f.dst.Addr()
	var ip gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	headers := 14 + 20 + 20
	if src.Is4() {
		ip4 := &layers.IPv4{
			Version: 4, IHL: 5, TTL: hops, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
			SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
		ip, network = ip4, ip4
	} else {
		eth.EthernetType, headers = layers.EthernetTypeIPv6, 14+40+20
		ip6 := &layers.IPv6{
			Version: 6, HopLimit: hops, NextHeader: layers.IPProtocolTCP,
			SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
		ip, network = ip6, ip6
	}
	if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
		return nil, fmt.Errorf("build a frame from %s to %s: %w", f.src, f.dst, err)
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	payload := gopacket.Payload(make([]byte, max(0, f.size-headers)))
	if err := gopacket.SerializeLayers(buf, opts, eth, ip, tcp, payload); err != nil {
		return nil, fmt.Errorf("build a frame from %s to %s: %w", f.src, f.dst, err)
	}
	return buf.Bytes(), nil
}
