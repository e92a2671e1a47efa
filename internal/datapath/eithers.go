package datapath

import "sync"

// eithers joins two channels to one. It remembers the last pair: asked for it
// again, it needs no other goroutine.
type eithers struct {
	mu        sync.Mutex
	a, b, out <-chan struct{}
}

// either returns a channel that is closed when a or b is.
func (d *Datapath) either(a, b <-chan struct{}) <-chan struct{} {
	e := &d.eithers
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.a == a && e.b == b {
		return e.out
	}
	out := make(chan struct{})
	go func() {
		defer close(out)
		select {
		case <-a:
		case <-b:
		}
	}()
	e.a, e.b, e.out = a, b, out
	return out
}
