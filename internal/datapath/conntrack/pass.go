package conntrack

import (
	"context"
	"errors"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/timing"
)

// Result is what one pass over all tables found.
type Result struct {
	// Kinds has the numbers of each kind of entry.
	Kinds [kinds]KindResult
	// Ratio is the largest share of its size that a table lost.
	Ratio float64
	// Took is the time from begin to end, Busy that without rests, and CPU the
	// processor time.
	Took, Busy, CPU time.Duration
	// Fullest are the destinations that masqueraded flows take most source ports
	// towards, ten at most, the fullest first.
	Fullest []Fill
}

// kinds is how many kinds of entries are told apart.
const kinds = int(bpf.TablesCtKindCT_KINDS)

// KindResult is what a pass found of one kind of entries. Alive and Deleted
// together are the entries that the tables had.
type KindResult struct {
	Alive, Deleted uint64
	// Busy is how long the walks over the tables with such entries took, without
	// rests. Complete tells that they came to their end.
	Busy     time.Duration
	Complete bool
}

// Alive is the sum of all kinds.
func (r *Result) Alive() (n uint64) {
	for _, k := range r.Kinds {
		n += k.Alive
	}
	return n
}

// Deleted is the sum of all kinds.
func (r *Result) Deleted() (n uint64) {
	for _, k := range r.Kinds {
		n += k.Deleted
	}
	return n
}

// Collection is the result in the form of the agent's API.
func (r *Result) Collection() agentapi.CTCollection {
	return agentapi.CTCollection{Alive: r.Alive(), Deleted: r.Deleted(), Took: r.Took, CPU: r.CPU}
}

// add counts a walk over one table in.
func (r *Result) add(t table, totals *bpf.TablesCtTotals, busy time.Duration, complete bool) {
	deleted := uint64(0)
	for i := range r.Kinds {
		k := &r.Kinds[i]
		k.Alive += totals.Alive[i]
		k.Deleted += totals.Deleted[i]
		deleted += totals.Deleted[i]
		if holds(t.name, i) {
			k.Busy += busy
			k.Complete = k.Complete && complete
		}
	}
	r.Busy += busy
	if t.Map != nil {
		r.Ratio = max(r.Ratio, float64(deleted)/float64(t.MaxEntries()))
	}
}

// holds tells whether a table has entries of a kind.
func holds(name string, kind int) bool {
	tcp := kind&int(bpf.TablesCtKindCT_KIND_TCP) != 0
	return name == tableNew || tcp == (name == tableTCP)
}

// passIdly makes a pass on an idle thread.
func (c *Collector) passIdly(ctx context.Context, spread time.Duration) (Result, error) {
	tables, err := c.prepare()
	if err != nil {
		return Result{}, err
	}
	defer func() {
		for _, t := range tables {
			for _, m := range []*ebpf.Map{t.Map, t.old.Map} {
				if m != nil {
					_ = m.Close() // a copy of a descriptor
				}
			}
		}
	}()
	ports, portsErr := c.portsLocked()
	var out Result
	err = onIdleThread(func() error {
		p := pace{begin: time.Now(), spread: spread, hurry: c.hurry}
		var passErr error
		out, passErr = c.pass(ctx, tables, p)
		if ports != nil {
			cpu := threadTime()
			out.Fullest, portsErr = c.countPorts(ctx, ports, p)
			out.Took, out.CPU = time.Since(p.begin), out.CPU+threadTime()-cpu
		}
		return errors.Join(passErr, portsErr)
	})
	return out, err
}

func (c *Collector) hurry() bool { return c.waiting.Load() > 0 }

// prepared is a table with the program that collects in it, or why it has none.
type prepared struct {
	table
	old    table // that flows are moving out of; its Map is nil when there is none
	walker *program
	err    error
}

// prepare opens the tables as they are now. It is not for the idle thread: whoever
// loads programs holds locks of the kernel that others wait for.
func (c *Collector) prepare() ([]prepared, error) {
	if _, err := c.cfg.Tables.settings(); err != nil {
		return nil, err
	}
	var out []prepared
	for _, o := range c.cfg.Tables.outers() {
		p := prepared{table: table{name: o.name}}
		if t, err := o.current(); err != nil {
			p.err = err
		} else {
			p.table = t
			p.walker, p.err = c.walker(c.collectors, bpf.TablesProgCtCollect, t)
			if p.err == nil {
				p.old, p.err = o.old()
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// pass walks all tables. One that fails does not keep it from the others.
func (c *Collector) pass(ctx context.Context, tables []prepared, p pace) (Result, error) {
	result := Result{}
	var errs []error
	for i := range result.Kinds {
		result.Kinds[i].Complete = true
	}
	cpu := threadTime()
	for _, t := range tables {
		if t.err == nil {
			t.err = ctx.Err()
		}
		var totals bpf.TablesCtTotals
		var busy time.Duration
		if t.err == nil {
			totals, busy, t.err = c.collectTable(ctx, t, p)
		}
		result.add(t.table, &totals, busy, t.err == nil)
		errs = append(errs, t.err)
	}
	result.Took, result.CPU = time.Since(p.begin), threadTime()-cpu
	return result, errors.Join(errs...)
}

func (c *Collector) collectTable(ctx context.Context, t prepared, p pace) (totals bpf.TablesCtTotals, busy time.Duration, err error) {
	if t.old.Map != nil {
		begin := time.Now()
		c.deletes.Lock()
		defer c.deletes.Unlock()
		totals, err = c.deleteWhileMoving(ctx, t.old, t.table, deletion{c.collectors, bpf.TablesProgCtCollect, bpf.TablesCtFilter{}})
		return totals, time.Since(begin), err
	}
	if err = errors.Join(t.walker.reset(bpf.TablesCtFilter{}), t.walker.set(bpf.TablesVarSweeping, flag(false))); err != nil {
		return totals, 0, err
	}
	var buf [1]byte
	err = walk(ctx, t.walker, t.table, buf[:], func(read func() (int, error)) error {
		took, stepErr := c.step(read)
		busy += took
		if stepErr != nil {
			return stepErr
		}
		return p.rest(ctx, took)
	})
	totals, totalsErr := t.walker.totals()
	return totals, busy, errors.Join(err, totalsErr)
}

// step makes one step of a pass, and returns how long it took.
func (c *Collector) step(read func() (int, error)) (time.Duration, error) {
	c.deletes.Lock()
	defer c.deletes.Unlock()
	begin := time.Now()
	_, err := read()
	return time.Since(begin), err
}

// Rests of a paced pass.
const (
	restFactor  = 19 // times the step before it: a pass takes a twentieth of a CPU
	longestRest = 50 * time.Millisecond
)

// pace spreads a pass.
type pace struct {
	begin  time.Time
	spread time.Duration // no rests after this time; 0: none at all
	hurry  func() bool
}

// rest sleeps after a step. The error is that of ctx.
func (p pace) rest(ctx context.Context, took time.Duration) error {
	if p.spread == 0 || p.hurry() {
		return ctx.Err()
	}
	d := restAfter(took, time.Since(p.begin), p.spread)
	if d <= 0 {
		return ctx.Err()
	}
	timing.Sleep(ctx, d)
	return ctx.Err()
}

// restAfter returns how long to rest after a step that took some time, elapsed
// after the begin of a pass that is to be done within spread.
func restAfter(took, elapsed, spread time.Duration) time.Duration {
	return max(0, min(restFactor*took, longestRest, spread-elapsed))
}

// threadTime returns the processor time of the calling thread.
func threadTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0 // cannot be: the argument is right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
