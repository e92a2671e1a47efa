package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// HasOld tells whether there is a table in slot TABLE_OLD: entries are moving out
// of it.
func (m *Map) HasOld() (bool, error) {
	old, err := m.old()
	if err != nil || old == nil {
		return false, err
	}
	return true, old.Close()
}

// OldSize is the size of the table in slot TABLE_OLD in entries, 0 when there is none.
func (m *Map) OldSize() (uint64, error) {
	old, err := m.old()
	if err != nil || old == nil {
		return 0, err
	}
	return uint64(old.MaxEntries()), old.Close()
}

// old opens the table in slot TABLE_OLD; nil when there is none.
func (m *Map) old() (*ebpf.Map, error) {
	if m.fixed() {
		return nil, nil
	}
	old, err := tableIn(m.Outer, abi.CTableSlotTABLE_OLD)
	if err != nil {
		return nil, fmt.Errorf("old table of %s: %w", m.Name, err)
	}
	return old, nil
}

// EachTable calls f for the old table, if there is one, and for the current one.
func (m *Map) EachTable(f func(*ebpf.Map) error) error {
	old, err := m.old()
	if err != nil {
		return err
	}
	if old != nil {
		if err := errors.Join(f(old), old.Close()); err != nil {
			return err
		}
	}
	return f(m.Table.Map())
}

// BeginMove puts an empty table of another size in place, and keeps the one before
// as the old one, where programs still find what is not in the new one. It is for
// tables whose entries programs write whole: a newer one is written to the new
// table, and hides the old one. No program writes to the old table any more when
// it returns. Call EndMove then, now or in another life.
func (m *Map) BeginMove(entries uint32) error {
	to, err := m.Sized(entries)
	if err != nil {
		return err
	}
	if err = m.Outer.Put(uint32(abi.CTableSlotTABLE_OLD), m.Table.Map()); err != nil {
		return errors.Join(fmt.Errorf("put the old table of %s: %w", m.Name, err), to.Close())
	}
	if err = m.Outer.Put(uint32(abi.CTableSlotTABLE_CURRENT), to); err != nil {
		return errors.Join(fmt.Errorf("put a table of %d entries into %s: %w", entries, m.Name, err), m.dropOld(), to.Close())
	}
	m.Table.current.Store(to)
	return nil
}

// EndMove copies what the new table does not have from the old one, and lets go of
// that. It may be called again whenever it failed. progress, if not nil, is told
// how many entries it has looked at, and how many of them it copied.
func (m *Map) EndMove(progress func(passed, moved int)) error {
	old, err := m.old()
	if err != nil || old == nil {
		return err
	}
	same, err := sameMap(old, m.Table.Map())
	if err == nil && !same { // else BeginMove was killed half-way
		err = copyAbsent(old, m.Table.Map(), progress)
	}
	if err = errors.Join(err, old.Close()); err != nil {
		return fmt.Errorf("move entries of %s: %w", m.Name, err)
	}
	// Whoever missed an entry in the new table before it came there looks into the old
	// one next: putting a table in place waits for all of them.
	if err = m.Outer.Put(uint32(abi.CTableSlotTABLE_CURRENT), m.Table.Map()); err != nil {
		return fmt.Errorf("wait for programs that use %s: %w", m.Name, err)
	}
	return m.dropOld()
}

func (m *Map) dropOld() error {
	if err := m.Outer.Delete(uint32(abi.CTableSlotTABLE_OLD)); err != nil {
		return fmt.Errorf("let go of the old table of %s: %w", m.Name, err)
	}
	return nil
}

func sameMap(a, b *ebpf.Map) (bool, error) {
	infoA, errA := a.Info()
	infoB, errB := b.Info()
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	idA, _ := infoA.ID()
	idB, _ := infoB.ID()
	return idA == idB, nil
}
