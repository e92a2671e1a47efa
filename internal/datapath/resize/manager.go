package resize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
)

var (
	// ErrUnknown is returned for the name of a table that does not exist or has a
	// fixed size.
	ErrUnknown = errors.New("no table that can be resized")
	// ErrSize is returned for a size that no table may have.
	ErrSize = errors.New("impossible size")
	// ErrEntries is returned for a size that would not hold the entries that there are.
	ErrEntries = errors.New("too small for its entries")
	// ErrMemory is returned when the machine has no memory for the new table beside
	// the old one.
	ErrMemory = errors.New("not enough memory")
	// ErrBusy is returned while a table moves.
	ErrBusy = errors.New("a table moves already")
)

// Sizes that tables may have, in entries.
const (
	MinEntries = 16
	MaxEntries = 1 << 24
)

// headroom is the part of its entries that a new table must have free beside them:
// more come while they move.
const headroom = 8

// Flows moves conntrack tables. *conntrack.Collector implements it.
type Flows interface {
	BeginMove(mapName string, to *ebpf.Map) error
	EndMove(ctx context.Context, mapName string, progress func(conntrack.Moves)) (conntrack.Moves, error)
	Moving(mapName string) (bool, error)
}

// Kind is how a table moves.
type Kind int

// The kinds.
const (
	Written Kind = iota // by the agent alone
	Flow                // by programs, entry by entry: conntrack
	Kept                // by programs, whole values: affinity, sockets
)

// Table is one that can be resized.
type Table struct {
	*loader.Map
	Kind Kind
	// Writer is held while a table that the agent writes is replaced, so that none of
	// its changes is half done then. Nil where a change is a single write.
	Writer sync.Locker
	// Entries counts what is there.
	Entries func() (uint64, error)
	// Bytes is what a table of that many entries takes, of which live are there.
	Bytes func(entries, live int) uint64
}

// Config is what a Manager needs.
type Config struct {
	Tables []Table
	Flows  Flows
	// Available is the memory that the machine can give, in bytes.
	Available func() (uint64, error)
	// Done is told the end of every move, and of one that waits for room each time
	// that it does. Nil: nobody is.
	Done func(Move)
	Log  *slog.Logger
}

// Manager resizes tables, one at a time. Its methods may be called at the same time.
type Manager struct {
	cfg    Config
	tables map[string]Table
	moves  sync.Mutex // held during a move

	mu   sync.Mutex
	last map[string]*progress // by map name: the one that goes on, or the last one
}

// New returns a manager. It does no I/O.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg, tables: map[string]Table{}, last: map[string]*progress{}}
	for _, t := range cfg.Tables {
		m.tables[t.Name] = t
	}
	return m
}

// Names lists the maps whose tables can be resized, sorted.
func (m *Manager) Names() []string { return slices.Sorted(maps.Keys(m.tables)) }

// Resize gives the table of that map another size, in entries, and returns when all
// entries are in the new one. why is for people. A table that has the size already
// is left as it is.
//
// Errors: ErrUnknown, ErrSize, ErrEntries, ErrMemory, ErrBusy: nothing has begun.
// conntrack.ErrNoRoom: more entries came than the new table holds; those that are
// left work on from the old one, and Run moves them when there is room. That of
// ctx: Run goes on with it. Any other is the kernel's.
func (m *Manager) Resize(ctx context.Context, mapName string, entries uint32, why string) (Move, error) {
	if !m.moves.TryLock() {
		return Move{}, fmt.Errorf("resize %s: %w", mapName, ErrBusy)
	}
	defer m.moves.Unlock()
	t, ok := m.tables[mapName]
	if !ok {
		return Move{}, fmt.Errorf("resize %s: %w: there are %v", mapName, ErrUnknown, m.Names())
	}
	move := Move{Map: mapName, From: t.Table.MaxEntries(), To: entries, Why: why}
	if move.From == entries {
		return move, nil
	}
	if err := m.check(t, &move); err != nil {
		return move, fmt.Errorf("resize %s from %d to %d entries: %w", mapName, move.From, entries, err)
	}
	m.cfg.Log.Info("resizing a table", "map", mapName, "from", move.From, "to", entries, "entries", move.Total, "why", why)
	p := m.began(move)
	err := m.move(ctx, t, p, false)
	return m.ended(p, err), err
}

// check refuses what cannot end well, and fills in what there is to move.
func (m *Manager) check(t Table, move *Move) error {
	if move.To < MinEntries || move.To > MaxEntries {
		return fmt.Errorf("%w: allowed are %d to %d entries", ErrSize, MinEntries, MaxEntries)
	}
	if moving, err := m.moving(t); err != nil {
		return err
	} else if moving {
		return fmt.Errorf("%w: its entries are still on their way from an earlier size", ErrBusy)
	}
	live, err := t.Entries()
	if err != nil {
		return err
	}
	move.Total = live
	if least := live + live/headroom; uint64(move.To) < least {
		return fmt.Errorf("%w: it has %d: the least size is %d", ErrEntries, live, max(least, MinEntries))
	}
	needs := t.Bytes(int(move.To), int(live))
	available, err := m.cfg.Available()
	if err != nil {
		return err
	}
	move.Bytes = needs
	if needs > available {
		return fmt.Errorf("%w: the new table needs %d MiB beside the old one, and %d MiB are available", ErrMemory, mib(needs), available>>20)
	}
	return nil
}

// mib rounds up.
func mib(bytes uint64) uint64 { return (bytes + 1<<20 - 1) >> 20 }

func (m *Manager) moving(t Table) (bool, error) {
	if t.Kind == Flow {
		return m.cfg.Flows.Moving(t.Name)
	}
	return t.HasOld()
}

// move moves a table in the way of its kind. resumed: it has begun already.
func (m *Manager) move(ctx context.Context, t Table, p *progress, resumed bool) error {
	switch t.Kind {
	case Flow:
		return m.moveFlows(ctx, t, p, resumed)
	case Kept:
		return m.moveKept(t, p, resumed)
	case Written:
	}
	if t.Writer != nil {
		t.Writer.Lock()
		defer t.Writer.Unlock()
	}
	return t.Replace(p.to(), func(copied int) { p.moved(uint64(copied), uint64(copied)) })
}

func (m *Manager) moveFlows(ctx context.Context, t Table, p *progress, resumed bool) error {
	if !resumed {
		to, err := t.Sized(p.to())
		if err != nil {
			return err
		}
		err = m.cfg.Flows.BeginMove(t.Name, to)
		if err = errors.Join(err, to.Close()); err != nil {
			return err
		}
		if err := t.Refresh(); err != nil {
			return err
		}
	}
	moves, err := m.cfg.Flows.EndMove(ctx, t.Name, func(n conntrack.Moves) { p.flows(n) })
	p.flows(moves)
	return err
}

func (m *Manager) moveKept(t Table, p *progress, resumed bool) error {
	if !resumed {
		if err := t.BeginMove(p.to()); err != nil {
			return err
		}
	}
	return t.EndMove(func(passed, moved int) { p.moved(uint64(passed), uint64(moved)) })
}

// retryInterval is how often entries that found no room are tried again.
const retryInterval = 5 * time.Second

// Run ends what found no room, and what was stopped, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(retryInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
			m.Resume(ctx)
		}
	}
}

// Resume ends every move that has begun, also an earlier agent's, as far as there
// is room. What goes wrong is logged, and shown by Moves.
func (m *Manager) Resume(ctx context.Context) {
	for _, name := range m.Names() {
		t := m.tables[name]
		m.moves.Lock()
		moving, err := m.moving(t)
		if err == nil && moving {
			p := m.resumed(t)
			err = m.move(ctx, t, p, true)
			m.ended(p, err)
		}
		m.moves.Unlock()
		if err != nil && ctx.Err() == nil && !errors.Is(err, conntrack.ErrNoRoom) {
			m.cfg.Log.Error("end the move of a table", "map", name, "error", err)
		}
	}
}
