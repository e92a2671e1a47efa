package datapath

import (
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
)

// change is what one port needs, beside what it has.
type change struct {
	port       *loadbalance.Port
	had        *servedPort // empty for a new port
	wants      []wantedList
	all, local int            // index into wants of what each reach leads to, or noList
	reuse      []*backendList // for each of wants, the list that has these backends already, or nil
	unused     []*backendList // lists of had that are not reused
	drops      []abi.CFrontendKey
	ranges     []netip.Prefix
	newRanges  []netip.Prefix
	oldRanges  []netip.Prefix
	// adds and frees are the rows that are written and deleted. Frontends that go do
	// so first, all others last, when no program has them in hand any more.
	adds, frees rowCount
}

// plan compares a port with what the kernel has of it.
func (w *serviceWriter) plan(p *loadbalance.Port) *change {
	c := &change{port: p, had: w.ports[p.Key], ranges: wantedRanges(p)}
	if c.had == nil {
		c.had = &servedPort{}
	}
	w.planFrontends(c)
	c.wants, c.all, c.local = wantedLists(p)
	c.reuse = make([]*backendList, len(c.wants))
	for i, want := range c.wants {
		j := slices.IndexFunc(c.had.lists, func(l *backendList) bool { return w.holds(l, want, p) })
		if j < 0 {
			c.adds[inBackends] += want.rows()
			if want.maglev {
				c.adds[inMaglev]++
			}
			continue
		}
		l := c.had.lists[j]
		c.reuse[i] = l
		c.count(inBackends, len(l.slots), l.byID, want.byID)
		c.count(inMaglev, 1, l.maglev, want.maglev)
	}
	for _, l := range c.had.lists {
		if !slices.Contains(c.reuse, l) {
			c.unused = append(c.unused, l)
			c.frees[inBackends] += l.rows()
			c.count(inMaglev, 1, l.maglev, false)
		}
	}
	c.newRanges, c.oldRanges = without(c.ranges, c.had.ranges), without(c.had.ranges, c.ranges)
	c.adds[inRanges], c.frees[inRanges] = len(c.newRanges), len(c.oldRanges)
	for _, b := range p.Draining {
		if k := w.known[backendKey{b.Addr, p.Key.Protocol}]; k == nil || !k.row {
			c.adds[inBackends]++
		}
	}
	return c
}

func (w *serviceWriter) planFrontends(c *change) {
	wanted := make(map[abi.CFrontendKey]bool, len(c.port.Frontends))
	for _, f := range c.port.Frontends {
		key := frontendKey(f.Addr, c.port.Key.Protocol)
		if _, ok := w.rows[key]; !ok && !wanted[key] {
			c.adds[inFrontends]++
		}
		wanted[key] = true
	}
	for _, key := range c.had.keys {
		if !wanted[key] {
			c.drops = append(c.drops, key)
		}
	}
	c.frees[inFrontends] = len(c.drops)
}

// count notes n rows that a list has and keeps, gets or loses.
func (c *change) count(table, n int, has, wants bool) {
	switch {
	case wants && !has:
		c.adds[table] += n
	case has && !wants:
		c.frees[table] += n
	}
}

// without returns what of a is not in b.
func without[T comparable](a, b []T) []T {
	var out []T
	for _, v := range a {
		if !slices.Contains(b, v) {
			out = append(out, v)
		}
	}
	return out
}

// holds tells whether a list has just these backends, under the ids that they
// have on the node.
func (w *serviceWriter) holds(l *backendList, want wantedList, p *loadbalance.Port) bool {
	return slices.EqualFunc(l.slots, want.backends, func(s listSlot, b loadbalance.Backend) bool {
		known := w.known[backendKey{b.Addr, p.Key.Protocol}]
		return s.addr == b.Addr && known != nil && known.id == s.id
	})
}

// fits tells whether there is room for the old rows and the new ones side by
// side. Of frontends none need to be.
func (c *change) fits(free rowCount) bool {
	free[inFrontends] += c.frees[inFrontends]
	for t := range free {
		if c.adds[t] > max(0, free[t]) {
			return false
		}
	}
	return true
}

// lacks returns the table that even in the end has too little room, or -1.
func (c *change) lacks(free rowCount) int {
	for t := range free {
		if c.adds[t] > max(0, free[t]+c.frees[t]) {
			return t
		}
	}
	return -1
}

// realise writes a port, or refuses it before the first write.
func (w *serviceWriter) realise(p *loadbalance.Port) error {
	if s := w.ports[p.Key]; s != nil && s.leaving > 0 {
		// What it wants may be among what is to be deleted.
		if err := w.reapNow(true); err != nil {
			return err
		}
	}
	c := w.plan(p)
	if !c.fits(w.free()) && len(w.retired) > 0 {
		if err := w.reapNow(true); err != nil {
			return err
		}
		c = w.plan(p)
	}
	free := w.free()
	if c.fits(free) {
		delete(w.refused, p.Key)
		return w.write(c)
	}
	if t := c.lacks(free); t >= 0 {
		w.refuse(p.Key, t, c.adds[t]-c.frees[t], max(0, free[t]))
		return nil
	}
	delete(w.refused, p.Key)
	return w.tight(c)
}

func (w *serviceWriter) refuse(key loadbalance.PortKey, table, needs, free int) {
	r := w.refused[key]
	if r == nil {
		w.ages++
		r = &refusedPort{age: w.ages}
		w.refused[key] = r
	}
	r.Refusal = loadbalance.Refusal{Key: key, Table: tableNames()[table], Needs: needs, Free: free}
	r.table, r.kernel = table, false
}

// write carries a change out beside what is there.
func (w *serviceWriter) write(c *change) error {
	s := w.begin(c)
	for i, l := range s.lists {
		if c.reuse[i] == nil {
			w.putSlots(l, 0)
		}
	}
	w.complete(c, s)
	w.putFrontends(c, s, nil)
	w.retire(c, s)
	return w.flushIfLarge()
}

// tight carries out a change whose old and new rows do not fit side by side. The
// port passes through lists that have but the first of their backends, without
// affinity and Maglev, for which there is always room; meanwhile what is old is
// deleted. Source ranges that go are deleted before others come: until then
// clients in the new ones have to wait. All that is served is right at any time.
func (w *serviceWriter) tight(c *change) error {
	s := w.begin(c)
	short := map[*backendList]bool{}
	for i, l := range s.lists {
		if c.reuse[i] == nil {
			short[l] = true
			w.putSlot(abi.CBackendKey{List: l.id}, backendValue(l.slots[0].addr, l.slots[0].id))
		}
	}
	w.putFrontends(c, s, short)
	w.retire(c, s)
	if err := w.reapNow(false); err != nil {
		return err
	}
	for l := range short {
		w.putSlots(l, 1)
	}
	w.complete(c, s)
	w.putFrontends(c, s, nil)
	return w.flush()
}

// begin removes the frontends that go, and gives the port its id and its lists.
// Nothing of the lists is written.
func (w *serviceWriter) begin(c *change) *servedPort {
	for _, key := range c.drops {
		w.dropFrontend(key)
	}
	s := &servedPort{service: c.had.service, ranges: c.ranges}
	if s.service == 0 {
		s.service = nextID(&w.lastID.service, ^uint32(0), w.services)
		w.services[s.service] = true
	}
	proto := c.port.Key.Protocol
	for i, want := range c.wants {
		l := c.reuse[i]
		if l == nil {
			l = &backendList{id: nextID(&w.lastID.list, ^uint32(0), w.lists)}
			w.lists[l.id] = l
			for _, b := range want.backends {
				state := w.backend(backendKey{b.Addr, proto})
				w.use(state, 1, 0)
				l.slots = append(l.slots, listSlot{b.Addr, state.id})
			}
		}
		s.lists = append(s.lists, l)
	}
	w.ports[c.port.Key] = s
	return s
}

// complete writes what a port needs beside its slots and frontends.
func (w *serviceWriter) complete(c *change, s *servedPort) {
	for i, l := range s.lists {
		want := c.wants[i]
		if want.byID && !l.byID {
			w.putByID(l)
		}
		if want.maglev && !l.maglev {
			w.putMaglev(l, want.backends, c.port.Key.Protocol)
		}
	}
	w.putRanges(s.service, c.newRanges)
	for _, b := range c.port.Draining {
		key := backendKey{b.Addr, c.port.Key.Protocol}
		if !slices.Contains(s.draining, key) {
			w.use(w.backend(key), 0, 1)
			s.draining = append(s.draining, key)
		}
	}
	for _, key := range c.had.draining {
		w.unuse(w.known[key], 0, 1)
	}
	c.had.draining = nil
}

// putFrontends switches the frontends to the port's lists. Those that are short
// have but their first backend.
func (w *serviceWriter) putFrontends(c *change, s *servedPort, short map[*backendList]bool) {
	ref := func(want int) abi.CBackendList {
		if want == noList {
			return abi.CBackendList{}
		}
		l := s.lists[want]
		if short[l] {
			return abi.CBackendList{Id: l.id, Count: 1}
		}
		return l.ref()
	}
	s.keys = s.keys[:0]
	for _, f := range c.port.Frontends {
		key := frontendKey(f.Addr, c.port.Key.Protocol)
		value := frontendValue(c.port, f, s.service, reachLists{ref(c.all), ref(c.local)})
		if short != nil {
			value.Flags &^= uint32(abi.CFrontendFlagsFRONTEND_AFFINITY | abi.CFrontendFlagsFRONTEND_MAGLEV)
		}
		w.putFrontend(key, value, s)
		if !slices.Contains(s.keys, key) {
			s.keys = append(s.keys, key)
		}
	}
}
