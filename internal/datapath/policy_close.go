package datapath

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/placid-net/placid/internal/policy"
)

// A set that lacks an entry allows less, unless that entry denies: without it,
// another entry may allow what it would take away. So the endpoints of a set that
// cannot have all of its denies are put under the closed set until it can.

// expectDenies lets the programs know of denies before they are there.
func (d *Datapath) expectDenies(lists map[policy.PortsID][]policy.PortRange) error {
	for id, ranges := range lists {
		if slices.ContainsFunc(ranges, func(r policy.PortRange) bool { return r.Deny }) {
			d.policy.denying[id] = true
		}
	}
	return d.settings.setHasDenies(len(d.policy.denying) > 0)
}

// lacks remembers why a set that endpoints are under does not have all of these
// entries.
func (w *policyWriter) lacks(set *policy.Set, err error) {
	closed := w.problems[set.ID] != nil && w.problems[set.ID].closed
	for peer, e := range set.Entries {
		ports, had := w.installed[set.ID][peer]
		closed = closed || w.denying[e.Ports] && (!had || ports != e.Ports)
	}
	w.problems[set.ID] = &PolicyProblem{Set: set.ID, Err: err, closed: closed}
}

// closeEndpoints puts all endpoints that are under sets which lack a deny under
// the closed one.
func (d *Datapath) closeEndpoints(ctx context.Context) error {
	w := d.policy
	if !slices.ContainsFunc(slices.Collect(maps.Values(w.problems)), func(p *PolicyProblem) bool { return p.closed }) {
		return nil
	}
	var errs []error
	all := d.securities.all()
	for _, id := range slices.Sorted(maps.Keys(all)) {
		under := all[id].Policy
		closed := under
		closed.Ingress, closed.Egress = w.openOrClosed(id, under.Ingress), w.openOrClosed(id, under.Egress)
		if closed == under {
			continue
		}
		d.securities.edit(id, func(s *Security) { s.Policy = closed })
		errs = append(errs, d.applySecurity(ctx, id))
	}
	return errors.Join(errs...)
}

// openOrClosed gives the set that an endpoint is under instead of one that lacks a
// deny.
func (w *policyWriter) openOrClosed(endpoint uint32, set policy.SetID) policy.SetID {
	p := w.problems[set]
	if p == nil || !p.closed {
		return set
	}
	if !slices.Contains(p.Endpoints, endpoint) {
		p.Endpoints = append(p.Endpoints, endpoint)
	}
	return policy.SetClosed
}
