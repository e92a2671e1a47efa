package resize

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/trips"
	"github.com/placid-net/placid/internal/datapath"
)

// beginAfter is when something begins to move: the client has its connection then,
// so that the flow that is measured moves too.
const beginAfter = 100 * time.Millisecond

// latencyWays are what goes on while round trips are measured.
func latencyWays() []string { return []string{wayNone, wayIdle, wayKernel, wayBatch} }

// latencies measures round trips between the pods while each way, or none, moves
// all flows.
func (m *measurement) latencies(ctx context.Context) error {
	pods, err := trips.Begin(m.spec.Trips, m.spec.Node.Pods, m.cpu)
	if err != nil {
		return err
	}
	defer pods.Close()
	return trips.InTurn(m.spec.Size.Rounds, latencyWays(), func(way string) error { return m.latencyRound(ctx, pods, way) })
}

func (m *measurement) latencyRound(ctx context.Context, pods *trips.Pair, way string) error {
	moving, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		Work
		err error
	}
	done := make(chan answer, 1)
	go func() {
		w, err := m.work(moving, way)
		done <- answer{w, err}
	}()
	l, err := pods.Measure(ctx, time.Duration(m.spec.Size.Seconds*float64(time.Second)))
	cancel()
	a := <-done
	if err = errors.Join(err, a.err); err != nil {
		return err
	}
	m.report.Latency[way] = append(m.report.Latency[way], l)
	sum := m.report.Work[way]
	sum.add(a.Work)
	m.report.Work[way] = sum
	unfinished, err := m.collector.Moving(datapath.CTTCPMap)
	if err == nil && unfinished {
		err = m.end(ctx, m.spec.Size.Entries)
	}
	return err
}

// work moves or copies all flows to a table of twice their size until ctx ends.
func (m *measurement) work(ctx context.Context, way string) (w Work, err error) {
	entries := 2 * m.spec.Size.tableSize()
	select {
	case <-ctx.Done():
		return w, nil
	case <-time.After(beginAfter):
	}
	_, cpu, err := timed(func() error {
		switch way {
		case wayIdle:
			err = idle(ctx)
		case wayKernel:
			w, err = m.moveUntil(ctx, entries)
		case wayBatch:
			w, err = m.copyUntil(ctx, entries)
		}
		return err
	})
	w.CPU = cpu
	return w, err
}

// idle keeps a thread of the idle class busy until ctx ends: what the scheduler does
// otherwise when there is one is no cost of a move.
func idle(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: nobody else may get a thread like this
		err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		for err == nil && ctx.Err() == nil {
			continue
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("set scheduling policy idle: %w", err)
	}
	return nil
}

// copyUntil copies all flows to another table of that size again and again, until
// ctx ends.
func (m *measurement) copyUntil(ctx context.Context, entries uint32) (w Work, err error) {
	for ctx.Err() == nil {
		to, err := m.flows().Sized(entries)
		if err != nil {
			return w, err
		}
		n, err := copyFlows(ctx, m.flows().Table.Map(), to)
		w.Entries += uint64(n)
		if err = errors.Join(err, to.Close()); errors.Is(err, context.Canceled) {
			return w, nil
		}
		if err != nil {
			return w, err
		}
		w.Ended++
	}
	return w, nil
}
