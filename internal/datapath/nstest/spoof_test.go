package nstest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
)

// TestSpoof sends what a pod may not send. Every packet is dropped and counted
// once, for its reason, and nothing reaches the pod that it was meant for.
func TestSpoof(t *testing.T) {
	c := newCluster(t, options{})
	n := c.nodes[0]
	n.start(t)
	a, victim := n.addPod(t), n.addPod(t)
	const packets = 7
	own, other := a.ep.MAC, state.MAC{2, 0, 0, 0, 0, 99}
	linkLocal := pair.LinkLocal(own)
	arrived := listenUDP(t, victim, 4000)

	for _, tc := range []struct {
		name, reason string
		packet       []gopacket.SerializableLayer
	}{
		{"IPv4 of another pod", "Invalid source ip", udp(own, victim.ep.IPv4, victim.ep.IPv4)},
		{"IPv4 of the node", "Invalid source ip", udp(own, underlayAddr(1, false), victim.ep.IPv4)},
		{"IPv4 of nobody", "Invalid source ip", udp(own, netip.MustParseAddr("198.51.100.7"), victim.ep.IPv4)},
		{"IPv4 loopback", "Invalid source ip", udp(own, netip.MustParseAddr("127.0.0.1"), victim.ep.IPv4)},
		{"IPv6 of another pod", "Invalid source ip", udp(own, victim.ep.IPv6, victim.ep.IPv6)},
		{"IPv6 without a source", "Invalid source ip", udp(own, netip.IPv6Unspecified(), victim.ep.IPv6)},
		{"IPv4 with another MAC", "Invalid source MAC", udp(other, a.ep.IPv4, victim.ep.IPv4)},
		{"IPv6 with another MAC", "Invalid source MAC", udp(other, a.ep.IPv6, victim.ep.IPv6)},
		{"link-local source for another pod", "Unknown L3 target address", udp(own, linkLocal, victim.ep.IPv6)},
		{"VLAN", "VLAN traffic disallowed by VLAN filter", vlan(udp(own, a.ep.IPv4, victim.ep.IPv4))},
		{"ARP for another's address", "Invalid source ip", arp(own, own, victim.ep.IPv4)},
		{"ARP with another MAC inside", "Invalid ARP", arp(own, other, a.ep.IPv4)},
		{"ARP with another MAC outside", "Invalid source MAC", arp(other, own, a.ep.IPv4)},
		{"solicitation from another's address", "Invalid source ip", solicitation(own, own, victim.ep.IPv6)},
		{"solicitation with another MAC inside", "Invalid neighbour discovery", solicitation(own, other, a.ep.IPv6)},
		{"solicitation with another MAC outside", "Invalid source MAC", solicitation(other, own, a.ep.IPv6)},
		{"unknown protocol", "Unsupported L3 protocol", []gopacket.SerializableLayer{
			&layers.Ethernet{SrcMAC: own[:], DstMAC: broadcast(), EthernetType: 0x88b5}, gopacket.Payload("placid"),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := n.counts(t)
			a.inject(t, packets, tc.packet...)
			after := n.counts(t)
			key := "from_pod " + tc.reason
			if got := after[key] - before[key]; got != packets {
				t.Errorf("%d packets were counted as %q, want %d; before %v, after %v", got, tc.reason, packets, before, after)
			}
		})
	}
	t.Run("nothing arrived", func(t *testing.T) {
		a.inject(t, 1, udp(own, a.ep.IPv4, victim.ep.IPv4)...) // this one may
		for i := 0; ; i++ {
			from, err := arrived()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if i != 1 {
					t.Errorf("%d packets arrived, want the honest one", i)
				}
				return
			}
			must(t, err)
			if from.Addr() != a.ep.IPv4 {
				t.Errorf("a packet from %s arrived", from)
			}
		}
	})
	t.Run("honest requests are answered", func(t *testing.T) {
		before := n.counts(t)
		a.inject(t, packets, arp(own, own, a.ep.IPv4)...)
		a.inject(t, packets, solicitation(own, own, a.ep.IPv6)...)
		key := "from_pod Neighbour request answered"
		if got := n.counts(t)[key] - before[key]; got != 2*packets {
			t.Errorf("%d requests were answered, want %d", got, 2*packets)
		}
	})
}

// listenUDP returns a function that gives the sender of the next datagram to
// any address of p.
func listenUDP(t testing.TB, p *pod, port int) func() (netip.AddrPort, error) {
	t.Helper()
	var conn *net.UDPConn
	p.Do(t, func() {
		var err error
		conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: port})
		must(t, err)
	})
	t.Cleanup(func() { _ = conn.Close() })
	return func() (netip.AddrPort, error) {
		must(t, conn.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		_, from, err := conn.ReadFromUDPAddrPort(make([]byte, 2000))
		return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
}

// inject sends one frame count times, past the pod's own stack.
func (p *pod) inject(t testing.TB, count int, frame ...gopacket.SerializableLayer) {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, frame...))
	p.Do(t, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		must(t, err)
		defer unix.Close(fd)
		dev, err := net.InterfaceByName(p.ep.Attachment.IfName)
		must(t, err)
		for range count {
			must(t, unix.Sendto(fd, buf.Bytes(), 0, &unix.SockaddrLinklayer{Ifindex: dev.Index}))
		}
	})
}

func broadcast() net.HardwareAddr { return net.HardwareAddr{255, 255, 255, 255, 255, 255} }

func udp(mac state.MAC, src, dst netip.Addr) []gopacket.SerializableLayer {
	router := pair.RouterMAC()
	eth := &layers.Ethernet{SrcMAC: mac[:], DstMAC: router[:], EthernetType: layers.EthernetTypeIPv4}
	u := &layers.UDP{SrcPort: 4001, DstPort: 4000}
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		_ = u.SetNetworkLayerForChecksum(ip) // fails for other layers only
		return []gopacket.SerializableLayer{eth, ip, u, gopacket.Payload("placid")}
	}
	eth.EthernetType = layers.EthernetTypeIPv6
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	_ = u.SetNetworkLayerForChecksum(ip)
	return []gopacket.SerializableLayer{eth, ip, u, gopacket.Payload("placid")}
}

func vlan(frame []gopacket.SerializableLayer) []gopacket.SerializableLayer {
	eth := *frame[0].(*layers.Ethernet)
	tag := &layers.Dot1Q{VLANIdentifier: 5, Type: eth.EthernetType}
	eth.EthernetType = layers.EthernetTypeDot1Q
	return append([]gopacket.SerializableLayer{&eth, tag}, frame[1:]...)
}

// arp asks for the gateway.
func arp(outer, inner state.MAC, sender netip.Addr) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: outer[:], DstMAC: broadcast(), EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: inner[:], SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: pair.Gateway4().AsSlice(),
		},
	}
}

// solicitation asks for the gateway.
func solicitation(outer, inner state.MAC, sender netip.Addr) []gopacket.SerializableLayer {
	ip := &layers.IPv6{
		Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6,
		SrcIP: sender.AsSlice(), DstIP: net.ParseIP("ff02::1:ff00:1"),
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	_ = icmp.SetNetworkLayerForChecksum(ip) // fails for other layers only
	return []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: outer[:], DstMAC: net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6},
		ip, icmp,
		&layers.ICMPv6NeighborSolicitation{
			TargetAddress: pair.Gateway6().AsSlice(),
			Options:       layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: inner[:]}},
		},
	}
}
