package packettest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
)

// The set under test, and peers that are prefixes.
const (
	rules  = 0xabcdef0123456789
	prefix = 1 << 63
	list   = 0x1234567890
)

func TestPolicy(t *testing.T) {
	suite{
		{"Sides", testSides},
		{"Peers", testPeers},
		{"PortLists", testPortLists},
		{"Protocols", testProtocols},
		{"Prefixes", testPrefixes},
		{"PrefixesOff", testPrefixesOff},
		{"BothSidesOfAFlow", testBothSidesOfAFlow},
		{"NodeReachesItsPods", testNodeReachesItsPods},
		{"PodToNode", testPodToNode},
		{"AnswersPass", testAnswersPass},
		{"Nameless", testNameless},
		{"ForwardedByTheStack", testForwardedByTheStack},
		{"Audit", testAudit},
		{"AuditBothSides", testAuditBothSides},
		{"DroppedLeavesNothing", testDroppedLeavesNothing},
		{"Revoked", testRevoked},
		{"Granted", testGranted},
		{"EpochAlone", testEpochAlone},
		{"AuditEnds", testAuditEnds},
	}.run(t, options{sizes: small()})
}

func TestPolicyTunnel(t *testing.T) {
	suite{
		{"Peers", testPeers},
		{"AnswersPass", testAnswersPass},
		{"Revoked", testRevoked},
	}.run(t, options{sizes: small(), tunnel: true})
}

// allows checks what becomes of the first packet of a new flow.
func (n *node) allows(t *testing.T, what string, k talk, want bool) {
	t.Helper()
	f := n.send(t, k.says(t, n, "S"))
	if f.passed() != want || !want && f.reason != abi.CReasonDROP_POLICY || len(f.marks) > 0 {
		t.Errorf("%s: %s: %s; want it allowed: %t", what, k, f, want)
	}
}

// isolate puts the one side of a talk that is a pod under a set, in the direction
// in which the talk is judged there.
func (n *node) isolate(t *testing.T, k talk, egress bool, s uint64) {
	t.Helper()
	if egress {
		n.under(t, *podOf(k.a.Addr()), security{egress: s})
		return
	}
	n.under(t, *podOf(k.b.Addr()), security{ingress: s})
}

// Each side judges its own direction only, wherever the packet is seen.
func testSides(t *testing.T, n *node) {
	for _, k := range n.talks(overTCP) {
		a, b := podOf(k.a.Addr()), podOf(k.b.Addr())
		for _, c := range []struct {
			name   string
			a, b   security
			denied bool
		}{
			{"open", security{}, security{}, false},
			{"the other directions closed", security{ingress: closed}, security{egress: closed}, false},
			{"egress closed", security{egress: closed}, security{}, a != nil},
			{"ingress closed", security{}, security{ingress: closed}, b != nil && !isNode(k.a.Addr())},
			{"ingress of both closed", security{ingress: closed}, security{ingress: closed}, b != nil && !isNode(k.a.Addr())},
			{"a set that is not there", security{egress: rules}, security{}, a != nil},
		} {
			n.fresh(t)
			if a != nil {
				n.under(t, *a, c.a)
			}
			if b != nil {
				n.under(t, *b, c.b)
			}
			n.allows(t, k.name+", "+c.name, k.talk, !c.denied)
		}
	}
}

// A peer is meant by its identity, or as one of all.
func testPeers(t *testing.T, n *node) {
	for _, k := range n.talks(overUDP) {
		for _, egress := range []bool{true, false} {
			judged, peer := k.b.Addr(), k.a.Addr()
			if egress {
				judged, peer = k.a.Addr(), k.b.Addr()
			}
			if podOf(judged) == nil || isNode(peer) && !egress {
				continue
			}
			n.fresh(t)
			n.isolate(t, k.talk, egress, rules)
			who := fmt.Sprintf("%s, egress %t", k.name, egress)
			n.allows(t, who+", no entry", k.from(1), false)
			n.allow(t, rules, map[uint64]uint64{uint64(identityOf(peer)) + 1: allPorts})
			n.allows(t, who+", another identity", k.from(2), false)
			n.allow(t, rules+1, map[uint64]uint64{uint64(identityOf(peer)): allPorts, anyPeer: allPorts})
			n.allows(t, who+", another set", k.from(3), false)
			n.allow(t, rules, map[uint64]uint64{uint64(identityOf(peer)): allPorts})
			n.allows(t, who+", its identity", k.from(4), true)
			n.forbid(t, rules, uint64(identityOf(peer)))
			n.allow(t, rules, map[uint64]uint64{anyPeer: allPorts})
			n.allows(t, who+", any peer", k.from(5), true)
			// One entry that says no does not hide another that says yes.
			n.ports(t, list, portRange(protoUDP, 1, 2))
			n.allow(t, rules, map[uint64]uint64{uint64(identityOf(peer)): list})
			n.allows(t, who+", its identity not, any peer", k.from(6), true)
			n.allow(t, rules, map[uint64]uint64{uint64(identityOf(peer)): allPorts, anyPeer: list})
			n.allows(t, who+", its identity, any peer not", k.from(7), true)
			n.allow(t, rules, map[uint64]uint64{uint64(identityOf(peer)): list, anyPeer: list})
			n.allows(t, who+", neither", k.from(8), false)
		}
	}
}

// A list is a chain of up to sixteen records of sixteen ranges each.
func testPortLists(t *testing.T, n *node) {
	k := udpTalk()
	to := func(port uint16) talk { return talk{overUDP, k.a, at(k.b.Addr(), port)} }
	for _, size := range []int{0, 1, 2, 15, 16, 17, 31, 32, 33, 100, 255, 256} {
		n.fresh(t)
		n.isolate(t, k, false, rules)
		n.allow(t, rules, map[uint64]uint64{identityA: list})
		// Ranges of three ports, ten apart: 10-12, 20-22, ...
		ranges := make([]abi.CPortRange, size)
		for i := range ranges {
			ranges[i] = portRange(protoUDP, uint16(i+1)*10, uint16(i+1)*10+2)
		}
		n.ports(t, list, ranges...)
		for _, i := range []int{1, 2, 15, 16, 17, 31, 32, 33, 48, 100, 240, 241, 255, 256, 257} {
			first, in := uint16(i)*10, i <= size
			for port, want := range map[uint16]bool{first - 1: false, first: in, first + 1: in, first + 2: in, first + 3: false} {
				n.allows(t, fmt.Sprintf("list of %d ranges", size), to(port), want)
			}
		}
	}
	n.fresh(t)
	n.isolate(t, k, false, rules)
	n.allow(t, rules, map[uint64]uint64{identityA: list})
	n.allows(t, "a list that is not there", to(80), false)
	n.ports(t, list, portRange(protoUDP, 0, 65535))
	for _, port := range []uint16{0, 1, 255, 256, 32768, 65535} {
		n.allows(t, "all ports", to(port), true)
	}
	n.ports(t, list, portRange(protoUDP, 65535, 65535), portRange(protoUDP, 0, 0), portRange(protoUDP, 256, 256))
	for port, want := range map[uint16]bool{65534: false, 65535: true, 0: true, 1: false, 255: false, 256: true, 257: false} {
		n.allows(t, "single ports", to(port).from(1), want)
	}
	// A chain that does not end, which nothing should ever write.
	loop := abi.CPortList{More: list + 7, Count: 1, Ranges: [16]abi.CPortRange{portRange(protoUDP, 7, 7)}}
	for _, key := range []uint64{list, list + 7} {
		n.put(t, datapath.PortMap, &key, &loop)
	}
	n.allows(t, "not in a chain without end", to(700).from(2), false)
	n.allows(t, "in a chain without end", to(7).from(2), true)
}

func testProtocols(t *testing.T, n *node) {
	for _, c := range []struct {
		allowed uint8
		over    layers.IPProtocol
		want    bool
	}{
		{protoTCP, overTCP, true},
		{protoTCP, overUDP, false},
		{protoTCP, overSCTP, false},
		{protoUDP, overUDP, true},
		{protoUDP, overTCP, false},
		{protoSCTP, overSCTP, true},
		{protoSCTP, overUDP, false},
		{protoTCP, overICMP, false},
		{protoUDP, overGRE, false},
		{0, overTCP, true}, // every protocol
	} {
		for _, k := range n.talks(c.over) {
			if podOf(k.b.Addr()) == nil || isNode(k.a.Addr()) {
				continue
			}
			n.fresh(t)
			n.isolate(t, k.talk, false, rules)
			n.allow(t, rules, map[uint64]uint64{anyPeer: list})
			n.ports(t, list, portRange(c.allowed, 0, 65535))
			n.allows(t, fmt.Sprintf("all ports of protocol %d", c.allowed), k.talk, c.want)
			n.allow(t, rules, map[uint64]uint64{anyPeer: allPorts})
			n.allows(t, "everything", k.talk, true)
		}
	}
}

// The longest prefix decides, and only it: what it has no entry for is not
// allowed by a wider one.
func testPrefixes(t *testing.T, n *node) {
	type want map[string]bool
	for _, c := range []struct {
		name   string
		blocks []string // in the set, unless they begin with "except "
		want   want
	}{
		{"IPv4 range", []string{"10.1.0.0/24"}, want{"10.1.0.0": true, "10.1.0.255": true, "10.1.1.0": false, "10.0.255.255": false, "fd00:1::5": false}},
		{"IPv4 address", []string{"10.1.0.5/32"}, want{"10.1.0.5": true, "10.1.0.4": false, "10.1.0.6": false}},
		{"IPv4 half", []string{"0.0.0.0/1"}, want{"10.1.0.5": true, "203.0.113.1": false}},
		{"IPv4 all", []string{"0.0.0.0/0"}, want{"10.1.0.5": true, "203.0.113.1": true, "fd00:1::5": false}},
		{"IPv4 except", []string{"10.0.0.0/8", "except 10.1.0.0/16"}, want{"10.2.0.1": true, "10.1.0.5": false, "11.0.0.1": false}},
		{"IPv4 in an exception", []string{"10.0.0.0/8", "except 10.1.0.0/16", "10.1.0.4/31"}, want{"10.2.0.1": true, "10.1.0.5": true, "10.1.0.6": false}},
		{"IPv6 range", []string{"fd00:1::/64"}, want{"fd00:1::": true, "fd00:1::ffff:ffff:ffff:ffff": true, "fd00:1:0:1::": false, "10.1.0.5": false}},
		{"IPv6 address", []string{"fd00:1::5/128"}, want{"fd00:1::5": true, "fd00:1::4": false}},
		{"IPv6 half", []string{"8000::/1"}, want{"fd00:1::5": true, "2001:db8:f::1": false, "10.1.0.5": false}},
		{"IPv6 except", []string{"fd00::/8", "except fd00:1::/32"}, want{"fd00:2::1": true, "fd00:1::5": false}},
		{"both", []string{"10.1.0.0/24", "fd00:1::/64"}, want{"10.1.0.5": true, "fd00:1::5": true, "10.2.0.5": false}},
	} {
		n.fresh(t)
		n.under(t, podB, security{ingress: rules})
		for i, b := range c.blocks {
			var except string
			peer := prefix + uint64(i)
			if _, err := fmt.Sscanf(b, "except %s", &except); err == nil {
				n.block(t, except, peer)
				continue
			}
			n.block(t, b, peer)
			n.allow(t, rules, map[uint64]uint64{peer: list})
		}
		n.ports(t, list, portRange(protoTCP, 80, 80))
		for addr, allowed := range c.want {
			src := netip.MustParseAddr(addr)
			k := talk{overTCP, at(src, 40000), at(podB.ip4, 80)}
			if src.Is6() {
				k.b = at(podB.ip6, 80)
			}
			n.allows(t, c.name, k, allowed)
			n.allows(t, c.name+", another port", talk{overTCP, k.a, at(k.b.Addr(), 81)}, false)
		}
	}
}

// Prefixes are looked up only while the settings say that there are some.
func testPrefixesOff(t *testing.T, n *node) {
	n.fresh(t)
	n.under(t, podB, security{ingress: rules})
	n.block(t, "10.1.0.0/16", prefix)
	n.allow(t, rules, map[uint64]uint64{prefix: allPorts})
	k := talk{overTCP, at(remote4, 40000), at(podB.ip4, 80)}
	n.allows(t, "with prefixes", k, true)
	n.change(t, func(s *abi.CSettings) { s.HasCidrs = 0 })
	n.allows(t, "without prefixes", k.from(2), false)
}

// Of a flow between two pods of the node, both have a say, in one place.
func testBothSidesOfAFlow(t *testing.T, n *node) {
	const out, in = rules, rules + 1
	for _, c := range []struct {
		egress, ingress map[uint64]uint64
		want            bool
	}{
		{map[uint64]uint64{identityB: allPorts}, map[uint64]uint64{identityA: allPorts}, true},
		{map[uint64]uint64{identityB: allPorts}, map[uint64]uint64{identityB: allPorts}, false},
		{map[uint64]uint64{identityA: allPorts}, map[uint64]uint64{identityA: allPorts}, false},
		{nil, map[uint64]uint64{identityA: allPorts}, false},
		{map[uint64]uint64{identityB: allPorts}, nil, false},
		{map[uint64]uint64{identityB: list}, map[uint64]uint64{identityA: list}, true},
		{map[uint64]uint64{identityB: list}, map[uint64]uint64{identityA: list + 1}, false},
		{map[uint64]uint64{identityB: list + 1}, map[uint64]uint64{identityA: list}, false},
	} {
		n.fresh(t)
		n.under(t, podA, security{egress: out})
		n.under(t, podB, security{ingress: in})
		n.allow(t, out, c.egress)
		n.allow(t, in, c.ingress)
		n.ports(t, list, portRange(protoTCP, 80, 80))
		n.ports(t, list+1, portRange(protoTCP, 81, 81))
		n.allows(t, fmt.Sprintf("egress %v, ingress %v", c.egress, c.ingress), tcpTalk(), c.want)
		n.allows(t, "in the other direction, where nobody is isolated", talk{overTCP, at(podB.ip4, 1), at(podA.ip4, 80)}, true)
	}
}
