package services

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/timing"
)

// nodesWait is how long the start waits for the nodes once Services are complete.
// They say which zone the node is in and which addresses are nodes'; Services
// can do without.
const nodesWait = 5 * time.Second

// place is where the node is, as the compiler was told.
type place struct {
	known   bool
	node    loadbalance.Node
	moved   <-chan struct{} // the node's addresses changed
	changed <-chan struct{} // the table of nodes changed
}

// complete tells whether everything is known that a start needs, and when to ask
// again without a change.
func (r *Runner) complete() (bool, time.Time) {
	if r.begun {
		return true, time.Time{}
	}
	if r.synced != nil && !timing.Closed(r.synced) {
		return false, time.Time{}
	}
	if r.nodes == nil || timing.Closed(r.nodes) {
		return true, time.Time{}
	}
	if r.nodesBy.IsZero() {
		r.nodesBy = time.Now().Add(nodesWait)
	}
	return !time.Now().Before(r.nodesBy), r.nodesBy
}

// pullNode takes the addresses of the nodes and the zone of this one, when they
// may have changed.
func (r *Runner) pullNode() error {
	p := &r.place
	if p.known && !timing.Closed(p.moved) && !timing.Closed(p.changed) {
		return nil
	}
	now := loadbalance.Node{Name: r.cfg.NodeName}
	addrs, moved := r.cfg.Datapath.NodeAddrs()
	now.Addrs, p.moved = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare), moved
	nodes, changed, err := r.cfg.Tables.Nodes()
	if err != nil {
		return fmt.Errorf("read where the node is: %w", err)
	}
	p.changed = changed
	for _, n := range nodes {
		now.Nodes = append(now.Nodes, n.Addrs...)
		if n.Name == r.cfg.NodeName {
			now.Zone = n.Zone
		}
	}
	if p.known && p.node.Zone == now.Zone && slices.Equal(p.node.Addrs, now.Addrs) && slices.Equal(p.node.Nodes, now.Nodes) {
		return nil
	}
	p.known, p.node = true, now
	r.settleSoon()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engine.SetNode(now)
	return nil
}
