package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/layout"
)

// A map whose entries have another layout than the programs of this agent want is
// not adopted, but what it holds is kept (docs/adr/0012-layout-changes.md). Three
// pins say how far that is:
//
//	NAME, of another layout    programs use it, all of them or none
//	NAME:next                  the map for our programs, until all of them run
//	NAME:before                entries that are still to be brought into NAME
const (
	nextSuffix   = ":next"
	beforeSuffix = ":before"
)

// foreign is a map with entries of another layout.
type foreign struct {
	outer, table *ebpf.Map
	conversion   layout.Conversion
	pin          string // where it is pinned once Commit was called
}

func (f *foreign) close() error {
	if f == nil {
		return nil
	}
	return errors.Join(f.table.Close(), f.outer.Close())
}

// Differences names the fields that the conversion loses, and those that it makes zero.
func (m *Map) Differences() (lost, added []string) {
	if m.foreign == nil {
		return nil, nil
	}
	return m.foreign.conversion.Lost, m.foreign.conversion.Added
}

// Foreign tells from which table of another layout the map's entries come, and how
// they are converted. Nil: from none.
func (m *Map) Foreign() (*ebpf.Map, []abi.CCtSegment) {
	if m.foreign == nil {
		return nil, nil
	}
	return m.foreign.table, m.foreign.conversion.Segments
}

// openConvertible opens a map whose entries can be converted. The pins of a change
// of layout that was not completed are followed.
func openConvertible(dir, name string, spec *ebpf.MapSpec) (*Map, error) {
	pin := filepath.Join(dir, name)
	if err := completeCommit(pin); err != nil {
		return nil, fmt.Errorf("complete the change of layout of %s: %w", name, err)
	}
	m, err := adoptMap(pin, name, spec)
	if err != nil {
		return nil, err
	}
	if m != nil && m.sameLayout() {
		m.foreign, err = openForeign(pin+beforeSuffix, spec)
		return m, err
	}
	if m != nil {
		if err = m.Close(); err != nil {
			return nil, err
		}
	}
	f, problem := openForeign(pin, spec)
	if f != nil {
		if err = revive(pin, name, spec); err != nil {
			return nil, errors.Join(fmt.Errorf("take up map %s again: %w", name, err), f.close())
		}
		return openBeside(f, pin, name, spec)
	}
	if m, err = makeMap(name, spec); err != nil {
		return nil, err
	}
	return m, problem
}

// completeCommit makes the second rename of a commit that was killed between both.
func completeCommit(pin string) error {
	if _, err := os.Stat(pin); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(pin+nextSuffix, pin); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// revive is for an agent that finds its own map as the one before: another version
// replaced it, and was replaced by it before everything was brought over. The map is
// the next one then, and keeps what it still has.
func revive(pin, name string, spec *ebpf.MapSpec) error {
	if _, err := os.Stat(pin + nextSuffix); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m, err := adoptMap(pin+beforeSuffix, name, spec)
	if err != nil || m == nil {
		return err
	}
	ours := m.sameLayout()
	if err := m.Close(); err != nil || !ours {
		return err
	}
	return os.Rename(pin+beforeSuffix, pin+nextSuffix)
}

// openBeside opens the map that is to take the place of one of another layout, with
// room for all that is in that.
func openBeside(f *foreign, pin, name string, spec *ebpf.MapSpec) (*Map, error) {
	f.pin = pin + beforeSuffix
	if spec.InnerMap.MaxEntries < f.table.MaxEntries() {
		spec = spec.Copy()
		spec.InnerMap.MaxEntries = f.table.MaxEntries()
	}
	m, err := adoptMap(pin+nextSuffix, name, spec)
	if err == nil && m == nil {
		if m, err = makeMap(name, spec); err == nil {
			err = pinInPlace(m.Outer, pin+nextSuffix)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	m.Adopted, m.foreign = false, f
	return m, nil
}

// commitForeign makes the map the one of that name, and keeps the one before for
// its entries.
func (m *Map) commitForeign(dir string) error {
	pin := filepath.Join(dir, m.Name)
	if err := os.Rename(pin, pin+beforeSuffix); err != nil {
		return fmt.Errorf("keep map %s of another layout: %w", m.Name, err)
	}
	if err := os.Rename(pin+nextSuffix, pin); err != nil {
		return fmt.Errorf("put map %s of this layout into place: %w", m.Name, err)
	}
	return nil
}

// sameLayout tells whether the entries are laid out as the programs want. A table
// that does not say is taken for one.
func (m *Map) sameLayout() bool {
	want, ok := btf.UnderlyingType(m.inner.Value).(*btf.Struct)
	have, err := valueType(m.Table.Map(), want)
	if !ok || err != nil {
		return true
	}
	c, err := layout.Convert(have, want)
	return err == nil && c.Same()
}

// openForeign opens what is pinned if its entries can be converted. Nil without an
// error: there is nothing, or nothing that can be.
func openForeign(pin string, spec *ebpf.MapSpec) (*foreign, error) {
	outer, err := ebpf.LoadPinnedMap(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", pin, err)
	}
	f := &foreign{outer: outer, pin: pin}
	if f.table, err = tableIn(outer, abi.CTableSlotTABLE_CURRENT); err != nil || f.table == nil {
		return nil, errors.Join(err, outer.Close())
	}
	want, ok := btf.UnderlyingType(spec.InnerMap.Value).(*btf.Struct)
	if !ok || f.table.KeySize() != spec.InnerMap.KeySize || f.table.Type() != spec.InnerMap.Type {
		return nil, f.close()
	}
	have, err := valueType(f.table, want)
	if err == nil {
		f.conversion, err = layout.Convert(have, want)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: entries of %s: %w", ErrLayout, pin, err), f.close())
	}
	return f, nil
}

// ErrLayout is returned with a map whose entries could not be taken over from one
// of another layout: it is empty.
var ErrLayout = errors.New("unknown layout of entries")

// valueType reads the type of the table's values, named as want is.
func valueType(table *ebpf.Map, want *btf.Struct) (*btf.Struct, error) {
	if want == nil {
		return nil, layout.ErrUnknown
	}
	info, err := table.Info()
	if err != nil {
		return nil, fmt.Errorf("inspect table: %w", err)
	}
	id, ok := info.BTFID()
	if !ok {
		return nil, fmt.Errorf("%w: it was made without types", layout.ErrUnknown)
	}
	handle, err := btf.NewHandleFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open types of table: %w", err)
	}
	defer func() { _ = handle.Close() }()
	types, err := handle.Spec(nil)
	if err != nil {
		return nil, fmt.Errorf("read types of table: %w", err)
	}
	var have *btf.Struct
	if err := types.TypeByName(want.Name, &have); err != nil {
		return nil, fmt.Errorf("%w: %w", layout.ErrUnknown, err)
	}
	return have, nil
}
