package k8s

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/timing"
)

const (
	patchTimeout  = 15 * time.Second
	patchMinWait  = 500 * time.Millisecond // also the least time between two patches
	patchMaxWait  = 30 * time.Second
	fieldManager  = "placid-agent"
	statusSubpath = "status"
)

// NodeStatus is what this node's agent says about itself in its PlacidNode.
type NodeStatus struct {
	MTU          int               `json:"mtu"` // of pod interfaces, bytes
	RoutingMode  state.RoutingMode `json:"routingMode"`
	AgentVersion string            `json:"agentVersion"`
}

// publisher brings the status of this node's PlacidNode to what was set. It
// compares with what the watch shows, so a status that someone else changed,
// or that went with its object, is written again.
type publisher struct {
	client rest.Interface
	node   string
	log    *slog.Logger
	wake   chan struct{}

	mu   sync.Mutex
	want *NodeStatus // nil: nothing was set yet
	have *NodeStatus // nil: there is no object
}

func newPublisher(client rest.Interface, node string, log *slog.Logger) *publisher {
	return &publisher{client: client, node: node, log: log, wake: make(chan struct{}, 1)}
}

// SetStatus sets what the status of this node's PlacidNode should be. Run
// writes it as soon as the object exists and the API server answers.
func (c *Client) SetStatus(s NodeStatus) {
	c.status.mu.Lock()
	c.status.want = &s
	c.status.mu.Unlock()
	signal(c.status.wake)
}

// observe takes what the watch shows; nil says that the object is not there.
func (p *publisher) observe(s *v1alpha1.PlacidNodeStatus) {
	p.mu.Lock()
	p.have = nil
	if s != nil {
		p.have = &NodeStatus{
			MTU: int(s.MTU), RoutingMode: state.RoutingMode(s.RoutingMode), AgentVersion: s.AgentVersion,
		}
	}
	p.mu.Unlock()
	signal(p.wake)
}

func (p *publisher) run(ctx context.Context) {
	wait, failing := patchMinWait, false
	for {
		wrote, err := p.publish(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			if !failing {
				p.log.Warn("node status is not published; trying again", "node", p.node, "err", err)
			}
			failing = true
			if !timing.Sleep(ctx, wait) {
				return
			}
			wait = min(2*wait, patchMaxWait)
			continue
		case wrote:
			p.log.Info("node status is published", "node", p.node)
			wait, failing = patchMinWait, false
			if !timing.Sleep(ctx, patchMinWait) {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
	}
}

// publish writes the status if it differs from what the object has.
func (p *publisher) publish(ctx context.Context) (wrote bool, err error) {
	p.mu.Lock()
	want, have := p.want, p.have
	p.mu.Unlock()
	if want == nil || have == nil || *want == *have {
		return false, nil
	}
	body, err := json.Marshal(map[string]any{"status": want})
	if err != nil {
		return false, fmt.Errorf("encode status: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patchTimeout)
	defer cancel()
	var got v1alpha1.PlacidNode
	err = p.client.Patch(types.MergePatchType).Resource("placidnodes").Name(p.node).SubResource(statusSubpath).
		Param("fieldManager", fieldManager).Body(body).Do(ctx).Into(&got)
	if err != nil {
		return false, fmt.Errorf("patch status of PlacidNode %s: %w", p.node, err)
	}
	p.observe(&got.Status)
	return true, nil
}
