package datapath

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// adoption takes over what an earlier agent, or this one before an error, left in
// the kernel: ids, lists and rows of ports that are desired.
type adoption struct {
	w     *serviceWriter
	found *found
	order []*loadbalance.Port
	given map[loadbalance.PortKey]uint32 // ids that this agent gave
	taken map[uint32]bool                // lists that a port has
	// further are rows of those lists that no frontend needs.
	further []abi.CBackendKey
}

func (a *adoption) adopt() {
	a.taken = map[uint32]bool{}
	services := a.serviceIDs()
	for _, p := range a.order {
		if id, ok := services[p.Key]; ok {
			a.adoptPort(p, id)
		}
	}
	a.adoptRanges()
	a.adoptLasting()
	a.adoptDraining()
	a.findGone()
	w := a.w
	for id := range a.found.lists {
		if !a.taken[id] {
			w.lists[id] = &backendList{id: id} // in use until it is removed
		}
	}
	w.lastID.service = max(w.lastID.service, highest(w.services))
	w.lastID.list = max(w.lastID.list, highest(w.lists))
	w.lastID.backend = max(w.lastID.backend, highest(w.ids))
}

func highest[V any](m map[uint32]V) uint32 {
	top := uint32(0)
	for id := range m {
		top = max(top, id)
	}
	return top
}

// serviceIDs gives ports the ids that their frontends have: those that this agent
// gave them, or else those that are found. An address that moved to another
// service does not take the id along where the service still has one of its own:
// the addresses that never move come first.
func (a *adoption) serviceIDs() map[loadbalance.PortKey]uint32 {
	out := map[loadbalance.PortKey]uint32{}
	take := func(p *loadbalance.Port, may func(loadbalance.Frontend, uint32) bool) {
		if _, ok := out[p.Key]; ok {
			return
		}
		for _, f := range p.Frontends {
			id := a.found.rows[frontendKey(f.Addr, p.Key.Protocol)].Service
			if id != 0 && !a.w.services[id] && may(f, id) {
				a.w.services[id] = true
				out[p.Key] = id
				return
			}
		}
	}
	given := map[uint32]bool{}
	for _, id := range a.given {
		given[id] = true
	}
	for _, p := range a.order {
		take(p, func(_ loadbalance.Frontend, id uint32) bool { return a.given[p.Key] == id })
	}
	for _, p := range a.order {
		take(p, func(f loadbalance.Frontend, id uint32) bool { return !given[id] && f.Kind == loadbalance.KindClusterIP })
	}
	for _, p := range a.order {
		take(p, func(_ loadbalance.Frontend, id uint32) bool { return !given[id] })
	}
	return out
}

// adoptPort takes over the frontends of a port and the lists that they lead to.
func (a *adoption) adoptPort(p *loadbalance.Port, id uint32) {
	w := a.w
	s := &servedPort{service: id}
	counts := map[uint32]int{}
	for _, key := range keysOf(p) {
		row, ok := w.rows[key]
		if !ok || row.owner != nil {
			continue
		}
		s.keys = append(s.keys, key)
		w.rows[key] = frontendRow{row.value, s}
		if row.value.Service != id {
			continue
		}
		for _, ref := range row.value.List {
			if ref.Id != lastingList {
				counts[ref.Id] = max(counts[ref.Id], int(ref.Count))
			}
		}
	}
	for _, list := range slices.Sorted(maps.Keys(counts)) {
		if a.taken[list] {
			continue
		}
		a.identify(list, p.Key.Protocol)
		l, further, ok := a.found.list(list, counts[list])
		if !ok || !a.identified(l, p.Key.Protocol) {
			continue
		}
		a.taken[list] = true
		a.further = append(a.further, further...)
		w.lists[list] = l
		s.lists = append(s.lists, l)
		for _, slot := range l.slots {
			w.ids[slot.id].lists++
		}
	}
	w.ports[p.Key] = s
}

// identify makes the backends of a list known by the ids that they have there,
// where neither has been met before.
func (a *adoption) identify(list uint32, proto state.Protocol) {
	w := a.w
	for _, s := range a.found.lists[list] {
		key := backendKey{addrOf(s.value), proto}
		if sensible(s.value) && w.known[key] == nil && w.ids[s.value.Id] == nil {
			b := &backendState{backendKey: key, id: s.value.Id}
			w.known[key], w.ids[b.id] = b, b
		}
	}
}

// identified tells whether each id of a list is the only one of its backend, and
// the other way round.
func (a *adoption) identified(l *backendList, proto state.Protocol) bool {
	return !slices.ContainsFunc(l.slots, func(s listSlot) bool {
		b := a.w.known[backendKey{s.addr, proto}]
		return b == nil || b.id != s.id
	})
}

// adoptRanges gives ports the source ranges that have their ids.
func (a *adoption) adoptRanges() {
	owners := map[uint32]*servedPort{}
	for _, s := range a.w.ports {
		owners[s.service] = s
	}
	for k := range a.found.ranges {
		if s := owners[k.Service]; s != nil && k == sourceRangeKey(k.Service, rangeOf(k)) {
			s.ranges = append(s.ranges, rangeOf(k))
			delete(a.found.ranges, k)
		}
	}
	for _, s := range owners {
		slices.SortFunc(s.ranges, netip.Prefix.Compare)
	}
}

// adoptLasting makes the backends of the lasting list known.
func (a *adoption) adoptLasting() {
	w := a.w
	for _, id := range slices.Sorted(maps.Keys(a.found.lasting)) {
		v := a.found.lasting[id]
		key := lastingBackend(v)
		b := w.ids[id]
		if v != lastingValue(key, id) || b != nil && b.backendKey != key {
			continue // nonsense: removed with the strays
		}
		if b == nil {
			b = &backendState{backendKey: key, id: id}
			w.ids[id] = b
			if w.known[key] == nil {
				w.known[key] = b
			}
		}
		b.row = true
		delete(a.found.lasting, id)
	}
}

// adoptDraining lets backends drain that did so for the ports in the kernel.
func (a *adoption) adoptDraining() {
	for _, p := range a.order {
		s := a.w.ports[p.Key]
		if s == nil {
			continue
		}
		for _, d := range p.Draining {
			key := backendKey{d.Addr, p.Key.Protocol}
			if b := a.w.known[key]; b != nil && b.row && !slices.Contains(s.draining, key) {
				b.draining++
				s.draining = append(s.draining, key)
			}
		}
	}
}

// findGone takes the ids that nobody has for those of backends that are gone:
// known ones, and those of lists that no port has.
func (a *adoption) findGone() {
	w := a.w
	for _, list := range slices.Sorted(maps.Keys(a.found.lists)) {
		for _, s := range a.found.lists[list] {
			if id := s.value.Id; id != 0 && id <= maxBackendID && w.ids[id] == nil {
				w.ids[id] = &backendState{backendKey: backendKey{addr: addrOf(s.value)}, id: id}
			}
		}
	}
	for id, b := range w.ids {
		if b.unused() {
			w.gone[id] = b
			wakeUp(w.goneSoon)
		}
	}
}

// removeStrays deletes what nobody has and no frontend of a port leads to: rows of
// addresses and ports that are none any more, and lists that were not finished or
// not removed.
func (a *adoption) removeStrays() error {
	w := a.w
	led := map[uint32]bool{}
	for key, row := range w.rows {
		addr := netorder.HostAddr(key.Addr)
		if row.owner == nil && (!w.addresses.has(addr) || key != addressKey(addr)) {
			w.dropFrontend(key)
			continue
		}
		for _, ref := range row.value.List {
			led[ref.Id] = true
		}
	}
	r := &removal{slots: a.further}
	for id := range a.found.lists {
		if !a.taken[id] && !led[id] {
			a.remove(id, r)
		}
	}
	for id := range a.found.maglev {
		if a.found.lists[id] == nil && !a.taken[id] && !led[id] {
			r.maglev = append(r.maglev, id)
			delete(a.found.maglev, id)
		}
	}
	for id := range a.found.lasting {
		w.dropLasting(id) // no program reads it
	}
	for k := range a.found.ranges {
		r.ranges = append(r.ranges, k)
	}
	return a.carryOut(r)
}

// removeRest deletes lists that were not as they should be, now that no frontend
// leads to them any more.
func (a *adoption) removeRest() error {
	r := &removal{}
	for id := range a.found.lists {
		if !a.taken[id] {
			a.remove(id, r)
		}
	}
	for id := range a.found.maglev {
		if !a.taken[id] {
			r.maglev = append(r.maglev, id)
		}
	}
	return a.carryOut(r)
}

func (a *adoption) remove(id uint32, r *removal) {
	for _, s := range a.found.lists[id] {
		r.slots = append(r.slots, abi.CBackendKey{List: id, Slot: s.slot})
	}
	r.lists = append(r.lists, id)
	if a.found.maglev[id] {
		r.maglev = append(r.maglev, id)
	}
	delete(a.found.lists, id)
	delete(a.found.maglev, id)
}

func (a *adoption) carryOut(r *removal) error {
	if !r.empty() {
		a.w.retired = append(a.w.retired, r)
	}
	return a.w.reapNow(true)
}

// mendSeed computes Maglev tables anew that were made with another seed, and then
// notes this one.
func (a *adoption) mendSeed() error {
	w := a.w
	if !a.found.otherSeed {
		return nil
	}
	for _, p := range a.order {
		s := w.ports[p.Key]
		if s == nil {
			continue
		}
		for _, l := range s.lists {
			if !l.maglev {
				continue
			}
			w.used[inMaglev]-- // in the place of the one that is there
			w.putMaglev(l, l.backends(), p.Key.Protocol)
			if err := w.flushIfLarge(); err != nil {
				return err
			}
		}
	}
	w.pending.maglevKeys = append(w.pending.maglevKeys, lastingList)
	w.pending.maglevs = append(w.pending.maglevs, w.seedRow())
	return w.flush()
}
