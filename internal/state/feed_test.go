package state

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newTables(t *testing.T) *Tables {
	t.Helper()
	tables, err := NewTables()
	must(t, err)
	return tables
}

func ns(name, value string) Namespace {
	return Namespace{Name: name, Labels: map[string]string{"v": value}}
}

func TestFeed(t *testing.T) {
	a1, a2, b1 := new(ns("a", "1")), new(ns("a", "2")), new(ns("b", "1"))
	put := func(n *Namespace) func(*testing.T, *Tables) {
		return func(t *testing.T, tables *Tables) { must(t, tables.UpsertNamespace(*n)) }
	}
	del := func(n *Namespace) func(*testing.T, *Tables) {
		return func(t *testing.T, tables *Tables) { must(t, tables.DeleteNamespace(n.Name)) }
	}
	type steps = []func(*testing.T, *Tables)
	tests := []struct {
		name   string
		before steps // before the feed
		known  bool  // Take once after before
		steps  steps
		want   []Change[Namespace]
	}{
		{name: "nothing"},
		{name: "what is there is new", before: steps{put(b1), put(a1)}, want: []Change[Namespace]{{nil, a1}, {nil, b1}}},
		{name: "no change", before: steps{put(a1)}, known: true},
		{name: "an equal row", before: steps{put(a1)}, known: true, steps: steps{put(a1)}},
		{name: "added", before: steps{put(a1)}, known: true, steps: steps{put(b1)}, want: []Change[Namespace]{{nil, b1}}},
		{name: "changed", before: steps{put(a1)}, known: true, steps: steps{put(a2)}, want: []Change[Namespace]{{a1, a2}}},
		{name: "deleted", before: steps{put(a1)}, known: true, steps: steps{del(a1)}, want: []Change[Namespace]{{a1, nil}}},
		{name: "added, changed", steps: steps{put(a1), put(a2)}, want: []Change[Namespace]{{nil, a2}}},
		{name: "added, deleted", steps: steps{put(a1), del(a1)}},
		{name: "there and deleted before anyone took it", before: steps{put(a1)}, steps: steps{del(a1)}},
		{name: "changed and back", before: steps{put(a1)}, known: true, steps: steps{put(a2), put(a1)}},
		{name: "deleted and back", before: steps{put(a1)}, known: true, steps: steps{del(a1), put(a1)}},
		{name: "deleted, another", before: steps{put(a1)}, known: true, steps: steps{del(a1), put(a2)}, want: []Change[Namespace]{{a1, a2}}},
		{name: "changed, deleted", before: steps{put(a1)}, known: true, steps: steps{put(a2), del(a1)}, want: []Change[Namespace]{{a1, nil}}},
		{name: "an absent row deleted", known: true, steps: steps{del(a1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tables := newTables(t)
			for _, step := range tt.before {
				step(t, tables)
			}
			f := tables.FeedNamespaces()
			defer f.Close()
			if tt.known {
				f.Take()
			}
			for _, step := range tt.steps {
				step(t, tables)
			}
			if ready := len(f.Ready()) > 0; ready != (len(tt.want) > 0) {
				t.Errorf("ready is %t", ready)
			}
			if diff := cmp.Diff(tt.want, f.Take()); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if again := f.Take(); again != nil || len(f.Ready()) > 0 {
				t.Errorf("taken again: %v, ready %t", again, len(f.Ready()) > 0)
			}
		})
	}
}

func TestFeedsAreIndependent(t *testing.T) {
	tables := newTables(t)
	a, b := tables.FeedNamespaces(), tables.FeedNamespaces()
	other := tables.FeedPods()
	must(t, tables.UpsertNamespace(ns("x", "1")))
	if len(a.Take()) != 1 || len(b.Take()) != 1 || other.Take() != nil {
		t.Error("not every feed of the table has its own change")
	}
	must(t, tables.UpsertNamespace(ns("x", "2")))
	a.Close()
	a.Close()
	must(t, tables.UpsertNamespace(ns("y", "1")))
	if got := a.Take(); got != nil || len(a.Ready()) > 0 {
		t.Errorf("a closed feed gives %v", got)
	}
	if got := b.Take(); len(got) != 2 {
		t.Errorf("the other feed gives %v, want 2 changes", got)
	}
	if n := len(tables.namespaces.feeds); n != 1 {
		t.Errorf("the table knows %d feeds, want 1", n)
	}
}

// TestFeedOrder checks that numbers order as numbers.
func TestFeedOrder(t *testing.T) {
	tables := newTables(t)
	f := tables.FeedIdentities()
	for _, id := range []uint32{70000, 256, 1 << 23, 300} {
		must(t, tables.UpsertIdentity(Identity{ID: id}))
	}
	var got []uint32
	for _, c := range f.Take() {
		got = append(got, c.New.ID)
	}
	if want := []uint32{256, 300, 70000, 1 << 23}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// follower is a consumer that keeps what its feed told it.
type follower map[string]Namespace

// take applies the changes, and checks that each starts from what it knows.
func (m follower) take(t *testing.T, f *Feed[Namespace]) {
	t.Helper()
	for _, c := range f.Take() {
		var name string
		if c.New != nil {
			name = c.New.Name
		} else {
			name = c.Old.Name
		}
		known, ok := m[name]
		if ok != (c.Old != nil) || ok && !cmp.Equal(known, *c.Old) {
			t.Fatalf("change of %s from %v, known is %v", name, c.Old, known)
		}
		if c.New == nil {
			delete(m, name)
		} else {
			m[name] = *c.New
		}
	}
}

func (m follower) compare(t *testing.T, tables *Tables) {
	t.Helper()
	rows, _, err := tables.Namespaces()
	must(t, err)
	want := follower{}
	for _, n := range rows {
		want[n.Name] = n
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Fatalf("a follower differs from the table (-table +follower):\n%s", diff)
	}
}

func TestFeedFollowsTheTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tables := newTables(t)
	model := follower{}
	f := tables.FeedNamespaces()
	known := follower{}
	for range 20000 {
		name := strconv.Itoa(rng.IntN(12))
		switch rng.IntN(10) {
		case 0, 1, 2:
			must(t, tables.DeleteNamespace(name))
			delete(model, name)
		case 3:
			known.take(t, f)
			known.compare(t, tables)
		case 4:
			late, fresh := tables.FeedNamespaces(), follower{}
			fresh.take(t, late)
			late.Close()
			fresh.compare(t, tables)
		default:
			n := ns(name, strconv.Itoa(rng.IntN(3)))
			must(t, tables.UpsertNamespace(n))
			model[name] = n
		}
		if most := len(known) + len(model); len(f.waiting) > most {
			t.Fatalf("%d changes wait, want at most %d: the rows known and there", len(f.waiting), most)
		}
	}
	model.compare(t, tables)
}

func TestFeedUnderConcurrency(t *testing.T) {
	tables := newTables(t)
	f := tables.FeedNamespaces()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			for range 3000 {
				name := strconv.Itoa(rng.IntN(20)) // shared by the writers
				var err error
				if rng.IntN(3) == 0 {
					err = tables.DeleteNamespace(name)
				} else {
					err = tables.UpsertNamespace(ns(name, strconv.Itoa(rng.IntN(3))))
				}
				if err != nil {
					t.Error(err)
				}
				if rng.IntN(50) == 0 {
					late := tables.FeedNamespaces()
					late.Take()
					late.Close()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		writers.Wait()
		close(done)
	}()
	known := follower{}
	for running := true; running; {
		select {
		case <-f.Ready():
			known.take(t, f)
		case <-done:
			running = false
		}
	}
	known.take(t, f)
	known.compare(t, tables)
	f.Close()
	if left := slices.Collect(maps.Keys(tables.namespaces.feeds)); len(left) != 0 {
		t.Errorf("%d feeds are left", len(left))
	}
}
