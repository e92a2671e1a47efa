package resolve

import (
	"maps"
	"reflect"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// needs are the kinds of things that a policy names.
type needs uint8

const (
	needNodes needs = 1 << iota
	needServices
	needGroups
	needAPIServer
)

// Change is a policy that is new or another one than it was.
type Change struct {
	Key string // state.NetworkPolicy.Key
	// Policy names nothing in other objects any more, but for what is not
	// understood. It is nil for a policy that is gone.
	Policy *state.NetworkPolicy
	// Notes are the references that lead nowhere or are not understood as a whole:
	// a sentence each that begins with the field.
	Notes []string
}

// Resolver follows policies and what they name. It is not safe for concurrent use.
type Resolver struct {
	policies map[string]*entry
	touched  map[string]struct{} // policies that were set or removed since Take
	changed  needs               // what else changed since then
	cluster  cluster
}

// entry is a policy as it was given, and as Take returned it last.
type entry struct {
	policy state.NetworkPolicy
	needs  needs
	last   *Change // nil before the first time
}

// New returns a Resolver that knows nothing.
func New() *Resolver {
	return &Resolver{policies: map[string]*entry{}, touched: map[string]struct{}{}, cluster: newCluster()}
}

// SetPolicy adds a policy, or replaces the one of its key.
func (r *Resolver) SetPolicy(p state.NetworkPolicy) {
	key := p.Key()
	e := r.policies[key]
	if e == nil {
		e = &entry{}
		r.policies[key] = e
	}
	e.policy, e.needs = p, needsOf(&p)
	r.touched[key] = struct{}{}
}

// RemovePolicy takes the policy of the key away; an absent one is no change.
func (r *Resolver) RemovePolicy(key string) {
	if _, ok := r.policies[key]; !ok {
		return
	}
	delete(r.policies, key)
	r.touched[key] = struct{}{}
}

// SetNode adds or replaces a node: its labels and addresses count.
func (r *Resolver) SetNode(n state.Node) {
	if old, ok := r.cluster.nodes[n.Name]; ok && maps.Equal(old.Labels, n.Labels) && slices.Equal(old.Addrs, n.Addrs) {
		return
	}
	r.cluster.nodes[n.Name] = n
	r.changed |= needNodes
}

// RemoveNode takes a node away.
func (r *Resolver) RemoveNode(name string) {
	delete(r.cluster.nodes, name)
	r.changed |= needNodes
}

// SetService adds or replaces a Service.
func (r *Resolver) SetService(s state.PolicyService) {
	r.cluster.services[s.Ref] = s
	r.changed |= needServices
}

// RemoveService takes a Service away.
func (r *Resolver) RemoveService(ref state.ServiceRef) {
	delete(r.cluster.services, ref)
	r.changed |= needServices
}

// SetSlice adds or replaces an EndpointSlice. Those of Services that select pods
// do not count. Those of default/kubernetes are where the API server is.
func (r *Resolver) SetSlice(s state.EndpointSlice) {
	r.cluster.dropSlice(s.Namespace, s.Name)
	r.cluster.putSlice(s)
	r.changed |= needServices | needAPIServer
}

// RemoveSlice takes an EndpointSlice away.
func (r *Resolver) RemoveSlice(namespace, name string) {
	r.cluster.dropSlice(namespace, name)
	r.changed |= needServices | needAPIServer
}

// SetCIDRGroup adds or replaces a group of CIDRs.
func (r *Resolver) SetCIDRGroup(g state.CIDRGroup) {
	r.cluster.groups[g.Name] = g
	r.changed |= needGroups
}

// RemoveCIDRGroup takes a group of CIDRs away.
func (r *Resolver) RemoveCIDRGroup(name string) {
	delete(r.cluster.groups, name)
	r.changed |= needGroups
}

// Take returns the policies that became others since the last call, ordered by key.
func (r *Resolver) Take() []Change {
	keys := slices.Collect(maps.Keys(r.touched))
	if r.changed != 0 {
		for key, e := range r.policies {
			if e.needs&r.changed != 0 {
				keys = append(keys, key)
			}
		}
	}
	r.touched, r.changed = map[string]struct{}{}, 0
	slices.Sort(keys)
	var out []Change
	for _, key := range slices.Compact(keys) {
		e, ok := r.policies[key]
		if !ok {
			out = append(out, Change{Key: key})
			continue
		}
		now := r.cluster.resolve(key, &e.policy, e.needs)
		if e.last == nil || !reflect.DeepEqual(*e.last, now) {
			e.last = &now
			out = append(out, now)
		}
	}
	return out
}

// Cluster is everything that policies can name, and they themselves.
type Cluster struct {
	Policies   []state.NetworkPolicy
	Nodes      []state.Node
	Services   []state.PolicyService
	Slices     []state.EndpointSlice
	CIDRGroups []state.CIDRGroup
}

// All resolves all policies of a cluster. They are ordered by key, each with its
// notes.
func All(c Cluster) []Change {
	r := New()
	for _, n := range c.Nodes {
		r.SetNode(n)
	}
	for _, s := range c.Services {
		r.SetService(s)
	}
	for _, s := range c.Slices {
		r.SetSlice(s)
	}
	for _, g := range c.CIDRGroups {
		r.SetCIDRGroup(g)
	}
	for _, p := range c.Policies {
		r.SetPolicy(p)
	}
	return r.Take()
}
