package services

import (
	"context"
	"sync"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// feeds are the tables that the compiler follows.
type feeds struct {
	services  *state.Feed[state.Service]
	slices    *state.Feed[state.EndpointSlice]
	endpoints *state.Feed[state.Endpoint]
}

func openFeeds(t *state.Tables) feeds {
	return feeds{services: t.FeedServices(), slices: t.FeedSlices(), endpoints: t.FeedEndpoints()}
}

func (f feeds) close() {
	f.services.Close()
	f.slices.Close()
	f.endpoints.Close()
}

// listen rings the bell when a table changes, until ctx ends. It does nothing
// else, so that the time of a change is right also while others are written.
func (f feeds) listen(ctx context.Context, b *bell) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.services.Ready():
		case <-f.slices.Ready():
		case <-f.endpoints.Ready():
		}
		b.ring(time.Now())
	}
}

// bell remembers since when something waits.
type bell struct {
	rung chan struct{} // holds a token when it rang since it was last received

	mu    sync.Mutex
	since time.Time
}

func newBell() *bell { return &bell{rung: make(chan struct{}, 1)} }

func (b *bell) ring(now time.Time) {
	b.mu.Lock()
	if b.since.IsZero() {
		b.since = now
	}
	b.mu.Unlock()
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// answer returns when the bell first rang since the last answer; zero is never.
func (b *bell) answer() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	since := b.since
	b.since = time.Time{}
	return since
}

// pull takes what changed into the compiler.
func (r *Runner) pull() {
	r.mu.Lock()
	defer r.mu.Unlock()
	services, slices, endpoints := r.feeds.services.Take(), r.feeds.slices.Take(), r.feeds.endpoints.Take()
	for _, c := range services {
		switch {
		case c.New == nil:
			r.engine.DeleteService(c.Old.Ref)
			r.count(ActionDelete)
		case c.Old == nil:
			r.engine.UpsertService(c.New)
			r.count(ActionAdd)
		default:
			r.engine.UpsertService(c.New)
			r.count(ActionUpdate)
		}
	}
	for _, c := range slices {
		if c.New == nil {
			r.engine.DeleteSlice(c.Old.Namespace, c.Old.Name)
		} else {
			r.engine.UpsertSlice(c.New)
		}
		r.count(ActionUpdate)
	}
	for _, c := range endpoints {
		r.pullHostPortsLocked(c)
	}
	if len(services)+len(slices)+len(endpoints) > 0 {
		r.settleSoon()
	}
}

// count counts changes that came after the start.
func (r *Runner) count(action string) {
	if r.begun {
		r.cfg.Meter.Changed(action)
	}
}

// pullHostPortsLocked takes the host ports of an endpoint. A pod that was made anew
// under its name has another endpoint: the old one takes away only its own.
func (r *Runner) pullHostPortsLocked(c state.Change[state.Endpoint]) {
	if c.Old != nil && (c.New == nil || refOf(c.Old.Pod) != refOf(c.New.Pod) || len(c.New.HostPorts) == 0) {
		if ref := refOf(c.Old.Pod); r.hostPorts[ref] == c.Old.ID && len(c.Old.HostPorts) > 0 {
			delete(r.hostPorts, ref)
			r.engine.DeleteHostPorts(ref)
		}
	}
	if c.New != nil && len(c.New.HostPorts) > 0 {
		r.hostPorts[refOf(c.New.Pod)] = c.New.ID
		r.engine.SetHostPorts(refOf(c.New.Pod), c.New.Addrs(), c.New.CreatedAt, c.New.HostPorts)
	}
}

// refOf names a pod as the compiler does.
func refOf(p state.PodRef) state.ServiceRef {
	return state.ServiceRef{Namespace: p.Namespace, Name: p.Name}
}
