package policy

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// prefixTable is every prefix that a set in use speaks of.
type prefixTable struct {
	byPrefix map[netip.Prefix]*prefix
	byPeer   map[PeerID]netip.Prefix
	tree     *bart.Table[*prefix]
}

// prefix is one of them.
type prefix struct {
	prefix netip.Prefix
	peer   PeerID
	sets   group[*set] // that speak of it
	fresh  bool        // no Update had it yet
}

func newPrefixTable() prefixTable {
	return prefixTable{map[netip.Prefix]*prefix{}, map[PeerID]netip.Prefix{}, &bart.Table[*prefix]{}}
}

// free tells whether p can have the number.
func (t *prefixTable) free(p netip.Prefix, peer PeerID) bool {
	holder, taken := t.byPeer[peer]
	return !taken || holder == p
}

// mention adds the prefixes of a new set, and its entries for all prefixes that
// are inside of them.
func (e *Engine) mention(s *set) {
	for _, own := range s.content.own {
		p := e.prefixes.byPrefix[own.prefix]
		if p == nil {
			p = &prefix{prefix: own.prefix, peer: e.prefixPeer(own.prefix), sets: group[*set]{}, fresh: true}
			e.prefixes.byPrefix[p.prefix], e.prefixes.byPeer[p.peer] = p, p.prefix
			e.prefixes.tree.Insert(p.prefix, p)
			e.changes.prefixes[p] = struct{}{}
			e.fill(p)
		}
		p.sets[s] = struct{}{}
	}
	// From the widest on: those inside of a narrower one are set again.
	for _, own := range s.content.own {
		x, ok := s.own[own.prefix]
		for _, p := range e.prefixes.tree.Subnets(own.prefix) {
			if ok {
				e.put(s, p.peer, x)
			} else {
				e.take(s, p.peer)
			}
		}
	}
}

// fill gives a new prefix to the sets that speak of one around it. What a set
// says of the narrowest of its own around it holds for all that is inside.
func (e *Engine) fill(p *prefix) {
	seen := group[*set]{}
	for _, around := range e.prefixes.tree.Supernets(p.prefix) {
		for s := range around.sets {
			if _, done := seen[s]; done {
				continue
			}
			seen[s] = struct{}{}
			if x, ok := s.own[around.prefix]; ok {
				e.put(s, p.peer, x)
			}
		}
	}
}

// unmention takes a set away from its prefixes, and gives those that no set
// speaks of any more.
func (e *Engine) unmention(s *set) (unused []*prefix) {
	for _, own := range s.content.own {
		p := e.prefixes.byPrefix[own.prefix]
		delete(p.sets, s)
		if len(p.sets) == 0 {
			unused = append(unused, p)
		}
	}
	return unused
}

// removePrefix takes a prefix that no set speaks of out of everything. It gives
// the sets that had an entry for it.
func (e *Engine) removePrefix(p *prefix) (held []*set) {
	seen := group[*set]{}
	for _, around := range e.prefixes.tree.Supernets(p.prefix) {
		for s := range around.sets {
			if _, done := seen[s]; done {
				continue
			}
			seen[s] = struct{}{}
			if _, ok := s.entries[p.peer]; ok {
				e.take(s, p.peer)
				held = append(held, s)
			}
		}
	}
	e.prefixes.tree.Delete(p.prefix)
	delete(e.prefixes.byPrefix, p.prefix)
	delete(e.prefixes.byPeer, p.peer)
	return held
}
