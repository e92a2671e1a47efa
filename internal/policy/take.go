package policy

import (
	"maps"
	"reflect"
	"slices"
)

// changes is what happened since the last Take.
type changes struct {
	endpoints map[uint32]*EndpointPolicy // what was in force; nil for what was not there
	entries   map[EntryKey]*entry        // what entries of published sets were; nil for none
	sets      group[*set]                // that came, or whose bindings changed
	prefixes  group[*prefix]             // that came
	lists     map[PortsID]struct{}       // that came, or that lost an entry

	// These outlive a Take.
	omitting group[*set]       // sets that lack entries which do not fit
	reported map[SetID]Refusal // what Refused told
}

func newChanges() changes {
	return changes{
		endpoints: map[uint32]*EndpointPolicy{}, entries: map[EntryKey]*entry{}, sets: group[*set]{},
		prefixes: group[*prefix]{}, lists: map[PortsID]struct{}{}, omitting: group[*set]{}, reported: map[SetID]Refusal{},
	}
}

// endpoint remembers what is in force for a subject, before it changes.
func (c *changes) endpoint(s *subject) {
	if _, known := c.endpoints[s.Endpoint]; known {
		return
	}
	c.endpoints[s.Endpoint] = nil
	if s.settled {
		c.endpoints[s.Endpoint] = new(s.policy)
	}
}

// entry remembers what an entry is, before it changes.
func (c *changes) entry(s *set, peer PeerID) {
	if s.fresh {
		return
	}
	key := EntryKey{s.content.id, peer}
	if _, known := c.entries[key]; known {
		return
	}
	c.entries[key] = s.at(peer)
}

// Take returns what changed since the last Take. Applying all Updates in their
// order to empty Tables gives Tables.
func (e *Engine) Take() Update {
	e.settle()
	var u Update
	e.retireUnseen()
	renamed := e.takeSets(&u)
	e.takeEntries(&u)
	for p := range e.changes.prefixes {
		if e.prefixes.byPrefix[p.prefix] == p {
			put(&u.CIDRs, p.prefix, p.peer)
			p.fresh = false
		}
	}
	e.takeEndpoints(&u)
	e.retire(&u)
	for _, s := range renamed {
		put(&u.Renamed, s.content.id, s.export(s.origin(), nil))
	}
	e.takePorts(&u)
	e.takeRefusals(&u)
	// Not cleared: that would cost as much as the largest batch ever had.
	fresh := newChanges()
	fresh.omitting, fresh.reported = e.changes.omitting, e.changes.reported
	e.changes = fresh
	return u
}

// retireUnseen removes what came and went since the last Take.
func (e *Engine) retireUnseen() {
	for s := range e.changes.sets {
		if s.users > 0 || !s.fresh {
			continue
		}
		unused := e.unmention(s)
		e.remove(s)
		for _, p := range unused {
			if p.fresh {
				e.removePrefix(p)
			}
		}
		delete(e.changes.sets, s)
	}
}

// takeSets reports sets that came, and gives those whose origin changed.
func (e *Engine) takeSets(u *Update) (renamed []*set) {
	for s := range e.changes.sets {
		o := s.origin()
		switch {
		case s.fresh:
			put(&u.Sets, s.content.id, s.export(o, nil))
		case s.users > 0 && !o.equal(s.published):
			renamed = append(renamed, s)
		}
		s.published = o
	}
	return renamed
}

// takeEntries reports entries of published sets that came or went, and forgets
// that other sets are fresh.
func (e *Engine) takeEntries(u *Update) {
	for key, before := range e.changes.entries {
		s := e.sets[key.Set]
		after := s.at(key.Peer)
		grown := after != nil && (before == nil || !before.equal(*after))
		switch {
		case grown && (s.users > 0 || key.Peer.isPrefix()):
			put(&u.Grown, key, Entry{after.ports, s.origin().of(after.lines)})
		case after == nil && before != nil && s.users > 0:
			u.Shrunk = append(u.Shrunk, key)
		}
		// What a set says of addresses stays the same: a prefix that comes or goes
		// only moves it to another entry.
		if !key.Peer.isPrefix() && !e.saidBy(after).covers(e.saidBy(before)) {
			u.Revokes = true
		}
	}
	for s := range e.changes.sets {
		s.fresh = false
	}
}

// saidBy gives what an entry says; nil is none.
func (e *Engine) saidBy(x *entry) ports {
	switch {
	case x == nil:
		return ports{}
	case x.ports == PortsAll:
		return allPorts()
	}
	return ports{ranges: e.lists[x.ports].ranges}
}

// takeEndpoints reports what is in force for subjects now.
func (e *Engine) takeEndpoints(u *Update) {
	contained := map[[2]SetID]bool{}
	for endpoint, before := range e.changes.endpoints {
		s := e.subjects[endpoint]
		switch {
		case s == nil && before != nil:
			u.DroppedEndpoints = append(u.DroppedEndpoints, endpoint)
		case s != nil && (before == nil || *before != s.policy):
			put(&u.Endpoints, endpoint, s.policy)
			if before != nil && e.revokes(*before, s.policy, contained) {
				u.Revokes = true
			}
		}
	}
	slices.Sort(u.DroppedEndpoints)
}

// revokes tells whether a pod may lose a permission. Pairs of sets that were
// compared are remembered.
func (e *Engine) revokes(before, after EndpointPolicy, contained map[[2]SetID]bool) bool {
	return !e.within(before.Ingress, before.AuditIngress, after.Ingress, after.AuditIngress, contained) ||
		!e.within(before.Egress, before.AuditEgress, after.Egress, after.AuditEgress, contained)
}

// within tells whether all that a direction allowed is still allowed.
func (e *Engine) within(before SetID, beforeAudit bool, after SetID, afterAudit bool, contained map[[2]SetID]bool) bool {
	switch {
	case afterAudit || after == SetOpen || before == SetClosed && !beforeAudit:
		return true
	case after == SetClosed:
		return false
	}
	now := e.sets[after]
	if beforeAudit || before == SetOpen {
		return now.content.open()
	}
	if before == after {
		return true
	}
	key := [2]SetID{before, after}
	if _, known := contained[key]; !known {
		contained[key] = len(now.omitted) == 0 && now.content.covers(e.sets[before].content)
	}
	return contained[key]
}

// retire removes published sets that nobody uses, and the prefixes that only they
// speak of.
func (e *Engine) retire(u *Update) {
	for s := range e.changes.sets {
		if s.users > 0 {
			continue
		}
		unused := e.unmention(s)
		e.remove(s)
		u.DroppedSets = append(u.DroppedSets, s.content.id)
		for _, p := range unused {
			u.DroppedCIDRs = append(u.DroppedCIDRs, p.prefix)
			for _, held := range e.removePrefix(p) {
				u.Shrunk = append(u.Shrunk, EntryKey{held.content.id, p.peer})
			}
		}
	}
	// A set that is dropped after it had such an entry shrunk is dropped whole.
	u.Shrunk = slices.DeleteFunc(u.Shrunk, func(k EntryKey) bool { return e.sets[k.Set] == nil })
	slices.SortFunc(u.Shrunk, EntryKey.compare)
	slices.Sort(u.DroppedSets)
	slices.SortFunc(u.DroppedCIDRs, comparePrefixes)
}

// takePorts reports lists that came, and those that no entry uses any more.
func (e *Engine) takePorts(u *Update) {
	for id := range e.changes.lists {
		l := e.lists[id]
		switch {
		case l == nil:
		case l.refs == 0:
			if !l.fresh {
				u.DroppedPorts = append(u.DroppedPorts, id)
			}
			delete(e.lists, id)
		case l.fresh:
			put(&u.Ports, id, slices.Clone(l.ranges))
			l.fresh = false
		}
	}
	slices.Sort(u.DroppedPorts)
}

// takeRefusals reports refusals that are not the same as the last time.
func (e *Engine) takeRefusals(u *Update) {
	now := e.Refusals()
	for id, r := range now {
		if !reflect.DeepEqual(r, e.changes.reported[id]) {
			put(&u.Refused, id, r)
		}
	}
	e.changes.reported = now
}

// Apply makes t what it should be after u.
func (t *Tables) Apply(u Update) {
	merge(&t.Ports, u.Ports)
	t.replace(u.Sets)
	for key, x := range u.Grown {
		t.Sets[key.Set].Entries[key.Peer] = x
	}
	merge(&t.CIDRs, u.CIDRs)
	merge(&t.Endpoints, u.Endpoints)
	for _, id := range u.DroppedEndpoints {
		delete(t.Endpoints, id)
	}
	for _, p := range u.DroppedCIDRs {
		delete(t.CIDRs, p)
	}
	for _, key := range u.Shrunk {
		delete(t.Sets[key.Set].Entries, key.Peer)
	}
	for _, id := range u.DroppedSets {
		delete(t.Sets, id)
	}
	for _, id := range u.DroppedPorts {
		delete(t.Ports, id)
	}
	t.replace(u.Renamed)
}

// replace puts copies of sets in their places.
func (t *Tables) replace(sets map[SetID]*Set) {
	for id, s := range sets {
		x := *s
		x.Entries = maps.Clone(s.Entries)
		put(&t.Sets, id, &x)
	}
}

func merge[K comparable, V any](to *map[K]V, from map[K]V) {
	for key, value := range from {
		put(to, key, value)
	}
}

// put sets m[key], in a new map when there is none.
func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}
