package packettest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

func TestFragments(t *testing.T) {
	suite{
		{"InOrder", testFragmentsInOrder},
		{"OutOfOrder", testFragmentsOutOfOrder},
		{"FirstDecides", testFirstFragmentDecides},
		{"NotAnothers", testFragmentsOfOthers},
		{"TooLate", testFragmentsTooLate},
		{"OfAnswers", testFragmentsOfAnswers},
		{"Audited", testFragmentsAudited},
		{"BehindExtensionHeaders", testFragmentsBehindExtensionHeaders},
		{"OfErrors", testFragmentsOfErrors},
	}.run(t, options{sizes: small()})
}

// parcel is a packet that comes in parts.
type parcel struct {
	proto    layers.IPProtocol
	src, dst netip.Addr
	id       uint32
}

// pieces are a packet of a talk in three parts.
type pieces struct {
	first, middle, last input
}

// split makes the packet of a, or with answer of b, in three parts with a number.
func (n *node) split(t *testing.T, k talk, answer bool, id uint32) pieces {
	t.Helper()
	src, dst := k.a.Addr(), k.b.Addr()
	if answer {
		src, dst = dst, src
	}
	whole := parcel{k.proto, src, dst, id}
	return pieces{
		n.piece(t, whole, 0, true, k.layers4("S", answer)...),
		n.piece(t, whole, 100, true, gopacket.Payload("placid")),
		n.piece(t, whole, 200, false, gopacket.Payload("placid")),
	}
}

// piece is one fragment; offset is in units of eight bytes.
func (n *node) piece(t *testing.T, of parcel, offset uint16, more bool, l4 ...gopacket.SerializableLayer) input {
	t.Helper()
	if of.src.Is6() {
		header := fragmentHeader(byte(of.proto), offset, more)
		binary.BigEndian.PutUint32(header[4:], of.id)
		return n.carry(t, fragment, of.src, of.dst, chain(l4, header)...)
	}
	in := n.carry(t, of.proto, of.src, of.dst, l4...)
	ip := append([]byte(nil), in.frame[ethLen:]...)
	binary.BigEndian.PutUint16(ip[4:], uint16(of.id))
	field := offset
	if more {
		field |= 0x2000
	}
	binary.BigEndian.PutUint16(ip[6:], field)
	ip[10], ip[11] = 0, 0
	var sum uint32
	for i := 0; i < ip4Len; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum&0xffff+sum>>16))
	in.frame = append(in.frame[:ethLen:ethLen], ip...)
	return in
}

// isolated puts both pods under sets that allow this talk and nothing else.
func (n *node) isolated(t *testing.T, k talk) {
	t.Helper()
	n.allow(t, rules, map[uint64]uint64{uint64(identityOf(k.b.Addr())): list})
	n.allow(t, rules+1, map[uint64]uint64{uint64(identityOf(k.a.Addr())): list})
	ranges := []abi.CPortRange{portRange(uint8(k.proto), k.b.Port(), k.b.Port())}
	if k.proto == overICMP {
		ranges = []abi.CPortRange{portRange(uint8(k.proto), layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoRequest)}
	}
	if k.proto == overICMPv6 {
		ranges = []abi.CPortRange{portRange(uint8(k.proto), layers.ICMPv6TypeEchoRequest, layers.ICMPv6TypeEchoRequest)}
	}
	n.ports(t, list, ranges...)
	if a := podOf(k.a.Addr()); a != nil {
		n.under(t, *a, security{ingress: closed, egress: rules})
	}
	if b := podOf(k.b.Addr()); b != nil {
		n.under(t, *b, security{ingress: rules + 1, egress: closed})
	}
}

// The first part has ports and decides; the others follow it, and are part of its
// flow.
func testFragmentsInOrder(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overUDP, overTCP, overSCTP, overICMP} {
		for _, k := range n.talks(proto) {
			if isNode(k.b.Addr()) {
				continue
			}
			n.fresh(t)
			n.isolated(t, k.talk)
			p := n.split(t, k.talk, false, 77)
			n.passes(t, k.name+": first", p.first)
			n.passes(t, k.name+": middle", p.middle)
			n.passes(t, k.name+": last", p.last)
			n.passes(t, k.name+": last again", p.last)
			r := n.find(t, k.talk)
			if r.table != embryonic || r.flags()&(replied|assured) != 0 || !r.byA() {
				t.Errorf("%s: in %s with flags %#x", k.name, r.table, r.flags())
			}
			if got := n.entries(t, embryonic); got != 1 {
				t.Errorf("%s: %d flows, want 1", k.name, got)
			}
			other := n.split(t, k.talk, false, 78)
			if !isNode(k.a.Addr()) {
				n.drops(t, k.name+": of another packet", abi.CReasonDROP_FRAGMENT_UNKNOWN, other.last)
			}
		}
	}
}

// entries counts those of a table.
func (n *node) entries(t *testing.T, name string) (count int) {
	t.Helper()
	table := n.loader.Map(name).Table.Map()
	key, value := make([]byte, table.KeySize()), make([]byte, table.ValueSize())
	for it := table.Iterate(); it.Next(&key, &value); {
		count++
	}
	return count
}

// What comes before its first part passes where nothing isolates, and only there.
func testFragmentsOutOfOrder(t *testing.T, n *node) {
	for _, k := range n.talks(overUDP) {
		a, b := podOf(k.a.Addr()), podOf(k.b.Addr())
		for _, c := range []struct {
			name string
			a, b security
			open bool
		}{
			{"open", security{}, security{}, true},
			{"the other directions closed", security{ingress: closed}, security{egress: closed}, true},
			{"egress isolated", security{egress: rules}, security{}, a == nil},
			{"ingress isolated", security{}, security{ingress: rules + 1}, b == nil || isNode(k.a.Addr())},
		} {
			n.fresh(t)
			n.isolated(t, k.talk) // for its sets
			for _, p := range pods {
				n.under(t, p, security{})
			}
			if a != nil {
				n.under(t, *a, c.a)
			}
			if b != nil {
				n.under(t, *b, c.b)
			}
			p := n.split(t, k.talk, false, 5)
			if c.open {
				n.passes(t, k.name+", "+c.name+": last before first", p.last)
			} else {
				n.drops(t, k.name+", "+c.name+": last before first", abi.CReasonDROP_FRAGMENT_UNKNOWN, p.last)
			}
			n.has(t, "a part without ports is no flow", k.talk, nowhere, 0)
			n.passes(t, k.name+", "+c.name+": first", p.first)
			n.passes(t, k.name+", "+c.name+": last", p.last)
		}
	}
}

// What follows a first part that was dropped is dropped for the same reason.
func testFirstFragmentDecides(t *testing.T, n *node) {
	for _, k := range n.talks(overUDP) {
		if podOf(k.b.Addr()) == nil || isNode(k.a.Addr()) {
			continue
		}
		n.fresh(t)
		n.isolated(t, k.talk)
		denied := n.split(t, talk{k.proto, k.a, at(k.b.Addr(), 9999)}, false, 5)
		n.drops(t, k.name+": first", abi.CReasonDROP_POLICY, denied.first)
		n.drops(t, k.name+": middle", abi.CReasonDROP_POLICY, denied.middle)
		n.drops(t, k.name+": last", abi.CReasonDROP_POLICY, denied.last)
		allowed := n.split(t, k.talk, false, 6)
		n.passes(t, k.name+": first that is allowed", allowed.first)
		n.drops(t, k.name+": last of the other", abi.CReasonDROP_POLICY, denied.last)
		n.passes(t, k.name+": last that is allowed", allowed.last)
	}
}

// Nobody can plant a first part for another's packet.
func testFragmentsOfOthers(t *testing.T, n *node) {
	for _, six := range []bool{false, true} {
		b, c, out := podB.ip4, podC.ip4, remote4
		if six {
			b, c, out = podB.ip6, podC.ip6, remote6
		}
		k := talk{overUDP, at(out, 40000), at(b, 53)}
		n.fresh(t)
		n.isolated(t, k)
		victim := n.split(t, k, false, 5)
		// Pod C speaks as the remote host, and as itself.
		forged := by(victim.first, podC, podC.mac)
		forged.program = loader.FromPod
		n.drops(t, "first in another's name", abi.CReasonDROP_INVALID_SOURCE, forged)
		n.under(t, podC, security{})
		n.allow(t, rules+1, map[uint64]uint64{identityC: list})
		own := n.split(t, talk{overUDP, at(c, 40000), at(b, 53)}, false, 5)
		n.passes(t, "first in its own name", own.first)
		n.drops(t, "last of who sent no first", abi.CReasonDROP_FRAGMENT_UNKNOWN, victim.last)
		// Another destination, another number and, for IPv4, another protocol are others too.
		n.passes(t, "first", victim.first)
		elsewhere := n.split(t, talk{overUDP, k.a, at(c, 53)}, false, 5)
		n.under(t, podC, security{ingress: rules + 1})
		n.drops(t, "last to another", abi.CReasonDROP_FRAGMENT_UNKNOWN, elsewhere.last)
		n.drops(t, "last of another packet", abi.CReasonDROP_FRAGMENT_UNKNOWN, n.split(t, k, false, 6).last)
		sctp := k
		sctp.proto = overSCTP
		if !six { // RFC 8200, 4.5: of the first alone, whatever the others say
			n.drops(t, "last of another protocol", abi.CReasonDROP_FRAGMENT_UNKNOWN, n.split(t, sctp, false, 5).last)
		}
		n.passes(t, "last", victim.last)
		// And it cannot take the place of one that is there.
		forged.frame = by(n.split(t, talk{overUDP, k.a, at(b, 9999)}, false, 5).first, podC, podC.mac).frame
		n.drops(t, "another first in another's name", abi.CReasonDROP_INVALID_SOURCE, forged)
		n.passes(t, "last, after that", victim.last)
	}
}

// Parts are for a minute.
func testFragmentsTooLate(t *testing.T, n *node) {
	for _, k := range n.talks(overUDP) {
		if podOf(k.b.Addr()) == nil || isNode(k.a.Addr()) {
			continue
		}
		n.fresh(t)
		n.isolated(t, k.talk)
		p := n.split(t, k.talk, false, 5)
		n.passes(t, "first", p.first)
		minute := 60 * settings().Hz
		n.ageFragments(t, minute-margin)
		n.passes(t, k.name+": within a minute", p.last)
		n.ageFragments(t, margin+1)
		n.drops(t, k.name+": after a minute", abi.CReasonDROP_FRAGMENT_UNKNOWN, p.last)
		n.passes(t, "first again", p.first)
		n.passes(t, k.name+": last again", p.last)
		// The clock of another CPU may be ahead by a moment.
		n.ageFragments(t, ^uint32(0)-100)
		n.passes(t, k.name+": first seen a moment ahead", p.last)
	}
}

// ageFragments makes all first parts that were seen older.
func (n *node) ageFragments(t *testing.T, jiffies uint32) {
	t.Helper()
	table := n.loader.Map(datapath.FragmentMap).Table.Map()
	var key abi.CFragmentKey
	var value abi.CFragmentPorts
	all := map[abi.CFragmentKey]abi.CFragmentPorts{}
	for it := table.Iterate(); it.Next(&key, &value); {
		all[key] = value
	}
	for key, value := range all {
		value.Seen -= jiffies
		n.put(t, datapath.FragmentMap, &key, &value)
	}
}

// Parts of answers are parts of the flow that asked.
func testFragmentsOfAnswers(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overUDP, overICMP} {
		for _, k := range n.talks(proto) {
			if isNode(k.b.Addr()) {
				continue
			}
			n.fresh(t)
			n.isolated(t, k.talk)
			p := n.split(t, k.talk, true, 5)
			n.drops(t, k.name+": first of an answer to nothing", abi.CReasonDROP_POLICY, p.first)
			n.drops(t, k.name+": last of an answer to nothing", abi.CReasonDROP_POLICY, p.last)
			n.passes(t, k.name+": question", k.says(t, n, ""))
			n.passes(t, k.name+": last, whose first was seen", p.last)
			p = n.split(t, k.talk, true, 6)
			n.passes(t, k.name+": first of the answer", p.first)
			n.passes(t, k.name+": last of the answer", p.last)
			n.has(t, "after the answer", k.talk, embryonic, k.of(replied))
			n.passes(t, k.name+": next question", k.says(t, n, ""))
			n.has(t, "after the next question", k.talk, anyTable, k.of(replied|assured))
			p = n.split(t, k.talk, true, 7)
			n.drops(t, k.name+": last before its first", abi.CReasonDROP_FRAGMENT_UNKNOWN, p.last)
			n.passes(t, k.name+": first", p.first)
			n.passes(t, k.name+": last", p.last)
		}
	}
}

// Audit mode drops nothing, also not what it cannot judge.
func testFragmentsAudited(t *testing.T, n *node) {
	k := udpTalk()
	for _, c := range []struct{ a, b security }{
		{security{}, security{ingress: closed, flags: auditIngress}},
		{security{egress: closed, flags: auditEgress}, security{}},
		{security{egress: closed, flags: auditEgress}, security{ingress: closed, flags: auditIngress}},
	} {
		n.fresh(t)
		n.under(t, podA, c.a)
		n.under(t, podB, c.b)
		p := n.split(t, k, false, 5)
		if f := n.send(t, p.last); !f.passed() {
			t.Errorf("last before first, %+v, %+v: %s; want it to pass", c.a, c.b, f)
		}
		n.marked(t, "first", p.first)
		n.passes(t, "last", p.last)
	}
	n.fresh(t)
	n.under(t, podA, security{egress: rules, flags: auditIngress})
	n.drops(t, "egress under audit of ingress", abi.CReasonDROP_FRAGMENT_UNKNOWN, n.split(t, k, false, 5).last)
}

// Headers between the fragment's and the upper layer are in the first part only:
// RFC 8200, 4.5. What they have in common is the number.
func testFragmentsBehindExtensionHeaders(t *testing.T, n *node) {
	k := talk{overUDP, at(podA.ip6, 40000), at(podB.ip6, 53)}
	n.fresh(t)
	n.isolated(t, k)
	header := fragmentHeader(destination, 0, true)
	first := n.carry(t, fragment, podA.ip6, podB.ip6, chain(k.layers4("", false), header, padding(upperUDP, 1))...)
	n.passes(t, "first", first)
	header = fragmentHeader(destination, 100, false)
	n.passes(t, "last", n.carry(t, fragment, podA.ip6, podB.ip6, header, gopacket.Payload("placid")))
}

// Of an ICMP error only the first part quotes something. No sender cuts errors
// up, so what seems to follow is judged as new, and makes no flow where it may not.
func testFragmentsOfErrors(t *testing.T, n *node) {
	n.fresh(t)
	k := talk{overUDP, at(podA.ip4, 40000), at(remote4, 53)}
	sent := k.says(t, n, "")
	n.passes(t, "what the error is about", sent)
	n.under(t, podA, security{ingress: closed})
	proto, l4 := errorLayers(tooBig, podA.ip4, quoted(sent, 500))
	whole := parcel{proto, remote4, podA.ip4, 5}
	n.passes(t, "first", n.piece(t, whole, 0, true, l4...))
	n.drops(t, "last", abi.CReasonDROP_POLICY, n.piece(t, whole, 100, false, gopacket.Payload("placid")))
	if got := n.entries(t, anyTable) + n.entries(t, embryonic); got != 1 {
		t.Errorf("%d flows, want that of the quoted packet alone", got)
	}
}
