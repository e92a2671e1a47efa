package autosize

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/placid-net/placid/internal/sizing"
)

// ErrConfig is returned for tables and budgets that make no sense.
var ErrConfig = errors.New("self-tuning of table sizes")

// Pause is the least time between two changes of a table that is not filling.
const Pause = 10 * time.Minute

// How full tables are. Above Limit they must never be.
const (
	Limit       = 0.85
	growFill    = 0.75 // a table grows, or
	aheadFill   = 0.80 // when it is about to be that full
	urgentFill  = 0.80 // the same before Pause is over
	urgentAhead = Limit
	shrinkFill  = 0.45 // most fill of Pause below which a table shrinks
	targetFill  = 0.60 // after a change
)

// Table is a table that the controller tunes.
type Table struct {
	sizing.Table
	// Min and Max are the sizes that it may get; equal ones: it is only counted.
	Min, Max int
	// Keep is how long an entry of a table that evicts is needed: older ones only
	// fill what is free, as the leftovers of a flood do, and are no reason to grow.
	// 0: every entry is needed.
	Keep time.Duration
	// Share is the part of the budget that it may grow to, 0 to 1; 0: all of it.
	Share float64
}

// Config is what a Controller works with.
type Config struct {
	// Budget is what all tables may take together, in bytes.
	Budget uint64
	Tables []Table
}

// Sample is what a table holds at a moment.
type Sample struct {
	Entries int
	Size    int
	// Old is the size of the table that entries are moving out of; 0: they are not.
	Old int
	// Waiting are entries that the agent would write if there were room.
	Waiting int
	// Inserts counts entries that were ever inserted, less those that moved on to
	// another table. Without it (0) a table with Keep is left as it is.
	Inserts int64
	// Failures counts inserts that ever found the table full.
	Failures uint64
}

// Action is what to do with a table.
type Action string

// The actions. A table that no decision names is left as it is.
const (
	Grow   Action = "grow"
	Shrink Action = "shrink"
	// Blocked is a table that should grow and must not: Decision.Limit says why.
	Blocked Action = "blocked"
)

// Bound is what a table cannot grow beyond.
type Bound string

// The bounds.
const (
	BoundBudget  Bound = "budget"
	BoundMaximum Bound = "maximum" // its Max or its Share
)

// Decision is what to do with one table, and why.
type Decision struct {
	Map      string // the table, e.g. "ct_tcp_map"
	Action   Action
	From, To int  // sizes; of Blocked, To is the one that is wanted
	Urgent   bool // before Pause is over
	// Limit is what allowed no larger size; of Grow: than To.
	Limit Bound
	// Missing is what the budget lacks, in bytes, with BoundBudget.
	Missing uint64
	// Reason is for people.
	Reason string
}

// Controller decides on sizes. It is not safe for concurrent use.
type Controller struct {
	budget uint64
	tables []*tracker
}

// New returns a controller that has seen nothing yet.
func New(cfg Config) (*Controller, error) {
	c := &Controller{budget: cfg.Budget}
	seen := map[string]bool{}
	for _, t := range cfg.Tables {
		switch {
		case seen[t.Map]:
			return nil, fmt.Errorf("%w: %s is given twice", ErrConfig, t.Map)
		case t.Min < 1 || t.Max < t.Min:
			return nil, fmt.Errorf("%w: %s: sizes %d to %d: want at least 1, and the first not above the last", ErrConfig, t.Map, t.Min, t.Max)
		case t.Share < 0 || t.Share > 1 || t.Keep < 0:
			return nil, fmt.Errorf("%w: %s: share %g, keep %s: want a share from 0 to 1 and a time of at least 0", ErrConfig, t.Map, t.Share, t.Keep)
		}
		seen[t.Map] = true
		c.tables = append(c.tables, &tracker{Table: t})
	}
	return c, nil
}

// Step takes the samples of a moment by map name, and gives what to change, the
// most urgent first. A table without a sample counts as it was last seen. Moments
// come in order; one that is not later than the last changes nothing.
func (c *Controller) Step(at time.Time, samples map[string]Sample) []Decision {
	var wishes []wish
	for _, t := range c.tables {
		s, ok := samples[t.Map]
		if !ok || s.Size < 1 || !t.observe(at, s) {
			continue
		}
		if w, ok := t.wish(at, t.Largest(c.budget)); ok {
			wishes = append(wishes, w)
		}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int {
		return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.full, b.full))
	})
	taken := c.Taken()
	var out []Decision
	for _, w := range wishes {
		d := w.decide(c.budget, taken)
		if d.Action != Blocked {
			taken += w.Bytes(d.To, w.last.Entries)
		}
		out = append(out, d)
	}
	return out
}

// Taken is what all tables take as they were last seen, those that entries are
// moving out of included, in bytes.
func (c *Controller) Taken() uint64 {
	taken := uint64(0)
	for _, t := range c.tables {
		taken += t.Bytes(t.last.Size, t.last.Entries)
		if t.last.Old > 0 {
			taken += t.Bytes(t.last.Old, t.last.Entries)
		}
	}
	return taken
}

// Largest is the largest size that the table may get by its Max and its Share of
// the budget.
func (t Table) Largest(budget uint64) int {
	if t.Share == 0 {
		return t.Max
	}
	limit := uint64(float64(budget) * t.Share)
	size := t.Max
	for size > t.Min && t.Bytes(size, size) > limit {
		size = max(stepBelow(size), t.Min)
	}
	return size
}

// Status is how a table stands as it was last seen.
type Status struct {
	Map           string
	Entries, Size int
	// Needed are the entries that count: see Table.Keep. Peak is the most of Pause.
	Needed, Peak int
	// Rate is how fast Needed grows, smoothed, in entries a second.
	Rate float64
}

// Status lists all tables that were seen.
func (c *Controller) Status() []Status {
	var out []Status
	for _, t := range c.tables {
		if t.seen {
			out = append(out, Status{
				Map: t.Map, Entries: t.last.Entries, Size: t.last.Size,
				Needed: ceil(t.needed), Peak: ceil(t.peaks.max()), Rate: t.slow,
			})
		}
	}
	return out
}

func ceil(f float64) int { return int(math.Ceil(f)) }
