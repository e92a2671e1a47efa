package autosize_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/autosize"
)

// world is tables that a controller tunes, with everything that it decides
// carried out after a while, as far as an agent would.
type world struct {
	t       *rapid.T
	budget  uint64
	c       *autosize.Controller
	tables  []*worldTable
	at      time.Time
	begun   time.Time
	blocked bool
}

type worldTable struct {
	autosize.Table
	entries, size, old int
	movesFor           int // more seconds
	changed            time.Time
}

func newWorld(t *rapid.T, tables []autosize.Table, budget uint64) *world {
	c, err := autosize.New(autosize.Config{Budget: budget, Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, c: c, budget: budget, at: time.Unix(1_000_000, 0)}
	w.begun = w.at
	for _, table := range tables {
		w.tables = append(w.tables, &worldTable{Table: table, size: 20000, entries: 5000})
	}
	return w
}

func (w *world) taken() uint64 {
	total := uint64(0)
	for _, t := range w.tables {
		total += t.Bytes(t.size, t.entries)
		if t.old > 0 {
			total += t.Bytes(t.old, t.entries)
		}
	}
	return total
}

// second lets one pass: entries change by the given amounts, as far as they fit.
func (w *world) second(change []int) {
	w.at = w.at.Add(time.Second)
	samples := map[string]autosize.Sample{}
	for i, t := range w.tables {
		if t.movesFor--; t.movesFor <= 0 {
			t.old = 0
		}
		t.entries = min(max(t.entries+change[i], 0), t.size)
		samples[t.Map] = autosize.Sample{Entries: t.entries, Size: t.size, Old: t.old}
	}
	w.blocked = false
	for _, d := range w.c.Step(w.at, samples) {
		w.blocked = w.blocked || d.Limit != ""
		for _, t := range w.tables {
			if t.Map == d.Map {
				w.judge(t, d)
			}
		}
	}
	if taken := w.taken(); taken > w.budget {
		w.t.Fatalf("%d bytes taken of %d", taken, w.budget)
	}
}

// judge holds what every decision must keep to, and carries it out.
func (w *world) judge(t *worldTable, d autosize.Decision) {
	said := fmt.Sprintf("%s with %d entries, %d moving: %+v", t.Map, t.entries, t.old, d)
	switch {
	case d.Reason == "" || d.From != t.size:
		w.t.Fatalf("no reason, or not of this table: %s", said)
	case d.Action == autosize.Blocked:
		if d.Limit == autosize.BoundBudget && d.Missing == 0 || d.Limit == "" {
			w.t.Fatalf("blocked by nothing: %s", said)
		}
		return
	case t.old > 0:
		w.t.Fatalf("decided while entries move: %s", said)
	case d.To < t.Min || d.To > t.Max:
		w.t.Fatalf("out of %d to %d: %s", t.Min, t.Max, said)
	case d.Action == autosize.Grow && d.To <= d.From, d.Action == autosize.Shrink && d.To >= d.From:
		w.t.Fatalf("the wrong way: %s", said)
	case d.Action == autosize.Shrink && float64(t.entries) > 0.601*float64(d.To):
		w.t.Fatalf("no headroom: %s", said)
	case d.Urgent && d.Action == autosize.Shrink:
		w.t.Fatalf("urgent to shrink: %s", said)
	case !d.Urgent && !t.changed.IsZero() && w.at.Sub(t.changed) < autosize.Pause:
		w.t.Fatalf("again after %s without need: %s", w.at.Sub(t.changed), said)
	case d.Action == autosize.Shrink && w.at.Sub(w.begun) < autosize.Pause:
		w.t.Fatalf("shrunk before it was known: %s", said)
	}
	t.old, t.size, t.movesFor, t.changed = t.size, d.To, 1+t.entries/1_000_000, w.at.Add(time.Second)
}

// TestNeverFullWhileBudgetAndRateAllow lets tables breathe at rates of up to 4 % of
// their size a second.
func TestNeverFullWhileBudgetAndRateAllow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, []autosize.Table{tuned(t, tcp), tuned(t, anyProto)}, 64<<30)
		change := make([]int, 2)
		rate := rapid.IntRange(-25, 40)
		for range rapid.IntRange(1, 30).Draw(rt, "phases") {
			rates := []int{rate.Draw(rt, "tcp"), rate.Draw(rt, "any")}
			for range rapid.IntRange(1, 400).Draw(rt, "seconds") {
				for i, table := range w.tables {
					change[i] = rates[i] * table.size / 1000
					if table.entries > 2_000_000 {
						change[i] = -table.entries / 100
					}
				}
				w.second(change)
				for _, table := range w.tables {
					if fill := float64(table.entries) / float64(table.size); fill >= autosize.Limit {
						rt.Fatalf("%s: %.2f full", table.Map, fill)
					}
				}
			}
		}
	})
}

// TestNeverBeyondTheBudget lets anything happen on a small budget.
func TestNeverBeyondTheBudget(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		small := tuned(t, anyProto)
		small.Max = 50000
		w := newWorld(rt, []autosize.Table{tuned(t, tcp), small}, rapid.Uint64Range(10*mib, 60*mib).Draw(rt, "budget"))
		jump := rapid.IntRange(-100000, 100000)
		for range rapid.IntRange(1, 40).Draw(rt, "phases") {
			w.second([]int{jump.Draw(rt, "tcp"), jump.Draw(rt, "any")})
			for range rapid.IntRange(0, 700).Draw(rt, "seconds") {
				w.second([]int{0, 0})
			}
			for _, table := range w.tables {
				if table.entries == table.size && table.size < table.Max && !w.blocked && table.old == 0 && table.movesFor < -1 {
					rt.Fatalf("%s is full and nobody says why: %d entries", table.Map, table.size)
				}
			}
		}
	})
}

// TestSettles: once the load is steady each table changes at most twice more, and
// then never: there is no flapping.
func TestSettles(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, []autosize.Table{tuned(t, tcp)}, 64<<30)
		level := rapid.IntRange(0, 400000).Draw(rt, "level")
		noise := rapid.IntRange(0, 3).Draw(rt, "noise, per cent")
		table := w.tables[0]
		changes, size := 0, 0
		for second := range 3 * 3600 {
			want := level
			if noise > 0 {
				want += level * noise * ((second*7919)%201 - 100) / 10000
			}
			w.second([]int{min(want-table.entries, table.size/30)})
			if second == 3600 {
				changes, size = 0, table.size
			}
			if table.size != size {
				changes, size = changes+1, table.size
			}
		}
		if changes > 1 {
			rt.Errorf("%d changes in the last two hours at %d entries ± %d %%", changes, level, noise)
		}
	})
}
