package policy

import (
	"reflect"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// identity is an Identity and the selectors in use that select it.
type identity struct {
	state.Identity
	selectors group[*selector]
}

func (x *identity) labelSet() map[string]string { return x.Labels }

// SetIdentity adds an identity, or replaces the one with its number. Numbers that
// no labels can have (below state.IdentityMin, above state.IdentityMax) are
// ignored: no selector matches them.
func (e *Engine) SetIdentity(id state.Identity) {
	if id.ID < state.IdentityMin || id.ID > state.IdentityMax {
		return
	}
	old := e.identities[id.ID]
	if old != nil && reflect.DeepEqual(old.Identity, id) {
		return
	}
	touched := e.forgetIdentity(old)
	x := &identity{Identity: id}
	e.identities[id.ID] = x
	e.identitiesByLabel.add(x)
	x.selectors = e.selectorsFor.selecting(id.Labels)
	for sel := range x.selectors {
		sel.ids[x] = struct{}{}
	}
	for s := range union(touched, x.sets()) {
		e.refresh(s, x)
	}
}

// RemoveIdentity removes an identity. Removing what is not there is no error.
func (e *Engine) RemoveIdentity(id uint32) {
	for s := range e.forgetIdentity(e.identities[id]) {
		e.take(s, PeerID(id))
		e.omit(s, id, nil)
	}
}

// forgetIdentity takes an identity, if there is one, out of everything but the
// entries of sets, and gives those sets.
func (e *Engine) forgetIdentity(x *identity) group[*set] {
	if x == nil {
		return nil
	}
	e.retry = true
	touched := x.sets()
	for sel := range x.selectors {
		delete(sel.ids, x)
	}
	e.identitiesByLabel.remove(x)
	delete(e.identities, x.ID)
	return touched
}

// sets are those with a selector that selects the identity.
func (x *identity) sets() group[*set] {
	out := group[*set]{}
	for sel := range x.selectors {
		for s := range sel.uses {
			out[s] = struct{}{}
		}
	}
	return out
}

// refresh makes the entry of an identity in a set what it should be. One that
// does not fit is left out, as the set is in use and must stay; where it would
// deny something, all is denied.
func (e *Engine) refresh(s *set, x *identity) {
	var lines []int
	for sel := range x.selectors {
		if i, ok := sel.uses[s]; ok {
			lines = append(lines, i)
		}
	}
	slices.Sort(lines)
	entry, ok, err := e.entryOf(s.content, lines, x.NamedPorts)
	e.omit(s, x.ID, err)
	if err != nil && s.content.sum(lines).denies() {
		entry, err = e.denial(lines)
		ok = err == nil
	}
	if ok {
		e.put(s, PeerID(x.ID), entry)
	} else {
		e.take(s, PeerID(x.ID))
	}
}

// omit remembers that the entry of an identity does not fit, or that it does.
func (e *Engine) omit(s *set, id uint32, err error) {
	if err == nil {
		delete(s.omitted, id)
	} else {
		s.omitted[id] = err
	}
	if len(s.omitted) > 0 {
		e.changes.omitting[s] = struct{}{}
	} else {
		delete(e.changes.omitting, s)
	}
}
