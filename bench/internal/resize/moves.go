package resize

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
)

// Ways to move, as the tables have them.
const (
	wayKernel   = "flows, by the walk in the kernel (Placid)"
	wayBack     = "the same, back to half the size"
	wayBatch    = "flows, copied in batches from user space: wrong while packets use them"
	wayBackends = "backends, replaced (Placid)"
	wayNone     = "nothing"
	wayIdle     = "nothing, but a thread of the idle class runs"
)

// Cost is what one move took, in seconds.
type Cost struct {
	Make  float64 `json:"make"`  // the new table
	Begin float64 `json:"begin"` // to put both in place; 0 where nothing else does
	Move  float64 `json:"move"`  // the entries
	CPU   float64 `json:"cpu"`   // of the process, of Begin and Move
}

// timed returns how long f took, and how much CPU the process, in seconds.
func timed(f func() error) (took, cpu float64, err error) {
	began, before := time.Now(), processTime()
	err = f()
	return time.Since(began).Seconds(), (processTime() - before).Seconds(), err
}

// processTime is the CPU time of all threads, also of those that have ended.
func processTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for other arguments only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// begin makes a table of that size and puts it before the current one.
func (m *measurement) begin(entries uint32) error {
	to, err := m.flows().Sized(entries)
	if err != nil {
		return err
	}
	return errors.Join(m.put(to), to.Close())
}

// put puts a table before the current one, and lets go of that, so that its memory
// is free when the move has ended.
func (m *measurement) put(to *ebpf.Map) error {
	if err := m.collector.BeginMove(datapath.CTTCPMap, to); err != nil {
		return err
	}
	before := m.flows().Table.Map()
	return errors.Join(m.flows().Refresh(), before.Close())
}

// end moves all entries, and checks that these are at least so many.
func (m *measurement) end(ctx context.Context, least int) error {
	moves, err := m.collector.EndMove(ctx, datapath.CTTCPMap, nil)
	if err != nil {
		return err
	}
	n, err := m.entries(datapath.CTTCPMap)
	if err != nil {
		return err
	}
	if n < least || moves.Left != 0 {
		return fmt.Errorf("%d entries were in the new table after the move (%+v), want %d", n, moves, least)
	}
	return nil
}

// moves compares the ways to move a table of flows, and moves backends.
func (m *measurement) moves(ctx context.Context) error {
	n, small := m.spec.Size.Entries, m.spec.Size.tableSize()
	if err := errors.Join(m.begin(small), m.end(ctx, openFlows), m.fill(n-openFlows)); err != nil {
		return err
	}
	for range m.spec.Size.Moves {
		for _, i := range rand.Perm(2) {
			if i == 0 {
				if err := m.copyAll(2 * small); err != nil {
					return fmt.Errorf("copy: %w", err)
				}
				continue
			}
			for _, way := range []struct {
				name string
				size uint32
			}{{wayKernel, 2 * small}, {wayBack, small}} {
				if err := m.moveAll(ctx, way.name, way.size); err != nil {
					return fmt.Errorf("%s: %w", way.name, err)
				}
			}
		}
	}
	return m.replaceBackends()
}

// moveAll moves all flows to a table of that size.
func (m *measurement) moveAll(ctx context.Context, way string, entries uint32) error {
	var c Cost
	var to *ebpf.Map
	var err error
	if c.Make, _, err = timed(func() error { to, err = m.flows().Sized(entries); return err }); err != nil {
		return err
	}
	var cpu float64
	c.Begin, cpu, err = timed(func() error { return m.put(to) })
	c.CPU = cpu
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	c.Move, cpu, err = timed(func() error { return m.end(ctx, m.spec.Size.Entries) })
	c.CPU += cpu
	m.report.Moves[way] = append(m.report.Moves[way], c)
	return err
}

// copyAll copies the flows to a table of that size that nobody uses.
func (m *measurement) copyAll(entries uint32) error {
	var c Cost
	var to *ebpf.Map
	var err error
	if c.Make, _, err = timed(func() error { to, err = m.flows().Sized(entries); return err }); err != nil {
		return err
	}
	defer func() { _ = to.Close() }()
	copied := 0
	c.Move, c.CPU, err = timed(func() error {
		copied, err = copyFlows(context.Background(), m.flows().Table.Map(), to)
		return err
	})
	if err == nil && copied < m.spec.Size.Entries {
		err = fmt.Errorf("%d entries were copied, want %d", copied, m.spec.Size.Entries)
	}
	m.report.Moves[wayBatch] = append(m.report.Moves[wayBatch], c)
	return err
}

// copyFlows reads one table in batches, and writes them to another.
func copyFlows(ctx context.Context, from, to *ebpf.Map) (copied int, err error) {
	keys, entries := make([]abi.CCtKey, batch), make([]abi.CCtEntry, batch)
	var cursor ebpf.MapBatchCursor
	for ended := false; !ended && ctx.Err() == nil; {
		n, err := from.BatchLookup(&cursor, keys, entries, nil)
		ended = errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !ended {
			return copied, fmt.Errorf("read the table: %w", err)
		}
		if n == 0 {
			continue
		}
		if _, err := to.BatchUpdate(keys[:n], entries[:n], nil); err != nil {
			return copied, fmt.Errorf("write the new table: %w", err)
		}
		copied += n
	}
	return copied, ctx.Err()
}

// batch is how many entries are read or written at once.
const batch = 4096

// fill makes n more flows that live.
func (m *measurement) fill(n int) error {
	_, jiffies, err := m.counter.Count()
	if err != nil {
		return err
	}
	const established = uint64(abi.CCtFlagsCT_REPLIED | abi.CCtFlagsCT_ASSURED | abi.CCtFlagsCT_NON_SYN)
	entry := abi.CCtEntry{State: jiffies<<32 | established, Last: uint32(jiffies)}
	return fillTable(m.flows().Table.Map(), n, func(i int) (abi.CCtKey, abi.CCtEntry) { return flowNumber(i), entry })
}

// fillTable writes rows 0 to n-1.
func fillTable[K, V any](table *ebpf.Map, n int, row func(i int) (K, V)) error {
	keys, values := make([]K, 0, batch), make([]V, 0, batch)
	for i := range n {
		k, v := row(i)
		keys, values = append(keys, k), append(values, v)
		if len(keys) < batch && i+1 < n {
			continue
		}
		if _, err := table.BatchUpdate(keys, values, nil); err != nil {
			return fmt.Errorf("fill the table: %w", err)
		}
		keys, values = keys[:0], values[:0]
	}
	return nil
}

// flowNumber is the key of number i of a set without repetition, between ends that
// no pod has.
func flowNumber(i int) abi.CCtKey {
	key := abi.CCtKey{Proto: unix.IPPROTO_TCP, Port: [2]uint16{uint16(i), 443}}
	for side, addr := range []uint32{10<<24 | 64<<16 | uint32(i>>16), 10<<24 | 128<<16 | 1} {
		key.Addr[side].B[10], key.Addr[side].B[11] = 0xff, 0xff
		binary.BigEndian.PutUint32(key.Addr[side].B[12:], addr)
	}
	return key
}

// replaceBackends moves backends to a table of twice the size and back, in the way
// of tables that the agent alone writes.
func (m *measurement) replaceBackends() error {
	backends, n := m.loader.Map(datapath.BackendMap), m.spec.Size.Backends
	err := fillTable(backends.Table.Map(), n, func(i int) (abi.CBackendKey, abi.CBackend) {
		return abi.CBackendKey{List: uint32(i / 10), Slot: uint32(i % 10)}, abi.CBackend{Id: uint32(i)}
	})
	if err != nil {
		return err
	}
	for range m.spec.Size.Moves {
		for _, entries := range []int{2 * n, n} {
			copied := 0
			var c Cost
			c.Move, c.CPU, err = timed(func() error { return backends.Replace(uint32(entries), func(k int) { copied = k }) })
			if err == nil && copied != n {
				err = fmt.Errorf("%d were copied, want %d", copied, n)
			}
			if err != nil {
				return fmt.Errorf("replace the table of backends: %w", err)
			}
			if entries > n {
				m.report.Moves[wayBackends] = append(m.report.Moves[wayBackends], c)
			}
		}
	}
	return nil
}

// Work is how many entries moved, in how many moves that ended, and the seconds of
// CPU of all.
type Work struct {
	Entries uint64  `json:"entries"`
	Ended   int     `json:"ended"`
	CPU     float64 `json:"cpu"`
}

func (w *Work) add(o Work) {
	w.Entries, w.Ended, w.CPU = w.Entries+o.Entries, w.Ended+o.Ended, w.CPU+o.CPU
}

// moveUntil moves all flows to another table of that size again and again, until
// ctx ends. A move may be half done then.
func (m *measurement) moveUntil(ctx context.Context, entries uint32) (w Work, err error) {
	for ctx.Err() == nil {
		if err = m.begin(entries); err != nil {
			return w, err
		}
		var last conntrack.Moves
		last, err = m.collector.EndMove(ctx, datapath.CTTCPMap, nil)
		w.Entries += last.Passed()
		if errors.Is(err, context.Canceled) {
			return w, nil
		}
		if err != nil {
			return w, err
		}
		w.Ended++
	}
	return w, nil
}
