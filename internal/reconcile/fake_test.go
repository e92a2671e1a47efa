package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var errFake = errors.New("fake kernel says no")

// kernel is a fake kernel: a map that fails when told to, and a journal of the
// verbs that reached it.
type kernel struct {
	mu      sync.Mutex
	rows    map[string]int
	broken  map[string]bool // rows that fail
	listErr error           // makes Prune fail before it does anything
	chance  float64         // of any row to fail
	rng     *rand.Rand
	latency time.Duration // of each verb, on the fake clock
	busy    bool
	journal []string
}

func newKernel() *kernel {
	return &kernel{rows: map[string]int{}, broken: map[string]bool{}, rng: rand.New(rand.NewPCG(1, 2))}
}

// enter notes a verb and fails the test run when two verbs overlap.
func (k *kernel) enter(entry string) {
	k.mu.Lock()
	if k.busy {
		panic("two verbs at the same time: " + entry)
	}
	k.busy = true
	k.journal = append(k.journal, entry)
	k.mu.Unlock()
	time.Sleep(k.latency)
	k.mu.Lock()
}

func (k *kernel) leave() {
	k.busy = false
	k.mu.Unlock()
}

func (k *kernel) fails(key string) bool {
	return k.broken[key] || k.rng.Float64() < k.chance
}

func (k *kernel) Update(_ context.Context, key string, value int) error {
	k.enter(fmt.Sprintf("update %s=%d", key, value))
	defer k.leave()
	if k.fails(key) {
		return errFake
	}
	k.rows[key] = value
	return nil
}

func (k *kernel) Delete(_ context.Context, key string) error {
	k.enter("delete " + key)
	defer k.leave()
	if k.fails(key) {
		return errFake
	}
	delete(k.rows, key)
	return nil
}

func (k *kernel) Prune(_ context.Context, desired map[string]int) (int, error) {
	k.enter("prune")
	defer k.leave()
	if k.listErr != nil {
		return 0, k.listErr
	}
	var repaired int
	var errs []error
	mend := func(key string, do func()) {
		if k.fails(key) {
			errs = append(errs, &RowError[string]{Key: key, Err: errFake})
			return
		}
		do()
		repaired++
	}
	for key, want := range desired {
		if have, ok := k.rows[key]; !ok || have != want {
			mend(key, func() { k.rows[key] = want })
		}
	}
	for key := range k.rows {
		if _, ok := desired[key]; !ok {
			mend(key, func() { delete(k.rows, key) })
		}
	}
	if err := errors.Join(errs...); err != nil {
		return repaired, fmt.Errorf("prune fake rows: %w", err)
	}
	return repaired, nil
}

// set changes the kernel behind the loop's back.
func (k *kernel) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (k *kernel) snapshot() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.rows)
}

// verbs returns and forgets what reached the kernel.
func (k *kernel) verbs() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.journal
	k.journal = nil
	return out
}

// table is a watchable desired table.
type table struct {
	mu      sync.Mutex
	rows    map[string]int
	changed chan struct{}
	err     error
}

func newTable() *table { return &table{rows: map[string]int{}, changed: make(chan struct{})} }

func (d *table) edit(f func(rows map[string]int)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d.rows)
	close(d.changed)
	d.changed = make(chan struct{})
}

// fail makes the table unreadable until it is called with nil.
func (d *table) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *table) desired() (map[string]int, <-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, nil, d.err
	}
	return maps.Clone(d.rows), d.changed, nil
}

func newLoop(t *testing.T, d *table, k *kernel) *Loop[string, int] {
	t.Helper()
	l, err := New(Config[string, int]{
		Name: "fake", Desired: d.desired, Ops: k, Interval: time.Minute,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
