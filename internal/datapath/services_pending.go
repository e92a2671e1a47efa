package datapath

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// pendingRows are writes that go to the kernel together: many ports in a few
// system calls. The mirror has them already.
type pendingRows struct {
	frontends  map[abi.CFrontendKey]abi.CFrontend
	drop       map[abi.CFrontendKey]bool // no key is in both
	slotKeys   []abi.CBackendKey
	slots      []abi.CBackend
	dropSlots  []abi.CBackendKey
	maglevKeys []uint32
	maglevs    [][]uint32
	rangeKeys  []abi.CSourceRangeKey
}

func newPendingRows() pendingRows {
	return pendingRows{frontends: map[abi.CFrontendKey]abi.CFrontend{}, drop: map[abi.CFrontendKey]bool{}}
}

func (p *pendingRows) size() int {
	return len(p.frontends) + len(p.drop) + len(p.slotKeys) + len(p.dropSlots) + len(p.maglevKeys) + len(p.rangeKeys)
}

// Sizes at which pending rows are written.
const (
	pendingLimit  = 16 * batchRows
	pendingMaglev = 64 // tables, which are large
)

func (w *serviceWriter) flushIfLarge() error {
	if w.pending.size() < pendingLimit && len(w.pending.maglevKeys) < pendingMaglev {
		return nil
	}
	return w.flush()
}

// flush writes what is pending: frontends that go, then what frontends lead to,
// then the frontends.
func (w *serviceWriter) flush() error {
	p := w.pending
	if p.size() == 0 {
		return nil
	}
	w.pending = newPendingRows()
	keys, values := make([]abi.CFrontendKey, 0, len(p.frontends)), make([]abi.CFrontend, 0, len(p.frontends))
	for key, value := range p.frontends {
		keys, values = append(keys, key), append(values, value)
	}
	err := firstError(
		func() error { return inTable(inFrontends, w.frontends.remove(slices.Collect(maps.Keys(p.drop)))) },
		func() error { return inTable(inBackends, w.backends.put(p.slotKeys, p.slots)) },
		func() error { return inTable(inMaglev, w.maglev.put(p.maglevKeys, p.maglevs)) },
		func() error {
			return inTable(inRanges, w.ranges.put(p.rangeKeys, slices.Repeat([]uint32{1}, len(p.rangeKeys))))
		},
		func() error { return inTable(inFrontends, w.frontends.put(keys, values)) },
		func() error { return inTable(inBackends, w.backends.remove(p.dropSlots)) },
	)
	if err != nil {
		w.stale = true
		return err
	}
	w.writes += p.size()
	return nil
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// tableError is an error of one table.
type tableError struct {
	table int
	err   error
}

func (e *tableError) Error() string { return e.err.Error() }
func (e *tableError) Unwrap() error { return e.err }

func inTable(table int, err error) error {
	if err == nil {
		return nil
	}
	return &tableError{table, err}
}

// putFrontend writes a row unless the kernel has it so. It takes the row over
// from another port that has it.
func (w *serviceWriter) putFrontend(key abi.CFrontendKey, value abi.CFrontend, owner *servedPort) {
	have, ok := w.rows[key]
	if ok && have.owner != nil && have.owner != owner {
		have.owner.keys = slices.DeleteFunc(have.owner.keys, func(k abi.CFrontendKey) bool { return k == key })
	}
	w.rows[key] = frontendRow{value, owner}
	if !ok {
		w.used[inFrontends]++
	}
	if ok && have.value == value {
		return
	}
	w.pending.frontends[key] = value
	delete(w.pending.drop, key)
}

func (w *serviceWriter) dropFrontend(key abi.CFrontendKey) {
	delete(w.rows, key)
	w.used[inFrontends]--
	w.freed = true
	delete(w.pending.frontends, key)
	w.pending.drop[key] = true
}

func (w *serviceWriter) putSlot(key abi.CBackendKey, value abi.CBackend) {
	p := &w.pending
	w.used[inBackends]++
	if i := slices.Index(p.dropSlots, key); i >= 0 {
		p.dropSlots = slices.Delete(p.dropSlots, i, i+1) // as it was: only rows of the lasting list come back
		return
	}
	p.slotKeys, p.slots = append(p.slotKeys, key), append(p.slots, value)
}

// putSlots writes the slots of a list from the given one on.
func (w *serviceWriter) putSlots(l *backendList, from int) {
	for i := from; i < len(l.slots); i++ {
		w.putSlot(abi.CBackendKey{List: l.id, Slot: uint32(i)}, backendValue(l.slots[i].addr, l.slots[i].id))
	}
}

// putByID writes the backends of a list by their ids.
func (w *serviceWriter) putByID(l *backendList) {
	for _, s := range l.slots {
		w.putSlot(byIDKey(l.id, s.id), backendValue(s.addr, s.id))
	}
	l.byID = true
}

func byIDKey(list, backend uint32) abi.CBackendKey {
	return abi.CBackendKey{List: list, Slot: uint32(abi.CBackendConstantsBACKEND_BY_ID) | backend}
}

// putMaglev writes the Maglev table of a list.
func (w *serviceWriter) putMaglev(l *backendList, backends []loadbalance.Backend, proto state.Protocol) {
	p := &w.pending
	p.maglevKeys = append(p.maglevKeys, l.id)
	p.maglevs = append(p.maglevs, loadbalance.Maglev(backends, proto, w.cfg.maglevSize, w.cfg.maglevSeed))
	l.maglev = true
	w.used[inMaglev]++
}

func (w *serviceWriter) putRanges(service uint32, ranges []netip.Prefix) {
	for _, r := range ranges {
		w.pending.rangeKeys = append(w.pending.rangeKeys, sourceRangeKey(service, r))
	}
	w.used[inRanges] += len(ranges)
}
