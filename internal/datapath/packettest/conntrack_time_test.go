package packettest

import (
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// margin is more jiffies than a test takes between two packets.
const margin = 5000

// age makes a flow idle for so many jiffies.
func (n *node) age(t testing.TB, k talk, jiffies uint32) {
	t.Helper()
	n.edit(t, k, func(e *abi.CCtEntry) { e.Last -= jiffies })
}

// lonely isolates both pods against what they did not ask for, so that an answer
// passes only as a flow's.
func (n *node) lonely(t testing.TB) {
	t.Helper()
	n.under(t, podA, security{ingress: closed})
}

func testExpiry(t *testing.T, n *node) {
	limit := settings().Timeout[0]
	for _, k := range []talk{tcpTalk(), udpTalk()} {
		n.fresh(t)
		n.lonely(t)
		n.passes(t, "first", k.says(t, n, "S"))
		n.age(t, k, limit-margin)
		n.passes(t, "answer in time", k.answers(t, n, "SA"))
		n.age(t, k, limit+1)
		n.drops(t, "answer too late", abi.CReasonDROP_POLICY, k.answers(t, n, "SA"))
		n.has(t, "a late answer changes nothing", k, embryonic, replied)
		n.passes(t, "first of the next", k.says(t, n, "S"))
		n.has(t, "the next begins anew", k, embryonic, 0)

		n.establish(t, k)
		n.age(t, k, limit-margin)
		n.passes(t, "answer in time", k.answers(t, n, "A"))
		n.age(t, k, limit-margin)
		n.passes(t, "answer in time, since the last", k.answers(t, n, "A"))
		n.age(t, k, limit+1)
		n.drops(t, "answer too late", abi.CReasonDROP_POLICY, k.answers(t, n, "A"))
	}
}

// Each state of a connection has its own patience.
func testExpiryByKind(t *testing.T, n *node) {
	const tcp, syn, fin, other = 1 << 24, 1 << 23, 1 << 22, 1 << 21
	first := func(k talk) { n.passes(t, "first", k.says(t, n, "S")) }
	both := func(k talk) { first(k); n.passes(t, "answer", k.answers(t, n, "SA")) }
	up := func(k talk) { n.establish(t, k) }
	echo := talk{overICMP, at(podA.ip4, 9), at(podB.ip4, 0)}
	sctp, gre := talk{overSCTP, at(podA.ip4, 9), at(podB.ip4, 9)}, talk{overGRE, at(podA.ip4, 0), at(podB.ip4, 0)}
	for _, c := range []struct {
		name  string
		k     talk
		to    func(talk) // leads to the state
		limit uint32
	}{
		{"TCP, half open", tcpTalk(), first, syn},
		{"TCP, answered", tcpTalk(), both, syn},
		{"TCP, established", tcpTalk(), up, tcp},
		{"TCP, without SYN", tcpTalk(), func(k talk) { n.passes(t, "data", k.says(t, n, "A")) }, tcp},
		{"TCP, one side closed", tcpTalk(), func(k talk) { up(k); n.passes(t, "FIN", k.says(t, n, "FA")) }, tcp},
		{"TCP, the other side closed", tcpTalk(), func(k talk) { up(k); n.passes(t, "FIN", k.answers(t, n, "FA")) }, tcp},
		{"TCP, closed", tcpTalk(), func(k talk) {
			up(k)
			n.passes(t, "FIN", k.says(t, n, "FA"))
			n.passes(t, "FIN", k.answers(t, n, "FA"))
		}, fin},
		{"TCP, reset", tcpTalk(), func(k talk) { up(k); n.passes(t, "RST", k.says(t, n, "R")) }, fin},
		{"TCP, refused", tcpTalk(), func(k talk) { first(k); n.passes(t, "RST", k.answers(t, n, "RA")) }, fin},
		{"UDP, first", udpTalk(), first, other},
		{"UDP, established", udpTalk(), up, other},
		{"echo", echo, first, other},
		{"SCTP", sctp, up, other},
		{"GRE", gre, up, other},
	} {
		n.fresh(t)
		s := settings()
		s.Timeout = [6]uint32{tcp, syn, fin, other, tcp, other}
		n.setSettings(t, s)
		n.lonely(t)
		c.to(c.k)
		n.age(t, c.k, c.limit-margin)
		n.passes(t, c.name+", in time", c.k.answers(t, n, "SA"))
		n.fresh(t)
		n.setSettings(t, s)
		n.lonely(t)
		c.to(c.k)
		n.age(t, c.k, c.limit+1)
		n.drops(t, c.name+", too late", abi.CReasonDROP_POLICY, c.k.answers(t, n, "SA"))
	}
}

// An entry of a table of established flows is never deleted by a packet, so the
// next flow with its key takes its place.
func testExpiredInPlace(t *testing.T, n *node) {
	for _, k := range []talk{tcpTalk(), udpTalk()} {
		n.fresh(t)
		n.under(t, podB, security{identity: 4711})
		n.establish(t, k)
		n.edit(t, k, func(e *abi.CCtEntry) { e.State -= margin << 32; e.Last -= settings().Timeout[0] + 1 })
		old := n.find(t, k)
		n.under(t, podB, security{identity: 4712})
		n.passes(t, "first of the next", k.says(t, n, "S"))
		r := n.has(t, "in place", k, k.settled(), 0)
		if r.State>>32 == old.State>>32 || r.Last-old.Last <= settings().Timeout[0] || r.Identity[r.a^1] != 4712 {
			t.Errorf("%s: what was known of the old flow is left: %+v, was %+v", k, r, old)
		}
		n.age(t, k, settings().Timeout[0]+1)
		n.passes(t, "of the other side", k.answers(t, n, "S"))
		n.has(t, "in place, begun by the other side", k.back(), k.settled(), 0)
	}
}

// The clock of entries has 32 bits.
func testClockWraps(t *testing.T, n *node) {
	const age = 0xC000_0000 // more than the machine is up: last is before the wrap
	for _, c := range []struct {
		limit uint32
		alive bool
	}{{age + margin, true}, {age - 1, false}} {
		n.fresh(t)
		n.change(t, func(s *abi.CSettings) { s.Timeout = [6]uint32{c.limit, c.limit, c.limit, c.limit, c.limit, c.limit} })
		n.lonely(t)
		k := tcpTalk()
		n.establish(t, k)
		n.age(t, k, age)
		f := n.send(t, k.answers(t, n, "A"))
		if f.passed() != c.alive {
			t.Errorf("idle for %d jiffies with a timeout of %d: %s", uint32(age), c.limit, f)
		}
	}
}

// Another CPU may write the time of the next tick while this one still has the
// last one in its hand: that is no age of 49 days.
func testClockOfAnotherCPU(t *testing.T, n *node) {
	const ahead = ^uint32(0) - 200 + 1
	for _, k := range []talk{tcpTalk(), udpTalk()} {
		n.fresh(t)
		n.lonely(t)
		n.passes(t, "first", k.says(t, n, "S"))
		n.age(t, k, ahead)
		n.passes(t, "answer in a half-open flow", k.answers(t, n, "SA"))
		n.establish(t, k)
		n.age(t, k, ahead)
		n.passes(t, "answer in an established flow", k.answers(t, n, "A"))
	}
}

// What is marked dead or moved stands for nothing, and is not touched.
func testTerminal(t *testing.T, n *node) {
	for _, mark := range []abi.CCtFlags{abi.CCtFlagsCT_DEAD, abi.CCtFlagsCT_MOVED} {
		for _, k := range []talk{tcpTalk(), udpTalk()} {
			n.fresh(t)
			n.lonely(t)
			n.establish(t, k)
			n.edit(t, k, func(e *abi.CCtEntry) { e.State |= uint64(mark) })
			corpse := n.find(t, k)
			n.drops(t, "answer", abi.CReasonDROP_POLICY, k.answers(t, n, "A"))
			n.passes(t, "first of the next", k.says(t, n, "S"))
			n.passes(t, "its answer", k.answers(t, n, "SA"))
			n.passes(t, "its second", k.says(t, n, "A"))
			n.passes(t, "its third", k.says(t, n, "A"))
			r, ok := n.in(t, embryonic, k)
			if !ok || r.flags()&assured == 0 {
				t.Errorf("%s: beside a corpse the next flow is embryonic: %t, %#x", k, ok, r.flags())
			}
			if now, _ := n.in(t, k.settled(), k); now != corpse {
				t.Errorf("%s: the corpse changed from %+v to %+v", k, corpse, now)
			}
			if err := n.loader.Map(k.settled()).Table.Delete(&corpse.key); err != nil {
				t.Fatal(err)
			}
			n.passes(t, "its fourth", k.says(t, n, "A"))
			if r := n.find(t, k); r.table != k.settled() {
				t.Errorf("%s: without the corpse it is in %s", k, r.table)
			}
		}
	}
}

func testTerminalEmbryo(t *testing.T, n *node) {
	for _, mark := range []abi.CCtFlags{abi.CCtFlagsCT_DEAD, abi.CCtFlagsCT_MOVED} {
		n.fresh(t)
		n.lonely(t)
		k := udpTalk()
		n.passes(t, "first", k.says(t, n, ""))
		n.edit(t, k, func(e *abi.CCtEntry) { e.State |= uint64(mark) })
		corpse := n.find(t, k)
		f := n.send(t, k.says(t, n, ""))
		if !f.passed() || len(f.marks) != 1 || f.marks[0] != abi.CReasonREASON_CT_RACED {
			t.Errorf("a packet with a dead embryo: %s; want it to pass without an entry", f)
		}
		n.drops(t, "answer to a dead embryo", abi.CReasonDROP_POLICY, k.answers(t, n, ""))
		if now := n.find(t, k); now != corpse {
			t.Errorf("the corpse changed from %+v to %+v", corpse, now)
		}
	}
}

// However many policies there are, a flow that is established asks none of them.
func testFastPathAsksNobody(t *testing.T, n *node) {
	const set = 77
	for _, k := range []talk{
		tcpTalk(), udpTalk(), {overTCP, at(podA.ip6, 40000), at(remote6, 80)}, {overICMP, at(remote4, 3), at(podA.ip4, 0)},
	} {
		n.fresh(t)
		n.allow(t, set, map[uint64]uint64{anyPeer: allPorts})
		for _, p := range pods {
			n.under(t, p, security{ingress: set, egress: set})
		}
		n.establish(t, k)
		n.forbid(t, set, anyPeer)
		for _, p := range pods {
			n.under(t, p, security{ingress: closed, egress: closed})
		}
		n.passes(t, "packet in the same epoch", k.says(t, n, "A"))
		n.passes(t, "answer in the same epoch", k.answers(t, n, "A"))
		n.drops(t, "new flow", abi.CReasonDROP_POLICY, k.from(41000).says(t, n, "S"))
		n.bump(t)
		n.drops(t, "packet in the next epoch", abi.CReasonDROP_POLICY, k.says(t, n, "A"))
		n.drops(t, "answer in the next epoch", abi.CReasonDROP_POLICY, k.answers(t, n, "A"))
	}
}

// Tables of established flows that have room for two each.
func TestConntrackFull(t *testing.T) {
	sizes := small()
	sizes[tcpTable], sizes[anyTable] = 2, 2
	suite{{"Full", testFull}}.run(t, options{sizes: sizes})
}

func testFull(t *testing.T, n *node) {
	for _, base := range []talk{tcpTalk(), udpTalk()} {
		n.fresh(t)
		n.lonely(t)
		n.establish(t, base.from(1))
		n.establish(t, base.from(2))
		k := base.from(3)
		n.passes(t, "first", k.says(t, n, "S"))
		n.passes(t, "answer", k.answers(t, n, "SA"))
		for range 3 {
			f := n.send(t, k.says(t, n, "A"))
			if !f.passed() || len(f.marks) != 1 || f.marks[0] != abi.CReasonREASON_CT_FULL {
				t.Fatalf("%s: %s; want it to pass and be counted as without room", k, f)
			}
			if r := n.find(t, k); r.table != embryonic || r.flags()&assured == 0 {
				t.Errorf("%s is in %s with flags %#x, want it embryonic", k, r.table, r.flags())
			}
		}
		f := n.send(t, k.answers(t, n, "A"))
		if !f.passed() {
			t.Errorf("%s: an answer without room: %s", k, f)
		}
		n.passes(t, "a flow that has room", base.from(1).answers(t, n, "A"))
		other := n.find(t, base.from(2))
		if err := n.loader.Map(k.settled()).Table.Delete(&other.key); err != nil {
			t.Fatal(err)
		}
		n.passes(t, "once there is room", k.says(t, n, "A"))
		if r := n.find(t, k); r.table != k.settled() {
			t.Errorf("%s is in %s, want %s once there is room", k, r.table, k.settled())
		}
	}
}
