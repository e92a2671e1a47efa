package resize

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"

	benchbpf "github.com/placid-net/placid/bench/internal/bpf"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

const (
	rodata        = ".rodata" // the map of a program's constants
	foreignSuffix = "_foreign_map"
)

var errNoConstants = errors.New("the program has no constants")

// openProgram opens a pinned program of the node.
func openProgram(name string) (*ebpf.Program, error) {
	p, err := ebpf.LoadPinnedProgram(node.Root+"/programs/"+name, nil)
	if err != nil {
		return nil, fmt.Errorf("open program %s: %w", name, err)
	}
	return p, nil
}

// configOf reads what a loaded program of pod.bpf.c was configured with.
func configOf(p *ebpf.Program) (cfg abi.CConfig, err error) {
	info, err := p.Info()
	if err != nil {
		return cfg, fmt.Errorf("inspect program: %w", err)
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		constants, err := constantsIn(id)
		if err != nil {
			return cfg, err
		}
		if constants == nil {
			continue
		}
		spec, err := bpf.LoadPod()
		if err != nil {
			return cfg, fmt.Errorf("read compiled object: %w", err)
		}
		v := spec.Variables[bpf.PodVarConfig]
		if err := v.Set(constants[v.Offset:][:v.Size()]); err != nil {
			return cfg, fmt.Errorf("read load-time constants: %w", err)
		}
		return cfg, v.Get(&cfg)
	}
	return cfg, errNoConstants
}

// constantsIn reads the map if it holds a program's constants; else nil.
func constantsIn(id ebpf.MapID) ([]byte, error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open map %d: %w", id, err)
	}
	defer func() { _ = m.Close() }()
	info, err := m.Info()
	if err != nil {
		return nil, fmt.Errorf("inspect map %d: %w", id, err)
	}
	if !strings.HasSuffix(info.Name, rodata) {
		return nil, nil
	}
	out := make([]byte, m.ValueSize())
	if err := m.Lookup(uint32(0), &out); err != nil {
		return nil, fmt.Errorf("read map %s: %w", info.Name, err)
	}
	return out, nil
}

// loadPlain loads from_pod as it is with plain maps, which are the tables that the
// node's maps of maps hold now. Close the program after use.
func loadPlain(cfg abi.CConfig) (p *ebpf.Program, err error) {
	spec, err := benchbpf.LoadPlain()
	if err != nil {
		return nil, fmt.Errorf("read compiled object: %w", err)
	}
	if err = spec.Variables[benchbpf.PlainVarConfig].Set(cfg); err != nil {
		return nil, fmt.Errorf("set load-time constants: %w", err)
	}
	replace := map[string]*ebpf.Map{}
	defer func() {
		for _, m := range replace {
			err = errors.Join(err, m.Close())
		}
	}()
	for name, ms := range spec.Maps {
		switch {
		case strings.HasPrefix(name, "."):
			continue
		case strings.HasSuffix(name, foreignSuffix): // nothing is of another layout here
			ms.InnerMap.MaxEntries = 1
			continue
		case ms.InnerMap == nil:
			replace[name], err = node.OpenMap(name)
		default:
			if replace[name], err = node.OpenTable(name); err == nil {
				spec.Maps[name] = plain(ms, replace[name])
			}
		}
		if err != nil {
			return nil, err
		}
	}
	for name := range spec.Programs {
		if name != benchbpf.PlainProgFromPod {
			delete(spec.Programs, name)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return nil, fmt.Errorf("load from_pod with plain maps: %w", err)
	}
	defer coll.Close()
	return coll.DetachProgram(benchbpf.PlainProgFromPod), nil
}

// plain describes a table as a map of its own.
func plain(outer *ebpf.MapSpec, table *ebpf.Map) *ebpf.MapSpec {
	return &ebpf.MapSpec{
		Name: outer.Name, Type: table.Type(), KeySize: table.KeySize(), ValueSize: table.ValueSize(),
		MaxEntries: table.MaxEntries(), Flags: table.Flags(),
	}
}
