package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/placid-net/placid/internal/datapath"
)

// result is what a run found.
type result struct {
	Options  options    `json:"options"`
	Began    time.Time  `json:"began"`
	Windows  windows    `json:"windows"`
	Emptied  span       `json:"emptied"`
	Moves    moves      `json:"moves"`
	Changes  changes    `json:"changes"`
	Compared int        `json:"compared"` // entries of dumps
	Lost     int        `json:"lost"`
	Failures []failure  `json:"failures"`
	Dropped  []dropped  `json:"dropped"`
	Inserts  []inserts  `json:"inserts"`
	Fill     []fullness `json:"fill"`
	// Latencies by kind, of all windows of a sort.
	Latencies []latency `json:"latencies"`
	Over      []over    `json:"over"`
	Opened    int       `json:"opened"`
}

// windows are the spans of each sort of window.
type windows map[sort][]span

// sort is what happens in a window.
type sort string

const (
	quiet   sort = "quiet"
	moving  sort = "moving"
	killing sort = "killing" // moves, and kills of the agent
	layouts sort = "layouts" // other versions take over
	emptied sort = "emptied"
)

// sorts are those that take turns, in the order of tables.
func sorts() []sort { return []sort{quiet, moving, killing, layouts} }

// text says what happens, as the head of a column.
func (s sort) text() string {
	return map[sort]string{quiet: "without moves", moving: "with moves", killing: "and kills", layouts: "other layouts", emptied: "with empty tables"}[s]
}

// dropped is how many packets a reason took in a part of the run.
type dropped struct {
	When            sort
	Program, Reason string
	Event           bool // no drop: counted beside what became of the packet
	Packets         uint64
}

// inserts are what the kernel refused, by table.
type inserts struct {
	Map string
	datapath.Inserts
}

// latency is that of a kind, in microseconds.
type latency struct {
	Kind string
	In   map[sort]quantiles
}

// quantiles of samples, in microseconds, and how many a second there were.
type quantiles struct {
	Rate, P50, P90, P99, P999, Max float64
}

// over is the latency of queries in one tick, in microseconds.
type over struct {
	At       time.Time
	P50, P99 float64
}

// node is a run in progress.
type node struct {
	options
	log     *slog.Logger
	lab     *lab
	agent   *agentProcess
	watcher *watcher
	mover   *mover
	load    *process
	result  result
	last    map[string]uint64 // drops, at the last look
}

// runNode makes the lab in this process's namespaces and goes through all windows.
func runNode(ctx context.Context, o options) (*result, error) {
	n := &node{
		options: o, log: slog.New(slog.NewTextHandler(os.Stderr, nil)), agent: newAgent(o.Size),
		result: result{Windows: windows{}},
	}
	servers, err := n.begin()
	if err != nil {
		return nil, err
	}
	sampling, sampled := context.WithCancel(ctx)
	fills := make(chan []fullness)
	go func() { fills <- n.sample(sampling) }()
	n.result.Options, n.result.Began = o, time.Now().UTC()
	err = n.windows(ctx)
	sampled()
	n.result.Fill = <-fills
	if err != nil {
		return nil, err
	}
	if err := n.finish(); err != nil {
		return nil, err
	}
	n.agent.kill()
	errs := []error{n.watcher.close()}
	for _, s := range servers {
		errs = append(errs, s.close())
	}
	return &n.result, errors.Join(errs...)
}

// begin starts everything, and returns the servers.
func (n *node) begin() (servers []*process, err error) {
	if n.lab, err = newLab(); err != nil {
		return nil, err
	}
	if err = n.agent.start(); err != nil {
		return nil, err
	}
	err = n.agent.connect(n.lab.client, clientAddr, true)
	for i, a := range serverAddrs {
		if err == nil {
			err = n.agent.connect(n.lab.servers[i], a, false)
		}
	}
	if err != nil {
		return nil, err
	}
	for i, a := range append([]netip.Addr{outsideAddr}, serverAddrs...) {
		s, startErr := start(append([]*space{n.lab.outside}, n.lab.servers...)[i], "server", serverSpec{a})
		if startErr != nil {
			return nil, startErr
		}
		servers = append(servers, s)
	}
	if n.watcher, err = newWatcher(); err != nil {
		return nil, err
	}
	if err = n.watcher.fill(n.Fillers); err != nil {
		return nil, err
	}
	if n.mover, err = newMover(n.agent, n.options); err != nil {
		return nil, err
	}
	n.load, err = start(n.lab.client, "load", loadSpec{n.options})
	n.log.Info("the load has begun", "connections", n.Connections)
	return servers, err
}

// windows goes through all of them.
func (n *node) windows(ctx context.Context) error {
	time.Sleep(n.Window / 2) // to get into step
	if err := n.drops(""); err != nil {
		return err
	}
	for round := range n.Rounds {
		err := n.window(ctx, quiet, func() error { return rest(ctx, n.Window) })
		if err == nil {
			err = n.compared(ctx, moving, func() error { return n.moves(ctx, false) })
		}
		if err == nil {
			err = n.compared(ctx, killing, func() error { return n.moves(ctx, true) })
		}
		if err == nil && n.Other != "" {
			err = n.compared(ctx, layouts, func() error { return n.changeLayouts(ctx) })
		}
		if err != nil {
			return err
		}
		n.log.Info("round", "number", round+1, "of", n.Rounds, "moves", n.mover.report.Done, "kills", n.mover.report.Kills,
			"changes", n.result.Changes.Done, "lost", n.result.Lost)
	}
	n.result.Moves = n.mover.report
	var refused map[string]datapath.Inserts
	if err := n.agent.call("Refusals", None{}, &refused); err != nil {
		return err
	}
	for _, name := range tablesToMove() {
		n.result.Inserts = append(n.result.Inserts, inserts{name, refused[name]})
	}
	return n.empty()
}

// window does something that takes as long as a window, and notes when.
func (n *node) window(ctx context.Context, what sort, do func() error) error {
	began := time.Now()
	if err := errors.Join(ctx.Err(), do()); err != nil {
		return err
	}
	n.result.Windows[what] = append(n.result.Windows[what], span{began, time.Now()})
	return n.drops(what)
}

// compared is a window with what was there before compared with what is there after,
// both outside of what is measured.
func (n *node) compared(ctx context.Context, what sort, do func() error) error {
	before, err := n.watcher.dump(ctx)
	if err != nil {
		return err
	}
	if err = n.window(ctx, what, do); err != nil {
		return err
	}
	after, err := n.watcher.dump(ctx)
	if err != nil {
		return err
	}
	compared, gone := lost(before, after)
	n.result.Compared, n.result.Lost = n.result.Compared+compared, n.result.Lost+len(gone)
	for _, flow := range gone[:min(len(gone), shownLost)] {
		n.log.Error("lost", "in", what, "flow", flow)
	}
	return nil
}

// moves moves tables until the window is over.
func (n *node) moves(ctx context.Context, kills bool) error {
	for began := time.Now(); time.Since(began) < n.Window; {
		if err := errors.Join(ctx.Err(), n.mover.move(kills)); err != nil {
			return err
		}
	}
	return nil
}

// empty does what others do: the agent ends, the tables are made anew.
func (n *node) empty() error {
	if n.Empty == 0 {
		return nil
	}
	n.agent.kill()
	began := time.Now()
	if err := errors.Join(n.watcher.empty(), n.agent.start()); err != nil {
		return err
	}
	time.Sleep(n.Empty)
	n.result.Emptied = span{began, time.Now()}
	return n.drops(emptied)
}

// shownLost is how many lost flows of a window are named.
const shownLost = 5

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// drops notes how many packets were dropped since the last look.
func (n *node) drops(when sort) error {
	var counters []datapath.Counter
	if err := n.agent.call("Counters", None{}, &counters); err != nil {
		return err
	}
	now := map[string]uint64{}
	for _, c := range counters {
		if !c.Drop && !c.Event {
			continue
		}
		key := c.Program + " " + c.Reason
		now[key] = c.Packets
		if d := c.Packets - n.last[key]; d > 0 && when != "" {
			n.result.Dropped = append(n.result.Dropped, dropped{when, c.Program, c.Reason, c.Event, d})
		}
	}
	n.last = now
	return nil
}

// sample looks at the tables once a tick.
func (n *node) sample(ctx context.Context) (out []fullness) {
	for rest(ctx, tick) == nil {
		if f, err := n.watcher.fullness(); err == nil {
			out = append(out, f)
		}
	}
	return out
}

// finish ends the load and sums up what it measured.
func (n *node) finish() error {
	if err := n.load.in.Close(); err != nil {
		return err
	}
	s := newSamples()
	if err := gob.NewDecoder(n.load.out).Decode(s); err != nil {
		return fmt.Errorf("read what the load measured: %w", err)
	}
	if err := n.load.cmd.Wait(); err != nil {
		return fmt.Errorf("end the load: %w", err)
	}
	n.result.Failures, n.result.Opened = s.Failures, n.Connections
	for _, kind := range []string{longDirect, longService, longMasked, freshDirect, fresh, queries, masked} {
		l := latency{kind, map[sort]quantiles{}}
		for what, spans := range n.result.Windows {
			l.In[what] = summed(s, kind, spans)
		}
		n.result.Latencies = append(n.result.Latencies, l)
	}
	from, to := tickOf(n.result.Began), tickOf(time.Now())
	for at := from; at < to; at++ {
		begin := time.Unix(0, at*int64(tick))
		took := s.during(queries, []span{{begin, begin.Add(tick + 1)}})
		if len(took) > 0 {
			n.result.Over = append(n.result.Over, over{begin, quantile(took, 0.5), quantile(took, 0.99)})
		}
	}
	return nil
}

// summed are the quantiles of a kind in all of the spans.
func summed(s *samples, kind string, spans []span) quantiles {
	took := s.during(kind, spans)
	var seconds float64
	for _, sp := range spans {
		seconds += sp.End.Sub(sp.Begin).Seconds()
	}
	if len(took) == 0 || seconds == 0 {
		return quantiles{}
	}
	return quantiles{
		float64(len(took)) / seconds,
		quantile(took, 0.5), quantile(took, 0.9), quantile(took, 0.99), quantile(took, 0.999), float64(took[len(took)-1]),
	}
}
