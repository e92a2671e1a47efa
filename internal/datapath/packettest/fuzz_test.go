package packettest

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// What the kernel gives programs: a test run takes a frame of one page, less some
// room, which leaves enough for an ICMP error.
const (
	maxFrame   = 3500
	maxSegment = 0xffff - 256
)

// seeds are sound packets of every kind, by name, all from pod a.
func seeds(t testing.TB) map[string][]byte {
	t.Helper()
	b4, b6 := podB.ip4.String(), podB.ip6.String()
	six := func(first layers.IPProtocol, upper []gopacket.SerializableLayer, headers ...gopacket.SerializableLayer) []byte {
		return podA.to6(t, b6, next6(first), chain(upper, headers...)...)
	}
	group := netip.MustParseAddr("ff02::16")
	return map[string][]byte{
		"IPv4 UDP":               podA.to4(t, b4, nil),
		"IPv4 TCP":               podA.to4(t, b4, proto4(6), tcp()...),
		"IPv4 echo":              podA.to4(t, b4, proto4(1), icmp4(8)...),
		"IPv4 unreachable":       podA.to4(t, b4, proto4(1), icmp4(3)...),
		"IPv4 SCTP":              podA.to4(t, b4, proto4(132), sctp()...),
		"IPv4 options":           podA.to4(t, b4, options4),
		"IPv4 first fragment":    podA.to4(t, b4, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }),
		"IPv4 later fragment":    podA.to4(t, b4, func(ip *layers.IPv4) { ip.FragOffset = 100 }),
		"IPv4 TCP fragment at 8": podA.to4(t, b4, func(ip *layers.IPv4) { ip.Protocol, ip.FragOffset = 6, 1 }, tcp()...),
		"IPv4 unknown protocol":  podA.to4(t, b4, proto4(200), gopacket.Payload(payload)),
		"IPv4 TTL 1":             podA.to4(t, b4, ttl4(1)),
		"IPv4 to the node":       podA.to4(t, node4.String(), nil),
		"IPv4 to the network":    podA.to4(t, "10.1.0.5", nil),
		"IPv4 unresolved":        podA.to4(t, "10.2.0.5", nil),
		"IPv4 unreachable route": podA.to4(t, "10.0.0.200", nil),
		"IPv4 vacant":            podA.to4(t, "10.0.0.99", nil),
		"IPv4 multicast":         podA.to4(t, "224.0.0.251", nil),
		"IPv4 too big":           podA.to4(t, b4, dontFragment, sized(podMTU+1, ip4Len)...),
		"IPv6 UDP":               podA.to6(t, b6, nil),
		"IPv6 TCP":               podA.to6(t, b6, next6(6), tcp()...),
		"IPv6 echo":              podA.to6(t, b6, next6(58), icmp6(128)...),
		"IPv6 unreachable":       podA.to6(t, b6, next6(58), icmp6(1)...),
		"IPv6 SCTP":              podA.to6(t, b6, next6(132), sctp()...),
		"IPv6 no next header":    podA.to6(t, b6, next6(59), gopacket.Payload("")),
		"IPv6 hop limit 1":       podA.to6(t, b6, hops6(1)),
		"IPv6 to the network":    podA.to6(t, "fd00:1::5", nil),
		"IPv6 unreachable route": podA.to6(t, "fd00:10::c8", nil),
		"IPv6 hop-by-hop":        six(hopByHop, udp(), padding(upperUDP, 1)),
		"IPv6 destination":       six(destination, tcp(), padding(upperTCP, 2)),
		"IPv6 routing type 0":    six(routing, udp(), routingType(upperUDP, 0)),
		"IPv6 routing type 2":    six(routing, udp(), routingType(upperUDP, 2)),
		"IPv6 first fragment":    six(fragment, udp(), fragmentHeader(upperUDP, 0, true)),
		"IPv6 atomic fragment":   six(fragment, tcp(), fragmentHeader(upperTCP, 0, false)),
		"IPv6 later fragment":    six(fragment, udp(), fragmentHeader(upperUDP, 100, true)),
		"IPv6 AH":                six(authHeader, udp(), authentication(upperUDP)),
		"IPv6 all headers": six(hopByHop, tcp(), padding(destination, 1), padding(routing, 1), routingType(fragment, 2),
			fragmentHeader(authHeader, 0, false), authentication(destination), padding(upperTCP, 1)),
		"IPv6 seven headers": six(hopByHop, tcp(), padding(destination, 1), padding(destination, 1), padding(destination, 1),
			padding(destination, 1), padding(destination, 1), padding(destination, 1), padding(upperTCP, 1)),
		"IPv6 hop-by-hop not first": six(destination, udp(), padding(hopByHop, 1), padding(upperUDP, 1)),
		// The frame and IPv6 headers have 54 bytes, so 202 are left: 25 blocks are 200.
		"IPv6 headers up to the limit": six(destination, udp(), padding(destination, 20), padding(upperUDP, 5)),
		"IPv6 headers over the limit":  six(destination, udp(), padding(destination, 20), padding(upperUDP, 6)),
		"ARP request":                  arpRequest(t, podA, podA.mac, podA.ip4, "10.0.0.1"),
		"ARP probe":                    arpRequest(t, podA, podA.mac, netip.IPv4Unspecified(), podA.ip4.String()),
		"ND solicitation":              solicitation(t, podA.linkLocal, "fe80::1", sourceMAC(podA.mac)),
		"ND of the pod's address":      solicitation(t, podA.ip6, b6, sourceMAC(podA.mac)),
		"ND duplicate detection":       solicitation(t, netip.IPv6Unspecified(), podA.ip6.String()),
		"MLD report": packet6(t, podA.ether(0), podA.linkLocal, group, hopsNext(1, hopByHop),
			chain(icmp6(143), extension(58, 5, 2, 0, 0, 1, 0))...),
		"VLAN": withTag(podA.to4(t, b4, nil), 7),
	}
}

// FuzzFromPod changes packets at random. By itself: go test -fuzz FuzzFromPod
// ./internal/datapath/packettest; in a normal run it tries its seeds.
func FuzzFromPod(f *testing.F) {
	n := newNode(f, options{})
	for _, frame := range seeds(f) {
		f.Add(frame, byte(0), uint16(0))
		f.Add(frame, byte(1), uint16(0)) // sent by another pod
		f.Add(frame, byte(0), uint16(1400))
		f.Add(frame, byte(0), uint16(gsoByFrags))
	}
	f.Fuzz(func(t *testing.T, frame []byte, sender byte, gso uint16) {
		if len(frame) < ethLen || len(frame) > maxFrame {
			t.Skip("not a frame of Ethernet that a test run takes")
		}
		if gso > maxSegment && gso != gsoByFrags {
			t.Skip("no segment is larger than 64 KiB with its headers")
		}
		n.ns.Do(t, func() {
			c, err := n.newTally()
			if err != nil {
				t.Fatal(err)
			}
			err = c.agree(pods[int(sender)%len(pods)], frame, gso)
			if err = errors.Join(err, c.close()); err != nil {
				t.Errorf("%v\nframe:\n%s", err, indent(frame))
			}
		})
	})
}
