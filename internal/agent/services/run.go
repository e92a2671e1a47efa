package services

import (
	"errors"
	"fmt"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/timing"
)

// The wait before a write that failed is tried again; it doubles each time.
const (
	retryMin = 50 * time.Millisecond
	retryMax = 10 * time.Second
)

// outageLimit is how long writes may fail before load balancers are told to go
// elsewhere: what the kernel has works on meanwhile.
const outageLimit = 30 * time.Second

// retry tells when to compare everything with the kernel again.
type retry struct {
	dirty bool // the kernel may differ from what should be
	wait  time.Duration
	at    time.Time
}

// next is when the retry is due; zero when there is none.
func (r *retry) next() time.Time {
	if !r.dirty {
		return time.Time{}
	}
	return r.at
}

// report is what the Runner tells of itself.
type report struct {
	begun    bool
	err      error     // why the kernel cannot be trusted
	failing  time.Time // since when
	repaired uint64    // differences that audits found
	success  time.Time
	refused  []loadbalance.Refusal
	problems []loadbalance.Problem
	health   []healthState
}

// errUnknown says that the tables were never complete since the agent started.
var errUnknown = errors.New("services are not known yet since the agent started; see whether it reaches the API server (condition kubernetes)")

// trouble tells why Services cannot be relied on, or nil.
func (s *report) trouble() error {
	if !s.begun {
		return errUnknown
	}
	if s.err != nil {
		return fmt.Errorf("services are not in the kernel as they should be: %w", s.err)
	}
	if s.success.IsZero() {
		return errors.New("services are not in the kernel yet")
	}
	return nil
}

// turn does all there is to do and tells when to come again without a change;
// zero is never.
func (r *Runner) turn() time.Time {
	complete, again := r.complete() // before the feeds are read
	if since := r.bell.answer(); r.pending.IsZero() {
		r.pending = since
	}
	if !complete {
		r.pull()
		return again
	}
	if !r.begun {
		r.begin()
	}
	r.write(r.take())
	return timing.Earliest(r.retry.next(), r.settle())
}

// take takes what changed through the compiler.
func (r *Runner) take() loadbalance.Update {
	r.pull()
	if err := r.pullNode(); err != nil {
		r.failed(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.engine.Take()
	r.counts.apply(u)
	return u
}

// begin is the first turn with complete tables.
func (r *Runner) begin() {
	r.begun, r.retry.dirty = true, true
	r.pending = time.Time{} // the start is no change
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.begun = true
}

// write gives the datapath an update, or everything when it is not known what it
// has.
func (r *Runner) write(u loadbalance.Update) {
	switch {
	case r.retry.dirty && time.Now().Before(r.retry.at):
		return
	case r.retry.dirty:
		if err := r.sync(); err != nil {
			r.failed(err)
			return
		}
	case empty(u):
		r.pending = time.Time{}
		return
	default:
		if err := r.cfg.Datapath.ApplyServices(u); err != nil {
			r.failed(fmt.Errorf("write services: %w", err))
			return
		}
	}
	if !r.pending.IsZero() {
		r.cfg.Meter.Programmed(time.Since(r.pending), len(u.Upsert)+len(u.Open) == 0)
		r.pending = time.Time{}
	}
	r.succeeded()
}

// sync compares everything with the kernel.
func (r *Runner) sync() error {
	r.mu.Lock()
	ports, addresses := r.engine.Ports(), r.engine.Addresses()
	r.mu.Unlock()
	repaired, err := r.cfg.Datapath.SyncServices(ports, addresses)
	if err != nil {
		return fmt.Errorf("compare services with the kernel: %w", err)
	}
	r.mu.Lock()
	audit := r.state.err == nil && !r.state.success.IsZero()
	if audit {
		r.state.repaired += uint64(repaired)
	}
	r.mu.Unlock()
	switch {
	case audit && repaired > 0 && r.pending.IsZero():
		r.cfg.Log.Warn("services differed in the kernel", "repaired", repaired)
	case !audit:
		r.cfg.Log.Info("services are in the kernel", "written", repaired)
	}
	return nil
}

// failed plans a retry and logs the first error of an outage.
func (r *Runner) failed(err error) {
	r.retry.dirty = true
	r.retry.wait = min(max(2*r.retry.wait, retryMin), retryMax)
	r.retry.at = time.Now().Add(r.retry.wait)
	r.mu.Lock()
	first := r.state.err == nil
	r.state.err = err
	if first {
		r.state.failing = time.Now()
	}
	r.mu.Unlock()
	if first {
		r.cfg.Log.Error("services are not in force as they should be; trying again", "error", err)
	}
}

// succeeded ends an outage, and has what became of it told.
func (r *Runner) succeeded() {
	r.retry = retry{}
	r.mu.Lock()
	mended, first := r.state.err != nil, r.state.success.IsZero()
	r.state.err, r.state.failing, r.state.success = nil, time.Time{}, time.Now()
	r.mu.Unlock()
	if mended {
		r.cfg.Log.Info("services are in force again")
	}
	if first {
		close(r.written)
	}
	r.settleSoon()
}

// healthy tells load balancers whether the node serves at all.
func (r *Runner) healthy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.state.success.IsZero() && (r.state.err == nil || time.Since(r.state.failing) < outageLimit)
}

func empty(u loadbalance.Update) bool {
	return len(u.Upsert)+len(u.Delete)+len(u.Open)+len(u.Gone) == 0
}
