package gc

import (
	"context"
	"errors"
	"time"

	"github.com/placid-net/placid/bench/internal/trips"
)

// latencies measures round trips between the pods while each way, or none,
// makes pass after pass.
func (m *measurement) latencies(ctx context.Context) error {
	pods, err := trips.Begin(m.spec.Trips, m.spec.Node.Pods, m.cpu)
	if err != nil {
		return err
	}
	defer pods.Close()
	return trips.InTurn(m.spec.Size.Rounds, []string{wayNone, wayKernel, wayBatch}, func(way string) error {
		return m.latencyRound(ctx, pods, way)
	})
}

func (m *measurement) latencyRound(ctx context.Context, pods *trips.Pair, way string) error {
	collecting, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	var work Work
	go func() {
		var err error
		for way != wayNone && collecting.Err() == nil && err == nil {
			var o outcome
			if o, err = collect(collecting, way, m.collector, m.table); err == nil {
				work.Passes++
			}
			work.CPU += o.cpu.Seconds()
		}
		done <- err
	}()
	l, err := pods.Measure(ctx, time.Duration(m.spec.Size.Seconds*float64(time.Second)))
	cancel()
	if collected := <-done; !errors.Is(collected, context.Canceled) {
		err = errors.Join(err, collected)
	}
	if err != nil {
		return err
	}
	m.report.Latency[way] = append(m.report.Latency[way], l)
	work.Passes += m.report.Work[way].Passes
	work.CPU += m.report.Work[way].CPU
	m.report.Work[way] = work
	return nil
}
