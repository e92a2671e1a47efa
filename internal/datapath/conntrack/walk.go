package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/placid-net/placid/internal/datapath/bpf"
)

// program is one loaded program with its variables.
type program struct {
	*ebpf.Program
	table     ebpf.MapID // that it deletes from, if it does
	variables map[string]*ebpf.Variable
}

// load loads the program of that name, which uses these maps and no other.
func load(name string, spec *ebpf.CollectionSpec, uses map[string]*ebpf.Map) (*program, error) {
	only := map[string]*ebpf.ProgramSpec{name: spec.Programs[name]}
	spec.Programs = only
	maps.DeleteFunc(spec.Maps, func(name string, _ *ebpf.MapSpec) bool {
		return uses[name] == nil && !strings.HasPrefix(name, ".")
	})
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: uses})
	if err != nil {
		return nil, fmt.Errorf("load program %s: %w", name, err)
	}
	defer coll.Close()
	return &program{Program: coll.DetachProgram(name), variables: coll.Variables}, nil
}

// loadWalker loads a program that walks t and deletes entries of it, or marks them in
// the table before it too; t itself where there is none.
func (c *Collector) loadWalker(name string, t table, before *ebpf.Map) (*program, error) {
	if err := c.openGone(); err != nil {
		return nil, err
	}
	spec, err := loadSpec(c.stride)
	if err != nil {
		return nil, err
	}
	for mapName, m := range map[string]*ebpf.Map{bpf.TablesMapWalkedMap: t.Map, bpf.TablesMapBeforeMap: before} {
		ms := spec.Maps[mapName]
		ms.Type, ms.MaxEntries, ms.Flags = m.Type(), m.MaxEntries(), m.Flags()
	}
	p, err := load(name, spec, map[string]*ebpf.Map{
		bpf.TablesMapWalkedMap: t.Map, bpf.TablesMapBeforeMap: before,
		bpf.TablesMapSettingsMap: c.cfg.Tables.Settings, bpf.TablesMapGoneMap: c.gone,
	})
	if err != nil {
		return nil, fmt.Errorf("conntrack table %s: %w", t.name, err)
	}
	p.table = t.id
	return p, nil
}

// walkers are the programs of one name, by the name of the table that they are for.
type walkers map[string]*program

// walker returns the program of that name for the table, loaded anew when the
// table is another one than before.
func (c *Collector) walker(w walkers, name string, t table) (*program, error) {
	if p := w[t.name]; p != nil {
		if p.table == t.id {
			return p, nil
		}
		delete(w, t.name)
		if err := p.Close(); err != nil {
			return nil, err
		}
	}
	p, err := c.loadWalker(name, t, t.Map)
	if err != nil {
		return nil, err
	}
	w[t.name] = p
	return p, nil
}

func (w walkers) close() error {
	var errs []error
	for _, p := range w {
		errs = append(errs, p.Close())
	}
	clear(w)
	return errors.Join(errs...)
}

// loadSpec reads the compiled object. stride is after how many entries a walk
// writes something; 0 leaves it as compiled.
func loadSpec(stride uint32) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadTables()
	if err != nil {
		return nil, fmt.Errorf("read compiled object: %w", err)
	}
	if stride > 0 {
		if err := spec.Variables[bpf.TablesVarStride].Set(stride); err != nil {
			return nil, fmt.Errorf("set load-time constants: %w", err)
		}
	}
	return spec, nil
}

func (p *program) set(name string, value any) error {
	if err := p.variables[name].Set(value); err != nil {
		return fmt.Errorf("prepare walk: %w", err)
	}
	return nil
}

// reset forgets the last deleting walk and what it left undone.
func (p *program) reset(filter bpf.TablesCtFilter) error {
	return errors.Join(p.set(bpf.TablesVarTotals, bpf.TablesCtTotals{}), p.set(bpf.TablesVarFilter, filter),
		p.set(bpf.TablesVarFound, uint32(0)), p.set(bpf.TablesVarSettled, uint32(0)), p.set(bpf.TablesVarPassed, uint32(0)))
}

// totals are those of the last deleting walk.
func (p *program) totals() (out bpf.TablesCtTotals, err error) {
	if err = p.variables[bpf.TablesVarTotals].Get(&out); err != nil {
		err = fmt.Errorf("read totals of walk: %w", err)
	}
	return out, err
}

// walk runs an iterator over the table. Each step is one read; its bytes are in
// buf[:n]. A step may rest, and ends the walk with an error.
func walk(ctx context.Context, p *program, t table, buf []byte, step func(read func() (n int, err error)) error) error {
	iter, err := link.AttachIter(link.IterOptions{Program: p.Program, Map: t.Map})
	if err != nil {
		return fmt.Errorf("walk conntrack table %s: %w", t.name, err)
	}
	defer func() { _ = iter.Close() }()
	seq, err := iter.Open()
	if err != nil {
		return fmt.Errorf("walk conntrack table %s: %w", t.name, err)
	}
	defer func() { _ = seq.Close() }()
	ended := false
	read := func() (int, error) {
		n, err := seq.Read(buf)
		switch {
		case errors.Is(err, io.EOF):
			ended = true
		case err != nil:
			return n, fmt.Errorf("walk conntrack table %s: %w", t.name, err)
		}
		return n, nil
	}
	for !ended {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(read); err != nil {
			return err
		}
	}
	return nil
}
