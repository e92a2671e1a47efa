package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// step is one line of a story: something happens, time passes, and then
// exactly these verbs have reached the kernel.
type step struct {
	what  string
	do    func(s *story)
	after time.Duration
	want  []string // sorted; nil means none
	// racing says that Run and a synchronous call meet, so that a verb may
	// come once or more often.
	racing bool
}

type story struct {
	t    *testing.T
	d    *table
	k    *kernel
	loop *Loop[string, int]
}

func set(key string, value int) func(*story) {
	return func(s *story) { s.d.edit(func(rows map[string]int) { rows[key] = value }) }
}

func unset(key string) func(*story) {
	return func(s *story) { s.d.edit(func(rows map[string]int) { delete(rows, key) }) }
}

func breakRow(key string, broken bool) func(*story) {
	return func(s *story) { s.k.set(func() { s.k.broken[key] = broken }) }
}

func drift(f func(rows map[string]int)) func(*story) {
	return func(s *story) { s.k.set(func() { f(s.k.rows) }) }
}

func status(failing int, repaired uint64, lastError string) func(*story) {
	return func(s *story) {
		s.t.Helper()
		got := s.loop.Status()
		if got.Failing != failing || got.Repaired != repaired || got.LastError != lastError {
			s.t.Errorf("status is %+v, want failing %d, repaired %d, error %q", got, failing, repaired, lastError)
		}
	}
}

func synced(want bool) func(*story) {
	return func(s *story) {
		s.t.Helper()
		select {
		case <-s.loop.Synced():
			if !want {
				s.t.Error("Synced is closed too early")
			}
		default:
			if want {
				s.t.Error("Synced is not closed")
			}
		}
	}
}

func apply(key string, value int, wantErr bool) func(*story) {
	return func(s *story) {
		s.t.Helper()
		if err := s.loop.Apply(s.t.Context(), key, value); (err != nil) != wantErr {
			s.t.Errorf("Apply(%s, %d) = %v, want an error: %v", key, value, err, wantErr)
		}
	}
}

func remove(key string, wantErr bool) func(*story) {
	return func(s *story) {
		s.t.Helper()
		if err := s.loop.Remove(s.t.Context(), key); (err != nil) != wantErr {
			s.t.Errorf("Remove(%s) = %v, want an error: %v", key, err, wantErr)
		}
	}
}

func both(fs ...func(*story)) func(*story) {
	return func(s *story) {
		for _, f := range fs {
			f(s)
		}
	}
}

func unreadable(err error) func(*story) {
	return func(s *story) { s.d.fail(err) }
}

func trigger(s *story) { s.loop.Trigger() }

func nothing(*story) {}

const failingA = "a: fake kernel says no"

func TestStories(t *testing.T) {
	stories := []struct {
		name    string
		desired map[string]int
		kernel  map[string]int
		before  func(*story) // before Run
		steps   []step
	}{
		{
			name:    "adopt what the kernel holds",
			desired: map[string]int{"a": 1, "b": 2},
			kernel:  map[string]int{"a": 1, "old": 9},
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "nothing counts as repaired", do: both(synced(true), status(0, 0, ""))},
			},
		}, {
			name:    "only what differs is touched",
			desired: map[string]int{"a": 1, "b": 2, "c": 3},
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "one row changes", do: set("b", 5), want: []string{"update b=5"}},
				{what: "one row goes", do: unset("a"), want: []string{"delete a"}},
				{what: "same value again", do: set("c", 3)},
			},
		}, {
			name: "a failing row is retried with backoff and does not stop others",
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{
					what: "a fails", do: both(breakRow("a", true), set("a", 1), set("b", 2)),
					want: []string{"update a=1", "update b=2"},
				},
				{what: "it shows", do: status(1, 0, failingA)},
				{what: "after 100 ms", do: nothing, after: 100 * time.Millisecond, want: []string{"update a=1"}},
				{what: "not after 100 more", do: nothing, after: 100 * time.Millisecond},
				{what: "but after 200", do: nothing, after: 100 * time.Millisecond, want: []string{"update a=1"}},
				{what: "others are not delayed", do: set("c", 3), want: []string{"update c=3"}},
				{what: "a new value is tried at once", do: set("a", 4), want: []string{"update a=4"}},
				{what: "mended", do: breakRow("a", false), after: 800 * time.Millisecond, want: []string{"update a=4"}},
				{what: "it shows", do: status(0, 0, "")},
			},
		}, {
			name:    "a failing delete is retried, even when it was an update that failed",
			desired: map[string]int{"a": 1},
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "a cannot be changed", do: both(breakRow("a", true), set("a", 2)), want: []string{"update a=2"}},
				{what: "a goes", do: unset("a"), want: []string{"delete a"}},
				{what: "mended", do: breakRow("a", false), after: 200 * time.Millisecond, want: []string{"delete a"}},
				{what: "gone", do: status(0, 0, "")},
			},
		}, {
			name:    "a row that fails in Prune is retried alone",
			desired: map[string]int{"a": 1, "b": 2},
			kernel:  map[string]int{"old": 1},
			before:  both(breakRow("a", true), breakRow("old", true)),
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "not synced", do: both(synced(false), breakRow("a", false), breakRow("old", false))},
				{what: "alone", do: nothing, after: 100 * time.Millisecond, want: []string{"delete old", "update a=1"}},
				{what: "synced", do: both(synced(true), status(0, 0, ""))},
			},
		}, {
			name:    "a Prune that fails is repeated with backoff, and rows go on meanwhile",
			desired: map[string]int{"a": 1},
			kernel:  map[string]int{"old": 1},
			before:  func(s *story) { s.k.listErr = errors.New("list: permission denied") },
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "it shows", do: both(synced(false), status(0, 0, "list: permission denied"))},
				{what: "rows go on", do: set("b", 2), want: []string{"update a=1", "update b=2"}},
				{what: "repeated", do: nothing, after: 100 * time.Millisecond, want: []string{"prune"}},
				{
					what: "mended", do: func(s *story) { s.k.set(func() { s.k.listErr = nil }) },
					after: 200 * time.Millisecond, want: []string{"prune"},
				},
				{what: "synced", do: both(synced(true), status(0, 0, ""))},
			},
		}, {
			name:    "an audit mends drift and counts it",
			desired: map[string]int{"a": 1, "b": 2},
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "drift", do: drift(func(rows map[string]int) { delete(rows, "a"); rows["x"] = 1 })},
				{what: "audit", do: nothing, after: time.Minute, want: []string{"prune"}},
				{what: "counted", do: status(0, 2, "")},
				{what: "more drift", do: drift(func(rows map[string]int) { rows["b"] = 7 })},
				{what: "triggered", do: trigger, want: []string{"prune"}},
				{what: "counted", do: status(0, 3, "")},
			},
		}, {
			name: "a row that was known to fail does not count as repaired",
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "a fails", do: both(breakRow("a", true), set("a", 1)), want: []string{"update a=1"}},
				{what: "mended by an audit", do: both(breakRow("a", false), trigger), want: []string{"prune"}},
				{what: "not counted", do: status(0, 0, "")},
			},
		}, {
			name:    "a row whose delete failed is updated at once when it comes back",
			desired: map[string]int{"a": 0},
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "the delete fails", do: both(breakRow("a", true), unset("a")), want: []string{"delete a"}},
				{what: "back", do: both(breakRow("a", false), set("a", 0)), want: []string{"update a=0"}},
			},
		}, {
			name: "the synchronous path",
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{
					what: "table first, then Apply: one update in all",
					do:   both(set("a", 1), apply("a", 1, false)), want: []string{"update a=1"},
				},
				{what: "again", do: apply("a", 1, false)},
				{
					what: "removed, and what is absent too", racing: true,
					do: both(unset("a"), remove("a", false), remove("a", false)), want: []string{"delete a"},
				},
			},
		}, {
			name: "an Apply that fails is retried while the row stays desired",
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{
					what: "fails", racing: true,
					do: both(breakRow("a", true), set("a", 1), apply("a", 1, true)), want: []string{"update a=1"},
				},
				{what: "mended", do: breakRow("a", false), after: 200 * time.Millisecond, want: []string{"update a=1"}},
				{what: "it shows", do: status(0, 0, "")},
			},
		}, {
			name: "a Remove that fails is retried",
			steps: []step{
				{what: "start", do: nothing, want: []string{"prune"}},
				{what: "fails", do: both(breakRow("a", true), remove("a", true)), want: []string{"delete a"}},
				{what: "mended", do: breakRow("a", false), after: 100 * time.Millisecond, want: []string{"delete a"}},
				{what: "it shows", do: status(0, 0, "")},
			},
		}, {
			name:   "an unreadable table is read again and the Prune is not lost",
			kernel: map[string]int{"old": 1},
			before: unreadable(errors.New("table is away")),
			steps: []step{
				{what: "start", do: status(0, 0, "table is away")},
				{what: "not synced", do: synced(false)},
				{what: "back", do: unreadable(nil), after: 100 * time.Millisecond, want: []string{"prune"}},
				{what: "synced", do: both(synced(true), status(0, 0, ""))},
			},
		},
	}
	for _, st := range stories {
		t.Run(st.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &story{t: t, d: newTable(), k: newKernel()}
				maps.Copy(s.d.rows, st.desired)
				maps.Copy(s.k.rows, st.kernel)
				s.loop = newLoop(t, s.d, s.k)
				if st.before != nil {
					st.before(s)
				}
				stop := run(t, s.loop)
				defer stop()
				for _, step := range st.steps {
					synctest.Wait()
					step.do(s)
					time.Sleep(step.after)
					synctest.Wait()
					got := s.k.verbs()
					slices.Sort(got)
					if step.racing {
						got = slices.Compact(got)
					}
					if diff := cmp.Diff(step.want, got); diff != "" {
						t.Fatalf("%s: verbs (-want +got):\n%s", step.what, diff)
					}
				}
			})
		})
	}
}

// run starts the loop and returns a function that ends it and waits.
func run(t *testing.T, l *Loop[string, int]) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// TestApplyWaitsForOneRow checks that the synchronous path does not wait for a
// whole pass of slow rows, and that its result is not undone by that pass.
func TestApplyWaitsForOneRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newTable(), newKernel()
		l := newLoop(t, d, k)
		defer run(t, l)()
		<-l.Synced()
		k.set(func() { k.latency = 20 * time.Millisecond })
		d.edit(func(rows map[string]int) {
			for i := range 100 {
				rows[fmt.Sprintf("row%d", i)] = i
			}
		})
		time.Sleep(50 * time.Millisecond) // in the middle of the pass

		d.edit(func(rows map[string]int) { rows["pod"] = 1 })
		start := time.Now()
		if err := l.Apply(t.Context(), "pod", 1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("Apply took %v while 100 rows were applied, want a few times the 20ms of a row", took)
		}
		d.edit(func(rows map[string]int) { delete(rows, "pod"); delete(rows, "row99") })
		if err := l.Remove(t.Context(), "pod"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		want, _, _ := d.desired()
		if diff := cmp.Diff(want, k.snapshot()); diff != "" {
			t.Errorf("kernel (-want +got):\n%s", diff)
		}
	})
}

// TestApplyIsNotUndone applies a row that a pass under way still has on its
// list of rows to delete.
func TestApplyIsNotUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newTable(), newKernel()
		for i := range 50 {
			d.rows[fmt.Sprintf("row%d", i)] = i
		}
		l := newLoop(t, d, k)
		defer run(t, l)()
		<-l.Synced()
		k.set(func() { k.latency = 20 * time.Millisecond })
		d.edit(func(rows map[string]int) { clear(rows) })
		time.Sleep(50 * time.Millisecond) // in the middle of the pass
		for key := range k.snapshot() {
			d.edit(func(rows map[string]int) { rows[key] = 1000 })
			if err := l.Apply(t.Context(), key, 1000); err != nil {
				t.Fatal(err)
			}
			for range 500 {
				if got := k.snapshot()[key]; got != 1000 {
					t.Fatalf("after Apply of %s=1000 the kernel holds %d", key, got)
				}
				time.Sleep(5 * time.Millisecond)
			}
			return
		}
		t.Fatal("the pass was over too early")
	})
}

// TestApplyGivesUpWithItsContext checks that a caller does not wait for a hung
// verb beyond its deadline.
func TestApplyGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newTable(), newKernel()
		k.latency = time.Hour
		l := newLoop(t, d, k)
		defer run(t, l)()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for name, err := range map[string]error{
			"Apply": l.Apply(ctx, "a", 1), "Remove": l.Remove(ctx, "a"),
		} {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s = %v, want it to end with its context", name, err)
			}
		}
		time.Sleep(time.Hour)
	})
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	good := Config[string, int]{
		Name: "fake", Desired: newTable().desired, Ops: newKernel(), Interval: time.Minute, Log: slog.Default(),
	}
	for name, spoil := range map[string]func(*Config[string, int]){
		"Name is empty":          func(c *Config[string, int]) { c.Name = "" },
		"Desired, Ops and Log":   func(c *Config[string, int]) { c.Desired = nil },
		"fake: Desired, Ops and": func(c *Config[string, int]) { c.Ops = nil },
		"Ops and Log":            func(c *Config[string, int]) { c.Log = nil },
		"Interval 0s":            func(c *Config[string, int]) { c.Interval = 0 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New = %v, want an error with %q", err, name)
		}
	}
}

func TestBackoff(t *testing.T) {
	var r retry
	start := time.Now()
	var got []time.Duration
	for range 12 {
		r.failed(errFake, start, DefaultBackoffMin, DefaultBackoffMax)
		got = append(got, r.due.Sub(start))
	}
	want := []time.Duration{
		1e8, 2e8, 4e8, 8e8, 16e8, 32e8, 64e8, 128e8, 256e8, 300e8, 300e8, 300e8,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	r.attempts = 1 << 40
	if r.failed(errFake, start, DefaultBackoffMin, DefaultBackoffMax); r.due.Sub(start) != DefaultBackoffMax {
		t.Errorf("after very many attempts the wait is %v", r.due.Sub(start))
	}
}
