package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

// convertible maps hold entries that cannot be made again: they outlive a change of
// their layout. By name, the map that programs find a table of another layout in.
func convertible() map[string]string {
	return map[string]string{
		bpf.PodMapCtTcpMap: bpf.PodMapCtTcpForeignMap,
		bpf.PodMapCtAnyMap: bpf.PodMapCtAnyForeignMap,
		bpf.PodMapCtNewMap: bpf.PodMapCtNewForeignMap,
	}
}

func isForeign(name string) bool { return strings.HasSuffix(name, "_foreign_map") }

// withTypes lets the tables of convertible maps say how their entries are laid out.
func withTypes(spec *ebpf.CollectionSpec) error {
	// Not every object has all types: the one of the ABI does.
	all, err := abi.LoadC()
	if err != nil {
		return fmt.Errorf("read compiled object: %w", err)
	}
	for name := range convertible() {
		ms := spec.Maps[name]
		if ms == nil {
			continue
		}
		var key, value *btf.Struct
		if err := errors.Join(all.Types.TypeByName("ct_key", &key), all.Types.TypeByName("ct_entry", &value)); err != nil {
			return fmt.Errorf("find types of %s: %w", name, err)
		}
		ms.InnerMap.Key, ms.InnerMap.Value = key, value
	}
	return nil
}

// openForeignMaps makes the maps that programs find tables of another layout in,
// and completes the constants by how entries are converted.
func (l *Loader) openForeignMaps(spec *ebpf.CollectionSpec, replace map[string]*ebpf.Map, cfg *abi.CConfig) error {
	for name, foreignName := range convertible() {
		ms := spec.Maps[foreignName]
		if ms == nil {
			continue
		}
		table, segments := l.maps[name].Foreign()
		if l.foreign[foreignName] == nil {
			outer, err := makeForeignMap(ms, table)
			if err != nil {
				return fmt.Errorf("create map %s: %w", foreignName, err)
			}
			l.foreign[foreignName] = outer
		}
		replace[foreignName] = l.foreign[foreignName]
		if table != nil {
			cfg.Foreign = 1
			copy(cfg.Segments[:], segments)
		}
	}
	return nil
}

func makeForeignMap(spec *ebpf.MapSpec, table *ebpf.Map) (*ebpf.Map, error) {
	spec = spec.Copy()
	spec.Pinning = ebpf.PinNone
	spec.InnerMap.MaxEntries = 1
	if table != nil {
		spec.InnerMap.ValueSize, spec.InnerMap.Flags = table.ValueSize(), table.Flags()
	}
	outer, err := ebpf.NewMap(spec)
	if err != nil || table == nil {
		return outer, err
	}
	if err := outer.Put(uint32(0), table); err != nil {
		return nil, errors.Join(err, outer.Close())
	}
	return outer, nil
}

// Problems are maps whose entries could not be taken over.
func (l *Loader) Problems() []error { return l.problems }

// Converted lists the maps whose entries come from a table of another layout, sorted.
func (l *Loader) Converted() []*Map {
	return slices.DeleteFunc(l.Maps(), func(m *Map) bool { return m.foreign == nil })
}

// DropForeign lets go of the table of another layout that the map's entries came
// from. Programs do not look into it any more.
func (l *Loader) DropForeign(m *Map) error {
	if m.foreign == nil {
		return nil
	}
	if err := l.foreign[convertible()[m.Name]].Delete(uint32(0)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("hide table of another layout of %s: %w", m.Name, err)
	}
	if err := os.Remove(m.foreign.pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("let go of %s of another layout: %w", m.Name, err)
	}
	err := m.foreign.close()
	m.foreign = nil
	return err
}
