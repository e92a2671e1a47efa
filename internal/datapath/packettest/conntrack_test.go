package packettest

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// What a flow went through.
const (
	replied   = abi.CCtFlagsCT_REPLIED
	assured   = abi.CCtFlagsCT_ASSURED
	nonSYN    = abi.CCtFlagsCT_NON_SYN
	finOrigin = abi.CCtFlagsCT_FIN_ORIGIN
	finReply  = abi.CCtFlagsCT_FIN_REPLY
	reset     = abi.CCtFlagsCT_RESET
	audited   = abi.CCtFlagsCT_AUDITED
	fromHost  = abi.CCtFlagsCT_FROM_HOST

	established = replied | assured | nonSYN // TCP
)

// small makes tables that are quick to make and to empty.
func small() loader.Sizes {
	return loader.Sizes{
		embryonic: 1024, tcpTable: 1024, anyTable: 1024,
		datapath.PolicyMap: 1024, datapath.PortMap: 1024, datapath.IdentityMap: 1024,
	}
}

func TestConntrack(t *testing.T) {
	suite{
		{"TCP", testTCP},
		{"TCPReset", testTCPReset},
		{"TCPAgain", testTCPAgain},
		{"TCPFromTheOtherSide", testTCPFromTheOtherSide},
		{"TCPRetransmission", testTCPRetransmission},
		{"TCPMiddle", testTCPMiddle},
		{"Datagrams", testDatagrams},
		{"EchoBothWays", testEchoBothWays},
		{"Described", testDescribed},
		{"Expiry", testExpiry},
		{"ExpiryByKind", testExpiryByKind},
		{"ExpiredInPlace", testExpiredInPlace},
		{"ClockWraps", testClockWraps},
		{"ClockOfAnotherCPU", testClockOfAnotherCPU},
		{"Terminal", testTerminal},
		{"TerminalEmbryo", testTerminalEmbryo},
		{"FastPathAsksNobody", testFastPathAsksNobody},
		{"OtherPodsCannotSpeak", testOtherPodsCannotSpeak},
		{"WireCannotSpeakForPods", testWireCannotSpeakForPods},
		{"AddressMovesOn", testAddressMovesOn},
	}.run(t, options{sizes: small()})
}

func TestConntrackTunnel(t *testing.T) {
	suite{
		{"TCP", testTCP},
		{"Datagrams", testDatagrams},
		{"Described", testDescribed},
		{"OverlayCannotSpeakForPods", testOverlayCannotSpeakForPods},
	}.run(t, options{sizes: small(), tunnel: true})
}

type namedTalk struct {
	name string
	talk
}

// talks are two parties of every kind, in both families. ICMP stands for ICMPv6
// too.
func (n *node) talks(proto layers.IPProtocol) []namedTalk {
	type party struct{ four, six netip.Addr }
	a, b, c := party{podA.ip4, podA.ip6}, party{podB.ip4, podB.ip6}, party{podC.ip4, podC.ip6}
	host, outside := party{node4, node6}, party{remote4, remote6}
	if n.cfg.Tunnel != 0 {
		outside = party{far4, far6}
	}
	var out []namedTalk
	for _, x := range []struct {
		name string
		a, b party
	}{
		{"pod to pod", a, b},
		{"pod to shaped pod", b, c},
		{"shaped pod to pod", c, a},
		{"pod to outside", a, outside},
		{"outside to pod", outside, b},
		{"outside to shaped pod", outside, c},
		{"pod to its node", a, host},
		{"node to its pod", host, b},
	} {
		six := proto
		if proto == overICMP {
			six = overICMPv6
		}
		out = append(out,
			namedTalk{"IPv4 " + x.name, talk{proto, at(x.a.four, 40000), at(x.b.four, 80)}},
			namedTalk{"IPv6 " + x.name, talk{six, at(x.a.six, 40000), at(x.b.six, 80)}})
	}
	return out
}

// of are the flags that a flow has by who began it, and these.
func (k talk) of(flags abi.CCtFlags) abi.CCtFlags {
	if isNode(k.a.Addr()) {
		flags |= fromHost
	}
	return flags
}

func tcpTalk() talk { return talk{overTCP, at(podA.ip4, 40000), at(podB.ip4, 80)} }

func udpTalk() talk { return talk{overUDP, at(podA.ip4, 40000), at(podB.ip4, 53)} }

func testTCP(t *testing.T, n *node) {
	for _, k := range n.talks(overTCP) {
		t.Run(k.name, func(t *testing.T) {
			n.fresh(t)
			n.passes(t, "SYN", k.says(t, n, "S"))
			n.has(t, "after SYN", k.talk, embryonic, k.of(0))
			n.passes(t, "SYN, ACK", k.answers(t, n, "SA"))
			n.has(t, "after SYN, ACK", k.talk, embryonic, k.of(replied))
			n.passes(t, "ACK", k.says(t, n, "A"))
			n.has(t, "after ACK", k.talk, tcpTable, k.of(established))
			n.passes(t, "data", k.says(t, n, "PA"))
			n.passes(t, "data back", k.answers(t, n, "PA"))
			n.has(t, "after data", k.talk, tcpTable, k.of(established))
			n.passes(t, "FIN", k.says(t, n, "FA"))
			n.has(t, "after FIN", k.talk, tcpTable, k.of(established|finOrigin))
			n.passes(t, "data after FIN", k.answers(t, n, "PA"))
			n.passes(t, "FIN back", k.answers(t, n, "FA"))
			n.passes(t, "last ACK", k.says(t, n, "A"))
			n.has(t, "after both FINs", k.talk, tcpTable, k.of(established|finOrigin|finReply))
		})
	}
}

func testTCPReset(t *testing.T, n *node) {
	n.fresh(t)
	k := tcpTalk()
	n.passes(t, "SYN", k.says(t, n, "S"))
	n.passes(t, "refusal", k.answers(t, n, "RA"))
	n.has(t, "after the refusal", k, embryonic, nonSYN|reset)
	n.passes(t, "what comes behind", k.says(t, n, "A"))
	n.has(t, "a refusal is no answer", k, embryonic, nonSYN|reset)

	for i, who := range []func(talk) input{
		func(k talk) input { return k.says(t, n, "R") },
		func(k talk) input { return k.answers(t, n, "RA") },
	} {
		other := k.from(uint16(50000 + i))
		n.establish(t, other)
		n.passes(t, "reset", who(other))
		n.has(t, "after the reset", other, tcpTable, established|reset)
	}
}

// A connection that was closed gives its ports to the next one.
func testTCPAgain(t *testing.T, n *node) {
	for i, end := range []func(talk){
		func(k talk) {
			n.passes(t, "FIN", k.says(t, n, "FA"))
			n.passes(t, "FIN back", k.answers(t, n, "FA"))
		},
		func(k talk) { n.passes(t, "reset", k.says(t, n, "R")) },
		func(k talk) { n.passes(t, "reset", k.answers(t, n, "R")) },
	} {
		n.fresh(t)
		k := tcpTalk().from(uint16(50000 + i))
		n.establish(t, k)
		n.edit(t, k, func(e *abi.CCtEntry) { e.State -= 5000 << 32 })
		old := n.find(t, k).State >> 32
		end(k)
		n.passes(t, "SYN", k.says(t, n, "S"))
		r := n.has(t, "after the next SYN", k, tcpTable, 0)
		if r.State>>32 == old {
			t.Errorf("a flow that begins anew keeps the birth of the old one")
		}
		n.passes(t, "SYN, ACK", k.answers(t, n, "SA"))
		n.has(t, "after SYN, ACK", k, tcpTable, replied)
		n.passes(t, "ACK", k.says(t, n, "A"))
		n.has(t, "after ACK", k, tcpTable, established)
	}
	// While it is half open it may begin anew too.
	n.fresh(t)
	k := tcpTalk()
	n.passes(t, "SYN", k.says(t, n, "S"))
	n.passes(t, "refusal", k.answers(t, n, "RA"))
	n.passes(t, "another SYN", k.says(t, n, "S"))
	n.has(t, "after another SYN", k, embryonic, 0)
}

// A SYN from the other side is a connection of its own, also for policy.
func testTCPFromTheOtherSide(t *testing.T, n *node) {
	for _, state := range []string{"embryonic", "established", "closed"} {
		n.fresh(t)
		n.under(t, podA, security{ingress: closed})
		k := tcpTalk()
		table, flags := embryonic, abi.CCtFlags(0)
		n.passes(t, "SYN", k.says(t, n, "S"))
		if state != "embryonic" {
			table, flags = tcpTable, established
			n.establish(t, k)
		}
		if state == "closed" {
			n.passes(t, "reset", k.says(t, n, "R"))
			flags |= reset
		}
		n.drops(t, state+", SYN from the other side", abi.CReasonDROP_POLICY, k.answers(t, n, "S"))
		n.has(t, state+", after it", k, table, flags)
		n.under(t, podA, security{})
		n.passes(t, state+", allowed SYN from the other side", k.answers(t, n, "S"))
		n.has(t, state+", after the allowed one", k.back(), table, 0)
		n.passes(t, state+", its answer", k.says(t, n, "SA"))
		n.passes(t, state+", its ACK", k.answers(t, n, "A"))
		n.has(t, state+", in the end", k.back(), tcpTable, established)
	}
}

func testTCPRetransmission(t *testing.T, n *node) {
	n.fresh(t)
	k := tcpTalk()
	for range 3 {
		n.passes(t, "SYN", k.says(t, n, "S"))
		n.has(t, "after SYN", k, embryonic, 0)
	}
	for range 2 {
		n.passes(t, "SYN, ACK", k.answers(t, n, "SA"))
		n.passes(t, "SYN of one who heard no answer", k.says(t, n, "S"))
		n.has(t, "no conversation yet", k, embryonic, replied)
	}
	n.passes(t, "ACK", k.says(t, n, "A"))
	n.has(t, "after ACK", k, tcpTable, established)
	before := n.find(t, k)
	n.passes(t, "late SYN", k.says(t, n, "S"))
	n.passes(t, "late SYN, ACK", k.answers(t, n, "SA"))
	if after := n.has(t, "after what is late", k, tcpTable, established); after.State != before.State {
		t.Errorf("a late SYN changed the state from %#x to %#x", before.State, after.State)
	}
}

// What is on its way when Placid starts has no SYN to show.
func testTCPMiddle(t *testing.T, n *node) {
	n.fresh(t)
	k := tcpTalk()
	n.passes(t, "data", k.says(t, n, "PA"))
	n.has(t, "after data", k, embryonic, nonSYN)
	n.passes(t, "answer", k.answers(t, n, "A"))
	n.has(t, "after the answer", k, embryonic, nonSYN|replied)
	n.passes(t, "more data", k.says(t, n, "PA"))
	n.has(t, "after more data", k, tcpTable, established)
}

func testDatagrams(t *testing.T, n *node) {
	for _, proto := range []layers.IPProtocol{overUDP, overSCTP, overICMP, overGRE} {
		for _, k := range n.talks(proto) {
			t.Run(proto.String()+" "+k.name, func(t *testing.T) {
				n.fresh(t)
				for range 3 {
					n.passes(t, "first", k.says(t, n, ""))
					n.has(t, "nobody answered", k.talk, embryonic, k.of(0))
				}
				n.passes(t, "answer", k.answers(t, n, ""))
				n.passes(t, "another answer", k.answers(t, n, ""))
				n.has(t, "after answers", k.talk, embryonic, k.of(replied))
				n.passes(t, "second", k.says(t, n, ""))
				n.has(t, "after the second", k.talk, anyTable, k.of(replied|assured))
				n.passes(t, "third", k.says(t, n, ""))
				n.passes(t, "third answer", k.answers(t, n, ""))
				n.has(t, "in the end", k.talk, anyTable, k.of(replied|assured))
			})
		}
	}
}

// Two who ask each other with the same identifier have a flow each.
func testEchoBothWays(t *testing.T, n *node) {
	for _, k := range []talk{
		{overICMP, at(podA.ip4, 7), at(podB.ip4, 0)}, {overICMPv6, at(podA.ip6, 7), at(podB.ip6, 0)},
	} {
		n.fresh(t)
		back := talk{k.proto, at(k.b.Addr(), 7), at(k.a.Addr(), 0)}
		n.passes(t, "request", k.says(t, n, ""))
		n.passes(t, "request of the other", back.says(t, n, ""))
		n.has(t, "two requests are no answer", k, embryonic, 0)
		n.has(t, "two requests are no answer", back, embryonic, 0)
		n.passes(t, "reply", k.answers(t, n, ""))
		n.has(t, "after the reply", k, embryonic, replied)
		n.has(t, "the other's flow", back, embryonic, 0)
	}
}
