package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/sizing"
)

const (
	tick        = 0.1 // seconds
	sampleEvery = 10  // ticks
	noise       = 0.05
	points      = 360 // of a course
)

// embryonicLife is how long an embryonic flow is there before it expires, in
// seconds.
const embryonicLife = 60

// Point is how a table stood in a part of the trace, when it was fullest.
type Point struct {
	At           time.Duration
	Fill         float64 // of the entries that count
	Entries      int     // those
	Size, Oracle int     // at the end of the part
}

// Course is what became of one table.
type Course struct {
	Map, Label string
	Highest    float64 // fill
	Failures   float64 // inserts that found it full
	Early      float64 // evicted before they were done with
	Resizes    int
	Urgent     int // of the resizes: before ten minutes were over
	// Closest is the least time from any resize to one that was not urgent; 0 if
	// there was none.
	Closest time.Duration
	Points  []Point
}

// Result is what became of a trace. Memory is in bytes.
type Result struct {
	Trace  Trace
	Budget uint64
	Tables []Course
	// What all tables took and what the oracle's took: mean over time, and most.
	Mean, OracleMean, Most, OracleMost float64
	// Blocked counts the seconds in which a table should have had another size and
	// the budget had no room; Bounded those in which its own maximum had none.
	Blocked, Bounded int
	Reasons          []string // of all changes, in order, with their time
}

// Table gives the course of a table, nil if it took no part.
func (r *Result) Table(name string) *Course {
	i := slices.IndexFunc(r.Tables, func(c Course) bool { return c.Map == name })
	if i < 0 {
		return nil
	}
	return &r.Tables[i]
}

// node is the simulated machine.
type node struct {
	trace      Trace
	rng        *rand.Rand
	tables     []*table
	controller *autosize.Controller
	result     Result
}

// Run plays a trace.
func Run(trace Trace) (Result, error) {
	n, err := newNode(trace)
	if err != nil {
		return Result{}, fmt.Errorf("simulate %s: %w", trace.Name, err)
	}
	ticks := int(trace.Length.Seconds() / tick)
	for i := range ticks {
		now := float64(i) * tick
		n.flow(now)
		if i%sampleEvery == 0 && !trace.Fixed {
			n.control(now)
		}
		n.measure(now, i*points/ticks)
	}
	n.result.Mean /= float64(ticks)
	n.result.OracleMean /= float64(ticks)
	for _, t := range n.tables {
		t.course.Failures = t.failures
		n.result.Tables = append(n.result.Tables, t.course)
	}
	return n.result, nil
}

// newNode makes a node with the sizes that follow from its memory.
func newNode(trace Trace) (*node, error) {
	sizes, err := sizing.Plan(sizing.Input{Memory: trace.Memory, Ratio: 0.0025})
	if err != nil {
		return nil, err
	}
	n := &node{trace: trace, rng: rand.New(rand.NewPCG(1, uint64(len(trace.Name))))}
	n.result = Result{Trace: trace, Budget: sizing.DefaultBudget(trace.Memory, sizes)}
	cfg := autosize.Config{Budget: n.result.Budget}
	for _, tuned := range autosize.Tunable(sizes) {
		if !slices.Contains([]string{TCP, Any, Embryonic, Backends}, tuned.Map) {
			continue
		}
		t := &table{Table: tuned, size: sizes.Entries(tuned.Map), largest: tuned.Largest(cfg.Budget)}
		if tuned.Map == Embryonic {
			t.queue = make([]float64, int(embryonicLife/tick))
		}
		t.course.Map, t.course.Label = tuned.Map, tuned.Label
		cfg.Tables = append(cfg.Tables, tuned)
		n.tables = append(n.tables, t)
	}
	n.warm()
	n.controller, err = autosize.New(cfg)
	return n, err
}

// warm puts the entries in place that the load at the beginning would have made.
func (n *node) warm() {
	load := n.trace.Load(0)
	for _, t := range n.tables {
		switch t.Map {
		case TCP:
			t.entries = load.TCP * load.TCPLife
		case Any:
			t.entries = load.Any * load.AnyLife
		}
	}
}

// flow plays one tick to all tables.
func (n *node) flow(now float64) {
	load := n.trace.Load(now)
	for _, t := range n.tables {
		t.move(now)
		switch t.Map {
		case TCP:
			t.flow(n.amount(load.TCP), (1/load.TCPLife+load.Cut)*tick)
		case Any:
			t.flow(n.amount(load.Any), (1/load.AnyLife+load.Cut)*tick)
		case Embryonic:
			t.evict(n.amount(load.OneWay))
		case Backends:
			t.hold(load.Backends)
		}
	}
}

// amount is how many arrive in a tick at a rate a second.
func (n *node) amount(rate float64) float64 {
	return max(rate*tick*(1+noise*n.rng.NormFloat64()), 0)
}

// control lets the controller decide, and carries out what it can: the agent
// moves one table at a time.
func (n *node) control(now float64) {
	samples := map[string]autosize.Sample{}
	busy := false
	for _, t := range n.tables {
		samples[t.Map] = t.sample()
		busy = busy || t.moving()
	}
	at := time.Unix(0, int64(now*float64(time.Second)))
	blocked, bounded := false, false
	for _, d := range n.controller.Step(at, samples) {
		blocked = blocked || d.Limit == autosize.BoundBudget
		bounded = bounded || d.Limit == autosize.BoundMaximum
		if d.Action == autosize.Blocked || busy {
			continue
		}
		i := slices.IndexFunc(n.tables, func(t *table) bool { return t.Map == d.Map })
		n.tables[i].begin(now, d)
		busy = true
		n.result.Reasons = append(n.result.Reasons, fmt.Sprintf("%s %s", time.Duration(now)*time.Second, d.Reason))
	}
	if blocked {
		n.result.Blocked++
	}
	if bounded {
		n.result.Bounded++
	}
}

func (n *node) measure(now float64, bucket int) {
	taken, oracle := 0.0, 0.0
	for _, t := range n.tables {
		t.measure(now, bucket)
		taken += t.taken()
		oracle += float64(t.Bytes(t.oracle(), int(t.entries)))
	}
	r := &n.result
	r.Mean, r.OracleMean = r.Mean+taken, r.OracleMean+oracle
	r.Most, r.OracleMost = max(r.Most, taken), max(r.OracleMost, oracle)
}
