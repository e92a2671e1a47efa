package datapath

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
)

// SyncPolicy makes the kernel equal to t. Call it when everything is known after
// a start, and to mend what an ApplyPolicy could not write.
func (d *Datapath) SyncPolicy(ctx context.Context, t policy.Tables) error {
	w := d.policy
	w.mu.Lock()
	defer w.mu.Unlock()
	records, err := w.read()
	if err != nil {
		return err
	}
	u := w.difference(t, d.securities.all(), records)
	w.problems = map[policy.SetID]*PolicyProblem{}
	w.keptSets, w.keptPorts = map[policy.SetID]bool{}, map[policy.PortsID]bool{}
	if u.Empty() {
		return nil
	}
	return d.applyPolicyLocked(ctx, u)
}

// difference is the update that leads from what is installed to t.
func (w *policyWriter) difference(t policy.Tables, security map[uint32]Security, records map[uint64]abi.CPortList) policy.Update {
	u := policy.Update{
		Ports: map[policy.PortsID][]policy.PortRange{}, CIDRs: map[netip.Prefix]policy.PeerID{},
		Sets: map[policy.SetID]*policy.Set{}, Endpoints: map[uint32]policy.EndpointPolicy{},
		DroppedSets:  slices.Collect(maps.Keys(missing(w.installed, t.Sets))),
		DroppedCIDRs: slices.Collect(maps.Keys(missing(w.prefixes, t.CIDRs))),
	}
	altered := w.comparePorts(t.Ports, records, &u)
	for id, set := range t.Sets {
		complete, wrong := w.compare(set)
		if w.problems[id] != nil || !complete {
			u.Sets[id] = set
		}
		altered = altered || wrong
		for peer := range missing(w.installed[id], set.Entries) {
			u.Shrunk = append(u.Shrunk, policy.EntryKey{Set: id, Peer: peer})
		}
	}
	for p, id := range t.CIDRs {
		if have, ok := w.prefixes[p]; !ok || have != id {
			u.CIDRs[p] = id
		}
	}
	for id, want := range t.Endpoints {
		if security[id].Policy != want {
			u.Endpoints[id] = want
		}
	}
	// A prefix hides wider ones: that it was not there may have opened something.
	u.Revokes = altered || len(u.Endpoints)+len(u.Shrunk)+len(u.CIDRs)+len(u.DroppedCIDRs) > 0
	return u
}

// missing returns what of a has no key in b.
func missing[K comparable, A, B any](a map[K]A, b map[K]B) map[K]A {
	out := map[K]A{}
	for k, v := range a {
		if _, ok := b[k]; !ok {
			out[k] = v
		}
	}
	return out
}

// compare tells whether the kernel has all of a set, and whether an entry of it
// allows something else there.
func (w *policyWriter) compare(set *policy.Set) (complete, wrong bool) {
	complete = true
	for peer, e := range set.Entries {
		ports, ok := w.installed[set.ID][peer]
		complete = complete && ok && ports == e.Ports
		wrong = wrong || ok && ports != e.Ports
	}
	return complete, wrong
}
