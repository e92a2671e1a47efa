package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Folder is Placid's folder below the mount point of the BPF file system.
const Folder = "placid"

// ErrNoBPFFS is returned when the root is not a mounted BPF file system.
var ErrNoBPFFS = errors.New("not a BPF file system")

// Names of the programs, which are also those of their pins.
const (
	FromPod     = "from_pod"
	FromNetdev  = "from_netdev"
	ToNetdev    = "to_netdev"
	FromOverlay = "from_overlay"
	ToOverlay   = "to_overlay"
	ToPod       = "to_pod"
)

// Loader holds the loaded programs and opened maps.
type Loader struct {
	root     string // bpffs/placid
	maps     map[string]*Map
	programs map[string]*ebpf.Program
	entries  map[string]uint32
	running  bool                 // links were pinned already when it was opened
	cgroup   *cgroup              // where sockets are balanced; nil: nowhere
	foreign  map[string]*ebpf.Map // what programs find tables of another layout in
	before   []*ebpf.Map          // what programs find those of before in
	problems []error
}

// Sizes are the entries that tables are made with, by the name of their map;
// others have what the object says. A table that is adopted keeps its size.
type Sizes map[string]uint32

// Open checks the BPF file system at bpfRoot, adopts or makes every map and
// loads every program with cfg. Nothing that runs is touched before Commit and
// AttachTCX. The error of a program that the verifier refuses holds its log.
func Open(bpfRoot string, cfg abi.CConfig, sizes Sizes) (*Loader, error) {
	if err := checkBPFFS(bpfRoot); err != nil {
		return nil, err
	}
	l := &Loader{
		root:     filepath.Join(bpfRoot, Folder),
		maps:     map[string]*Map{},
		programs: map[string]*ebpf.Program{},
		foreign:  map[string]*ebpf.Map{},
		entries:  sizes,
	}
	for _, dir := range []string{"maps", "programs", "links"} {
		if err := os.MkdirAll(filepath.Join(l.root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("create pin folder: %w", err)
		}
	}
	links, err := l.Links().Count()
	if err != nil {
		return nil, err
	}
	l.running = len(links) > 0
	objects := []func() (*ebpf.CollectionSpec, error){bpf.LoadPod, bpf.LoadNetdev}
	if cfg.Tunnel != 0 {
		objects = append(objects, bpf.LoadOverlay)
	}
	if cfg.Services != 0 {
		objects = append(objects, bpf.LoadSock)
	}
	for _, load := range objects {
		if err := l.load(load, cfg); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

func checkBPFFS(root string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fmt.Errorf("bpf-root %s: %w: mount it on the node: mount -t bpf bpf %s", root, err, root)
	}
	if uint32(st.Type) != unix.BPF_FS_MAGIC {
		return fmt.Errorf("bpf-root %s: %w (type %#x): mount it on the node, mount -t bpf bpf %s, and give it to the agent's pod with mountPropagation Bidirectional",
			root, ErrNoBPFFS, uint32(st.Type), root)
	}
	return nil
}

// load opens the maps of one object that are not open yet, and loads its programs.
func (l *Loader) load(loadSpec func() (*ebpf.CollectionSpec, error), cfg abi.CConfig) error {
	spec, err := loadSpec()
	if err != nil {
		return fmt.Errorf("read compiled object: %w", err)
	}
	replace, err := l.openMaps(spec, cfg)
	if err != nil {
		return err
	}
	if err = l.openForeignMaps(spec, replace, &cfg); err != nil {
		return err
	}
	if v, ok := spec.Variables["config"]; ok {
		if err = v.Set(cfg); err != nil {
			return fmt.Errorf("set load-time constants: %w", err)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return fmt.Errorf("load programs %v: %w", slices.Sorted(maps.Keys(spec.Programs)), err)
	}
	defer coll.Close()
	for name := range spec.Programs {
		l.programs[name] = coll.DetachProgram(name)
		if cfg.Foreign == 0 {
			continue
		}
		if err := l.letWork(name, coll.DetachMap(name+versionBefore)); err != nil {
			return err
		}
	}
	return nil
}

// openMaps opens the maps of an object that are not open yet, and returns all of
// them by name.
func (l *Loader) openMaps(spec *ebpf.CollectionSpec, cfg abi.CConfig) (map[string]*ebpf.Map, error) {
	if err := withTypes(spec); err != nil {
		return nil, err
	}
	opened := map[string]*ebpf.Map{}
	for name, ms := range spec.Maps {
		if ms.Name == "" || ms.Name[0] == '.' || name[0] == '.' || isForeign(name) || ofVersionBefore(name) {
			continue // .rodata belongs to the program
		}
		if name == bpf.PodMapMaglevMap && cfg.MaglevSize > 0 {
			ms.InnerMap.ValueSize = cfg.MaglevSize * uint32(binary.Size(cfg.MaglevSize))
		}
		if n := l.entries[name]; n != 0 {
			ms.InnerMap.MaxEntries = n
		}
		if l.maps[name] == nil {
			if err := l.openMap(name, ms); err != nil {
				return nil, err
			}
		}
		opened[name] = l.maps[name].Outer
	}
	return opened, nil
}

func (l *Loader) openMap(name string, spec *ebpf.MapSpec) error {
	m, err := openMap(filepath.Join(l.root, "maps"), name, spec)
	if errors.Is(err, ErrLayout) && m != nil {
		l.problems = append(l.problems, err)
		err = nil
	}
	if err == nil {
		l.maps[name] = m
	}
	return err
}

// Commit pins the maps and programs under their names. Call it once the links
// run the new programs: until then the pins are those of what runs.
func (l *Loader) Commit() error {
	if err := l.takeOver(); err != nil {
		return err
	}
	for name, m := range l.maps {
		if m.Adopted {
			continue
		}
		if m.foreign != nil {
			if err := m.commitForeign(filepath.Join(l.root, "maps")); err != nil {
				return err
			}
			m.Adopted = true
			continue
		}
		if err := pinInPlace(m.Outer, filepath.Join(l.root, "maps", name)); err != nil {
			return err
		}
		m.Adopted = true
	}
	for name, p := range l.programs {
		if err := pinInPlace(p, filepath.Join(l.root, "programs", name)); err != nil {
			return err
		}
	}
	return l.unpinUnused()
}

// unpinUnused removes the pins of programs that an earlier configuration had.
func (l *Loader) unpinUnused() error {
	dir := filepath.Join(l.root, "programs")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list pinned programs: %w", err)
	}
	for _, e := range entries {
		if l.programs[e.Name()] != nil {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("unpin unused program: %w", err)
		}
	}
	return nil
}

// Adopted tells whether the map was pinned already, so that it holds what an
// earlier agent put in.
func (l *Loader) Adopted(name string) bool { return l.maps[name] != nil && l.maps[name].Adopted }

// Running tells whether programs ran on this node when the loader was opened.
func (l *Loader) Running() bool { return l.running }

// Map returns the opened map, or nil for a name that no program has.
func (l *Loader) Map(name string) *Map { return l.maps[name] }

// Maps returns the opened maps ordered by name.
func (l *Loader) Maps() []*Map {
	out := make([]*Map, 0, len(l.maps))
	for _, name := range slices.Sorted(maps.Keys(l.maps)) {
		out = append(out, l.maps[name])
	}
	return out
}

// Program returns the loaded program, or nil for an unknown name.
func (l *Loader) Program(name string) *ebpf.Program { return l.programs[name] }

// Programs returns the names of the loaded programs, sorted.
func (l *Loader) Programs() []string { return slices.Sorted(maps.Keys(l.programs)) }

// Close lets go of all descriptors. What is pinned stays and keeps running.
func (l *Loader) Close() error {
	errs := []error{l.cgroup.close()}
	for _, m := range l.foreign {
		errs = append(errs, m.Close())
	}
	for _, m := range l.before {
		errs = append(errs, m.Close())
	}
	for _, p := range l.programs {
		errs = append(errs, p.Close())
	}
	for _, m := range l.maps {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// RemoveAll unpins everything below bpfRoot's Placid folder: links end, then
// programs and maps are freed. What is absent is success.
func RemoveAll(bpfRoot string) error {
	root := filepath.Join(bpfRoot, Folder)
	for _, dir := range []string{"links", "programs", "maps", ""} {
		if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
			return fmt.Errorf("remove pins: %w", err)
		}
	}
	return nil
}
