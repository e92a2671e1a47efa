package packettest

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// Source ports that the node under test gives away: few, so that they can run out.
const (
	natPortFirst = 20000
	natPorts     = 32
)

const (
	natted  = abi.CCtFlagsCT_NAT
	service = abi.CCtFlagsCT_SERVICE
)

// Addresses of services, and a backend on another node. remote4 and remote6 are clients outside.
var (
	vip4       = netip.MustParseAddr("172.20.0.1")
	vip6       = netip.MustParseAddr("fd00:20::1")
	elsewhere4 = netip.MustParseAddr("10.1.0.77")
	elsewhere6 = netip.MustParseAddr("fd00:1::77")
)

func withServices() options {
	sizes := small()
	for _, name := range []string{"frontend_map", "backend_map", "affinity_map", "source_range_map", "native_map", "maglev_map", "sock_map"} {
		sizes[name] = 1024
	}
	return options{sizes: sizes, services: true}
}

func TestServices(t *testing.T) {
	suite{
		{"PodToPod", testServicePodToPod},
		{"Unanswered", testServiceUnanswered},
		{"FromOutsideToPod", testNodePortToPod},
		{"FromOutsideToAnotherNode", testNodePortElsewhere},
		{"FromAnotherNode", testNodePortFromAnotherNode},
		{"Masquerade", testMasquerade},
		{"Hairpin", testHairpin},
		{"HostBackend", testHostBackend},
		{"HostBackendFromOutside", testHostBackendFromOutside},
		{"NobodyServes", testNobodyServes},
		{"SourceRanges", testSourceRanges},
		{"Choice", testChoice},
		{"Affinity", testAffinity},
		{"PortsRunOut", testPortsRunOut},
		{"ErrorFromTheWay", testErrorFromTheWay},
		{"ErrorFromTheBackend", testErrorFromTheBackend},
		{"PolicyJudgesTheBackend", testPolicyJudgesTheBackend},
		{"AnswersAfterAnEpoch", testAnswersAfterAnEpoch},
		{"Conflict", testConflict},
		{"PortReused", testPortReused},
		{"QuestionsMoveOn", testQuestionsMoveOn},
		{"HandshakeAgain", testHandshakeAgain},
		{"LateAnswer", testLateAnswer},
		{"OneTwinLeft", testOneTwinLeft},
		{"HandshakeAfterReset", testHandshakeAfterReset},
		{"OtherPortAgain", testOtherPortAgain},
	}.run(t, withServices())
}

func TestServicesTunnel(t *testing.T) {
	o := withServices()
	o.tunnel = true
	suite{
		{"PodToPod", testServicePodToPod},
		{"FromOutsideToPod", testNodePortToPod},
		{"Masquerade", testMasquerade},
	}.run(t, o)
}

// end is an address and port of either family.
func end(a4, a6 netip.Addr, v6 bool, port uint16) netip.AddrPort {
	if v6 {
		return at(a6, port)
	}
	return at(a4, port)
}

// served is one frontend and its lists.
type served struct {
	proto            layers.IPProtocol
	flags            abi.CFrontendFlags
	affinity         uint32
	outside, cluster []netip.AddrPort
}

// serve writes a service as the agent would. Lists have the numbers 10 and 20.
func (n *node) serve(t testing.TB, at netip.AddrPort, s served) {
	t.Helper()
	f := abi.CFrontend{Service: 7, Flags: uint32(s.flags), Affinity: s.affinity}
	for scope, backends := range [][]netip.AddrPort{s.outside, s.cluster} {
		id := uint32(10 * (scope + 1))
		f.List[scope] = abi.CBackendList{Id: id, Count: uint32(len(backends))}
		for i, b := range backends {
			value := abi.CBackend{Addr: netorder.Addr(b.Addr()), Port: netorder.Port(b.Port()), Id: uint32(100 + i)}
			slots := []uint32{uint32(i)}
			if s.flags&abi.CFrontendFlagsFRONTEND_AFFINITY != 0 {
				slots = append(slots, value.Id|uint32(abi.CBackendConstantsBACKEND_BY_ID))
			}
			for _, slot := range slots {
				n.put(t, "backend_map", &abi.CBackendKey{List: id, Slot: slot}, &value)
			}
		}
	}
	key := abi.CFrontendKey{Addr: netorder.Addr(at.Addr()), Port: netorder.Port(at.Port()), Proto: uint8(s.proto)}
	n.put(t, "frontend_map", &key, &f)
	if isNode(at.Addr()) {
		return
	}
	closed := abi.CFrontend{Flags: uint32(abi.CFrontendFlagsFRONTEND_CLOSED)}
	n.put(t, "frontend_map", &abi.CFrontendKey{Addr: key.Addr}, &closed)
}

// noServices forgets flows and services.
func (n *node) noServices(t testing.TB) {
	t.Helper()
	n.fresh(t)
	for _, table := range []string{"frontend_map", "backend_map", "affinity_map", "source_range_map", "native_map"} {
		n.clear(t, table)
	}
}

// becomes checks that the packet goes on as the packet of another talk, sent on
// by whom it says, with every checksum right, however the kernel keeps it.
func (n *node) becomes(t *testing.T, what string, in input, want []byte) {
	t.Helper()
	res, err := n.run(t, in, 0)
	if err != nil {
		t.Fatal(err)
	}
	n.same(t, what, res, want)
	if in.prelude != nil {
		return
	}
	if res, err = n.run(t, in, checksumComplete); err != nil {
		t.Fatalf("%s, with the sum of the hardware: %v", what, err)
	}
	n.same(t, what+", with the sum of the hardware", res, want)
}

func (n *node) same(t *testing.T, what string, res result, want []byte) {
	t.Helper()
	if res.verdict == shot {
		t.Fatalf("%s: dropped: %v", what, res.moved)
	}
	if !bytes.Equal(res.frame[ethLen:], want[ethLen:]) {
		t.Fatalf("%s:\n%s\nwant, whatever the MACs:\n%s", what, indent(res.frame), indent(want))
	}
}

// onward is the packet of a to b, one hop later; from the stack on the way it is
// the same hop.
func (k talk) onward(t testing.TB, n *node, flags string, answer, hop bool) []byte {
	t.Helper()
	src, dst := k.a.Addr(), k.b.Addr()
	if answer {
		src, dst = dst, src
	}
	eth := &layers.Ethernet{SrcMAC: routerMAC, DstMAC: nextMAC}
	var frame []byte
	if src.Is4() {
		frame = packet4(t, eth, src, dst, func(ip *layers.IPv4) { ip.Protocol = k.proto; dontFragment(ip) }, k.layers4(flags, answer)...)
	} else {
		frame = packet6(t, eth, src, dst, next6(k.proto), k.layers4(flags, answer)...)
	}
	if !hop {
		return frame
	}
	return ttlDecremented(frame)
}

// translates runs a whole conversation: what the client says to the frontend is
// what real says, and the answers are translated back.
func (n *node) translates(t *testing.T, asked, real talk) {
	t.Helper()
	n.becomes(t, "the first packet", asked.says(t, n, "S"), real.onward(t, n, "S", false, true))
	n.becomes(t, "the first packet again", asked.says(t, n, "S"), real.onward(t, n, "S", false, true))
	n.becomes(t, "the answer", real.answers(t, n, "SA"), asked.onward(t, n, "SA", true, true))
	n.becomes(t, "the second packet", asked.says(t, n, "A"), real.onward(t, n, "A", false, true))
	n.becomes(t, "the second answer", real.answers(t, n, "A"), asked.onward(t, n, "A", true, true))
	n.becomes(t, "the third packet", asked.says(t, n, "A"), real.onward(t, n, "A", false, true))
	for _, k := range []talk{asked, real} {
		if r := n.find(t, k); r.table != asked.settled() || r.flags()&natted == 0 || !r.byA() || r.flags()&assured == 0 {
			t.Errorf("%s is in %s with flags %#x, begun by the client: %t", k, r.table, r.flags(), r.byA())
		}
	}
}

// Until it is answered, a flow whose source stays as it is has one entry, the one that
// an answer needs; so a flood of questions takes one for each.
func testServiceUnanswered(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overTCP, overUDP} {
		n.noServices(t)
		one, other := at(podB.ip4, 8080), at(pods[2].ip4, 8080)
		asked := talk{proto, at(podA.ip4, 40000), at(vip4, 80)}
		n.serve(t, asked.b, served{proto: proto, cluster: []netip.AddrPort{one}})
		n.becomes(t, "the first packet", asked.says(t, n, "S"), talk{proto, asked.a, one}.onward(t, n, "S", false, true))
		n.becomes(t, "the first packet again", asked.says(t, n, "S"), talk{proto, asked.a, one}.onward(t, n, "S", false, true))
		if got := n.entries(t, embryonic); got != 1 {
			t.Errorf("%s: %d entries before an answer, want 1", proto, got)
		}
		n.serve(t, asked.b, served{proto: proto, cluster: []netip.AddrPort{other}})
		n.becomes(t, "with another backend", asked.says(t, n, "S"), talk{proto, asked.a, other}.onward(t, n, "S", false, true))
		n.serve(t, asked.b, served{proto: proto, cluster: []netip.AddrPort{one}})
		n.becomes(t, "with the first one", asked.says(t, n, "S"), talk{proto, asked.a, one}.onward(t, n, "S", false, true))
		n.becomes(t, "the answer", talk{proto, asked.a, one}.answers(t, n, "SA"), asked.onward(t, n, "SA", true, true))
		if got := n.entries(t, embryonic); got != 3 { // the other backend's too
			t.Errorf("%s: %d entries after the answer, want 3", proto, got)
		}
		n.becomes(t, "the answer again", talk{proto, asked.a, one}.answers(t, n, "SA"), asked.onward(t, n, "SA", true, true))
		n.becomes(t, "the next packet", asked.says(t, n, "A"), talk{proto, asked.a, one}.onward(t, n, "A", false, true))
		for _, k := range []talk{asked, {proto, asked.a, one}} {
			if r := n.find(t, k); r.table != asked.settled() || !r.byA() {
				t.Errorf("%s is in %s, begun by the client: %t", k, r.table, r.byA())
			}
		}
	}
}

func testServicePodToPod(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []layers.IPProtocol{overTCP, overUDP} {
			n.noServices(t)
			backend := end(podB.ip4, podB.ip6, v6, 8080)
			asked := talk{proto, end(podA.ip4, podA.ip6, v6, 40000), end(vip4, vip6, v6, 80)}
			n.serve(t, asked.b, served{proto: proto, cluster: []netip.AddrPort{backend}})
			n.translates(t, asked, talk{proto, asked.a, backend})
			if proto == overTCP {
				n.becomes(t, "FIN", asked.says(t, n, "FA"), talk{proto, asked.a, backend}.onward(t, n, "FA", false, true))
				if r := n.find(t, talk{proto, asked.a, backend}); r.flags()&finOrigin == 0 {
					t.Errorf("the twin was not told of the end: %#x", r.flags())
				}
			}
		}
	}
	// SCTP keeps its ports; its checksum has no addresses.
	n.noServices(t)
	asked := talk{overSCTP, at(podA.ip4, 40000), at(vip4, 3333)}
	n.serve(t, asked.b, served{proto: overSCTP, cluster: []netip.AddrPort{at(podB.ip4, 3333)}})
	n.becomes(t, "SCTP", asked.says(t, n, ""), talk{overSCTP, asked.a, at(podB.ip4, 3333)}.onward(t, n, "", false, true))
}

func testNodePortToPod(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []layers.IPProtocol{overTCP, overUDP} {
			n.noServices(t)
			backend := end(podB.ip4, podB.ip6, v6, 8080)
			asked := talk{proto, end(remote4, remote6, v6, 40000), end(node4, node6, v6, 30080)}
			n.serve(t, asked.b, served{proto: proto, outside: []netip.AddrPort{backend}})
			n.translates(t, asked, talk{proto, asked.a, backend})
		}
	}
}

func testNodePortElsewhere(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []layers.IPProtocol{overTCP, overUDP} {
			n.noServices(t)
			backend := end(elsewhere4, elsewhere6, v6, 8080)
			asked := talk{proto, end(remote4, remote6, v6, 40000), end(node4, node6, v6, 30080)}
			n.serve(t, asked.b, served{proto: proto, outside: []netip.AddrPort{backend}})
			n.translates(t, asked, n.masqueraded(t, asked, backend))
		}
	}
}

// A pod of another node that asks at this node's address gets what this node offers
// to the outside, although it is in the cluster; a pod of this node gets the rest too.
func testNodePortFromAnotherNode(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		n.noServices(t)
		n.identify(t, elsewhere4, identityFar)
		n.identify(t, elsewhere6, identityFar)
		port := end(node4, node6, v6, 30080)
		n.serve(t, port, served{
			proto: overTCP, flags: abi.CFrontendFlagsFRONTEND_SILENT_OUTSIDE, cluster: []netip.AddrPort{end(podB.ip4, podB.ip6, v6, 80)},
		})
		from := talk{overTCP, end(elsewhere4, elsewhere6, v6, 40000), port}
		n.drops(t, "no local backend", abi.CReasonDROP_NO_LOCAL_BACKEND, from.says(t, n, "S"))
		here := talk{overTCP, end(podA.ip4, podA.ip6, v6, 40000), port}
		n.translates(t, here, talk{overTCP, here.a, end(podB.ip4, podB.ip6, v6, 80)})
		n.clear(t, "identity_map")
	}
}

// A backend in the node's own namespace: the stack gets the packet, and answers
// through the pod's device.
func testHostBackend(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		n.noServices(t)
		backend := end(node4, node6, v6, 6443)
		asked := talk{overTCP, end(podA.ip4, podA.ip6, v6, 40000), end(vip4, vip6, v6, 443)}
		n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{backend}})
		real := talk{overTCP, asked.a, backend}
		for _, flags := range []string{"S", "A", "A"} {
			n.becomes(t, "to the stack", asked.says(t, n, flags), real.onward(t, n, flags, false, false))
			n.becomes(t, "from the stack", real.answers(t, n, "A"), asked.onward(t, n, "A", true, false))
		}
	}
}

func testHostBackendFromOutside(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		n.noServices(t)
		backend := end(node4, node6, v6, 6443)
		asked := talk{overUDP, end(remote4, remote6, v6, 40000), end(node4, node6, v6, 30443)}
		n.serve(t, asked.b, served{proto: overUDP, outside: []netip.AddrPort{backend}})
		real := talk{overUDP, asked.a, backend}
		answer := func(ingress string) input {
			return input{program: loader.ToNetdev, device: nativeDevice, ingress: ingress, frame: real.onward(t, n, "", true, false)}
		}
		for range 3 {
			n.becomes(t, "to the stack", asked.says(t, n, ""), real.onward(t, n, "", false, false))
			n.becomes(t, "from the stack", answer(""), asked.onward(t, n, "", true, false))
		}
		n.becomes(t, "what a pod sent was translated already", answer(podA.device), real.onward(t, n, "", true, false))
	}
}

func testNobodyServes(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		kind := map[bool][2]uint8{false: {3, 3}, true: {1, 4}}[v6]
		n.noServices(t)
		asked := talk{overTCP, end(podA.ip4, podA.ip6, v6, 40000), end(vip4, vip6, v6, 80)}
		n.serve(t, asked.b, served{proto: overTCP})
		closed := asked
		closed.b = end(vip4, vip6, v6, 81)
		for _, k := range []talk{asked, closed} {
			n.refuses(t, k, kind)
		}
		// Nobody here, but elsewhere: the client hears nothing.
		n.noServices(t)
		from := talk{overTCP, end(remote4, remote6, v6, 40000), end(node4, node6, v6, 30080)}
		n.serve(t, from.b, served{proto: overTCP, flags: abi.CFrontendFlagsFRONTEND_SILENT_OUTSIDE})
		n.drops(t, "no local backend", abi.CReasonDROP_NO_LOCAL_BACKEND, from.says(t, n, "S"))
		// A cluster IP is for the cluster.
		from.b = end(vip4, vip6, v6, 80)
		n.serve(t, from.b, served{
			proto: overTCP, flags: abi.CFrontendFlagsFRONTEND_CLUSTER_ONLY, cluster: []netip.AddrPort{end(podB.ip4, podB.ip6, v6, 80)},
		})
		n.refuses(t, from, kind)
	}
}

// refuses checks that the client of a talk is told that nobody serves.
func (n *node) refuses(t *testing.T, k talk, kind [2]uint8) {
	t.Helper()
	in := k.says(t, n, "S")
	res, err := n.run(t, in, 0)
	if err != nil {
		t.Fatal(err)
	}
	if reason, err := countedOnce(in, res); err != nil || reason != abi.CReasonDROP_NO_BACKEND || res.verdict != redirected {
		t.Errorf("%s: %s, counted as %d (%v); want it refused", k, res.verdict, reason, err)
	}
	if want := icmpError(t, in.frame, kind[0], kind[1], 0); !bytes.Equal(res.frame[ethLen:], want[ethLen:]) {
		t.Errorf("%s: the refusal:\n%s\nwant:\n%s", k, indent(res.frame), indent(want))
	}
}

func testSourceRanges(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		n.noServices(t)
		asked := talk{overTCP, end(remote4, remote6, v6, 40000), end(vip4, vip6, v6, 80)}
		backend := end(podB.ip4, podB.ip6, v6, 80)
		n.serve(t, asked.b, served{
			proto: overTCP, flags: abi.CFrontendFlagsFRONTEND_SOURCE_RANGES, outside: []netip.AddrPort{backend}, cluster: []netip.AddrPort{backend},
		})
		n.drops(t, "out of the ranges", abi.CReasonDROP_SOURCE_RANGE, asked.says(t, n, "S"))
		bits := uint32(32 + 128 - 8)
		n.put(t, "source_range_map", &abi.CSourceRangeKey{PrefixLen: bits, Service: 8, Addr: netorder.Addr(asked.a.Addr())}, uint32(1))
		n.drops(t, "in another service's ranges", abi.CReasonDROP_SOURCE_RANGE, asked.says(t, n, "S"))
		n.put(t, "source_range_map", &abi.CSourceRangeKey{PrefixLen: bits, Service: 7, Addr: netorder.Addr(asked.a.Addr())}, uint32(1))
		n.passes(t, "in the ranges", asked.says(t, n, "S"))
		asked.a = end(podA.ip4, podA.ip6, v6, 40000)
		n.passes(t, "from the cluster", asked.says(t, n, "S"))
	}
}

func testAffinity(t *testing.T, n *node) {
	n.noServices(t)
	asked := talk{overTCP, at(podA.ip4, 1), at(vip4, 80)}
	both := []netip.AddrPort{at(podB.ip4, 80), at(podC.ip4, 80)}
	n.serve(t, asked.b, served{proto: overTCP, flags: abi.CFrontendFlagsFRONTEND_AFFINITY, affinity: 10, cluster: both})
	target := func(port uint16) netip.Addr {
		f := n.passes(t, "a connection", asked.from(port).says(t, n, "S"))
		return netip.AddrFrom4([4]byte(f.frame[ethLen+16:]))
	}
	first, others := target(1), 0
	for port := range uint16(50) {
		if target(100+port) != first {
			others++
		}
	}
	if others > 0 {
		t.Errorf("%d of 50 connections of one client went elsewhere", others)
	}
	// Without affinity both get some.
	n.serve(t, asked.b, served{proto: overTCP, cluster: both})
	got := map[netip.Addr]int{}
	for port := range uint16(100) {
		got[target(200+port)]++
	}
	if len(got) != 2 || got[podB.ip4] < 20 || got[podC.ip4] < 20 {
		t.Errorf("100 connections went to %v", got)
	}
	// The backend that a client had is gone: another one.
	n.serve(t, asked.b, served{proto: overTCP, flags: abi.CFrontendFlagsFRONTEND_AFFINITY, affinity: 10, cluster: both})
	kept := target(400)
	gone := uint32(100)
	if kept == podC.ip4 {
		gone = 101
	}
	for _, slot := range []uint32{0, 1, 100 | uint32(abi.CBackendConstantsBACKEND_BY_ID), 101 | uint32(abi.CBackendConstantsBACKEND_BY_ID)} {
		if err := n.loader.Map("backend_map").Table.Delete(&abi.CBackendKey{List: 20, Slot: slot}); err != nil {
			t.Fatal(err)
		}
	}
	rest := at(podB.ip4, 80)
	if gone == 100 {
		rest = at(podC.ip4, 80)
	}
	value := abi.CBackend{Addr: netorder.Addr(rest.Addr()), Port: netorder.Port(80), Id: 201 - gone}
	for _, slot := range []uint32{0, value.Id | uint32(abi.CBackendConstantsBACKEND_BY_ID)} {
		n.put(t, "backend_map", &abi.CBackendKey{List: 20, Slot: slot}, &value)
	}
	f := abi.CFrontend{Service: 7, Flags: uint32(abi.CFrontendFlagsFRONTEND_AFFINITY), Affinity: 10}
	f.List[abi.CFrontendScopeSCOPE_CLUSTER] = abi.CBackendList{Id: 20, Count: 1}
	n.put(t, "frontend_map", &abi.CFrontendKey{Addr: netorder.Addr(vip4), Port: netorder.Port(80), Proto: uint8(overTCP)}, &f)
	if got := target(401); got != rest.Addr() {
		t.Errorf("the client was sent to %s, want %s: %s is gone", got, rest.Addr(), kept)
	}
}

// Policy speaks of pods and their ports, not of services.
func testPolicyJudgesTheBackend(t *testing.T, n *node) {
	n.noServices(t)
	asked := talk{overTCP, at(podA.ip4, 40000), at(vip4, 80)}
	n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{at(podB.ip4, 8080)}})
	n.under(t, podB, security{ingress: rules})
	n.drops(t, "an isolated backend", abi.CReasonDROP_POLICY, asked.says(t, n, "S"))
	if r := n.find(t, asked); r.table != nowhere {
		t.Errorf("a denied flow has an entry in %s", r.table)
	}
	n.allow(t, rules, map[uint64]uint64{anyPeer: list})
	n.ports(t, list, portRange(uint8(overTCP), 80, 80))
	n.drops(t, "the service's port is not the backend's", abi.CReasonDROP_POLICY, asked.says(t, n, "S"))
	n.ports(t, list, portRange(uint8(overTCP), 8080, 8080))
	n.passes(t, "the backend's port", asked.says(t, n, "S"))
	n.under(t, podB, security{})
}

// Flows of services are judged again by their real ends, whoever speaks first.
func testAnswersAfterAnEpoch(t *testing.T, n *node) {
	n.noServices(t)
	asked := talk{overTCP, at(podA.ip4, 40000), at(vip4, 80)}
	real := talk{overTCP, asked.a, at(podB.ip4, 8080)}
	n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{real.b}})
	n.translates(t, asked, real)
	n.change(t, func(s *abi.CSettings) { s.Epoch++ })
	n.becomes(t, "an answer", real.answers(t, n, "A"), asked.onward(t, n, "A", true, true))
	n.becomes(t, "a packet", asked.says(t, n, "A"), real.onward(t, n, "A", false, true))
	n.under(t, podB, security{ingress: rules})
	n.change(t, func(s *abi.CSettings) { s.Epoch++ })
	n.drops(t, "an answer of a forbidden flow", abi.CReasonDROP_POLICY, real.answers(t, n, "A"))
	n.drops(t, "a packet of a forbidden flow", abi.CReasonDROP_POLICY, asked.says(t, n, "A"))
	n.under(t, podB, security{})
}

// A client that talks to a backend itself, and from the same port to its service.
func testConflict(t *testing.T, n *node) {
	n.noServices(t)
	backend := at(podB.ip4, 8080)
	direct := talk{overTCP, at(podA.ip4, 40000), backend}
	asked := talk{overTCP, direct.a, at(vip4, 80)}
	n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{backend}})
	n.establish(t, direct)
	f := n.passes(t, "to the service", asked.says(t, n, "S"))
	src := seen(f.frame)
	if src.Addr() != podA.ip4 || src.Port() == direct.a.Port() {
		t.Fatalf("the second flow left with the source %s, want another port of the pod", src)
	}
	n.becomes(t, "its answer", talk{overTCP, src, backend}.answers(t, n, "SA"), asked.onward(t, n, "SA", true, true))
	n.passes(t, "the first flow", direct.says(t, n, "A"))
	// The other way round there is no way out.
	n.noServices(t)
	n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{backend}})
	n.translates(t, asked, direct)
	n.drops(t, "to the backend itself", abi.CReasonDROP_NAT_CONFLICT, direct.says(t, n, "S"))
}

// A port that a client uses again after a connection ended gets a backend anew.
func testPortReused(t *testing.T, n *node) {
	n.noServices(t)
	asked := talk{overTCP, at(podA.ip4, 40000), at(vip4, 80)}
	real := talk{overTCP, asked.a, at(podB.ip4, 8080)}
	n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{real.b}})
	n.translates(t, asked, real)
	n.passes(t, "FIN", asked.says(t, n, "FA"))
	n.passes(t, "FIN", real.answers(t, n, "FA"))
	n.serve(t, asked.b, served{proto: overTCP, cluster: []netip.AddrPort{at(podC.ip4, 9090)}})
	real.b = at(podC.ip4, 9090)
	n.translates(t, asked, real)
}

// A question over UDP, and a connection that nobody answered, go to who serves
// now, though the port was used a moment ago. What is a conversation stays.
func testQuestionsMoveOn(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overUDP, overTCP} {
		n.noServices(t)
		asked := talk{proto, at(podA.ip4, 40000), at(vip4, 53)}
		before := talk{proto, asked.a, at(podB.ip4, 5353)}
		after := talk{proto, asked.a, at(podC.ip4, 5353)}
		move := func(b netip.AddrPort, id uint32) {
			n.serve(t, asked.b, served{proto: proto, cluster: []netip.AddrPort{b}})
			value := abi.CBackend{Addr: netorder.Addr(b.Addr()), Port: netorder.Port(b.Port()), Id: id}
			n.put(t, "backend_map", &abi.CBackendKey{List: 20}, &value)
		}
		move(before.b, 1)
		n.becomes(t, "a question", asked.says(t, n, "S"), before.onward(t, n, "S", false, true))
		move(after.b, 2)
		n.becomes(t, "the next question", asked.says(t, n, "S"), after.onward(t, n, "S", false, true))
		n.becomes(t, "its answer", after.answers(t, n, "SA"), asked.onward(t, n, "SA", true, true))
		if proto == overUDP {
			n.becomes(t, "a late answer to the first", before.answers(t, n, ""), asked.onward(t, n, "", true, true))
		}
		n.becomes(t, "the conversation", asked.says(t, n, "A"), after.onward(t, n, "A", false, true))
		move(before.b, 1)
		n.becomes(t, "the conversation goes on", asked.says(t, n, "A"), after.onward(t, n, "A", false, true))
	}
}
