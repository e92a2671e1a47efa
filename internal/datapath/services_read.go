package datapath

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// found is what the kernel's tables hold.
type found struct {
	rows    map[abi.CFrontendKey]abi.CFrontend
	lists   map[uint32]foundList
	lasting map[uint32]abi.CBackend
	maglev  map[uint32]bool
	ranges  map[abi.CSourceRangeKey]bool
	// otherSeed tells that Maglev tables were computed with another seed.
	otherSeed bool
}

// foundList are the rows of one list.
type foundList []foundSlot

type foundSlot struct {
	slot  uint32
	value abi.CBackend
}

// seedRow is the row that says which seed Maglev tables have: a table that begins
// with its words.
func (w *serviceWriter) seedRow() []uint32 {
	seed := w.cfg.maglevSeed
	row := make([]uint32, w.cfg.maglevSize)
	copy(row, []uint32{seed.Backends(), seed.IPv4(), seed.IPv6()})
	return row
}

// read reads all tables.
func (w *serviceWriter) read() (*found, error) {
	f := &found{
		rows: map[abi.CFrontendKey]abi.CFrontend{}, lists: map[uint32]foundList{}, lasting: map[uint32]abi.CBackend{},
		maglev: map[uint32]bool{}, ranges: map[abi.CSourceRangeKey]bool{},
	}
	err := w.frontends.each(func(k abi.CFrontendKey, v abi.CFrontend) { f.rows[k] = v })
	if err != nil {
		return nil, err
	}
	err = w.backends.each(func(k abi.CBackendKey, v abi.CBackend) {
		if k.List == lastingList {
			f.lasting[k.Slot] = v
			return
		}
		f.lists[k.List] = append(f.lists[k.List], foundSlot{k.Slot, v})
	})
	if err != nil {
		return nil, err
	}
	for _, l := range f.lists {
		slices.SortFunc(l, func(a, b foundSlot) int { return cmp.Compare(a.slot, b.slot) })
	}
	if err = w.maglev.each(func(list uint32, _ []uint32) { f.maglev[list] = true }); err != nil {
		return nil, err
	}
	if f.maglev[lastingList] {
		row, ok, getErr := w.maglev.get(lastingList)
		if getErr != nil {
			return nil, getErr
		}
		f.otherSeed = !ok || !slices.Equal(row, w.seedRow())
		delete(f.maglev, lastingList)
	} else {
		f.otherSeed = true
	}
	return f, w.ranges.each(func(k abi.CSourceRangeKey, _ uint32) { f.ranges[k] = true })
}

// list turns found rows into a list of n backends. It may have further rows, which
// no frontend needs: those of a change that was not finished. The answer is false
// when a slot is missing or is nonsense.
func (f *found) list(id uint32, n int) (l *backendList, further []abi.CBackendKey, ok bool) {
	rows := f.lists[id]
	if n < 1 || len(rows) < n {
		return nil, nil, false
	}
	l = &backendList{id: id, maglev: f.maglev[id]}
	byID := make(map[abi.CBackendKey]abi.CBackend, n)
	for i, r := range rows[:n] {
		if r.slot != uint32(i) || !sensible(r.value) {
			return nil, nil, false
		}
		byID[byIDKey(id, r.value.Id)] = r.value
		l.slots = append(l.slots, listSlot{addrOf(r.value), r.value.Id})
	}
	var right []abi.CBackendKey
	for _, r := range rows[n:] {
		key := abi.CBackendKey{List: id, Slot: r.slot}
		if v, in := byID[key]; in && v == r.value {
			right = append(right, key)
		} else {
			further = append(further, key)
		}
	}
	if l.byID = len(right) == n; !l.byID {
		further = append(further, right...)
	}
	return l, further, len(byID) == n
}

func sensible(v abi.CBackend) bool {
	return v.Id != 0 && v.Id <= maxBackendID && v == backendValue(addrOf(v), v.Id)
}

// rangeOf is the inverse of sourceRangeKey.
func rangeOf(k abi.CSourceRangeKey) netip.Prefix {
	const serviceBits = 32
	return prefixOf(k.PrefixLen-serviceBits, k.Addr)
}

// keysOf are the frontends of a port, each once.
func keysOf(p *loadbalance.Port) []abi.CFrontendKey {
	keys := make([]abi.CFrontendKey, 0, len(p.Frontends))
	for _, f := range p.Frontends {
		if key := frontendKey(f.Addr, p.Key.Protocol); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// differs tells whether the kernel holds anything but what the mirror says.
// Nothing may be pending or retired. Of Maglev tables it looks whether they are
// there.
func (w *serviceWriter) differs() (bool, error) {
	var seen rowCount
	same := true
	note := func(table int, ok bool) {
		seen[table]++
		same = same && ok
	}
	err := w.frontends.each(func(k abi.CFrontendKey, v abi.CFrontend) {
		row, ok := w.rows[k]
		note(inFrontends, ok && row.value == v)
	})
	if err != nil || !same {
		return true, err
	}
	err = w.backends.each(func(k abi.CBackendKey, v abi.CBackend) { note(inBackends, w.mirrors(k, v)) })
	if err != nil || !same {
		return true, err
	}
	err = w.maglev.each(func(list uint32, _ []uint32) {
		l := w.lists[list]
		if list != lastingList {
			note(inMaglev, l != nil && l.maglev)
		}
	})
	if err != nil || !same {
		return true, err
	}
	ranges := make(map[abi.CSourceRangeKey]bool, w.used[inRanges])
	for _, s := range w.ports {
		for _, p := range s.ranges {
			ranges[sourceRangeKey(s.service, p)] = true
		}
	}
	err = w.ranges.each(func(k abi.CSourceRangeKey, v uint32) { note(inRanges, ranges[k] && v == 1) })
	return !same || seen != w.used, err
}

// mirrors tells whether the mirror has this row of the backend table.
func (w *serviceWriter) mirrors(k abi.CBackendKey, v abi.CBackend) bool {
	if k.List == lastingList {
		b := w.ids[k.Slot]
		return b != nil && b.row && v == lastingValue(b.backendKey, b.id)
	}
	l := w.lists[k.List]
	if l == nil {
		return false
	}
	if k.Slot < uint32(len(l.slots)) {
		return v == backendValue(l.slots[k.Slot].addr, l.slots[k.Slot].id)
	}
	return l.byID && k == byIDKey(l.id, v.Id) && slices.ContainsFunc(l.slots, func(s listSlot) bool {
		return s.id == v.Id && v == backendValue(s.addr, s.id)
	})
}

// lastingBackend is the inverse of lastingValue.
func lastingBackend(v abi.CBackend) backendKey {
	return backendKey{addrOf(v), state.Protocol(v.Pad)}
}
