package conntrack

import "testing"

// mover is BeginMove and EndMove, and ct_move for the key.
type mover struct {
	at    moverAt
	left  uint8 // moves to begin
	waits uint8 // bits of the programs that it waits for
	idle  bool  // what stays_behind read
	seen  mstate
	copy  mrow
	stays bool // for lack of room
}

type moverAt uint8

const (
	moverIdle moverAt = iota
	moverLocksPasses
	moverLocksDeletes
	moverPutOld
	moverPutCurrent
	moverBegun
	moverLooks
	moverMarksExpired
	moverTakes
	moverInserts
	moverEndsToo
	moverLeaves
	moverLeft
	moverWalked
	moverClears
	moverCleared
	moverRestart
)

func (a moverAt) String() string {
	return [...]string{
		"begins", "waits for collections", "waits for removals", "puts the old table", "puts the current table",
		"has begun", "comes to the entry", "marks it expired", "takes it", "inserts it", "looks whether it ended", "leaves it", "looks whether it is there",
		"ends its walk", "clears the old slot", "has ended", "begins a new life",
	}[a]
}

// crashes tells whether the agent may be killed now, and that would change anything.
func (w *world) mayCrash() bool {
	v := w.mover
	return !v.walking() && (v.at != moverIdle && v.at != moverRestart || w.remover.at != removerIdle)
}

// running are the bits of the programs that run now.
func (w *world) running() (bits uint8) {
	for i, p := range w.packets {
		if p.at != packetIdle {
			bits |= 1 << i
		}
	}
	if w.mover.walking() {
		bits |= walkerBit
	}
	return bits
}

// moverStep gives what the mover does next.
func (m *model) moverStep(w *world) (string, func(*world)) {
	v := w.mover
	blocked := v.waits != 0 ||
		v.at == moverIdle && v.left == 0 ||
		v.at == moverLocksPasses && w.passes != nobody ||
		(v.at == moverLocksDeletes || v.at == moverClears) && w.deletes != nobody && w.deletes != ownerMover
	if blocked {
		return "", nil
	}
	do := map[moverAt]func(*world){
		moverIdle:        func(w *world) { w.mover.at = moverLocksPasses },
		moverLocksPasses: func(w *world) { w.passes, w.mover.at = ownerMover, moverLocksDeletes },
		moverLocksDeletes: func(w *world) {
			w.deletes, w.mover.at = ownerMover, moverPutOld
			if m.swapped {
				w.mover.at = moverPutCurrent
			}
		},
		moverPutOld: m.putsOld, moverPutCurrent: m.putsCurrent, moverBegun: m.begun,
		moverLooks: m.looks, moverMarksExpired: m.marksExpired, moverTakes: m.moverTakes, moverInserts: m.moverInserts,
		moverEndsToo: m.moverEndsToo, moverLeaves: m.moverLeaves, moverLeft: m.moverLeft,
		moverWalked: m.walked, moverClears: m.clears, moverCleared: m.moved,
		moverRestart: m.restarts,
	}[v.at]
	return v.at.String(), func(w *world) {
		do(w)
		if !w.mover.walking() {
			w.remover.waits &^= walkerBit
		}
	}
}

// walking tells whether the program that walks is at the entry: the agent may be
// killed then, but the kernel ends what it does there.
func (v mover) walking() bool {
	return v.at >= moverMarksExpired && v.at <= moverLeft
}

// walkerBit stands for the program that walks among those that run.
const walkerBit = 1 << 2

func (m *model) putsOld(w *world) {
	w.slots[1] = w.slots[0]
	w.mover.at, w.mover.waits = moverPutCurrent, w.running()
	if m.swapped { // the old one is the one before
		w.slots[1]--
		w.mover.at = moverBegun
	}
}

func (m *model) putsCurrent(w *world) {
	w.slots[0]++
	w.mover.left--
	for i := range w.packets {
		w.packets[i].early = w.packets[i].at != packetIdle
	}
	w.mover.at, w.mover.waits = moverBegun, w.running()
	if m.swapped {
		w.mover.at = moverPutOld
	}
	if m.noGraceBefore {
		w.mover.waits = 0
	}
}

func (m *model) begun(w *world) {
	w.deletes, w.passes = nobody, nobody
	w.mover.at = moverLooks
	if m.clearFirst {
		w.mover.at = moverClears
	}
}

// looks is stays_behind, until it compares and swaps.
func (m *model) looks(w *world) {
	v := &w.mover
	v.at = moverWalked
	r := w.rows[w.slots[1]]
	if !r.here || r.dead {
		return
	}
	v.seen, v.idle, v.at = r.mstate, r.idle == 2, moverTakes
	if v.idle {
		v.at = moverMarksExpired
	}
}

func (m *model) marksExpired(w *world) {
	r := &w.rows[w.slots[1]]
	w.mover.at = moverTakes
	if r.mstate != w.mover.seen {
		return
	}
	w.mover.at = moverWalked
	if w.isView(w.slots[1]) {
		w.ended()
	}
	if !m.expiredUnmarked {
		r.dead = true
	}
}

// moverTakes is ct_take.
func (m *model) moverTakes(w *world) {
	v := &w.mover
	r := &w.rows[w.slots[1]]
	if r.dead {
		v.at = moverWalked
		return
	}
	v.copy = *r
	v.copy.moved, v.at = false, moverInserts
	if m.deleteFromOld {
		r.here = false
	}
	r.moved = !m.noMark
	if m.copyThenMark && !r.moved || m.copyThenMark && v.seen != v.copy.mstate {
		v.copy.mstate = v.seen // as it was a step ago
		v.copy.moved = false
	}
}

func (m *model) moverInserts(w *world) {
	v := &w.mover
	if m.overwrite && w.rows[w.slots[0]].here {
		w.remove(w.slots[0])
	}
	switch m.bring(w, w.slots[0], w.slots[1], v.copy) {
	case inserted:
		v.at = moverEndsToo
	case exists:
		v.at = moverWalked
	case noRoom:
		v.at = moverLeaves
	}
}

func (m *model) moverEndsToo(w *world) {
	w.endToo(m, w.slots[0], w.slots[1])
	w.mover.at = moverWalked
}

// moverLeaves is ct_leave, until it looks.
func (m *model) moverLeaves(w *world) {
	w.unmark(m, w.slots[1])
	w.mover.at = moverLeft
}

func (m *model) moverLeft(w *world) {
	v := &w.mover
	v.at = moverWalked
	if w.rows[w.slots[0]].here {
		w.rows[w.slots[1]].moved = true
		return
	}
	v.stays = true
}

// walked: what had no room is tried again, seconds later.
func (m *model) walked(w *world) {
	v := &w.mover
	v.seen, v.idle, v.copy = mstate{}, false, mrow{}
	if v.stays {
		v.stays, v.at, v.waits = false, moverLooks, w.running()
		return
	}
	v.at = moverClears
	if !m.noDropBarrier {
		v.waits = w.running()
	}
}

func (m *model) clears(w *world) {
	w.slots[1] = nowhere
	w.mover.at, w.mover.waits = moverCleared, w.running()
}

// moved: the old table is no more.
func (m *model) moved(w *world) {
	for i := range w.rows {
		if int8(i) < w.slots[0] {
			w.rows[i] = mrow{}
		}
	}
	w.mover = mover{left: w.mover.left}
}

// restarts is Resume, of the next agent.
func (m *model) restarts(w *world) {
	v := &w.mover
	switch w.slots[1] {
	case nowhere:
		v.at = moverIdle
	case w.slots[0]:
		v.at = moverClears
	default:
		v.at = moverLooks
	}
}

// removal is who removes the entry.
type removal uint8

const (
	removesNothing removal = iota
	flushes
	collects
)

// remover is a flush, or a pass of the collector.
type remover struct {
	at    removerAt
	left  uint8
	waits uint8
	table int8  // that it walks
	old   int8  // the one before; nowhere: there is none
	birth uint8 // of what it is to remove
	seen  mstate
}

type removerAt uint8

const (
	removerIdle removerAt = iota
	removerLocks
	removerReads
	removerLooksOld
	removerMarksOld
	removerLooks
	removerMarks
	removerMarksOldToo
	removerSweeps
	removerDeletes
	removerEnds
)

func (a removerAt) String() string {
	return [...]string{
		"begins", "waits for its turn", "reads the slots", "looks at the old entry", "marks the old entry", "looks at the entry",
		"marks the entry", "marks the old entry too", "comes back to it", "deletes it", "ends",
	}[a]
}

// removerStep gives what the remover does next: deleteFrom and deleteWhileMoving.
func (m *model) removerStep(w *world) (string, func(*world)) {
	r := w.remover
	blocked := r.waits != 0 || r.at == removerIdle && r.left == 0 || w.mover.at == moverRestart ||
		r.at == removerLocks && (w.deletes != nobody || w.passes != nobody && m.removal == collects)
	if blocked {
		return "", nil
	}
	do := map[removerAt]func(*world){
		removerIdle:  func(w *world) { w.remover.at, w.remover.left = removerLocks, 0 },
		removerLocks: m.removerLocks, removerReads: m.removerReads, removerLooksOld: m.removerLooksOld, removerMarksOld: m.removerMarksOld,
		removerLooks: m.removerLooks, removerMarks: m.removerMarks, removerMarksOldToo: m.removerMarksOldToo,
		removerSweeps: m.removerSweeps, removerDeletes: removerDeletesIt, removerEnds: m.removerEnds,
	}[r.at]
	return r.at.String(), func(w *world) { do(w) }
}

// removerLocks: a pass holds its lock for each step only while nothing moves, which
// to one key is the same.
func (m *model) removerLocks(w *world) {
	r := &w.remover
	w.deletes, r.at = ownerRemover, removerReads
	if m.removal == collects {
		w.passes = ownerRemover
		return
	}
	if r.birth = w.fact.birth; r.birth != 0 {
		w.fact.dying = true
		w.unsettle()
	}
}

func (m *model) removerReads(w *world) {
	r := &w.remover
	r.table, r.old, r.at = w.slots[0], w.slots[1], removerLooksOld
	if r.old == nowhere || m.removerForgetsOld {
		r.old, r.at = nowhere, removerLooks
	}
}

// doomed is is_doomed.
func (m *model) doomed(r mrow) bool {
	return r.here && !r.moved && (r.dead || m.removal == flushes || r.idle == 2)
}

func (m *model) removerLooksOld(w *world) {
	r := &w.remover
	row := w.rows[r.old]
	r.seen, r.at = row.mstate, removerMarksOld
	if row.dead || !m.doomed(row) {
		m.removerWaits(w, removerLooks)
	}
}

// removerMarksOld is mark_dead.
func (m *model) removerMarksOld(w *world) {
	r := &w.remover
	row := &w.rows[r.old]
	if row.mstate == r.seen {
		m.kills(w, r.old)
	} else if !m.markBlindly {
		r.at = removerLooksOld
		return
	}
	row.dead = true
	m.removerWaits(w, removerLooks)
}

func (m *model) removerWaits(w *world, next removerAt) {
	r := &w.remover
	r.at, r.seen = next, mstate{}
	if !m.noRemovalBarrier {
		r.waits = w.running()
	}
}

func (m *model) removerLooks(w *world) {
	r := &w.remover
	row := w.rows[r.table]
	r.seen, r.at = row.mstate, removerMarks
	if !m.doomed(row) {
		r.seen, r.at = mstate{}, removerEnds
		if r.old != nowhere {
			m.removerWaits(w, removerSweeps)
		}
	}
}

// removerMarks is settle, until it deletes.
func (m *model) removerMarks(w *world) {
	r := &w.remover
	row := &w.rows[r.table]
	if !row.here || row.mstate != r.seen {
		r.at = removerLooks
		return
	}
	m.kills(w, r.table)
	row.dead, r.seen, r.at = true, mstate{}, removerDeletes
	if r.old != nowhere {
		r.at = removerMarksOldToo
	}
}

func (m *model) removerMarksOldToo(w *world) {
	w.rows[w.remover.old].dead = true
	m.removerWaits(w, removerSweeps)
}

// kills notes that a flow ends with the mark on this entry. That which a flush is
// about is dying already.
func (m *model) kills(w *world, table int8) {
	row := w.rows[table]
	if !row.dead && w.isView(table) && row.birth == w.fact.birth && (!w.fact.dying || row.birth != w.remover.birth) {
		w.ended()
	}
}

func (m *model) removerSweeps(w *world) {
	r := &w.remover
	row := w.rows[r.table]
	r.at = removerEnds
	switch {
	case !row.here || row.moved:
	case row.dead:
		r.at = removerDeletes
	case m.sweepAll && m.doomed(row):
		m.kills(w, r.table)
		w.rows[r.table].dead, r.at = true, removerDeletes
	}
}

func removerDeletesIt(w *world) {
	w.remove(w.remover.table)
	w.remover.at = removerEnds
}

func (m *model) removerEnds(w *world) {
	if m.removal == flushes {
		m.flushed(w)
	}
	if w.passes == ownerRemover {
		w.passes = nobody
	}
	w.deletes = nobody
	w.remover = remover{}
}

// flushed checks that the flow which there was is gone, whatever came instead.
func (m *model) flushed(w *world) {
	birth := w.remover.birth
	if birth == 0 || !w.fact.dying {
		return
	}
	w.fact.dying = false
	if r, found := w.view(); found && r.birth == birth {
		w.wrong = outlived
	}
	if w.fact.birth == birth {
		w.ended()
	}
}

// Every part of the protocol is there for something: without it, flows get lost.
func TestModelBites(t *testing.T) {
	for _, tc := range []struct {
		name string
		protocol
		scenario string
		want     fault
	}{
		{"entries are copied without a mark", protocol{noMark: true}, "packets", lostFlag},
		{"an entry is copied before it is marked", protocol{copyThenMark: true}, "packets", lostFlag},
		{"a copy overwrites what is there", protocol{overwrite: true}, "packets", flagNotNoted},
		{"an entry is deleted before it is copied", protocol{deleteFromOld: true}, "packets", lostFlow},
		{"a program adds flags whatever the state is", protocol{orFlags: true}, "packets", lostFlag},
		{"a program does not look again for what moved", protocol{noRetry: true}, "packets", flagNotNoted},
		{"the walk begins while programs insert into the old table", protocol{noGraceBefore: true}, "a new flow", lostFlow},
		{"the tables are put in the other order", protocol{swapped: true}, "packets", lostFlow},
		{"the old table goes before the walk", protocol{clearFirst: true}, "packets", lostFlow},
		{"the old table goes while programs look", protocol{noDropBarrier: true}, "packets", missedFlow},
		{"expired entries are left without a mark", protocol{expiredUnmarked: true}, "expiry", lostFlow},
		{"a flush deletes while programs copy", protocol{noRemovalBarrier: true}, "flush", outlived},
		{"a flush leaves the old table out", protocol{removerForgetsOld: true}, "flush", outlived},
		{"a collection deletes while programs copy, and they do not look", protocol{noRemovalBarrier: true, neverEndsToo: true}, "collection of a flow that closes", revived},
		{"a collection leaves the old table out", protocol{removerForgetsOld: true}, "collection of a flow that closes", revived},
		{"a collection deletes what expired after it marked", protocol{sweepAll: true}, "collection of a flow that closes", revived},
		{"a collection marks old entries whatever their state is", protocol{markBlindly: true}, "collection", lostFlow},
		{"a copy of what ended meanwhile stays", protocol{neverEndsToo: true}, "promotion", revived},
		{"a promotion leaves the old table out", protocol{promoteForgetsOld: true}, "promotion", revived},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, s := range scenarios() {
				if s.name != tc.scenario {
					continue
				}
				m := model{scenario: s, protocol: tc.protocol}
				e := m.explore()
				if e.wrong != tc.want {
					t.Errorf("%d states: %s; want %s", e.states, e.wrong, tc.want)
				}
				if e.wrong != fine {
					t.Log(e)
				}
			}
		})
	}
}
