package reconcile

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// retry paces the attempts at something that fails. The zero value is "does
// not fail".
type retry struct {
	attempts int
	due      time.Time
	err      error
}

func (r *retry) failed(err error, now time.Time, minWait, maxWait time.Duration) {
	wait := maxWait
	// The shift is bounded so that it cannot overflow.
	if r.attempts < 30 && minWait<<r.attempts < maxWait {
		wait = minWait << r.attempts
	}
	*r = retry{attempts: r.attempts + 1, due: now.Add(wait), err: err}
}

// change is one row that a pass has to touch.
type change[K comparable, V any] struct {
	key    K
	value  V
	delete bool
}

// pass reads the desired rows and realises what differs, or everything when
// full is set or a failed Prune is due. It returns the channel of the next
// change and the time at which something has to be tried again (zero: never).
// It fails only when ctx has ended.
func (l *Loop[K, V]) pass(ctx context.Context, full bool) (changed <-chan struct{}, next time.Time, err error) {
	if err = l.acquire(ctx); err != nil {
		return nil, time.Time{}, err
	}
	clear(l.overtaken)
	desired, changed, err := l.cfg.Desired()
	if err != nil {
		l.readWait.failed(err, time.Now(), l.cfg.BackoffMin, l.cfg.BackoffMax)
		l.cfg.Log.Error("read desired rows", "err", err, "retryAt", l.readWait.due)
		if full { // not lost: it runs as soon as the rows can be read
			l.pruneWait.due = l.readWait.due
		}
		next = l.readWait.due
		l.release()
		return nil, next, ctx.Err()
	}
	l.readWait = retry{}
	l.setDesired(len(desired))
	changes := l.diff(desired, time.Now())
	if full || l.pruneDue() {
		// With the backoff of every row behind it, diff lists all that the
		// loop knows to differ.
		known := l.diff(desired, time.Now().Add(l.cfg.BackoffMax))
		l.prune(ctx, desired, len(known))
		changes = nil
	}
	l.release()

	// The lock is given back between rows, so that Apply waits for one row and
	// not for a whole pass.
	for _, c := range changes {
		if err := l.acquire(ctx); err != nil {
			return nil, time.Time{}, err
		}
		l.realise(ctx, c)
		l.release()
	}
	if err := l.acquire(ctx); err != nil {
		return nil, time.Time{}, err
	}
	l.settle()
	next = l.nextRetry()
	l.release()
	return changed, next, ctx.Err()
}

// diff lists the rows that differ from what is realised and are not waiting
// for their next attempt.
func (l *Loop[K, V]) diff(desired map[K]V, now time.Time) []change[K, V] {
	var out []change[K, V]
	for key, value := range desired {
		if held, ok := l.held[key]; ok && l.cfg.Equal(held, value) {
			continue
		}
		f, failing := l.failed[key]
		if failing && !f.deleting && now.Before(f.retry.due) && l.cfg.Equal(f.value, value) {
			continue
		}
		out = append(out, change[K, V]{key: key, value: value})
	}
	for key := range l.held {
		if _, ok := desired[key]; !ok {
			out = append(out, change[K, V]{key: key, delete: true})
		}
	}
	for key, f := range l.failed {
		if _, ok := desired[key]; ok || (f.deleting && now.Before(f.retry.due)) {
			continue
		}
		out = append(out, change[K, V]{key: key, delete: true})
	}
	return out
}

// realise carries out one change of a pass, unless Apply or Remove dealt with
// the row after the pass took its snapshot.
func (l *Loop[K, V]) realise(ctx context.Context, c change[K, V]) {
	if _, ok := l.overtaken[c.key]; ok {
		return
	}
	var err error
	verb := "update"
	if c.delete {
		verb = "delete"
		err = l.remove(ctx, c.key)
	} else {
		err = l.update(ctx, c.key, c.value)
	}
	if err != nil && ctx.Err() == nil {
		l.cfg.Log.Warn("row is not realised", "verb", verb, "key", c.key, "err", err,
			"retryAt", l.failed[c.key].retry.due)
	}
}

func (l *Loop[K, V]) update(ctx context.Context, key K, value V) error {
	err := l.cfg.Ops.Update(ctx, key, value)
	if err != nil {
		l.fail(key, failure[V]{value: value}, err)
		return err
	}
	delete(l.failed, key)
	l.held[key] = value
	return nil
}

func (l *Loop[K, V]) remove(ctx context.Context, key K) error {
	err := l.cfg.Ops.Delete(ctx, key)
	if err != nil {
		l.fail(key, failure[V]{deleting: true}, err)
		return err
	}
	delete(l.failed, key)
	delete(l.held, key)
	return nil
}

// fail notes that a row is not realised. The backoff goes on growing when the
// attempt before failed too, whatever it was to do.
func (l *Loop[K, V]) fail(key K, f failure[V], err error) {
	f.retry = l.failed[key].retry
	f.retry.failed(err, time.Now(), l.cfg.BackoffMin, l.cfg.BackoffMax)
	delete(l.held, key)
	l.failed[key] = f
	l.lastErr = fmt.Errorf("%v: %w", key, err)
}

// prune brings the kernel to exactly desired. known is how many rows the loop
// already knew to differ; they are not differences that an audit found.
func (l *Loop[K, V]) prune(ctx context.Context, desired map[K]V, known int) {
	repaired, err := l.cfg.Ops.Prune(ctx, desired)
	if ctx.Err() != nil {
		return
	}
	rows := map[K]error{}
	if rest := splitRows(err, rows); rest != nil {
		// Which rows were mended is not known: what was held stays held, and
		// the next Prune tells.
		l.pruneWait.failed(rest, time.Now(), l.cfg.BackoffMin, l.cfg.BackoffMax)
		l.cfg.Log.Warn("prune", "err", rest, "retryAt", l.pruneWait.due)
	} else {
		l.pruneWait = retry{}
		l.held = maps.Clone(desired)
		before := l.failed
		l.failed = map[K]failure[V]{}
		for key := range rows { // keeps the backoff of rows that fail again
			l.failed[key] = before[key]
		}
	}
	for key, rowErr := range rows {
		value, wanted := desired[key]
		l.fail(key, failure[V]{value: value, deleting: !wanted}, rowErr)
		l.cfg.Log.Warn("row is not realised", "verb", "prune", "key", key, "err", rowErr,
			"retryAt", l.failed[key].retry.due)
	}
	if found := repaired - known; l.pruned && found > 0 {
		l.addRepaired(found)
		l.cfg.Log.Warn("the kernel differed from what it should hold", "repaired", found)
	}
	l.pruned = l.pruned || l.pruneWait.err == nil
}

func (l *Loop[K, V]) pruneDue() bool {
	return !l.pruneWait.due.IsZero() && !time.Now().Before(l.pruneWait.due)
}

// nextRetry is the earliest time at which something that failed is due.
func (l *Loop[K, V]) nextRetry() time.Time {
	next := l.pruneWait.due
	for _, f := range l.failed {
		if next.IsZero() || f.retry.due.Before(next) {
			next = f.retry.due
		}
	}
	return next
}
