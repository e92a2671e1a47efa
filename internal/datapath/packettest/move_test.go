package packettest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// movable makes tables that a walk does not pass in one step once they are filled.
func movable() options {
	o := withServices()
	for _, name := range []string{tcpTable, anyTable, embryonic, datapath.AffinityMap} {
		o.sizes[name] = movableSize
	}
	return o
}

const (
	movableSize = 8192
	fillers     = 3000 // more than a walk passes in one step
)

func TestMove(t *testing.T) {
	suite{
		{"EveryKindOfFlow", testMoveFlows},
		{"Affinity", testMoveAffinity},
		{"UnderLoad", testMoveUnderLoad},
	}.run(t, movable())
}

// collector is what moves flows.
func (n *node) collector(t testing.TB) *conntrack.Collector {
	t.Helper()
	outer := func(name string) *ebpf.Map { return n.loader.Map(name).Outer }
	c := conntrack.New(conntrack.Config{
		Tables: conntrack.Tables{TCP: outer(tcpTable), Any: outer(anyTable), New: outer(embryonic), Settings: outer(datapath.SettingsMap)},
		Log:    slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// moment is a point of a move at which packets come.
type moment struct {
	name string
	// reach goes there from the moment before.
	reach func(t *testing.T, c *conntrack.Collector, m *loader.Map)
}

// moments of a table of flows.
func moments() []moment {
	return []moment{
		{"before", func(*testing.T, *conntrack.Collector, *loader.Map) {}},
		{"between the two writes", func(t *testing.T, _ *conntrack.Collector, m *loader.Map) {
			must(t, m.Outer.Put(uint32(abi.CTableSlotTABLE_OLD), m.Table.Map()))
		}},
		{"before the walk", func(t *testing.T, c *conntrack.Collector, m *loader.Map) {
			must(t, m.Outer.Delete(uint32(abi.CTableSlotTABLE_OLD)))
			begin(t, c, m, 2*movableSize)
		}},
		{"amid the walk", func(t *testing.T, c *conntrack.Collector, m *loader.Map) {
			ctx, stop := context.WithCancel(t.Context())
			if _, err := c.EndMove(ctx, m.Name, func(conntrack.Moves) { stop() }); !errors.Is(err, context.Canceled) {
				t.Fatalf("a walk that was stopped: error = %v, want that of its context", err)
			}
			if moving, err := c.Moving(m.Name); err != nil || !moving {
				t.Fatalf("a walk that was stopped: moving = %t, %v", moving, err)
			}
		}},
		{"after", func(t *testing.T, c *conntrack.Collector, m *loader.Map) {
			if _, err := c.EndMove(t.Context(), m.Name, nil); err != nil {
				t.Fatal(err)
			}
		}},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// begin puts an empty table of another size in place.
func begin(t testing.TB, c *conntrack.Collector, m *loader.Map, size uint32) {
	t.Helper()
	to, err := m.Sized(size)
	must(t, err)
	must(t, errors.Join(c.BeginMove(m.Name, to), m.Refresh(), to.Close()))
}

// tale is a conversation: what is said at each moment, a word a packet: TCP flags,
// with > from the one who began and < from the other.
type tale struct {
	name  string
	proto layers.IPProtocol
	said  [5]string // by moment; words with blanks between
}

func tales() []tale {
	return []tale{
		{"TCP that opens before", overTCP, [5]string{">S <SA >A", ">PA", "<PA", ">A", "<PA"}},
		{"TCP that opens meanwhile", overTCP, [5]string{">S", "<SA", ">A", "<PA", ">PA"}},
		{"TCP that begins at the walk", overTCP, [5]string{"", "", ">S", "<SA", ">A"}},
		{"TCP that nobody answers", overTCP, [5]string{">S", ">S", ">S", ">S", ">S"}},
		{"TCP that closes", overTCP, [5]string{">S <SA >A", ">PA", ">FA", "<FA", ">A"}},
		{"TCP that had closed", overTCP, [5]string{">S <SA >A >FA <FA", "", "", ">S", "<SA >A"}},
		{"TCP that is reset", overTCP, [5]string{">S <SA >A", "", "", "<R", ">A"}},
		{"UDP with answers", overUDP, [5]string{"> < >", "<", ">", "<", ">"}},
		{"UDP that gets an answer meanwhile", overUDP, [5]string{">", "", ">", "<", ">"}},
		{"UDP without answers", overUDP, [5]string{">", ">", ">", ">", ">"}},
	}
}

// line is one conversation of one kind of flow.
type line struct {
	tale
	asked, real talk // as the client and as the other end see it; the same if nobody translates
	masqueraded bool
	ended       bool // both have said so: what comes next begins anew
}

// lines are all tales over all kinds of flows, each from a port of its own. For
// those that are masqueraded, real is known once they began.
func (n *node) lines(t *testing.T, v6 bool) []*line {
	t.Helper()
	client, backend := end(podA.ip4, podA.ip6, v6, 0), end(podB.ip4, podB.ip6, v6, 8080)
	vip, outside := end(vip4, vip6, v6, 80), end(remote4, remote6, v6, 443)
	for _, proto := range []layers.IPProtocol{overTCP, overUDP} {
		n.serve(t, vip, served{proto: proto, cluster: []netip.AddrPort{backend}})
	}
	var out []*line
	for i, s := range tales() {
		for first, to := range map[uint16]netip.AddrPort{41000: backend, 42000: vip, 43000: outside} {
			asked := talk{s.proto, at(client.Addr(), first+uint16(i)), to}
			l := &line{tale: s, asked: asked, real: asked}
			switch to {
			case vip:
				l.real.b = backend
			case outside:
				l.masqueraded, l.real.a = true, netip.AddrPort{}
			}
			out = append(out, l)
		}
	}
	return out
}

// speak sends what is said at a moment, and checks what each packet becomes.
func (n *node) speak(t *testing.T, l *line, at int, when string) {
	t.Helper()
	what := fmt.Sprintf("%s, %s, %s", l.name, l.asked, when)
	for word := range strings.FieldsSeq(l.said[at]) {
		flags := word[1:]
		if word[0] == '<' {
			n.becomes(t, what+", "+word, l.real.answers(t, n, flags), l.asked.onward(t, n, flags, true, true))
			l.ended = at == 0 && flags == "FA"
			continue
		}
		if l.masqueraded && (!l.real.a.IsValid() || l.ended) {
			l.real, l.ended = n.masqueraded(t, l.asked, l.asked.b), false
		}
		n.becomes(t, what+", "+word, l.asked.says(t, n, flags), l.real.onward(t, n, flags, false, true))
	}
}

// outline is what is compared of an entry: not when things were, and not which port
// a masqueraded flow got, which the packets tell.
type outline struct {
	table    string
	flags    abi.CCtFlags
	byA      bool
	since    bool // it began before the table moved
	identity [2]uint32
	service  uint32
	backend  uint32
}

func (n *node) outlines(t *testing.T, lines []*line, begun map[talk]uint64) map[string]outline {
	t.Helper()
	out := map[string]outline{}
	for _, l := range lines {
		for side, k := range map[string]talk{"asked": l.asked, "real": l.real} {
			r := n.find(t, k)
			out[fmt.Sprintf("%s, %s, %s", l.name, l.asked, side)] = outline{
				r.table, r.flags(), r.byA(), r.table != nowhere && begun[k] == r.State>>32, r.Identity, r.Nat.Service, r.Nat.Backend,
			}
		}
	}
	return out
}

// births is when the flows of lines began.
func (n *node) births(t *testing.T, lines []*line) map[talk]uint64 {
	t.Helper()
	out := map[talk]uint64{}
	for _, l := range lines {
		for _, k := range []talk{l.asked, l.real} {
			if r := n.find(t, k); r.table != nowhere {
				out[k] = r.State >> 32
			}
		}
	}
	return out
}

// fill puts entries of other flows into a table.
func (n *node) fill(t *testing.T, name string) {
	t.Helper()
	keys, entries := make([]abi.CCtKey, fillers), make([]abi.CCtEntry, fillers)
	for i := range keys {
		keys[i] = abi.CCtKey{Proto: uint8(overTCP), Port: [2]uint16{uint16(i), 1}}
		keys[i].Addr[0] = netorder.Addr(netip.MustParseAddr("203.0.113.1"))
		keys[i].Addr[1] = netorder.Addr(netip.MustParseAddr("203.0.113.2"))
		entries[i].State = uint64(established)
	}
	_, err := n.loader.Map(name).Table.BatchUpdate(keys, entries, nil)
	must(t, err)
}

// Packets at every moment of a move, of flows of every kind: each becomes what it
// becomes without a move, and in the end the tables say the same.
func testMoveFlows(t *testing.T, n *node) {
	for _, v6 := range []bool{false, true} {
		want := n.tell(t, v6, "")
		for _, table := range []string{tcpTable, anyTable, embryonic} {
			if diff := cmp.Diff(want, n.tell(t, v6, table), cmp.AllowUnexported(outline{})); diff != "" {
				t.Errorf("entries after %s moved (-without +with):\n%s", table, diff)
			}
			if old, err := n.loader.Map(table).HasOld(); err != nil || old {
				t.Errorf("%s has an old table still: %t, %v", table, old, err)
			}
		}
	}
	n.under(t, podA, security{})
}

// tell tells all tales while a table moves, or none, and returns what is in the
// tables then.
func (n *node) tell(t *testing.T, v6 bool, moving string) map[string]outline {
	t.Helper()
	n.noServices(t)
	// An answer that is not known as one does not reach the client.
	n.under(t, podA, security{ingress: closed})
	if moving != "" {
		n.fill(t, moving)
	}
	c, lines := n.collector(t), n.lines(t, v6)
	var begun map[talk]uint64
	for i, m := range moments() {
		if moving != "" {
			m.reach(t, c, n.loader.Map(moving))
		}
		for _, l := range lines {
			n.speak(t, l, i, m.name+" of "+moving)
		}
		if i == 0 {
			begun = n.births(t, lines)
		}
	}
	return n.outlines(t, lines, begun)
}

// Clients keep their backends while their table moves.
func testMoveAffinity(t *testing.T, n *node) {
	n.noServices(t)
	asked := talk{overTCP, at(podA.ip4, 1), at(vip4, 80)}
	both := []netip.AddrPort{at(podB.ip4, 80), at(podC.ip4, 80)}
	affine := served{proto: overTCP, flags: abi.CFrontendFlagsFRONTEND_AFFINITY, affinity: 1000, cluster: both}
	m := n.loader.Map(datapath.AffinityMap)
	port := uint16(1000)
	target := func(k talk) netip.Addr {
		port++
		f := n.passes(t, "a connection", k.from(port).says(t, n, "S"))
		return netip.AddrFrom4([4]byte(f.frame[ethLen+16:]))
	}
	for range 8 { // by chance both backends would be the same one in 256
		n.clear(t, datapath.AffinityMap)
		n.serve(t, asked.b, affine)
		first := target(asked)
		check := func(when string) {
			for range 8 {
				if got := target(asked); got != first {
					t.Fatalf("%s: the client was sent to %s, want %s", when, got, first)
				}
			}
		}
		check("before")
		must(t, m.BeginMove(2*movableSize))
		check("before the copy")
		must(t, m.EndMove(nil))
		check("after")
		must(t, m.BeginMove(movableSize))
		must(t, m.EndMove(nil))
		check("after another move")
	}
}

// pairOf is one packet of each direction of a flow, and what they become.
type pairOf struct {
	talk
	in  [2]input
	out [2][]byte
}

const loadFlows = 700 // of each kind

// Two CPUs send packets of thousands of flows while their tables move on and on.
func testMoveUnderLoad(t *testing.T, n *node) {
	n.noServices(t)
	n.under(t, podA, security{ingress: closed})
	flows := n.established(t)
	before := n.keysOf(t)
	stop, ended := make(chan struct{}), make(chan error, 2)
	sent := make([]int, 2)
	for side := range 2 {
		go func() {
			var err error
			n.ns.Do(t, func() { sent[side], err = n.sendUntil(flows, side, stop) })
			ended <- err
		}()
	}
	c := n.collector(t)
	for _, factor := range []uint32{2, 8, 4} {
		for _, name := range []string{tcpTable, anyTable, embryonic} {
			m := n.loader.Map(name)
			begin(t, c, m, factor*movableSize)
			if _, err := c.EndMove(t.Context(), name, nil); err != nil {
				t.Errorf("%s to %d: %v", name, factor*movableSize, err)
			}
		}
	}
	close(stop)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, n.keysOf(t)); diff != "" {
		t.Errorf("flows (-before +after):\n%s", diff)
	}
	t.Logf("9 moves under %d packets of %d flows", sent[0]+sent[1], len(flows))
	n.under(t, podA, security{})
}

// established makes flows of three kinds, and notes what their packets become.
func (n *node) established(t *testing.T) []*pairOf {
	t.Helper()
	backend, vip := at(podB.ip4, 8080), at(vip4, 80)
	n.serve(t, vip, served{proto: overTCP, cluster: []netip.AddrPort{backend}})
	var out []*pairOf
	for i := range uint16(loadFlows) {
		a := at(podA.ip4, 10000+i)
		outside := at(remote4, 1000+i/natPorts*2) // each destination has natPorts ports
		for _, k := range []talk{{overTCP, a, backend}, {overTCP, at(podA.ip4, 20000+i), vip}, {overUDP, a, outside}} {
			real := k
			switch k.b {
			case vip:
				real.b = backend
			case outside:
				real = n.masqueraded(t, k, outside)
			}
			p := &pairOf{talk: k}
			for range 2 {
				for side, in := range []input{k.says(t, n, "A"), real.answers(t, n, "A")} {
					p.in[side], p.out[side] = in, n.passes(t, k.String(), in).frame
				}
			}
			out = append(out, p)
		}
	}
	return out
}

// sendUntil sends one direction of the flows, until it is told to stop. The error is
// the first packet that did not become what it was.
func (n *node) sendUntil(flows []*pairOf, side int, stop <-chan struct{}) (sent int, err error) {
	for {
		for _, p := range flows {
			select {
			case <-stop:
				return sent, nil
			default:
			}
			in := p.in[side]
			res, err := n.testRun(n.loader.Program(in.program), in, 0, 1)
			if err != nil {
				return sent, err
			}
			sent++
			if res.verdict == shot || string(res.frame) != string(p.out[side]) {
				return sent, fmt.Errorf("packet %d, of %s, side %d: %s\n%s\nwant:\n%s",
					sent, p.talk, side, res.verdict, indent(res.frame), indent(p.out[side]))
			}
		}
	}
}

// keysOf is what the tables say of each flow.
func (n *node) keysOf(t *testing.T) map[abi.CCtKey]string {
	t.Helper()
	out := map[abi.CCtKey]string{}
	for _, name := range []string{embryonic, tcpTable, anyTable} {
		var key abi.CCtKey
		var e abi.CCtEntry
		it := n.loader.Map(name).Table.Iterate()
		for it.Next(&key, &e) {
			out[key] = fmt.Sprintf("%s %#x backend %d", name, uint32(e.State), e.Nat.Backend)
		}
		must(t, it.Err())
	}
	return out
}
