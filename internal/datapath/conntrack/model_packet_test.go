package conntrack

// packet is a program that works on a packet, and how many follow.
type packet struct {
	at   packetAt
	left uint8
	why  purpose
	// relies: a flow that this packet belongs to lives since it came.
	relies bool
	late   bool // it came before time passed
	early  bool // it came before tables changed places
	tries  uint8
	// current and old are what it read from the slots; entry is the one that it found.
	current, old int8
	entry        int8
	made         uint8 // of the entry
	seen         mstate
	copied       mrow
}

// packetAt is the next step of a program.
type packetAt uint8

const (
	packetIdle packetAt = iota
	// ct_lookup_in, ct_follow.
	readCurrent
	findCurrent
	readOld
	findOld
	takeOld
	helpOver
	endToo
	findArrived
	leaveOld
	lookLeft
	// ct_established, ct_continue, ct_set_flags, ct_set_flags_again.
	judge
	setFlag
	setAgain
	setAgainChecked
	// ct_begin_again, ct_begin_moved.
	beginAgain
	writeNAT
	setNAT
	checkMoved
	setNATMoved
	// ct_begin.
	readToInsert
	insertNew
	// ct_promote.
	copyEntry
	markPromotedOld
	markPromoted
	deletePromoted
)

func (p packetAt) String() string {
	return [...]string{
		"comes, and reads the current slot", "reads the current slot", "looks in the current table", "reads the old slot", "looks in the old table",
		"takes the entry", "helps it over", "looks whether it ended", "looks in the current table again", "leaves it", "looks whether it is there",
		"judges", "sets its flag", "reads the state again", "sets its flag after all",
		"begins again", "writes the translation", "sets the translation's flag", "looks at what moved", "translates what moved",
		"reads the current slot to insert", "inserts", "promotes", "marks the old entry of what it promoted", "marks what it promoted", "deletes what it promoted",
	}[p]
}

// purpose is why a packet looks up.
type purpose uint8

const (
	toUse purpose = iota
	toSetFlag
	toTranslate
)

// packetStep gives what a program does next.
func (m *model) packetStep(w *world, i int) (string, func(*world)) {
	p := w.packets[i]
	if p.at == packetIdle && p.left == 0 {
		return "", nil
	}
	do := map[packetAt]func(*world, int){
		packetIdle: m.comes, readCurrent: readsCurrent, findCurrent: m.findsCurrent, readOld: m.readsOld, findOld: m.findsOld,
		takeOld: m.takesOld, helpOver: m.helpsOver, endToo: m.endsToo, findArrived: m.findsArrived, leaveOld: m.leavesOld, lookLeft: m.looksLeft,
		judge: m.judges, setFlag: m.setsFlag, setAgain: m.setsAgain, setAgainChecked: m.setsAgainChecked,
		beginAgain: m.beginsAgain, writeNAT: writesNAT, setNAT: m.setsNAT, checkMoved: m.checksMoved, setNATMoved: m.setsNATMoved,
		readToInsert: readsToInsert, insertNew: m.insertsNew,
		copyEntry: m.promotes, markPromoted: m.marksPromoted, markPromotedOld: m.marksPromotedOld, deletePromoted: m.deletesPromoted,
	}[p.at]
	return p.at.String(), func(w *world) { do(w, i) }
}

func (m *model) flag(i int) uint8 { return 1 << i }

func (m *model) comes(w *world, i int) {
	p := &w.packets[i]
	r, found := w.view()
	*p = packet{left: p.left - 1}
	readsCurrent(w, i)
	p.relies = found && r.idle == 0 && !w.fact.dying && !w.fact.unknown && w.fact.birth != 0
}

// leaves ends a program; whoever waits for those that run waits for it no more.
func (m *model) leaves(w *world, i int) {
	p := &w.packets[i]
	// Without room marks come and go: a packet that meets two takes the flow for gone.
	if p.relies && !m.promote && !m.full && w.fact.flags&m.flag(i) == 0 {
		w.wrong = flagNotNoted
	}
	*p = packet{left: p.left}
	w.mover.waits &^= 1 << i
	w.remover.waits &^= 1 << i
}

func readsCurrent(w *world, i int) {
	p := &w.packets[i]
	p.current, p.at = w.slots[0], findCurrent
}

func (m *model) findsCurrent(w *world, i int) {
	p := &w.packets[i]
	p.at = readOld
	if w.rows[p.current].here {
		m.found(w, i, p.current)
	}
}

func (m *model) readsOld(w *world, i int) {
	p := &w.packets[i]
	p.old, p.at = w.slots[1], findOld
	if p.old == nowhere {
		m.misses(w, i)
	}
}

func (m *model) findsOld(w *world, i int) {
	p := &w.packets[i]
	switch r := w.rows[p.old]; {
	case !r.here:
		p.at = findArrived
	case r.dead:
		m.misses(w, i)
	case r.moved:
		p.at, p.made = takeOld, r.made
	default:
		m.found(w, i, p.old)
	}
}

func (m *model) takesOld(w *world, i int) {
	p := &w.packets[i]
	r := &w.rows[p.old]
	p.copied = *r
	p.copied.moved, p.at = false, helpOver
	r.moved = true
}

func (m *model) helpsOver(w *world, i int) {
	p := &w.packets[i]
	switch m.bring(w, p.current, p.old, p.copied) {
	case inserted:
		p.at = endToo
	case exists:
		p.at = findArrived
	case noRoom:
		p.at = leaveOld
	}
}

func (m *model) endsToo(w *world, i int) {
	p := &w.packets[i]
	w.endToo(m, p.current, p.old)
	p.at = findArrived
}

func (m *model) findsArrived(w *world, i int) {
	p := &w.packets[i]
	if w.rows[p.current].here {
		m.found(w, i, p.current)
		return
	}
	m.misses(w, i)
}

func (m *model) leavesOld(w *world, i int) {
	p := &w.packets[i]
	w.unmark(m, p.old)
	p.at = lookLeft
}

func (m *model) looksLeft(w *world, i int) {
	p := &w.packets[i]
	if !w.rows[p.current].here {
		m.found(w, i, p.old)
		return
	}
	w.rows[p.old].moved = true
	m.found(w, i, p.current)
}

func (m *model) found(w *world, i int, table int8) {
	p := &w.packets[i]
	p.forget()
	p.entry, p.made = table, w.rows[table].made
	p.at = [...]packetAt{judge, setAgainChecked, checkMoved}[p.why]
}

// forget drops what a look-up read: what is not used any more must not tell states apart.
func (p *packet) forget() { p.current, p.old, p.entry, p.made, p.copied = 0, 0, 0, 0, mrow{} }

func (m *model) misses(w *world, i int) {
	p := &w.packets[i]
	p.forget()
	if p.relies {
		w.wrong = missedFlow
	}
	if p.why != toUse || m.promote {
		m.leaves(w, i)
		return
	}
	p.at = readToInsert
}

// state is that of the entry which the packet found; of one that was deleted, that
// of a corpse.
func (w *world) state(p *packet) mstate {
	if r := w.rows[p.entry]; r.made == p.made {
		return r.mstate
	}
	return mstate{dead: true}
}

// swap is a compare-and-swap of the state.
func (w *world) swap(p *packet, to mstate) bool {
	if w.state(p) != p.seen {
		return false
	}
	w.rows[p.entry].mstate = to
	return true
}

func (m *model) judges(w *world, i int) {
	p := &w.packets[i]
	p.seen = w.state(p)
	switch {
	case p.seen.moved && p.tries == 0:
		p.tries, p.at, p.seen = 1, readCurrent, mstate{}
		p.forget()
	case p.seen.terminal():
		m.leaves(w, i)
	case w.rows[p.entry].idle > 0 && !m.promote:
		p.at = beginAgain
	case m.promote:
		p.at = copyEntry
	case p.seen.flags&m.flag(i) != 0:
		m.leaves(w, i)
	default:
		p.at = setFlag
	}
}

func (m *model) flagged(w *world, i int) {
	if p := &w.packets[i]; p.seen.birth == w.fact.birth {
		w.fact.flags |= m.flag(i)
	}
	m.leaves(w, i)
}

func (m *model) setsFlag(w *world, i int) {
	p := &w.packets[i]
	to := p.seen
	if m.orFlags {
		to = w.state(p)
		p.seen = to
	}
	to.flags |= m.flag(i)
	if w.swap(p, to) {
		m.flagged(w, i)
		return
	}
	p.at, p.tries = setAgain, 0
	if m.noRetry {
		m.leaves(w, i)
	}
}

func (m *model) setsAgain(w *world, i int) {
	p := &w.packets[i]
	if p.tries == 4 {
		m.leaves(w, i)
		return
	}
	p.tries++
	p.at = setAgainChecked
	if w.state(p).moved {
		p.why, p.at = toSetFlag, readCurrent
		p.forget()
	}
}

// setsAgainChecked reads the state and swaps it: another program that comes between
// makes it try again, and there is only one.
func (m *model) setsAgainChecked(w *world, i int) {
	p := &w.packets[i]
	now := w.state(p)
	if now.birth != p.seen.birth || now.terminal() || now.flags&m.flag(i) != 0 {
		if now.moved && p.tries < 4 {
			p.at = setAgain
			return
		}
		m.leaves(w, i)
		return
	}
	p.seen = now
	now.flags |= m.flag(i)
	w.swap(p, now)
	m.flagged(w, i)
}

func (m *model) beginsAgain(w *world, i int) {
	p := &w.packets[i]
	to := mstate{birth: w.fact.next + 1, flags: m.flag(i)}
	if !w.swap(p, to) {
		if w.state(p).moved && p.tries == 0 {
			p.tries, p.at, p.seen = 1, readCurrent, mstate{}
			p.forget()
			return
		}
		m.leaves(w, i)
		return
	}
	w.began(to.flags)
	w.rows[p.entry].idle = 0
	p.seen, p.at = to, writeNAT
}

func writesNAT(w *world, i int) {
	p := &w.packets[i]
	if r := &w.rows[p.entry]; r.made == p.made {
		r.nat = p.seen.birth
	}
	p.at = setNAT
}

func (m *model) setsNAT(w *world, i int) {
	p := &w.packets[i]
	to := p.seen
	to.natted = true
	if w.swap(p, to) {
		m.leaves(w, i)
		return
	}
	p.why, p.at = toTranslate, readCurrent
	p.forget()
}

func (m *model) checksMoved(w *world, i int) {
	p := &w.packets[i]
	if w.state(p) != p.seen {
		m.leaves(w, i)
		return
	}
	w.rows[p.entry].nat = p.seen.birth
	p.at = setNATMoved
}

func (m *model) setsNATMoved(w *world, i int) {
	p := &w.packets[i]
	to := p.seen
	to.natted = true
	w.swap(p, to)
	m.leaves(w, i)
}

func readsToInsert(w *world, i int) {
	p := &w.packets[i]
	p.current, p.at = w.slots[0], insertNew
}

// insertsNew begins a flow. Two programs may begin one each, only while one runs that
// read the slots before tables changed places: then the current table's wins.
func (m *model) insertsNew(w *world, i int) {
	p := &w.packets[i]
	was, lives := w.view()
	r := mrow{mstate: mstate{birth: w.fact.next + 1, flags: m.flag(i), natted: true}, nat: w.fact.next + 1}
	r.behind = p.current != w.slots[0]
	if w.insert(p.current, r) == inserted {
		if lives {
			w.fact.unknown = true
			if !p.early && !was.behind {
				w.wrong = rivals
			}
		}
		w.began(r.flags)
	}
	m.leaves(w, i)
}

// promotes copies the entry to the other table. From then on that one counts.
func (m *model) promotes(w *world, i int) {
	p := &w.packets[i]
	if p.seen = w.state(p); p.seen.terminal() {
		m.leaves(w, i)
		return
	}
	w.fact.dying = true
	w.unsettle()
	p.current, p.at = w.slots[0], markPromotedOld
	if m.promoteForgetsOld {
		p.at = markPromoted
	}
}

func (m *model) marksPromotedOld(w *world, i int) {
	w.packets[i].at = markPromoted
	if w.slots[1] != nowhere {
		w.rows[w.slots[1]].dead = true
	}
}

func (m *model) marksPromoted(w *world, i int) {
	p := &w.packets[i]
	p.at = deletePromoted
	if r := &w.rows[p.entry]; r.made == p.made && !r.terminal() {
		r.dead = true
	}
}

func (m *model) deletesPromoted(w *world, i int) {
	p := &w.packets[i]
	w.remove(p.current)
	w.fact.dying = false
	if p.seen.birth == w.fact.birth {
		w.ended()
	}
	m.leaves(w, i)
}
