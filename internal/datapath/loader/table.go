package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// Table is what holds a map's entries: the map itself, or the inner map in slot
// TABLE_CURRENT of a map of maps, which another one may replace at any time. Its
// methods may be called at the same time. Those that change entries wait while it
// is replaced; a reader that began before then reads the old one to its end, which
// held the same.
type Table struct {
	writes  sync.RWMutex // held to read: entries change; held to write: the table is replaced
	current atomic.Pointer[ebpf.Map]

	full, busy, failed atomic.Uint64
}

// Refusals counts writes that the kernel refused.
type Refusals struct {
	Full   uint64 // there was no room
	Busy   uint64 // somebody else held the lock
	Failed uint64 // any other cause: memory, above all
}

// Refused counts the writes through t that the kernel refused.
func (t *Table) Refused() Refusals {
	return Refusals{Full: t.full.Load(), Busy: t.busy.Load(), Failed: t.failed.Load()}
}

// counted counts a write that was refused: hash tables say E2BIG when they are
// full, tries ENOSPC.
func (t *Table) counted(err error) error {
	switch {
	case err == nil:
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOSPC):
		t.full.Add(1)
	case errors.Is(err, unix.EBUSY):
		t.busy.Add(1)
	default:
		t.failed.Add(1)
	}
	return err
}

// NewTable returns a table that is the map. It closes the map with Close.
func NewTable(m *ebpf.Map) *Table {
	t := &Table{}
	t.current.Store(m)
	return t
}

// Map is the table of this moment, to read from. A map that was replaced is closed
// once nobody refers to it.
func (t *Table) Map() *ebpf.Map { return t.current.Load() }

// MaxEntries is the size of the table of this moment, in entries.
func (t *Table) MaxEntries() uint32 { return t.Map().MaxEntries() }

// Type is the kernel's type of the table; it never changes.
func (t *Table) Type() ebpf.MapType { return t.Map().Type() }

// ValueSize is the size of a value in bytes; it never changes.
func (t *Table) ValueSize() uint32 { return t.Map().ValueSize() }

// Lookup reads one entry, as ebpf.Map.Lookup does.
func (t *Table) Lookup(key, value any) error { return t.Map().Lookup(key, value) }

// NextKey is ebpf.Map.NextKey.
func (t *Table) NextKey(key, next any) error { return t.Map().NextKey(key, next) }

// Iterate is ebpf.Map.Iterate, of the table of this moment.
func (t *Table) Iterate() *ebpf.MapIterator { return t.Map().Iterate() }

// Put writes one entry, as ebpf.Map.Put does.
func (t *Table) Put(key, value any) error {
	t.writes.RLock()
	defer t.writes.RUnlock()
	return t.counted(t.Map().Put(key, value))
}

// Delete removes one entry, as ebpf.Map.Delete does.
func (t *Table) Delete(key any) error {
	t.writes.RLock()
	defer t.writes.RUnlock()
	return t.Map().Delete(key)
}

// BatchUpdate is ebpf.Map.BatchUpdate.
func (t *Table) BatchUpdate(keys, values any, opts *ebpf.BatchOptions) (int, error) {
	t.writes.RLock()
	defer t.writes.RUnlock()
	n, err := t.Map().BatchUpdate(keys, values, opts)
	return n, t.counted(err)
}

// BatchDelete is ebpf.Map.BatchDelete.
func (t *Table) BatchDelete(keys any, opts *ebpf.BatchOptions) (int, error) {
	t.writes.RLock()
	defer t.writes.RUnlock()
	return t.Map().BatchDelete(keys, opts)
}

// Close lets go of the map.
func (t *Table) Close() error { return t.Map().Close() }

// ErrFixed is returned for a map whose table cannot be replaced: it is no map of maps.
var ErrFixed = errors.New("the map has a fixed size")

// Refresh opens the table that is in slot TABLE_CURRENT now, when somebody else
// has put another one there.
func (m *Map) Refresh() error {
	if m.fixed() {
		return nil
	}
	table, err := tableIn(m.Outer, abi.CTableSlotTABLE_CURRENT)
	if err != nil || table == nil {
		return errors.Join(fmt.Errorf("open table of %s", m.Name), err)
	}
	m.Table.current.Store(table)
	return nil
}

// tableIn opens the table in a slot of a map of maps. Nil without an error: there is
// none, or it was taken out just now.
func tableIn(outer *ebpf.Map, slot abi.CTableSlot) (*ebpf.Map, error) {
	var id ebpf.MapID
	err := outer.Lookup(uint32(slot), &id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read slot of map: %w", err)
	}
	table, err := ebpf.NewMapFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open table of map: %w", err)
	}
	return table, nil
}

// Sized makes an empty table like the map's own, of another size in entries. It is
// not in place: see Replace, and the movers of tables that programs write to.
func (m *Map) Sized(entries uint32) (*ebpf.Map, error) {
	if m.fixed() {
		return nil, fmt.Errorf("resize %s: %w", m.Name, ErrFixed)
	}
	spec := m.inner.Copy()
	spec.MaxEntries = entries
	table, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("create table of %d entries for %s: %w", entries, m.Name, err)
	}
	return table, nil
}

// Replace puts a table of another size in the place of the current one, with all
// its entries. It is for tables that the agent alone writes: nothing else may
// change the entries meanwhile. Packets find every entry at every moment. The new
// table is as if it had never been when an error comes back, or when the agent is
// killed before the end. progress, if not nil, is told how many entries are copied.
func (m *Map) Replace(entries uint32, progress func(copied int)) error {
	to, err := m.Sized(entries)
	if err != nil {
		return err
	}
	m.Table.writes.Lock()
	defer m.Table.writes.Unlock()
	if err = copyTable(m.Table.Map(), to, progress); err != nil {
		return errors.Join(fmt.Errorf("copy %s to a table of %d entries: %w", m.Name, entries, err), to.Close())
	}
	if err = m.Outer.Put(uint32(abi.CTableSlotTABLE_CURRENT), to); err != nil {
		return errors.Join(fmt.Errorf("put table of %d entries into %s: %w", entries, m.Name, err), to.Close())
	}
	m.Table.current.Store(to)
	return nil
}

// fixed tells whether the map is its own table.
func (m *Map) fixed() bool { return m.inner == nil }
