package sim_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/autosize/sim"
)

func run(t *testing.T, trace sim.Trace) sim.Result {
	t.Helper()
	r, err := sim.Run(trace)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGoals plays every trace and holds what self-tuning promises.
func TestGoals(t *testing.T) {
	for _, trace := range sim.Traces() {
		t.Run(trace.Name, func(t *testing.T) {
			t.Parallel()
			r := run(t, trace)
			for _, problem := range r.Problems() {
				t.Error(problem)
			}
			if len(r.Tables) != 4 {
				t.Errorf("%d tables took part, want 4", len(r.Tables))
			}
			if r.Blocked > 120 {
				t.Errorf("the budget was in the way for %d s", r.Blocked)
			}
			if t.Failed() {
				for _, reason := range r.Reasons {
					t.Log(reason)
				}
			}
		})
	}
}

// TestGoalsNeedTheController plays traces whose tables never change: they must
// miss the goals, or the traces would prove nothing.
func TestGoalsNeedTheController(t *testing.T) {
	for _, trace := range sim.Traces() {
		trace.Fixed = true
		r := run(t, trace)
		problems := r.Problems()
		if want := trace.Name != "steady" && !trace.Flood; (len(problems) > 0) != want {
			t.Errorf("%s: problems %q, want some: %t", trace.Name, problems, want)
		}
		for _, c := range r.Tables {
			if c.Resizes > 0 {
				t.Errorf("%s: %s was resized", trace.Name, c.Label)
			}
		}
	}
}

// TestFloodIsBounded: a flood fills its own table and takes its share, no more, and
// the established tables do not notice.
func TestFloodIsBounded(t *testing.T) {
	for _, trace := range sim.Traces() {
		if !trace.Flood {
			continue
		}
		flooded := run(t, trace)
		trace.Load = sim.Traces()[0].Load
		calm := run(t, trace)
		for _, name := range []string{sim.TCP, sim.Any, sim.Backends} {
			if diff := cmp.Diff(calm.Table(name).Highest, flooded.Table(name).Highest); diff != "" {
				t.Errorf("%s: highest fill without (-) and with (+) the flood:\n%s", name, diff)
			}
		}
		embryonic := flooded.Table(sim.Embryonic)
		if embryonic.Highest < 0.99 {
			t.Errorf("%s: the flood fills %.2f of its table: it is none", trace.Name, embryonic.Highest)
		}
		if last := embryonic.Points[len(embryonic.Points)-1]; last.Size != embryonic.Points[0].Size {
			t.Errorf("%s: afterwards the table has %d entries, want %d again", trace.Name, last.Size, embryonic.Points[0].Size)
		}
		if flooded.Most > float64(flooded.Budget)*0.75 {
			t.Errorf("%s: %.0f bytes taken of %d", trace.Name, flooded.Most, flooded.Budget)
		}
	}
}

func TestSameTraceSameResult(t *testing.T) {
	trace := sim.Traces()[1]
	a, b := run(t, trace), run(t, trace)
	if diff := cmp.Diff(a.Tables, b.Tables); diff != "" {
		t.Errorf("a second run differs:\n%s", diff)
	}
	if len(a.Reasons) == 0 {
		t.Error("nothing was changed")
	}
}

// TestPointsFollowTheTrace: the course is complete and in order.
func TestPointsFollowTheTrace(t *testing.T) {
	trace := sim.Traces()[5]
	for _, c := range run(t, trace).Tables {
		for i, p := range c.Points {
			if i > 0 && p.At <= c.Points[i-1].At || p.Size < 1 || p.Oracle < 1 {
				t.Fatalf("%s: point %d is %+v", c.Label, i, p)
			}
			if p.Fill > autosize.Limit {
				t.Errorf("%s: fill %.2f at %s", c.Label, p.Fill, p.At)
			}
		}
		if end := c.Points[len(c.Points)-1].At; end < trace.Length*99/100 {
			t.Errorf("%s: ends at %s of %s", c.Label, end, trace.Length)
		}
	}
}

func TestTraceWithoutMemory(t *testing.T) {
	trace := sim.Traces()[0]
	trace.Memory = 0
	if _, err := sim.Run(trace); err == nil {
		t.Error("a machine without memory was simulated")
	}
}
