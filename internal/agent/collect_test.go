package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// fakePods is a podSource.
type fakePods struct {
	synced  chan struct{}
	local   map[state.PodRef]struct{}
	gone    map[state.PodRef]bool // by the API server
	err     error
	healthy bool
	asked   int
}

func newFakePods() *fakePods {
	p := &fakePods{synced: make(chan struct{}), local: map[state.PodRef]struct{}{}, gone: map[state.PodRef]bool{}, healthy: true}
	close(p.synced)
	return p
}

func (p *fakePods) PodsSynced() <-chan struct{}          { return p.synced }
func (p *fakePods) LocalPods() map[state.PodRef]struct{} { return p.local }
func (p *fakePods) Health() agentapi.Condition           { return agentapi.Condition{OK: p.healthy} }

func (p *fakePods) PodGone(_ context.Context, ref state.PodRef) (bool, error) {
	p.asked++
	return p.gone[ref], p.err
}

func TestCollector(t *testing.T) {
	away := errors.New("the API server is away")
	pod := request(1).Pod
	for _, tc := range []struct {
		name   string
		change func(n *fakeNode, p *fakePods, ep state.Endpoint)
		passes int
		left   int
		fails  bool
	}{
		{"the pod lives", func(_ *fakeNode, p *fakePods, _ state.Endpoint) { p.local[pod] = struct{}{} }, 3, 1, false},
		{"the watch is late, the API server has it", func(*fakeNode, *fakePods, state.Endpoint) {}, 3, 1, false},
		{"gone, seen once", func(_ *fakeNode, p *fakePods, _ state.Endpoint) { p.gone[pod] = true }, 1, 1, false},
		{"gone, seen twice", func(_ *fakeNode, p *fakePods, _ state.Endpoint) { p.gone[pod] = true }, 2, 0, false},
		{"gone, but the API server is away", func(_ *fakeNode, p *fakePods, _ state.Endpoint) { p.err = away }, 3, 1, true},
		{"gone, but the watch is broken", func(_ *fakeNode, p *fakePods, _ state.Endpoint) { p.gone[pod], p.healthy = true, false }, 3, 1, false},
		{"gone, but the pods are not known yet", func(_ *fakeNode, p *fakePods, _ state.Endpoint) {
			p.gone[pod], p.synced = true, make(chan struct{})
		}, 3, 1, false},
		{"its interface is gone", func(n *fakeNode, p *fakePods, ep state.Endpoint) {
			p.local[pod] = struct{}{}
			delete(n.kernel.devices, ep.HostIfName)
		}, 1, 0, false},
		{"its interface is gone and no pods are known", func(n *fakeNode, p *fakePods, ep state.Endpoint) {
			p.synced = make(chan struct{})
			delete(n.kernel.devices, ep.HostIfName)
		}, 1, 0, false},
		{"the kernel cannot be asked", func(n *fakeNode, p *fakePods, _ state.Endpoint) {
			p.gone[pod] = true
			n.kernel.failing(stepExists)
		}, 3, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, pods := newFakeNode(t, t.TempDir()), newFakePods()
			ep := n.mustAdd(t, 1)
			tc.change(n, pods, ep)
			c := &collector{endpoints: n.endpoints, pods: pods, interval: time.Hour}
			var err error
			for range tc.passes {
				err = c.pass(t.Context())
			}
			if (err != nil) != tc.fails {
				t.Errorf("pass: %v, want an error: %t", err, tc.fails)
			}
			if got := len(n.list(t)); got != tc.left {
				t.Errorf("%d endpoints are left, want %d", got, tc.left)
			}
			n.kernel.failing()
			n.consistent(t)
		})
	}
	t.Run("without a pod's name nobody is asked", func(t *testing.T) {
		n, pods := newFakeNode(t, t.TempDir()), newFakePods()
		req := request(1)
		req.Pod = state.PodRef{}
		_, err := n.add(t.Context(), req)
		must(t, err)
		must(t, (&collector{endpoints: n.endpoints, pods: pods}).pass(t.Context()))
		if pods.asked != 0 || len(n.list(t)) != 1 {
			t.Errorf("asked %d times, %d endpoints are left", pods.asked, len(n.list(t)))
		}
	})
	t.Run("addresses that have rested are forgotten", func(t *testing.T) {
		n := newFakeNode(t, t.TempDir())
		n.mustAdd(t, 1)
		must(t, n.del(t.Context(), request(1).Attachment))
		c := &collector{endpoints: n.endpoints, pods: newFakePods()}
		for _, want := range []int{2, 0} {
			must(t, c.pass(t.Context()))
			released, err := n.store.loadReleased()
			must(t, err)
			if len(released) != want {
				t.Errorf("released files %v, want %d", released, want)
			}
			*n.clock = n.clock.Add(reuseDelay)
		}
	})
	t.Run("run passes on its interval until the context ends", func(t *testing.T) {
		n, pods := newFakeNode(t, t.TempDir()), newFakePods()
		n.mustAdd(t, 1)
		pods.gone[pod] = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		c := &collector{endpoints: n.endpoints, pods: pods, interval: time.Millisecond}
		go func() { done <- c.run(ctx) }()
		for deadline := time.Now().Add(5 * time.Second); len(n.list(t)) > 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		cancel()
		must(t, <-done)
		n.consistent(t)
	})
}
