package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

const pinRoot = "/sys/fs/bpf/placid"

// countPrograms counts the programs that run on the node's devices or are
// pinned, by the kernel's ids, and the links that run them.
func countPrograms() (programs, links int, err error) {
	ids := map[ebpf.ProgramID]bool{}
	paths, err := pins("links")
	if err != nil {
		return 0, 0, err
	}
	for _, path := range paths {
		id, linkErr := programOfLink(path)
		if linkErr != nil {
			return 0, 0, linkErr
		}
		ids[id] = true
	}
	pinned, err := pins("programs")
	if err != nil {
		return 0, 0, err
	}
	for _, path := range pinned {
		id, programErr := pinnedProgram(path)
		if programErr != nil {
			return 0, 0, programErr
		}
		ids[id] = true
	}
	return len(ids), len(paths), nil
}

func programOfLink(path string) (ebpf.ProgramID, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return 0, fmt.Errorf("open link %s: %w", path, err)
	}
	info, err := l.Info()
	if err = errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("inspect link %s: %w", path, err)
	}
	return info.Program, nil
}

func pinnedProgram(path string) (ebpf.ProgramID, error) {
	p, err := ebpf.LoadPinnedProgram(path, nil)
	if err != nil {
		return 0, fmt.Errorf("open program %s: %w", path, err)
	}
	info, err := p.Info()
	if err = errors.Join(err, p.Close()); err != nil {
		return 0, fmt.Errorf("inspect program %s: %w", path, err)
	}
	id, _ := info.ID()
	return id, nil
}

// mapMemory is the memory of all pinned maps and of those inside them, in MiB,
// as the kernel accounts for it.
func mapMemory() (float64, error) {
	paths, err := pins("maps")
	if err != nil {
		return 0, err
	}
	sum := uint64(0)
	for _, path := range paths {
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			return 0, fmt.Errorf("open map %s: %w", path, err)
		}
		bytes, err := memoryOf(m)
		if err = errors.Join(err, m.Close()); err != nil {
			return 0, fmt.Errorf("inspect map %s: %w", path, err)
		}
		sum += bytes
	}
	return float64(sum) / (1 << 20), nil
}

func memoryOf(m *ebpf.Map) (uint64, error) {
	info, err := m.Info()
	if err != nil {
		return 0, err
	}
	sum, _ := info.Memlock() // an empty trie takes none
	if m.Type() != ebpf.ArrayOfMaps {
		return sum, nil
	}
	for slot := range m.MaxEntries() {
		var id ebpf.MapID
		err := m.Lookup(slot, &id)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		inner, err := ebpf.NewMapFromID(id)
		if err != nil {
			return 0, err
		}
		bytes, err := memoryOf(inner)
		if err = errors.Join(err, inner.Close()); err != nil {
			return 0, err
		}
		sum += bytes
	}
	return sum, nil
}

func pins(folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(pinRoot, folder))
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, filepath.Join(pinRoot, folder, e.Name()))
	}
	return out, nil
}
