package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// Map is one opened map. Table is what holds the entries: Outer's current inner
// map, or Outer itself when it is no map of maps.
type Map struct {
	Name    string
	Outer   *ebpf.Map
	Table   *Table
	Adopted bool          // it was pinned already, and fits
	inner   *ebpf.MapSpec // of tables; nil when it is no map of maps
	foreign *foreign      // what holds entries of another layout; nil: nothing
}

// openMap adopts the map pinned below dir, or makes a new one that is not
// pinned yet.
func openMap(dir, name string, spec *ebpf.MapSpec) (*Map, error) {
	if spec.InnerMap != nil && spec.InnerMap.Value != nil {
		return openConvertible(dir, name, spec)
	}
	m, err := adoptMap(filepath.Join(dir, name), name, spec)
	if err != nil || m != nil {
		return m, err
	}
	return makeMap(name, spec)
}

// makeMap makes a map that is not pinned, with an empty table if it is a map of maps.
func makeMap(name string, spec *ebpf.MapSpec) (*Map, error) {
	spec = spec.Copy()
	spec.Pinning = ebpf.PinNone
	outer, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("create map %s: %w", name, err)
	}
	if spec.InnerMap == nil {
		return &Map{Name: name, Outer: outer, Table: NewTable(outer)}, nil
	}
	table, err := ebpf.NewMap(spec.InnerMap)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create table of %s: %w", name, err), outer.Close())
	}
	m := &Map{Name: name, Outer: outer, Table: NewTable(table), inner: spec.InnerMap}
	if err := outer.Put(uint32(abi.CTableSlotTABLE_CURRENT), table); err != nil {
		return nil, errors.Join(fmt.Errorf("put table into %s: %w", name, err), m.Close())
	}
	return m, nil
}

// adoptMap returns nil without an error when there is no pin, or when what is
// pinned does not fit the spec.
func adoptMap(pin, name string, spec *ebpf.MapSpec) (*Map, error) {
	outer, err := ebpf.LoadPinnedMap(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", pin, err)
	}
	m := &Map{Name: name, Outer: outer, Table: NewTable(outer), Adopted: true}
	if spec.Compatible(outer) != nil {
		return nil, m.Close()
	}
	if spec.InnerMap == nil {
		return m, nil
	}
	table, err := tableIn(outer, abi.CTableSlotTABLE_CURRENT)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open table of %s: %w", name, err), outer.Close())
	}
	if table == nil {
		return nil, m.Close() // made, but its table was never put in
	}
	m.inner, m.Table = spec.InnerMap, NewTable(table)
	want := spec.InnerMap
	if m.Table.Type() != want.Type || table.KeySize() != want.KeySize || m.Table.ValueSize() != want.ValueSize {
		return nil, m.Close()
	}
	return m, nil
}

// Close lets go of the descriptors; a pinned map stays.
func (m *Map) Close() error {
	if m.fixed() {
		return m.Outer.Close()
	}
	return errors.Join(m.Table.Close(), m.Outer.Close(), m.foreign.close())
}

// pinner is a program, map or link.
type pinner interface{ Pin(string) error }

// pinInPlace makes path name obj, whatever it named before, in one step.
func pinInPlace(obj pinner, path string) error {
	next := path + ":next" // the BPF file system takes no dot
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove left-over pin: %w", err)
	}
	if err := obj.Pin(next); err != nil {
		return fmt.Errorf("pin %s: %w", next, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("rename pin into place: %w", err)
	}
	return nil
}
