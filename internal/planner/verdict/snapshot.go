package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/resolve"
	"github.com/placid-net/placid/internal/state"
)

// Settings that verdicts depend on; Placid and Cilium call them alike.
const (
	keyLabels = "labels"
	keyMode   = "enable-policy"
	keyAudit  = "policy-audit-mode"
)

// defaultCluster is the name of a cluster that was given none.
const defaultCluster = "default"

// ClusterOf gives what both sides have in common when the snapshot is one of them.
func ClusterOf(s *snapshot.Snapshot) Cluster {
	return Cluster{Name: cmp.Or(s.ClusterName, defaultCluster), Pods: s.Pods, Nodes: s.Nodes}
}

// Labels gives the items of the label filter that is in force in the cluster.
func Labels(s *snapshot.Snapshot) []string { return strings.Fields(s.Settings[keyLabels]) }

// SideOf gives the side that a snapshot is under its own settings, as the platform
// judges: Cilium, and Terway with it, selects by identity labels alone and means no
// pod and no node by a block. Notes are sentences about what the policies name and
// what is not there, or what is not judged; with Placid, what is not judged allows
// nothing. The error is a setting that is not valid.
func SideOf(s *snapshot.Snapshot, platform snapshot.Platform) (side Side, notes []string, err error) {
	side = Side{Namespaces: s.Namespaces, ByIdentity: platform == snapshot.Cilium || platform == snapshot.Terway}
	if side.Filter, err = identity.ParseFilter(Labels(s)); err != nil {
		return Side{}, nil, fmt.Errorf("setting %s: %w", keyLabels, err)
	}
	side.Mode = policy.Mode(cmp.Or(s.Settings[keyMode], string(policy.ModeDefault)))
	if !slices.Contains([]policy.Mode{policy.ModeDefault, policy.ModeAlways, policy.ModeNever}, side.Mode) {
		return Side{}, nil, fmt.Errorf("setting %s is %q, want %s, %s or %s", keyMode, side.Mode, policy.ModeDefault, policy.ModeAlways, policy.ModeNever)
	}
	side.AuditAll = s.Settings[keyAudit] == "true"
	in := resolve.Cluster{Policies: s.Policies, Slices: s.Slices, CIDRGroups: s.CIDRGroups}
	if side.ByIdentity {
		in.Policies = outsideOnly(s.Policies)
	}
	for _, n := range s.Nodes {
		in.Nodes = append(in.Nodes, state.Node{Name: n.Name, Labels: n.Labels, Addrs: n.Addrs})
	}
	for _, x := range s.Services {
		in.Services = append(in.Services, state.PolicyService{Ref: x.Ref, Labels: x.Labels, Selector: x.Selector})
	}
	for _, c := range resolve.All(in) {
		side.Policies = append(side.Policies, *c.Policy)
		for _, n := range slices.Concat(c.Notes, c.Policy.Problems, c.Policy.Unsupported) {
			notes = append(notes, c.Key+": "+n)
		}
	}
	return side, notes, nil
}

// outsideOnly gives the policies with blocks that mean neither pods nor nodes.
func outsideOnly(policies []state.NetworkPolicy) []state.NetworkPolicy {
	out := slices.Clone(policies)
	for i := range out {
		p := &out[i]
		for _, rules := range []*[]state.PolicyRule{&p.Ingress, &p.Egress, &p.IngressDeny, &p.EgressDeny} {
			*rules = slices.Clone(*rules)
			for j := range *rules {
				r := &(*rules)[j]
				r.Peers = slices.Clone(r.Peers)
				for k, x := range r.Peers {
					if x.Block != nil {
						block := *x.Block
						block.Outside = true
						r.Peers[k].Block = &block
					}
				}
			}
		}
	}
	return out
}
