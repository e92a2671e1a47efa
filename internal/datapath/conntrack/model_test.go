package conntrack

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// This is a model of how flows move from one table to another, for one key: every
// step that is atomic in the kernel is one step here, in the order of the code that
// the comments name. explore goes through all interleavings of two programs that
// work on packets, the one who moves, one who removes entries, time, and a crash.
// Twins are two keys that change each other's flags; to each, its twin's packets
// are packets.
//
// The model knows what became of the flow (struct fact), from the steps that decide
// it. At every moment a packet that came just now must find exactly that.

// world is a state of everything.
type world struct {
	slots   [2]int8 // current and old: a table, or nowhere
	rows    [3]mrow // the key's entry in each table
	full    bool    // the table that entries move to has no room
	packets [2]packet
	mover   mover
	remover remover
	ticks   uint8
	crashes uint8
	// Held locks of the collector: by whom.
	deletes, passes owner
	fact            fact
	wrong           fault
}

const nowhere = int8(-1)

// mstate is an entry's state as programs compare and swap it.
type mstate struct {
	moved, dead, natted bool
	birth, flags        uint8
}

// mrow is an entry, also after it was deleted.
type mrow struct {
	mstate
	here bool
	nat  uint8 // the birth whose translation it has
	// idle is 1 when programs take it for expired, 2 when the agent does too, which
	// gives packets that are on their way a second more.
	idle uint8
	made uint8 // tells an entry from an earlier one in its place
	// behind: it was inserted when another table was the current one already.
	behind bool
}

func (s mstate) terminal() bool { return s.moved || s.dead }

// fact is what became of the flow, whatever the tables say.
type fact struct {
	birth uint8 // 0: there is none
	flags uint8
	next  uint8 // birth
	// dying: it is being removed, and may or may not be found meanwhile.
	dying bool
	// unknown: nobody can say what is right. Two programs began it at once, in the
	// moment in which tables change places; or its removal was interrupted; or there
	// was room for its copy a moment after somebody had been told that there is none.
	unknown bool
}

type owner uint8

const (
	nobody owner = iota
	ownerMover
	ownerRemover
)

// fault is what must not be.
type fault uint8

const (
	fine fault = iota
	missedFlow
	lostFlow
	lostFlag
	flagNotNoted
	revived
	outlived
	halfTranslated
	rivals
	stuck
)

func (f fault) String() string {
	return [...]string{
		"nothing", "a packet finds no entry of a flow that lives", "a flow that lives is not found any more",
		"a flag is lost that a packet had set", "a packet's flag was not noted", "a flow that ended is back",
		"a flow outlived its removal", "an entry has another flow's translation",
		"two began one flow, though no tables changed places", "somebody waits for ever",
	}[f]
}

// view is what a packet that comes now finds, and acts on, in one moment.
func (w *world) view() (mrow, bool) {
	r := w.rows[w.slots[0]]
	if !r.here && w.slots[1] != nowhere {
		r = w.rows[w.slots[1]]
	}
	return r, r.here && !r.dead
}

// isView tells whether the entry of that table is the one that packets find.
func (w *world) isView(table int8) bool {
	return table == w.slots[0] || table == w.slots[1] && !w.rows[w.slots[0]].here
}

// check compares what is found with what is so.
func (w *world) check() {
	for _, r := range w.rows {
		if r.here && r.natted && r.nat != r.birth {
			w.wrong = halfTranslated
		}
	}
	if w.fact.dying || w.fact.unknown || w.wrong != fine {
		return
	}
	r, found := w.view()
	switch {
	case w.fact.birth == 0:
		if found && r.idle == 0 && !w.ending() {
			w.wrong = revived
		}
	case !found || r.birth != w.fact.birth:
		w.wrong = lostFlow
	case r.flags != w.fact.flags:
		w.wrong = lostFlag
	}
}

// ending tells whether somebody is about to look whether a copy ended.
func (w *world) ending() bool {
	return w.mover.at == moverEndsToo || slices.ContainsFunc(w.packets[:], func(p packet) bool { return p.at == endToo })
}

// began notes that a flow begins, and returns its birth.
func (w *world) began(flags uint8) (birth uint8) {
	w.fact.next++
	w.fact.birth, w.fact.flags = w.fact.next, flags
	w.unsettle()
	return w.fact.birth
}

func (w *world) ended() {
	w.fact.birth, w.fact.flags = 0, 0
	w.unsettle()
}

// unsettle takes from all packets that are on their way what they could rely on.
func (w *world) unsettle() {
	for i := range w.packets {
		w.packets[i].relies = false
	}
}

// insert is bpf_map_update_elem with BPF_NOEXIST.
func (w *world) insert(table int8, r mrow) insertion {
	at := &w.rows[table]
	if at.here {
		return exists
	}
	if w.full && table != 0 {
		return noRoom
	}
	r.here, r.made = true, at.made+1
	*at = r
	return inserted
}

// bring inserts the copy of an entry of the old table. That it is older than the
// entry, as somebody who had no room has taken the mark back meanwhile, is what the
// protocol leaves open.
func (m *model) bring(w *world, to, from int8, r mrow) insertion {
	how := w.insert(to, r)
	now := w.rows[from].mstate
	marked := now.moved
	now.moved = false
	if how == inserted && m.full && (!marked || now != r.mstate) {
		w.fact.unknown = true
	}
	return how
}

// endToo is ct_end_too.
func (w *world) endToo(m *model, to, from int8) {
	if w.rows[from].dead && w.rows[to].here && !m.neverEndsToo {
		w.rows[to].dead = true
	}
}

// unmark takes the mark of an entry back that found no room.
func (w *world) unmark(m *model, table int8) {
	w.rows[table].moved = false
	if m.full && w.rows[w.slots[0]].here {
		w.fact.unknown = true
	}
}

// remove is bpf_map_delete_elem.
func (w *world) remove(table int8) {
	w.rows[table] = mrow{mstate: mstate{dead: true}, made: w.rows[table].made}
}

type insertion uint8

const (
	inserted insertion = iota
	exists
	noRoom
)

// scenario is where an exploration begins, and what may happen in it.
type scenario struct {
	name    string
	packets [2]uint8 // of each program
	moves   uint8
	// removal is who removes entries, once a run.
	removal removal
	crashes uint8
	ticks   uint8 // how often time passes
	closing bool  // time passes for entries with flags only: their timeout is short
	promote bool  // packets promote the flow to a table that does not move
	full    bool  // there is no room at first
	empty   bool  // there is no flow at first
}

// protocol is how the steps are done; each field that is set breaks it. What it
// says is left out or done in another way is named in TestModelBites.
type protocol struct {
	noMark, copyThenMark, overwrite, deleteFromOld, orFlags, noRetry bool // moving, and setting flags
	noGraceBefore, clearFirst, swapped, noDropBarrier                bool // the slots
	expiredUnmarked, noRemovalBarrier, removerForgetsOld             bool // removing
	sweepAll, markBlindly, promoteForgetsOld, neverEndsToo           bool
}

// model explores one scenario of one protocol.
type model struct {
	scenario
	protocol
}

func (m *model) first() world {
	w := world{slots: [2]int8{0, nowhere}, full: m.full}
	if !m.empty {
		w.rows[0] = mrow{mstate: mstate{birth: 1, natted: true}, here: true, nat: 1}
		w.fact.birth = 1
	}
	w.fact.next = 1
	for i, n := range m.packets {
		w.packets[i].left = n
	}
	w.mover.left = m.moves
	if m.removal != removesNothing {
		w.remover.left = 1
	}
	return w
}

// transition is one way on from a state.
type transition struct {
	to   world
	what string
}

// next lists all that may happen.
func (m *model) next(w *world) []transition {
	var out []transition
	add := func(what string, happen func(*world)) {
		to := *w
		happen(&to)
		to.check()
		out = append(out, transition{to, what})
	}
	for i := range w.packets {
		if name, happen := m.packetStep(w, i); happen != nil {
			add(fmt.Sprintf("packet %d: %s", i+1, name), happen)
		}
	}
	if name, happen := m.moverStep(w); happen != nil {
		add("mover: "+name, happen)
	}
	if name, happen := m.removerStep(w); happen != nil {
		add("remover: "+name, happen)
	}
	if w.crashes < m.crashes && w.mayCrash() {
		add("crash", crash)
	}
	if w.ticks < m.ticks && !slices.ContainsFunc(w.packets[:], func(p packet) bool { return p.late }) {
		add("time passes", m.tick)
	}
	if w.full {
		add("there is room", func(w *world) { w.full = false })
	}
	return out
}

// tick lets entries get older: the first time the timeout ends, for those that are
// there, the second time the second that the agent waits besides. No packet takes
// that long.
func (m *model) tick(w *world) {
	before, _ := w.view()
	for i := range w.rows {
		if r := &w.rows[i]; r.here && r.idle == w.ticks && (!m.closing || r.flags != 0) {
			r.idle++
		}
	}
	w.ticks++
	if after, _ := w.view(); after.idle != before.idle {
		w.unsettle()
	}
	for i := range w.packets {
		w.packets[i].late = w.packets[i].at != packetIdle
	}
}

// crash ends the agent. What it told the kernel to wait for is waited for; and no
// packet takes as long as the next agent to begin.
func crash(w *world) {
	w.crashes++
	w.mover = mover{at: moverRestart, left: w.mover.left, waits: w.running()}
	if w.fact.dying && w.remover.at != removerIdle {
		w.fact.dying, w.fact.unknown = false, true
	}
	w.remover = remover{left: w.remover.left}
	w.deletes, w.passes = nobody, nobody
}

// over tells whether nothing is left to do.
func (w *world) over() bool {
	for _, p := range w.packets {
		if p.at != packetIdle || p.left > 0 {
			return false
		}
	}
	return w.mover.at == moverIdle && w.mover.left == 0 && w.slots[1] == nowhere && w.remover.at == removerIdle && w.remover.left == 0
}

// explored is what an exploration found.
type explored struct {
	states int
	ends   int // states in which nothing is left to do
	wrong  fault
	path   []string // to what is wrong
}

// explore visits every state that can be reached, breadth first, until something is wrong.
func (m *model) explore() explored {
	type node struct {
		parent int
		what   string
	}
	first := m.first()
	seen, queue, nodes := map[world]bool{first: true}, []world{first}, []node{{parent: -1}}
	out := explored{}
	fails := func(at int, f fault) explored {
		out.states, out.wrong = len(seen), f
		for ; at >= 0; at = nodes[at].parent {
			out.path = append(out.path, nodes[at].what)
		}
		slices.Reverse(out.path)
		return out
	}
	for at := 0; at < len(queue); at++ {
		w := queue[at]
		if w.wrong != fine {
			return fails(at, w.wrong)
		}
		next := m.next(&w)
		if w.over() {
			out.ends++
		} else if len(next) == 0 {
			return fails(at, stuck)
		}
		for _, t := range next {
			if !seen[t.to] {
				seen[t.to] = true
				queue, nodes = append(queue, t.to), append(nodes, node{at, t.what})
			}
		}
	}
	out.states = len(seen)
	return out
}

func (e explored) String() string {
	return fmt.Sprintf("%s, after\n  %s", e.wrong, strings.Join(e.path[1:], "\n  "))
}

func scenarios() []scenario {
	one, two, three := [2]uint8{1, 0}, [2]uint8{1, 1}, [2]uint8{2, 1}
	return []scenario{
		{name: "expiry", packets: two, moves: 1, ticks: 2},
		{name: "expiry and a crash", packets: one, moves: 1, ticks: 2, crashes: 1},
		{name: "packets", packets: three, moves: 1},
		{name: "a new flow", packets: three, moves: 1, empty: true},
		{name: "crashes", packets: two, moves: 1, crashes: 2},
		{name: "a second resize", packets: two, moves: 2, crashes: 1},
		{name: "flush", packets: two, moves: 1, removal: flushes},
		{name: "flush and a crash", packets: one, moves: 1, removal: flushes, crashes: 1},
		{name: "collection", packets: one, moves: 1, removal: collects, ticks: 2},
		{name: "collection and a crash", packets: one, moves: 1, removal: collects, ticks: 2, crashes: 1},
		{name: "collection of a flow that closes", packets: one, moves: 1, removal: collects, ticks: 2, closing: true, crashes: 1},
		{name: "promotion", packets: two, moves: 1, promote: true, crashes: 1},
		{name: "no room at first", packets: two, moves: 1, full: true},
		{name: "no room, and collection", packets: one, moves: 1, full: true, removal: collects, ticks: 2},
	}
}

// Whatever comes in which order, no flow and no flag is lost, none comes back, and
// in the end everything is in one table.
func TestModel(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			m := model{scenario: s}
			e := m.explore()
			if e.wrong != fine {
				t.Fatalf("%d states: %s", e.states, e)
			}
			if e.ends == 0 {
				t.Error("nothing ever ends")
			}
			t.Logf("%d states, %d ends", e.states, e.ends)
		})
	}
}
