package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Config is what a Collector needs.
type Config struct {
	Tables   Tables
	Schedule Schedule
	// Needed tells whether there is anything to collect for: a node without
	// endpoints is left alone after the first pass. Nil: always.
	Needed func() bool
	// Sources is what masqueraded flows get; zero where there are none.
	Sources Sources
	// Pods names addresses, and finds the pod of a filter. Nil: there are none.
	Pods Pods
	Log  *slog.Logger
}

// Collector removes expired entries from time to time, and lists, counts and
// deletes entries on demand. Its methods may be called at the same time.
type Collector struct {
	cfg Config
	// stride is after how many entries a walk returns to user space; 0 as compiled.
	stride uint32
	// rescheduled wakes Run when the schedule changes.
	rescheduled chan struct{}
	// waiting counts those who wait for a pass: a paced one then does not rest.
	waiting atomic.Int32

	// passes is held during a pass of the collector.
	passes     sync.Mutex
	collectors walkers
	ports      *program // lists masqueraded flows; nil until it is needed
	// deletes is held while a walk deletes: for each step of a pass, and for all of
	// a flush, which so waits for one step at most. Taken after passes.
	deletes    sync.Mutex
	flushers   walkers
	forgetters walkers
	// dumps is held during a list.
	dumps  sync.Mutex
	dumper *program

	mu       sync.Mutex // guards what follows; held for moments
	schedule Schedule
	interval time.Duration
	stats    Stats
	last     *agentapi.CTCollection
	endedAt  time.Time
	problem  error
	counts   *Counter
	gone     *ebpf.Map // see Forget; nil until a program needs it
}

// New returns a collector. It does no I/O. Close it after use.
func New(cfg Config) *Collector {
	return &Collector{
		cfg: cfg, schedule: cfg.Schedule, interval: cfg.Schedule.First(),
		rescheduled: make(chan struct{}, 1), collectors: walkers{}, flushers: walkers{}, forgetters: walkers{},
		stats: newStats(),
	}
}

// Close unloads the programs. Call it when Run and all calls have returned.
func (c *Collector) Close() error {
	errs := []error{c.collectors.close(), c.flushers.close(), c.forgetters.close()}
	if c.gone != nil {
		errs = append(errs, c.gone.Close())
		c.gone = nil
	}
	if c.ports != nil {
		errs = append(errs, c.ports.Close())
		c.ports = nil
	}
	if c.dumper != nil {
		errs = append(errs, c.dumper.Close())
		c.dumper = nil
	}
	if c.counts != nil {
		errs = append(errs, c.counts.Close())
		c.counts = nil
	}
	return errors.Join(errs...)
}

// SetSchedule changes how often Run collects, from now on.
func (c *Collector) SetSchedule(s Schedule) {
	c.mu.Lock()
	c.schedule, c.interval = s, s.clamp(c.interval)
	c.mu.Unlock()
	select {
	case c.rescheduled <- struct{}{}:
	default:
	}
}

// Interval returns the time between two passes, as it is now.
func (c *Collector) Interval() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interval
}

// slowFirst is how long the first pass may work without a warning.
const slowFirst = 30 * time.Second

// Run collects at once, and then as scheduled, until ctx ends. A pass that fails
// is logged, reported by Status and tried again.
func (c *Collector) Run(ctx context.Context) error {
	c.scheduled(ctx, true)
	for {
		timer := time.NewTimer(time.Until(c.due()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.rescheduled:
			timer.Stop()
		case <-timer.C:
			if c.cfg.Needed == nil || c.cfg.Needed() {
				c.scheduled(ctx, false)
			} else {
				c.skipped()
			}
		}
	}
}

// due is when the next pass begins. What was collected on demand in between does
// not put it off.
func (c *Collector) due() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := c.interval
	if c.problem != nil {
		wait = min(wait, minInterval)
	}
	return c.stats.scheduledAt.Add(wait)
}

func (c *Collector) skipped() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.scheduledAt = time.Now()
}

// scheduled makes one pass of Run, paced so that it is done before half of the
// interval is over, and sets the interval by what it found. The first one makes
// room fast.
func (c *Collector) scheduled(ctx context.Context, first bool) {
	spread := c.Interval() / 2
	if first {
		spread = 0
	}
	before := c.lastEnd()
	start := time.Now()
	result, err := c.collect(ctx, spread)
	c.mu.Lock()
	c.stats.scheduledAt = time.Now()
	if err == nil && !first {
		c.interval = c.schedule.Next(c.interval, result.Ratio, start.Sub(before))
	}
	interval := c.interval
	c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.cfg.Log.Warn("collect conntrack entries", "error", err)
	case first && result.Busy > slowFirst:
		c.cfg.Log.Warn("the first collection of conntrack entries took long", "took", result.Busy,
			"alive", result.Alive(), "deleted", result.Deleted())
	default:
		c.cfg.Log.Debug("collected conntrack entries", "alive", result.Alive(), "deleted", result.Deleted(),
			"took", result.Took, "cpu", result.CPU, "interval", interval)
	}
}

func (c *Collector) lastEnd() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endedAt
}

// Collect makes a pass now, without rests, and returns when it is done. A paced
// pass that runs meanwhile hurries up.
func (c *Collector) Collect(ctx context.Context) (Result, error) { return c.collect(ctx, 0) }

func (c *Collector) collect(ctx context.Context, spread time.Duration) (Result, error) {
	if spread == 0 {
		c.waiting.Add(1)
	}
	c.passes.Lock()
	defer c.passes.Unlock()
	if spread == 0 {
		c.waiting.Add(-1)
	}
	result, err := c.passIdly(ctx, spread)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problem = err
	if errors.Is(err, context.Canceled) {
		c.problem = nil
	}
	c.stats.add(result)
	if err == nil {
		c.stats.Fullest = result.Fullest
		c.last, c.endedAt = new(result.Collection()), time.Now()
	}
	return result, err
}

// Stats returns the numbers of all passes so far, for metrics.
func (c *Collector) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.stats.clone()
	out.Interval, out.SourcePorts = c.interval, c.cfg.Sources.Ports
	return out
}

// Status tells how full the tables are and how collecting fares.
func (c *Collector) Status() (agentapi.ConntrackStatus, error) {
	counts, err := c.counter()
	if err != nil {
		return agentapi.ConntrackStatus{}, err
	}
	entries, _, err := counts.Count()
	if err != nil {
		return agentapi.ConntrackStatus{}, err
	}
	var out agentapi.ConntrackStatus
	for _, o := range c.cfg.Tables.outers() {
		t, err := o.current()
		if err != nil {
			return out, err
		}
		full := agentapi.CTTable{Entries: entries[mapName(o.name)], Size: uint64(t.MaxEntries())}
		if err := t.Close(); err != nil {
			return out, err
		}
		switch o.name {
		case tableTCP:
			out.TCP = full
		case tableAny:
			out.Any = full
		case tableNew:
			out.New = full
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out.LastCollection, out.CollectedAt, out.Interval = c.last, c.endedAt, c.interval
	if c.problem != nil {
		out.Problem = c.problem.Error()
	}
	return out, nil
}

func mapName(tableName string) string {
	return map[string]string{
		tableTCP: bpf.TablesMapCtTcpMap, tableAny: bpf.TablesMapCtAnyMap, tableNew: bpf.TablesMapCtNewMap,
	}[tableName]
}

func (c *Collector) counter() (*Counter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts != nil {
		return c.counts, nil
	}
	counted := map[string]*ebpf.Map{}
	for _, o := range c.cfg.Tables.outers() {
		counted[mapName(o.name)] = o.Map
	}
	var err error
	c.counts, err = NewCounter(maps.Clone(counted))
	if err != nil {
		return nil, fmt.Errorf("count conntrack entries: %w", err)
	}
	return c.counts, nil
}
