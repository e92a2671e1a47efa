package security

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/timing"
)

// The wait before a write that failed is tried again; it doubles each time.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 30 * time.Second
)

// retry tells when to compare everything with the kernel again.
type retry struct {
	dirty bool // the kernel may differ from the engine's tables
	err   error
	wait  time.Duration
	at    time.Time
}

func (r *retry) failed(err error) {
	r.dirty, r.err = true, err
	r.wait = min(max(2*r.wait, retryMin), retryMax)
	r.at = time.Now().Add(r.wait)
}

// Run keeps the datapath as the cluster says until ctx ends, and then returns
// nil. Errors are retried and shown by Ready. It is called once.
func (e *Enforcer) Run(ctx context.Context) error {
	defer e.feeds.close()
	var references sync.WaitGroup
	references.Go(func() { e.followReferences(ctx) })
	defer references.Wait()
	audit := time.NewTicker(e.cfg.Interval)
	defer audit.Stop()
	synced := e.synced
	for {
		next := timing.NewAlarm(e.turn(ctx))
		select {
		case <-ctx.Done():
		case <-synced:
			synced = nil
		case <-e.wake:
		case <-next.Due:
		case <-audit.C:
			e.audited()
		case <-e.feeds.policies.Ready():
		case <-e.feeds.identities.Ready():
		case <-e.feeds.namespaces.Ready():
		case <-e.feeds.pods.Ready():
		case <-e.feeds.published.Ready():
		}
		next.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// followReferences wakes Run when something changed that policies name.
func (e *Enforcer) followReferences(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.feeds.nodes.Ready():
		case <-e.feeds.services.Ready():
		case <-e.feeds.slices.Ready():
		case <-e.feeds.groups.Ready():
		}
		e.notify()
	}
}

// audited asks for a comparison with the kernel.
func (e *Enforcer) audited() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retry.dirty = true
}

func (e *Enforcer) notify() {
	select {
	case e.wake <- struct{}{}:
	default: // one is on its way
	}
}

// turn does all there is to do and tells when to come again without a change;
// zero is never.
func (e *Enforcer) turn(ctx context.Context) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	complete := timing.Closed(e.synced) // before the feeds are read
	e.pullLocked()
	if complete && !e.begun {
		e.beginLocked()
	}
	if !e.begun {
		e.changedLocked()
		return time.Time{}
	}
	e.weighLocked()
	if !e.retry.dirty || !time.Now().Before(e.retry.at) {
		e.logRetryLocked(e.flushLocked(ctx))
	}
	e.publishLocked()
	e.problemsLocked()
	e.changedLocked()
	return timing.Earliest(e.stage.next(), e.published.next(), e.retry.next())
}

// next is when the retry is due; zero when there is none.
func (r *retry) next() time.Time {
	if !r.dirty {
		return time.Time{}
	}
	return r.at
}

// flushLocked writes what changed: what the engine computed, then who the node's
// endpoints are, then the first policies once the nodes know each other.
func (e *Enforcer) flushLocked(ctx context.Context) error {
	if err := e.writeLocked(ctx); err != nil {
		e.retry.failed(err)
		return err
	}
	if err := e.identifyLocked(ctx); err != nil {
		e.retry.failed(err)
		return err
	}
	if err := e.releaseLocked(ctx); err != nil {
		e.retry.failed(err)
		return err
	}
	e.retry = retry{}
	if !e.pending.IsZero() && !e.stage.active() {
		e.cfg.Meter.Implemented(time.Since(e.pending))
		e.pending = time.Time{}
	}
	return nil
}

func (e *Enforcer) writeLocked(ctx context.Context) error {
	u := e.engine.Take()
	if e.retry.dirty {
		if err := e.cfg.Datapath.SyncPolicy(ctx, e.tablesLocked()); err != nil {
			return fmt.Errorf("compare policies with the kernel: %w", err)
		}
		return nil
	}
	u.Endpoints = e.stage.filter(u.Endpoints)
	if u.Empty() {
		return nil
	}
	if err := e.cfg.Datapath.ApplyPolicy(ctx, u); err != nil {
		return fmt.Errorf("write policies: %w", err)
	}
	return nil
}

// tablesLocked is everything that should be in the kernel now. It differs from
// the engine's tables in the endpoints that wait for the others, and in those
// that the engine does not know.
func (e *Enforcer) tablesLocked() policy.Tables {
	t := e.engine.Tables()
	t.Endpoints = maps.Clone(t.Endpoints)
	if t.Endpoints == nil {
		t.Endpoints = map[uint32]policy.EndpointPolicy{}
	}
	for id, m := range e.members {
		switch {
		case e.stage.holds(id):
			t.Endpoints[id] = policy.EndpointPolicy{}
		case !m.known:
			s, _ := e.cfg.Datapath.SecurityOf(id)
			t.Endpoints[id] = s.Policy
		}
	}
	return t
}

// logRetryLocked logs an error once for each outage.
func (e *Enforcer) logRetryLocked(err error) {
	switch {
	case err != nil && !errors.Is(err, context.Canceled) && !e.problems.outage:
		e.cfg.Log.Error("policies are not in force as they should be; trying again", "error", err)
		e.problems.outage = true
	case err == nil && e.problems.outage:
		e.cfg.Log.Info("policies are in force again")
		e.problems.outage = false
	}
}

// changedLocked tells those that wait.
func (e *Enforcer) changedLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
}
