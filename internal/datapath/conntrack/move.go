package conntrack

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

var (
	// ErrMoving is returned when a table moves already.
	ErrMoving = errors.New("the table moves already")
	// ErrNotMoving is returned when a table has no old one.
	ErrNotMoving = errors.New("the table does not move")
	// ErrNoRoom is returned when the new table was full before all entries were in
	// it. Those that are left work on from the old one.
	ErrNoRoom = errors.New("the new table has no room for all entries")
)

// Moves counts what became of the entries of an old table in one walk.
type Moves struct {
	Moved   uint64 // by this walk
	Present uint64 // were in the new table already: moved before, or by a packet
	Ended   uint64 // expired or deleted, left behind
	Left    uint64 // still in the old table for lack of room
}

// Passed is the number of entries that the walk has come by.
func (m Moves) Passed() uint64 { return m.Moved + m.Present + m.Ended + m.Left }

// BeginMove puts another table in the place of the one that mapName, an outer
// map's name, holds: packets insert into the new one from now on, and find in the
// old one what has not moved yet. It returns when no program uses the old table
// alone any more. Call EndMove then, now or in another life: the two slots of the
// outer map are all that there is to know. docs/adr/0011-moving-tables.md.
//
// Errors: ErrMoving, or that of the kernel; nothing has changed then.
func (c *Collector) BeginMove(mapName string, to *ebpf.Map) error {
	o, err := c.outerOf(mapName)
	if err != nil {
		return err
	}
	// Nobody may be deleting from what becomes the old table.
	c.waiting.Add(1)
	c.passes.Lock()
	c.waiting.Add(-1)
	defer c.passes.Unlock()
	c.deletes.Lock()
	defer c.deletes.Unlock()
	moving, err := o.moves()
	if err != nil {
		return err
	}
	if moving {
		return fmt.Errorf("move conntrack table %s: %w", o.name, ErrMoving)
	}
	from, err := o.current()
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	if err := o.Put(uint32(abi.CTableSlotTABLE_OLD), from.Map); err != nil {
		return fmt.Errorf("put the old conntrack table %s: %w", o.name, err)
	}
	if err := o.Put(uint32(abi.CTableSlotTABLE_CURRENT), to); err != nil {
		return errors.Join(fmt.Errorf("put the new conntrack table %s: %w", o.name, err), o.dropOld())
	}
	return nil
}

// Moving tells whether mapName's table has an old one.
func (c *Collector) Moving(mapName string) (bool, error) {
	o, err := c.outerOf(mapName)
	if err != nil {
		return false, err
	}
	return o.moves()
}

// EndMove moves what is left in mapName's old table, and lets go of that. Now and
// then it calls progress, if that is not nil, from another goroutine that runs
// when nobody else wants the processor. It may be called again whenever it ended
// early.
//
// Errors: ErrNotMoving; ErrNoRoom, with what is left: the table still has an old
// one then, and everything works on; or that of ctx or the kernel.
func (c *Collector) EndMove(ctx context.Context, mapName string, progress func(Moves)) (Moves, error) {
	var out Moves
	o, err := c.outerOf(mapName)
	if err != nil {
		return out, err
	}
	from, err := o.old()
	if err != nil {
		return out, err
	}
	if from.Map == nil {
		return out, fmt.Errorf("conntrack table %s: %w", o.name, ErrNotMoving)
	}
	defer func() { _ = from.Close() }()
	to, err := o.current()
	if err != nil {
		return out, err
	}
	defer func() { _ = to.Close() }()
	if from.id != to.id { // else BeginMove was killed half-way
		if out, err = c.moveAll(ctx, bpf.TablesProgCtMove, from, to, nil, progress); err != nil {
			return out, err
		}
	}
	if out.Left > 0 {
		return out, fmt.Errorf("conntrack table %s: %d entries left, the new table has room for %d: %w",
			o.name, out.Left, to.MaxEntries(), ErrNoRoom)
	}
	c.deletes.Lock() // a flush may be marking entries of the old one
	defer c.deletes.Unlock()
	// A program that missed an entry in the new table before it came there looks into
	// the old one next.
	if err = barrier(); err != nil {
		return out, err
	}
	return out, o.dropOld()
}

// Bring takes what is in a table of another layout into mapName's table, where
// packets may have taken some of it already. No program may use that table any more
// but to look entries up that are not in the other one. segments say how an entry is
// converted. It may be called again whenever it ended early; then, and with
// ErrNoRoom, everything works on. docs/adr/0012-layout-changes.md.
func (c *Collector) Bring(ctx context.Context, mapName string, foreign *ebpf.Map, segments []abi.CCtSegment, progress func(Moves)) (Moves, error) {
	o, err := c.outerOf(mapName)
	if err != nil {
		return Moves{}, err
	}
	to, err := o.current()
	if err != nil {
		return Moves{}, err
	}
	defer func() { _ = to.Close() }()
	if err = barrier(); err != nil { // programs that were replaced a moment ago
		return Moves{}, err
	}
	out, err := c.moveAll(ctx, bpf.TablesProgCtBring, table{name: o.name, Map: foreign}, to, segments, progress)
	if err == nil && out.Left > 0 {
		err = fmt.Errorf("convert conntrack table %s: %d entries left, the new table has room for %d: %w", o.name, out.Left, to.MaxEntries(), ErrNoRoom)
	}
	return out, err
}

// moveAll walks a table with a program that puts what it finds into another one, on
// an idle thread.
func (c *Collector) moveAll(ctx context.Context, name string, from, to table, segments []abi.CCtSegment, progress func(Moves)) (Moves, error) {
	spec, err := loadSpec(c.stride)
	if err != nil {
		return Moves{}, err
	}
	var constant [abi.CLayoutConstantsCT_SEGMENTS]abi.CCtSegment
	copy(constant[:], segments)
	if err = spec.Variables[bpf.TablesVarSegments].Set(constant); err != nil {
		return Moves{}, fmt.Errorf("set load-time constants: %w", err)
	}
	target := spec.Maps[bpf.TablesMapTargetMap]
	target.Type, target.MaxEntries, target.Flags = to.Type(), to.MaxEntries(), to.Flags()
	p, err := load(name, spec, map[string]*ebpf.Map{
		bpf.TablesMapTargetMap: to.Map, bpf.TablesMapSettingsMap: c.cfg.Tables.Settings,
	})
	if err != nil {
		return Moves{}, err
	}
	defer func() { _ = p.Close() }()
	var out Moves
	err = onIdleThread(func() error {
		var buf [1]byte
		return walk(ctx, p, from, buf[:], func(read func() (int, error)) error {
			if _, readErr := read(); readErr != nil {
				return readErr
			}
			var movesErr error
			if out, movesErr = p.moves(); movesErr == nil && progress != nil {
				progress(out)
			}
			return movesErr
		})
	})
	return out, err
}

func (p *program) moves() (Moves, error) {
	var m bpf.TablesCtMoves
	if err := p.variables[bpf.TablesVarMoves].Get(&m); err != nil {
		return Moves{}, fmt.Errorf("read progress of move: %w", err)
	}
	return Moves{Moved: m.Moved, Present: m.Present, Ended: m.Ended, Left: m.Left}, nil
}

// onIdleThread runs f on a thread of its own that runs when nobody else wants the
// processor, and ends with it.
func onIdleThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: nobody else may get a thread like this
		err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		if err != nil {
			done <- fmt.Errorf("set scheduling policy idle: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// deleteWhileMoving makes a deleting walk over a table that flows move into. What is
// deleted there must not come back from the old table: whoever met a flow's mark
// there may be about to copy it.
func (c *Collector) deleteWhileMoving(ctx context.Context, from, to table, w deletion) (bpf.TablesCtTotals, error) {
	old, err := c.deleteFromTable(ctx, from, w, walkMode{frozen: true})
	if err != nil {
		return old, err
	}
	if err = barrier(); err != nil {
		return old, err
	}
	if _, err = c.deleteFromTable(ctx, to, w, walkMode{before: from.Map}); err != nil {
		return old, err
	}
	if err = barrier(); err != nil {
		return old, err
	}
	out, err := c.deleteFromTable(ctx, to, w, walkMode{sweep: true})
	for i := range out.Deleted {
		out.Deleted[i] += old.Deleted[i]
		out.Alive[i] += old.Alive[i]
	}
	return out, err
}

// barrier returns when all programs that run now have ended.
func barrier() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL, linux/membarrier.h
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		return fmt.Errorf("wait for running programs: %w", errno)
	}
	return nil
}
