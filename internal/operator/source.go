package operator

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/api/v1alpha1"
)

// cidrSource says which pod CIDRs nodes have; one implementation for each IPAM
// mode. It is used by one goroutine.
type cidrSource interface {
	// lookup returns what the node has, or why it has nothing, from memory.
	// ok is false when prepare must be asked.
	lookup(ctx context.Context, node *corev1.Node) (a assignment, ok bool, err error)
	// prepare is called before the node's PlacidNode is written. live is that
	// object as the API server has it now, nil when there is none. What prepare
	// returns may be written.
	prepare(ctx context.Context, node *corev1.Node, live *v1alpha1.PlacidNode) (assignment, error)
	// written is called when the PlacidNode holds what prepare returned.
	written(node string)
	// release is called when the Node and its PlacidNode are gone. It returns
	// the nodes that have reason to be looked at again.
	release(node string) (wake []string)
}

// assignment is what one node has. A problem does not mean that there are no
// CIDRs: a node in conflict keeps what it has.
type assignment struct {
	cidrs   []netip.Prefix
	problem *problem
}

// problem is something that a person has to mend.
type problem struct {
	reason  string // of the event, CamelCase
	message string
}

// Reasons of events.
const (
	reasonExhausted = "PodCIDRExhausted"
	reasonConflict  = "PodCIDRConflict"
	reasonMissing   = "PodCIDRMissing"
)

// nodeCIDRs is the cidrSource of the mode kubernetes: the Node object has the
// pod CIDRs, the kube-controller-manager chose them.
type nodeCIDRs struct{}

func (nodeCIDRs) lookup(_ context.Context, node *corev1.Node) (assignment, bool, error) {
	texts := node.Spec.PodCIDRs
	if len(texts) == 0 && node.Spec.PodCIDR != "" {
		texts = []string{node.Spec.PodCIDR}
	}
	cidrs, err := parsePrefixes(texts)
	switch {
	case err != nil:
		return assignment{cidrs: cidrs, problem: &problem{reasonMissing, fmt.Sprintf("spec.podCIDRs of Node %s: %s", node.Name, err)}}, true, nil
	case len(cidrs) == 0:
		return assignment{problem: &problem{reasonMissing, fmt.Sprintf("Node %s has no spec.podCIDRs, which ipam=kubernetes needs: "+
			"run kube-controller-manager with --allocate-node-cidrs, or set ipam=cluster-pool", node.Name)}}, true, nil
	}
	return assignment{cidrs: cidrs}, true, nil
}

func (s nodeCIDRs) prepare(ctx context.Context, node *corev1.Node, _ *v1alpha1.PlacidNode) (assignment, error) {
	a, _, err := s.lookup(ctx, node)
	return a, err
}

func (nodeCIDRs) written(string) {}

func (nodeCIDRs) release(string) []string { return nil }

// parsePrefixes returns the prefixes in canonical form, and an error for the
// first that is none; the others are returned all the same.
func parsePrefixes(texts []string) (out []netip.Prefix, err error) {
	for _, t := range texts {
		p, parseErr := netip.ParsePrefix(t)
		if parseErr != nil || p.Addr().Is4In6() {
			if err == nil {
				err = fmt.Errorf("%q is not a CIDR", t)
			}
			continue
		}
		out = append(out, p.Masked())
	}
	return out, err
}
