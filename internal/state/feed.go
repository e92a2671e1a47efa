package state

import (
	"maps"
	"slices"
	"sync"
)

// Change is what became of one row. Old is nil for a row that is new, New is
// nil for one that is gone. Both point into the table: they are only read.
type Change[T any] struct {
	Old, New *T
}

// Feed gives one consumer the changes of a table since it asked last, so that
// it need not compare snapshots. It begins with every row of the table as new.
// Changes of one row between two calls of Take are one change; a row that is
// again what it was is none. A feed therefore holds at most one change for each
// row that its consumer knows or that the table has. When Take gives a change
// the snapshots of the table show it too.
type Feed[T any] struct {
	equal func(a, b *T) bool
	drop  func(*Feed[T])
	ready chan struct{} // holds a token while something waits

	mu      sync.Mutex
	closed  bool
	waiting map[string]Change[T]
}

func newFeed[T any](equal func(a, b *T) bool, drop func(*Feed[T])) *Feed[T] {
	return &Feed[T]{equal: equal, drop: drop, ready: make(chan struct{}, 1), waiting: map[string]Change[T]{}}
}

// Ready returns a channel from which a value can be received when Take has
// something to give. Each value is received once; it is always the same channel.
func (f *Feed[T]) Ready() <-chan struct{} { return f.ready }

// Take returns the changes since the last call, ordered by the key of their
// rows; nil when there are none. It does not wait.
func (f *Feed[T]) Take() []Change[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.ready:
	default:
	}
	if len(f.waiting) == 0 {
		return nil
	}
	out := make([]Change[T], 0, len(f.waiting))
	for _, key := range slices.Sorted(maps.Keys(f.waiting)) {
		out = append(out, f.waiting[key])
	}
	// A map keeps the room that it once needed.
	f.waiting = map[string]Change[T]{}
	return out
}

// Close ends the feed: what waits is forgotten and nothing comes after it.
// Closing it again does nothing.
func (f *Feed[T]) Close() {
	f.drop(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.waiting = true, nil
	select {
	case <-f.ready:
	default:
	}
}

// put adds a change of one row to what waits.
func (f *Feed[T]) put(key string, old, row *T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	if before, ok := f.waiting[key]; ok {
		old = before.Old
	}
	if old == row || old != nil && row != nil && f.equal(old, row) {
		delete(f.waiting, key)
	} else {
		f.waiting[key] = Change[T]{old, row}
	}
	if len(f.waiting) == 0 {
		select {
		case <-f.ready:
		default:
		}
		return
	}
	select {
	case f.ready <- struct{}{}:
	default: // a token is there
	}
}
