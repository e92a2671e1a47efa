package packettest

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// seen is the source that the packet left with.
func seen(frame []byte) netip.AddrPort {
	ip, l4 := frame[ethLen:], 0
	var src netip.Addr
	if ip[0]>>4 == 4 {
		src, l4 = netip.AddrFrom4([4]byte(ip[12:])), int(ip[0]&0xf)*4
	} else {
		src, l4 = netip.AddrFrom16([16]byte(ip[8:])), ip6Len
	}
	port := binary.BigEndian.Uint16(ip[l4:])
	if proto := map[byte]byte{4: ip[9], 6: ip[6]}[ip[0]>>4]; proto == byte(overICMP) || proto == byte(overICMPv6) {
		port = binary.BigEndian.Uint16(ip[l4+4:])
	}
	return netip.AddrPortFrom(src, port)
}

// masqueraded sends the first packet and gives the talk that it became: its
// source must be one of the node's.
func (n *node) masqueraded(t *testing.T, asked talk, target netip.AddrPort) talk {
	t.Helper()
	f := n.passes(t, "the first packet", asked.says(t, n, "S"))
	src := seen(f.frame)
	if !isNode(src.Addr()) || src.Port() < natPortFirst || src.Port() >= natPortFirst+natPorts {
		t.Fatalf("%s left with the source %s, want the node's with one of its ports", asked, src)
	}
	return talk{asked.proto, src, target}
}

func testMasquerade(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		icmp := map[bool]layers.IPProtocol{false: overICMP, true: overICMPv6}[v6]
		for _, proto := range []layers.IPProtocol{overTCP, overUDP, icmp} {
			n.noServices(t)
			asked := talk{proto, end(podA.ip4, podA.ip6, v6, 40000), end(remote4, remote6, v6, 443)}
			n.translates(t, asked, n.masqueraded(t, asked, asked.b))
			// Not to where pods keep their address.
			n.noServices(t)
			p := netip.PrefixFrom(asked.b.Addr(), asked.b.Addr().BitLen()-8)
			key := abi.CNativeKey{PrefixLen: uint32(p.Bits() + 128 - p.Addr().BitLen()), Addr: netorder.Addr(p.Addr())}
			n.put(t, "native_map", &key, uint32(1))
			n.becomes(t, "to a native destination", asked.says(t, n, "S"), asked.onward(t, n, "S", false, true))
		}
	}
}

func testHairpin(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		n.noServices(t)
		backend := end(podA.ip4, podA.ip6, v6, 8080)
		asked := talk{overTCP, end(podA.ip4, podA.ip6, v6, 40000), end(vip4, vip6, v6, 80)}
		n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{backend}})
		n.translates(t, asked, n.masqueraded(t, asked, backend))
	}
}

// Every port is given out before a connection is refused, and each once.
func testPortsRunOut(t *testing.T, n *node) {
	n.noServices(t)
	asked := talk{overUDP, at(podA.ip4, 0), at(remote4, 53)}
	used := map[uint16]bool{}
	for i := range uint16(natPorts) {
		k := n.masqueraded(t, asked.from(1000+i), asked.b)
		if used[k.a.Port()] {
			t.Fatalf("port %d was given out twice", k.a.Port())
		}
		used[k.a.Port()] = true
	}
	n.drops(t, "no port is left", abi.CReasonDROP_NAT_EXHAUSTED, asked.from(5000).says(t, n, ""))
	other := talk{overUDP, at(podA.ip4, 5000), at(remote4, 54)}
	n.masqueraded(t, other, other.b)
	other = talk{overTCP, at(podA.ip4, 5000), at(remote4, 53)}
	n.masqueraded(t, other, other.b)
	want := []conntrack.Fill{
		{Destination: at(remote4, 53), Proto: uint8(overUDP), Used: natPorts},
		{Destination: at(remote4, 53), Proto: uint8(overTCP), Used: 1},
		{Destination: at(remote4, 54), Proto: uint8(overUDP), Used: 1},
	}
	if got := n.fullest(t); !slices.Equal(got, want) {
		t.Errorf("the fullest destinations are %v, want %v", got, want)
	}
}

// fullest is what the collector makes of the flows that are masqueraded.
func (n *node) fullest(t *testing.T) []conntrack.Fill {
	t.Helper()
	outer := func(name string) *ebpf.Map { return n.loader.Map(name).Outer }
	c := conntrack.New(conntrack.Config{
		Tables: conntrack.Tables{
			TCP: outer(datapath.CTTCPMap), Any: outer(datapath.CTAnyMap), New: outer(datapath.CTNewMap), Settings: outer(datapath.SettingsMap),
		},
		Sources: conntrack.Sources{Addrs: []netip.Addr{node4, node6}, Ports: natPorts}, Log: slog.New(slog.DiscardHandler),
	})
	defer c.Close()
	r, err := c.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r.Fullest
}

// quoting is "too big" about a packet: its protocol and what it consists of.
func quoting(c complaint) (layers.IPProtocol, []gopacket.SerializableLayer) {
	if c.src.Is4() {
		return overICMP, []gopacket.SerializableLayer{
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}, gopacket.Payload(c.quoted[ethLen : ethLen+ip4Len+8]),
		}
	}
	return overICMPv6, []gopacket.SerializableLayer{
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(2, 0)},
		gopacket.Payload(append([]byte{0, 0, 5, 0x78}, c.quoted[ethLen:ethLen+ip6Len+8]...)),
	}
}

// complaint is an ICMP error: from whom, to whom, and the packet that it quotes.
type complaint struct {
	src, dst netip.Addr
	quoted   []byte
}

// relates checks what becomes of an ICMP error: the quoted packet is then one of
// the talk that its receiver knows.
func (n *node) relates(t *testing.T, what string, sent, got complaint) {
	t.Helper()
	proto, l4 := quoting(sent)
	in := n.carry(t, proto, sent.src, sent.dst, l4...)
	_, l4 = quoting(got)
	eth := &layers.Ethernet{SrcMAC: routerMAC, DstMAC: nextMAC}
	var want []byte
	if sent.src.Is4() {
		want = packet4(t, eth, got.src, got.dst, func(ip *layers.IPv4) { ip.Protocol = proto; dontFragment(ip) }, l4...)
	} else {
		want = packet6(t, eth, got.src, got.dst, next6(proto), l4...)
	}
	n.becomes(t, what, in, ttlDecremented(want))
}

// Path MTU discovery of a masqueraded flow: a router on the way answers the node.
func testErrorFromTheWay(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []layers.IPProtocol{overTCP, overUDP} {
			n.noServices(t)
			asked := talk{proto, end(podA.ip4, podA.ip6, v6, 40000), end(remote4, remote6, v6, 443)}
			real := n.masqueraded(t, asked, asked.b)
			router := end(netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1"), v6, 0).Addr()
			quotedAs := func(k talk) []byte { return withoutL4Sum(k.onward(t, n, "", false, false), proto) }
			n.relates(t, "too big", complaint{router, real.a.Addr(), quotedAs(real)}, complaint{router, asked.a.Addr(), quotedAs(asked)})
		}
	}
}

// withoutL4Sum is the frame with the L4 checksum of a UDP header at a fixed
// value: a translation leaves that of a quoted packet as it is.
func withoutL4Sum(frame []byte, proto layers.IPProtocol) []byte {
	if proto != overUDP {
		return frame
	}
	offset := ethLen + ip4Len + 6
	if frame[ethLen]>>4 == 6 {
		offset = ethLen + ip6Len + 6
	}
	return patched(frame, offset, 0x12, 0x34)
}

// A backend that says that its port is closed: the client sees the frontend say so.
func testErrorFromTheBackend(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		n.noServices(t)
		backend := end(podB.ip4, podB.ip6, v6, 5353)
		asked := talk{overUDP, end(podA.ip4, podA.ip6, v6, 40000), end(vip4, vip6, v6, 53)}
		real := talk{overUDP, asked.a, backend}
		n.serve(t, asked.b, served{proto: overUDP, cluster: []netip.AddrPort{backend}})
		n.passes(t, "a question", asked.says(t, n, ""))
		quotedAs := func(k talk, answer bool) []byte { return withoutL4Sum(k.onward(t, n, "", answer, false), overUDP) }
		n.relates(t, "from the backend",
			complaint{backend.Addr(), asked.a.Addr(), quotedAs(real, false)},
			complaint{asked.b.Addr(), asked.a.Addr(), quotedAs(asked, false)})
		n.passes(t, "an answer", real.answers(t, n, ""))
		n.relates(t, "from the client",
			complaint{asked.a.Addr(), asked.b.Addr(), quotedAs(asked, true)},
			complaint{asked.a.Addr(), backend.Addr(), quotedAs(real, true)})
	}
}
