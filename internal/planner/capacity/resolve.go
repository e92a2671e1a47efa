package capacity

import (
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy/resolve"
	"github.com/placid-net/placid/internal/state"
)

// resolved gives the policies with references to other objects replaced by what they
// stand for.
func resolved(s *snapshot.Snapshot) []state.NetworkPolicy {
	in := resolve.Cluster{Policies: s.Policies, Services: s.PolicyServices, Slices: s.Slices, CIDRGroups: s.CIDRGroups}
	for _, n := range s.Nodes {
		in.Nodes = append(in.Nodes, state.Node{Name: n.Name, Labels: n.Labels, Addrs: n.Addrs})
	}
	var out []state.NetworkPolicy
	for _, c := range resolve.All(in) {
		out = append(out, *c.Policy)
	}
	return out
}
