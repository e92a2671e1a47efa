package agent

import (
	"context"
	"errors"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// podSource knows which pods exist.
type podSource interface {
	PodsSynced() <-chan struct{}
	LocalPods() map[state.PodRef]struct{}
	PodGone(ctx context.Context, ref state.PodRef) (bool, error)
	Health() agentapi.Condition
}

// collector removes endpoints that outlived their pods: those whose interface
// went with its namespace, and those whose pod does not exist on two passes in
// a row.
type collector struct {
	endpoints *endpoints
	pods      podSource
	interval  time.Duration
	missing   map[uint32]bool // endpoints whose pod was gone on the last pass
}

// run collects on the interval until ctx ends.
func (c *collector) run(ctx context.Context) error {
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := c.pass(ctx); err != nil {
				c.endpoints.log.Error("collect endpoints", "error", err)
			}
		}
	}
}

func (c *collector) pass(ctx context.Context) error {
	errs := []error{c.endpoints.addresses.forgetRested()}
	eps, _, err := c.endpoints.tables.Endpoints()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	missing := map[uint32]bool{}
	for _, ep := range eps {
		why, err := c.dead(ctx, ep, missing)
		if err != nil {
			errs = append(errs, err)
		}
		if why == "" {
			continue
		}
		c.endpoints.log.Warn("endpoint outlived its pod", "endpoint", ep.ID, "pod", ep.Pod.String(), "reason", why)
		errs = append(errs, c.endpoints.del(ctx, ep.Attachment))
	}
	c.missing = missing
	return errors.Join(errs...)
}

// dead tells why an endpoint is to be removed, or "".
func (c *collector) dead(ctx context.Context, ep state.Endpoint, missing map[uint32]bool) (string, error) {
	alive, err := c.endpoints.datapath.Exists(ep)
	if err != nil {
		return "", err
	}
	if !alive {
		return "its interface is gone", nil
	}
	if ep.Pod.Name == "" || !c.podsKnown() {
		return "", nil
	}
	if _, ok := c.pods.LocalPods()[ep.Pod]; ok {
		return "", nil
	}
	gone, err := c.pods.PodGone(ctx, ep.Pod)
	if err != nil || !gone {
		return "", err
	}
	if c.missing[ep.ID] {
		return "its pod does not exist", nil
	}
	missing[ep.ID] = true
	return "", nil
}

func (c *collector) podsKnown() bool {
	select {
	case <-c.pods.PodsSynced():
		return c.pods.Health().OK
	default:
		return false
	}
}
