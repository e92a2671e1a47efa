package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
)

// Defaults of Config.BackoffMin and Config.BackoffMax.
const (
	DefaultBackoffMin = 100 * time.Millisecond
	DefaultBackoffMax = 30 * time.Second
)

// Config describes one loop.
type Config[K comparable, V any] struct {
	// Name is shown in the status and in logs, e.g. "endpoints".
	Name string
	// Desired returns the rows that should exist and a channel that is closed
	// when they change. The loop does not change the map or keep it beyond the
	// next call.
	Desired func() (map[K]V, <-chan struct{}, error)
	// Ops realises the rows.
	Ops Ops[K, V]
	// Equal compares two values; nil means reflect.DeepEqual.
	Equal func(a, b V) bool
	// Interval is the time between audits.
	Interval time.Duration
	// BackoffMin and BackoffMax bound the wait before a failed row is tried
	// again; it doubles with every attempt. Zero means the defaults.
	BackoffMin, BackoffMax time.Duration
	Log                    *slog.Logger
}

// failure is a row whose last attempt failed.
type failure[V any] struct {
	value    V    // what was to be realised
	deleting bool // or whether the row was to be deleted
	retry    retry
}

// Loop keeps the kernel equal to the desired rows. Create it with New.
type Loop[K comparable, V any] struct {
	cfg Config[K, V]

	// lock holds one token and guards the fields of this group and every call
	// of Ops. It is a channel so that waiting for it ends with the context.
	lock chan struct{}
	// held are the rows that are realised, failed those that are not. A key
	// that may be in the kernel is in exactly one of the two.
	held   map[K]V
	failed map[K]failure[V]
	// overtaken are the keys that Apply or Remove handled since the pass that
	// runs now took its snapshot; the pass leaves them alone.
	overtaken map[K]struct{}
	pruned    bool  // a Prune has succeeded
	pruneWait retry // when Prune has to be repeated before the next audit
	readWait  retry // the same for Desired
	lastErr   error // of the row that failed last

	trigger chan struct{} // asks Run for a Prune
	wake    chan struct{} // tells Run that a row failed outside of it
	synced  chan struct{}

	syncOnce   sync.Once
	statusLock sync.Mutex
	status     agentapi.Controller
}

// New returns a loop that does nothing until Run or Apply. It fails when the
// configuration is incomplete.
func New[K comparable, V any](cfg Config[K, V]) (*Loop[K, V], error) {
	switch {
	case cfg.Name == "":
		return nil, errors.New("reconcile: Name is empty")
	case cfg.Desired == nil || cfg.Ops == nil || cfg.Log == nil:
		return nil, fmt.Errorf("reconcile %s: Desired, Ops and Log are required", cfg.Name)
	case cfg.Interval <= 0:
		return nil, fmt.Errorf("reconcile %s: Interval %v, want more than 0", cfg.Name, cfg.Interval)
	}
	if cfg.Equal == nil {
		cfg.Equal = func(a, b V) bool { return reflect.DeepEqual(a, b) }
	}
	if cfg.BackoffMin <= 0 {
		cfg.BackoffMin = DefaultBackoffMin
	}
	if cfg.BackoffMax < cfg.BackoffMin {
		cfg.BackoffMax = max(DefaultBackoffMax, cfg.BackoffMin)
	}
	cfg.Log = cfg.Log.With("controller", cfg.Name)
	return &Loop[K, V]{
		cfg:       cfg,
		lock:      make(chan struct{}, 1),
		held:      map[K]V{},
		failed:    map[K]failure[V]{},
		overtaken: map[K]struct{}{},
		trigger:   make(chan struct{}, 1),
		wake:      make(chan struct{}, 1),
		synced:    make(chan struct{}),
		status:    agentapi.Controller{Name: cfg.Name},
	}, nil
}

// Run reconciles until ctx ends: one Prune that adopts what the kernel already
// holds, then differing rows after each change, failed rows when their backoff
// has passed, and an audit on every interval. It returns nil when ctx ends;
// errors of rows are retried and shown in Status. It is called once.
func (l *Loop[K, V]) Run(ctx context.Context) error {
	audit := time.NewTicker(l.cfg.Interval)
	defer audit.Stop()
	full := true
	for {
		changed, next, err := l.pass(ctx, full)
		if err != nil {
			return nil //nolint:nilerr // pass only fails when ctx has ended
		}
		var due <-chan time.Time
		var timer *time.Timer
		if !next.IsZero() {
			timer = time.NewTimer(time.Until(next))
			due = timer.C
		}
		full = false
		select {
		case <-ctx.Done():
		case <-changed:
		case <-due:
		case <-l.wake:
		case <-l.trigger:
			full = true
		case <-audit.C:
			full = true
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// Synced is closed when, for the first time, everything desired is realised
// and nothing else is left in the kernel.
func (l *Loop[K, V]) Synced() <-chan struct{} { return l.synced }

// Trigger asks for an audit now, e.g. because the kernel reported a change
// that was not ours. It does not wait for it.
func (l *Loop[K, V]) Trigger() { notify(l.trigger) }

// Status tells how the loop fares. It does not wait for work in progress.
func (l *Loop[K, V]) Status() agentapi.Controller {
	l.statusLock.Lock()
	defer l.statusLock.Unlock()
	return l.status
}

// Apply realises one row now and returns its error, for callers that answer a
// request with the result. The row must have been written to the table behind
// Desired before, so that no pass of the loop takes it for a leftover. The cost
// does not depend on the number of rows. A row that fails is also retried by
// Run for as long as it stays desired.
func (l *Loop[K, V]) Apply(ctx context.Context, key K, value V) error {
	if err := l.acquire(ctx); err != nil {
		return fmt.Errorf("apply %s %v: %w", l.cfg.Name, key, err)
	}
	defer l.release()
	l.overtaken[key] = struct{}{}
	if held, ok := l.held[key]; ok && l.cfg.Equal(held, value) {
		return nil
	}
	if err := l.update(ctx, key, value); err != nil {
		notify(l.wake)
		return fmt.Errorf("apply %s %v: %w", l.cfg.Name, key, err)
	}
	return nil
}

// Remove deletes one row now and returns its error; it is the counterpart of
// Apply, and the row must have been removed from the table before. Removing
// what is absent is success.
func (l *Loop[K, V]) Remove(ctx context.Context, key K) error {
	if err := l.acquire(ctx); err != nil {
		return fmt.Errorf("remove %s %v: %w", l.cfg.Name, key, err)
	}
	defer l.release()
	l.overtaken[key] = struct{}{}
	if err := l.remove(ctx, key); err != nil {
		notify(l.wake)
		return fmt.Errorf("remove %s %v: %w", l.cfg.Name, key, err)
	}
	return nil
}

// acquire takes the lock, or fails when ctx ends first.
func (l *Loop[K, V]) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release publishes what the holder of the lock did and gives the lock back.
func (l *Loop[K, V]) release() {
	l.publish()
	<-l.lock
}

func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default: // one is on its way
	}
}
