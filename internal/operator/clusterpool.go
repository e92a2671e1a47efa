package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/ipam"
)

// carveBatch is the most nodes that are carved with one write of the intents.
const carveBatch = 256

// clusterPool is the cidrSource of the mode cluster-pool. Its ledger, the
// carver, is read from the API server when it is first needed and after every
// write of the intents that did not succeed for certain, and otherwise follows
// this operator's own writes.
type clusterPool struct {
	pools   []ipam.Pool
	cached  client.Reader // the Nodes
	live    client.Reader // the PlacidNodes
	intents intentStore
	// joining are the nodes that may be waiting for a carve, so that it can be
	// done for many at once.
	joining *nameSet
	wake    func(node string)
	logger  *slog.Logger

	// carver is nil when the ledger must be read.
	carver *ipam.Carver
	// pending are the intents whose PlacidNode is not known to be written; mine
	// is true once this operator wrote them, after which it may act on them.
	pending intents
	mine    bool
}

func (c *clusterPool) lookup(ctx context.Context, node *corev1.Node) (assignment, bool, error) {
	if err := c.load(ctx); err != nil {
		return assignment{}, false, err
	}
	a := assignment{cidrs: c.carver.Prefixes(node.Name)}
	if c.carver.Complete(node.Name) {
		return a, true, nil
	}
	if err := c.carver.Check(node.Name); err != nil {
		a.problem = problemOf(err)
		return a, true, nil
	}
	return a, false, nil
}

func (c *clusterPool) prepare(ctx context.Context, node *corev1.Node, live *v1alpha1.PlacidNode) (assignment, error) {
	if err := c.load(ctx); err != nil {
		return assignment{}, err
	}
	var has []netip.Prefix
	if live != nil {
		has, _ = parsePrefixes(live.Spec.PodCIDRs) // what is no CIDR is replaced
	}
	if !subset(has, c.carver.Prefixes(node.Name)) {
		// Somebody else wrote it, so there may be more that we do not know.
		c.logger.Info("read the ledger again: a PlacidNode has pod CIDRs that this operator did not give", "node", node.Name, "cidrs", has)
		c.carver = nil
		if err := c.load(ctx); err != nil {
			return assignment{}, err
		}
	}
	if live == nil && c.carver.Conflict(node.Name) != nil {
		// A person settled the conflict by deleting the PlacidNode.
		c.wakeAll(c.release(node.Name))
	}
	cidrs := c.carver.Prefixes(node.Name)
	carve := !c.carver.Complete(node.Name) && c.carver.Check(node.Name) == nil
	if carve || !subset(cidrs, has) && !c.recorded(node, cidrs) {
		if err := c.commit(ctx, node); err != nil {
			return assignment{}, err
		}
		cidrs = c.carver.Prefixes(node.Name)
	}
	a := assignment{cidrs: cidrs}
	if err := c.carver.Check(node.Name); err != nil {
		a.problem = problemOf(err)
	}
	return a, nil
}

// recorded says whether the intents that this operator wrote hold the CIDRs for
// this very Node object.
func (c *clusterPool) recorded(node *corev1.Node, cidrs []netip.Prefix) bool {
	in := c.pending[node.Name]
	return c.mine && in.NodeUID == node.UID && subset(cidrs, in.CIDRs)
}

func (c *clusterPool) written(node string) { delete(c.pending, node) }

func (c *clusterPool) release(node string) []string {
	c.joining.remove(node)
	if c.carver == nil {
		return nil // the ledger will be read without the node
	}
	delete(c.pending, node)
	return c.carver.Free(node)
}

// commit carves for the node, and for others that wait, and records it in the
// intents. If that fails, nothing of it may be written: the ledger is forgotten.
func (c *clusterPool) commit(ctx context.Context, node *corev1.Node) error {
	next := maps.Clone(c.pending)
	cidrs, err := c.carver.Carve(node.Name)
	if err != nil {
		c.logger.Debug("a node keeps only the pod CIDRs that it has", "node", node.Name, "error", err)
	}
	next[node.Name] = intent{NodeUID: node.UID, CIDRs: cidrs}

	others := c.joining.take(carveBatch - 1)
	for _, name := range others {
		if c.carver.Check(name) != nil || c.carver.Complete(name) {
			continue // its own turn comes, and a problem is reported then
		}
		other, err := get(ctx, c.cached, name, &corev1.Node{})
		if err != nil || other == nil {
			continue
		}
		if cidrs, err := c.carver.Carve(name); err == nil {
			next[name] = intent{NodeUID: other.UID, CIDRs: cidrs}
		}
	}
	if err := c.intents.write(ctx, next); err != nil {
		c.carver = nil
		c.joining.add(others...)
		return fmt.Errorf("record pod CIDRs of %d nodes: %w", len(next), err)
	}
	c.pending, c.mine = next, true
	return nil
}

// load reads the ledger unless it is known. The order matters: what the intents
// of the read version do not hold is in the PlacidNodes that are listed after.
func (c *clusterPool) load(ctx context.Context) error {
	if c.carver != nil {
		return nil
	}
	stored, err := c.intents.read(ctx)
	if err != nil {
		return err
	}
	var list v1alpha1.PlacidNodeList
	if err = c.live.List(ctx, &list); err != nil {
		return fmt.Errorf("list PlacidNodes: %w", err)
	}
	carver, err := ipam.NewCarver(c.pools)
	if err != nil {
		return err
	}
	existing, has := c.assignments(list.Items)
	conflicts, foreign := carver.Adopt(existing)

	pending := intents{}
	var planned []ipam.Assignment
	for name, in := range stored {
		missing := slices.DeleteFunc(slices.Clone(in.CIDRs), func(p netip.Prefix) bool { return !p.IsValid() || sameFamily(has[name], p) })
		if len(missing) > 0 {
			planned = append(planned, ipam.Assignment{Node: name, Prefixes: missing})
			pending[name] = in
		}
	}
	more, _ := carver.Adopt(planned)
	c.report(append(conflicts, more...), foreign)
	c.carver, c.pending, c.mine = carver, pending, false
	for name := range pending {
		c.wake(name)
	}
	c.logger.Info("read the ledger of pod CIDRs", "nodes", len(existing), "pending", len(pending))
	return nil
}

// assignments turns PlacidNodes into what the carver adopts, also by name.
func (c *clusterPool) assignments(items []v1alpha1.PlacidNode) (out []ipam.Assignment, has map[string][]netip.Prefix) {
	has = make(map[string][]netip.Prefix, len(items))
	for i := range items {
		pn := &items[i]
		cidrs, err := parsePrefixes(pn.Spec.PodCIDRs)
		if err != nil {
			c.logger.Warn("a PlacidNode has a pod CIDR that is none; it will be replaced", "node", pn.Name, "error", err)
		}
		has[pn.Name] = cidrs
		if len(cidrs) > 0 {
			out = append(out, ipam.Assignment{Node: pn.Name, Created: pn.CreationTimestamp.Time, Prefixes: cidrs})
		}
	}
	return out, has
}

func (c *clusterPool) report(conflicts []*ipam.ConflictError, foreign []ipam.ForeignPrefix) {
	for _, e := range conflicts {
		c.logger.Error("two nodes have overlapping pod CIDRs", "node", e.Node, "error", e)
	}
	for _, f := range foreign {
		c.logger.Warn("a node's pod CIDR lies outside the pools of cluster-pool-ipv4-cidr and cluster-pool-ipv6-cidr; the node keeps it",
			"node", f.Node, "cidr", f.Prefix)
	}
}

// usage returns the state of the pools; nil while the ledger is not known.
func (c *clusterPool) usage() []ipam.PoolUsage {
	if c.carver == nil {
		return nil
	}
	return c.carver.Usage()
}

func (c *clusterPool) wakeAll(names []string) {
	for _, n := range names {
		c.wake(n)
	}
}

func problemOf(err error) *problem {
	if errors.Is(err, ipam.ErrConflict) {
		return &problem{reasonConflict, err.Error()}
	}
	return &problem{reasonExhausted, err.Error()}
}

// subset says whether every prefix of a is in b.
func subset(a, b []netip.Prefix) bool {
	return !slices.ContainsFunc(a, func(p netip.Prefix) bool { return !slices.Contains(b, p) })
}

func sameFamily(in []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(in, func(q netip.Prefix) bool { return q.Addr().Is4() == p.Addr().Is4() })
}
