package pair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// PoolConfig describes a pool of ready pairs.
type PoolConfig struct {
	Size int // spares to keep; 0 makes every pair when it is asked for
	MTU  int // bytes of L3
	// Attach makes the host side ready: program attached and link pinned.
	Attach func(ctx context.Context, p Pair) error
	Log    *slog.Logger
}

// Pool keeps pairs ready, so that a pod does not wait for the attach, which
// takes the kernel about 20 ms. Its methods are safe for concurrent use.
type Pool struct {
	cfg    PoolConfig
	mu     sync.Mutex
	spares []Pair
	lent   map[string]Pair // being made, or handed out and not done yet, by host side
	busy   int             // pods being added: refilling would hold the kernel's lock against them
	wake   chan struct{}
}

// quiet is how long after the last ADD the pool refills. An attach holds the
// kernel's network lock for its 20 ms, which an ADD would have to wait for.
const quiet = 50 * time.Millisecond

// NewPool returns a pool that starts with the spares that an earlier agent left.
// Those with another MTU, or too many, are not Known and so are to be removed.
func NewPool(cfg PoolConfig, spares []Pair) *Pool {
	p := &Pool{cfg: cfg, lent: map[string]Pair{}, wake: make(chan struct{}, 1)}
	for _, s := range spares {
		if s.MTU == cfg.MTU && len(p.spares) < cfg.Size {
			p.spares = append(p.spares, s)
		}
	}
	return p
}

// Known returns every pair that is not an endpoint's yet: the spares, and those
// that are being made (Index 0 before they exist) or joined to a pod.
func (p *Pool) Known() []Pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(slices.Collect(maps.Values(p.lent)), p.spares...)
}

// Take hands out a ready pair, a spare if there is one. Call done when the
// pod's interface is an endpoint, or the pair is removed.
func (p *Pool) Take(ctx context.Context) (pair Pair, done func(), err error) {
	pair, ok := p.takeSpare()
	if !ok {
		pair, err = p.make(ctx)
	}
	done = sync.OnceFunc(func() { p.settle(pair) })
	if err != nil {
		done()
		return Pair{}, nil, err
	}
	return pair, done, nil
}

func (p *Pool) takeSpare() (pair Pair, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy++
	n := len(p.spares)
	if n == 0 {
		return Pair{}, false
	}
	pair, p.spares = p.spares[n-1], p.spares[:n-1]
	p.lent[pair.Host] = pair
	return pair, true
}

// settle ends what takeSpare began.
func (p *Pool) settle(pair Pair) {
	p.mu.Lock()
	p.busy--
	delete(p.lent, pair.Host)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// make creates a pair and makes it ready. It counts as lent from the moment
// that it exists, so that no audit takes it for a left-over.
func (p *Pool) make(ctx context.Context) (Pair, error) {
	pair := newPair(p.cfg.MTU)
	p.lend(pair)
	err := pair.create()
	if err == nil {
		p.lend(pair) // with its index now
		err = p.cfg.Attach(ctx, pair)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("make pair %s ready: %w", pair.Host, err), Remove(pair.Host))
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.lent, pair.Host)
		return Pair{}, err
	}
	return pair, nil
}

func (p *Pool) lend(pair Pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent[pair.Host] = pair
}

// Run refills the pool until ctx ends. Spares stay in the kernel then, for the
// next agent to find.
func (p *Pool) Run(ctx context.Context) error {
	for {
		wait := time.Hour
		if p.wants() {
			err := p.refill(ctx)
			if err == nil {
				continue
			}
			p.cfg.Log.Error("refill spare pairs", "error", err)
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(quiet):
			}
		case <-time.After(wait):
		}
	}
}

// wants tells whether to make a spare now. It waits while pods are being added.
func (p *Pool) wants() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spares) < p.cfg.Size && p.busy == 0
}

func (p *Pool) refill(ctx context.Context) error {
	pair, err := p.make(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lent, pair.Host)
	p.spares = append(p.spares, pair)
	return nil
}
