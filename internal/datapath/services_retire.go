package datapath

import (
	"context"
	"time"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/timing"
)

// removal is what a change made useless. Programs that run may have it in hand:
// it is deleted when they have ended.
type removal struct {
	slots   []abi.CBackendKey
	maglev  []uint32
	ranges  []abi.CSourceRangeKey
	lists   []uint32    // ids that are free then
	service uint32      // the same; 0: none
	owner   *servedPort // that goes on, and must not get these rows again before; or nil
}

func (r *removal) empty() bool {
	return len(r.slots)+len(r.maglev)+len(r.ranges) == 0 && r.service == 0
}

// list adds a whole list.
func (r *removal) list(l *backendList) {
	for i := range l.slots {
		r.slots = append(r.slots, abi.CBackendKey{List: l.id, Slot: uint32(i)})
	}
	if l.byID {
		r.byID(l)
	}
	if l.maglev {
		r.maglev = append(r.maglev, l.id)
	}
	r.lists = append(r.lists, l.id)
}

func (r *removal) byID(l *backendList) {
	for _, s := range l.slots {
		r.slots = append(r.slots, byIDKey(l.id, s.id))
	}
}

// retire puts away what a port had and has no more. No frontend leads to it once
// what is pending is written.
func (w *serviceWriter) retire(c *change, s *servedPort) {
	r := &removal{}
	for i, l := range s.lists {
		if c.reuse[i] == nil {
			continue
		}
		if l.byID && !c.wants[i].byID {
			r.byID(l)
			l.byID = false
		}
		if l.maglev && !c.wants[i].maglev {
			r.maglev = append(r.maglev, l.id)
			l.maglev = false
		}
	}
	for _, p := range c.oldRanges {
		r.ranges = append(r.ranges, sourceRangeKey(s.service, p))
	}
	if !r.empty() {
		s.leaving++
		r.owner = s
	}
	w.retireLists(r, c.unused)
	if !r.empty() {
		w.retired = append(w.retired, r)
	}
}

func (w *serviceWriter) retireLists(r *removal, lists []*backendList) {
	for _, l := range lists {
		r.list(l)
		for _, slot := range l.slots {
			w.unuse(w.ids[slot.id], 1, 0)
		}
	}
}

// dropPort removes a port.
func (w *serviceWriter) dropPort(key loadbalance.PortKey, s *servedPort) {
	for _, k := range s.keys {
		w.dropFrontend(k)
	}
	r := &removal{service: s.service}
	w.retireLists(r, s.lists)
	for _, p := range s.ranges {
		r.ranges = append(r.ranges, sourceRangeKey(s.service, p))
	}
	for _, b := range s.draining {
		w.unuse(w.known[b], 0, 1)
	}
	w.retired = append(w.retired, r)
	delete(w.ports, key)
}

// reapNow deletes all that is retired, after waiting for the programs that run.
// With keep, backends that are gone stay known, see keepGone; a change that is
// short of rows does without.
func (w *serviceWriter) reapNow(keep bool) error {
	err := w.flush()
	if err != nil || len(w.retired) == 0 {
		return err
	}
	if err := w.wait(); err != nil {
		return err
	}
	return w.reap(len(w.retired), keep)
}

// reap deletes the n oldest removals, which no program has in hand.
func (w *serviceWriter) reap(n int, keep bool) error {
	if keep {
		if err := w.keepGone(); err != nil {
			return err
		}
	}
	var all removal
	for _, r := range w.retired[:n] {
		all.slots, all.maglev = append(all.slots, r.slots...), append(all.maglev, r.maglev...)
		all.ranges = append(all.ranges, r.ranges...)
	}
	err := firstError(
		func() error { return w.backends.remove(all.slots) },
		func() error { return w.maglev.remove(all.maglev) },
		func() error { return w.ranges.remove(all.ranges) },
	)
	if err != nil {
		w.stale = true
		return err
	}
	for _, r := range w.retired[:n] {
		for _, id := range r.lists {
			delete(w.lists, id)
		}
		delete(w.services, r.service)
		if r.owner != nil {
			r.owner.leaving--
		}
	}
	w.used[inBackends] -= len(all.slots)
	w.used[inMaglev] -= len(all.maglev)
	w.used[inRanges] -= len(all.ranges)
	w.writes += len(all.slots) + len(all.maglev) + len(all.ranges)
	w.retired, w.reaped = w.retired[n:], w.reaped+uint64(n)
	if len(w.retired) == 0 {
		w.retired = nil
	}
	w.freed = true
	return nil
}

// staleRetry is how long after an error of the kernel its tables are read anew.
const staleRetry = time.Second

// run deletes what changes made useless, and lets refused ports in when there is
// room, until ctx ends. Changes do not wait for it.
func (w *serviceWriter) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
		if err := w.tidy(); err != nil {
			w.cfg.log.Warn("write services", "error", err)
			timing.Sleep(ctx, staleRetry)
			wakeUp(w.wake)
		}
	}
}

// tidy makes one round of run.
func (w *serviceWriter) tidy() error {
	w.mu.Lock()
	upTo := w.reaped + uint64(len(w.retired))
	due := len(w.retired) > 0
	w.mu.Unlock()
	if due {
		// Without the lock: changes go on meanwhile.
		if err := w.wait(); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stale {
		return w.rebuild()
	}
	if n := int64(upTo - w.reaped); due && n > 0 {
		if err := w.reap(int(n), true); err != nil {
			return w.mended(err)
		}
	}
	err := w.retry()
	if err == nil {
		err = w.flush()
	}
	if len(w.retired) > 0 {
		wakeUp(w.wake)
	}
	return w.mended(err)
}
