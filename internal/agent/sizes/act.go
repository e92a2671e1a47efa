package sizes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/k8s"
)

// Reasons of events.
const (
	reasonGrown   = "TableGrown"
	reasonShrunk  = "TableShrunk"
	reasonBlocked = "TableBlocked" // it should have another size, and cannot
	reasonFailed  = "TableResizeFailed"
)

// whyConfigured is why a table gets a size that was set.
const whyConfigured = "configuration"

// The wait before a resize that was refused is tried again; it doubles each time.
const (
	retryMin = 10 * time.Second
	retryMax = 10 * time.Minute
)

// obstacle is what is said once: a table cannot leave its size, and for what cause.
type obstacle struct {
	from  int
	limit autosize.Bound
	last  time.Time // when it was in the way
}

// same tells whether what is in the way is what was told of, and not long ago.
func (o obstacle) same(told obstacle) bool {
	return o.from == told.from && o.limit == told.limit && o.last.Sub(told.last) < autosize.Pause
}

// retry is when a table may be tried again.
type retry struct {
	at   time.Time
	wait time.Duration
}

// order is one resize to carry out.
type order struct {
	mapName string
	from    uint64
	to      uint32
	why     string
}

// judge takes the decisions that something limits, and returns those that nobody
// was told of. The caller holds the lock.
func (r *Runner) judge(now time.Time, decisions []autosize.Decision) []autosize.Decision {
	clear(r.blocked)
	var news []autosize.Decision
	for _, d := range decisions {
		if d.Limit == "" {
			continue
		}
		r.blocked[d.Map] = d
		if d.Action != autosize.Blocked {
			continue // that is told when it is done
		}
		o := obstacle{d.From, d.Limit, now}
		if !o.same(r.told[d.Map]) {
			news = append(news, d)
		}
		r.told[d.Map] = o
	}
	return news
}

// next is the resize that comes first: a size that was set, then the most urgent
// decision. The caller holds the lock.
func (r *Runner) next(now time.Time, tables []datapath.SizedTable, decisions []autosize.Decision) (order, bool) {
	for _, t := range tables {
		to, ok := r.wanted[t.Map]
		switch {
		case !ok || t.Old > 0 || !r.due(now, t.Map):
		case t.Size == uint64(to):
			delete(r.wanted, t.Map)
		default:
			return order{t.Map, t.Size, to, whyConfigured}, true
		}
	}
	for _, d := range decisions {
		if d.Action != autosize.Blocked && r.due(now, d.Map) {
			return order{d.Map, uint64(d.From), uint32(d.To), d.Reason}, true
		}
	}
	return order{}, false
}

func (r *Runner) due(now time.Time, mapName string) bool { return !now.Before(r.retries[mapName].at) }

// begin carries out an order, unless another one is on its way.
func (r *Runner) begin(ctx context.Context, now time.Time, o order) {
	select {
	case r.working <- struct{}{}:
	default:
		return
	}
	r.moves.Go(func() {
		defer func() { <-r.working }()
		move, err := r.cfg.Datapath.Resize(ctx, o.mapName, o.to, o.why)
		r.ended(ctx, now, o, move, err)
	})
}

// ended tells what an order came to.
func (r *Runner) ended(ctx context.Context, began time.Time, o order, move resize.Move, err error) {
	switch {
	case errors.Is(err, resize.ErrBusy) || ctx.Err() != nil:
		return // a person's resize goes first; the next agent ends what was begun
	case err == nil:
		r.succeeded(o)
		return
	}
	if r.failed(began, o.mapName, move, err) {
		r.cfg.Log.Warn("resize a table", "map", o.mapName, "from", o.from, "to", o.to, "reason", o.why, "error", err)
		r.tell(o.mapName, k8s.EventWarning, reasonFailed, fmt.Sprintf("%s: %v", o.why, err))
	}
}

func (r *Runner) succeeded(o order) {
	r.mu.Lock()
	delete(r.retries, o.mapName)
	delete(r.wanted, o.mapName)
	r.mu.Unlock()
	reason := reasonGrown
	if uint64(o.to) < o.from {
		reason = reasonShrunk
	}
	text := o.why
	if o.why == whyConfigured {
		text = fmt.Sprintf("%s: %d → %d, as it is configured", datapath.ShortName(o.mapName), o.from, o.to)
	}
	r.tell(o.mapName, k8s.EventNormal, reason, text)
}

// failed puts the next try off. It reports false when there is nothing to tell:
// more entries came than a smaller table would hold.
func (r *Runner) failed(began time.Time, mapName string, move resize.Move, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := min(max(2*r.retries[mapName].wait, retryMin), retryMax)
	r.retries[mapName] = retry{at: began.Add(wait), wait: wait}
	if errors.Is(err, resize.ErrEntries) && !slices.Contains(r.settings.Fixed(), mapName) {
		delete(r.wanted, mapName)
		return false
	}
	if move.State == "" {
		c := r.counts[mapName]
		c.Refused++
		r.counts[mapName] = c
	}
	return true
}

// Resize gives a table another size because a person wants it. See
// datapath.Datapath.Resize for the errors.
func (r *Runner) Resize(ctx context.Context, name string, entries uint32, why string) (resize.Move, error) {
	move, err := r.cfg.Datapath.Resize(ctx, name, entries, why)
	r.mu.Lock()
	defer r.mu.Unlock()
	if move.State != "" {
		delete(r.wanted, move.Map)
		r.count(move)
	}
	return move, err
}

// obstacleOf says what keeps a table from the size that it should have. The caller
// holds the lock.
func (r *Runner) obstacleOf(mapName string) (why, limit string) {
	d, ok := r.blocked[mapName]
	if !ok {
		return "", ""
	}
	return d.Reason, string(d.Limit)
}
