package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/placid-net/placid/internal/state"
)

// content is what a list of policies allows a subject in one direction. It never
// changes.
type content struct {
	key       string // of Engine.contents
	id        SetID
	text      string // canonical: of it is id the hash
	direction direction
	lines     []line
	// own are the prefixes that the blocks speak of, wider ones first.
	own []ownPrefix
	at  map[netip.Prefix][]int // own by prefix

	names []string  // the policies, sorted
	rules []RuleRef // all of their rules in this direction
	users int       // bindings
}

// line is a peer and all that is allowed with it.
type line struct {
	peer  peer
	ports ports
	refs  []RuleRef // the rules that say so
}

// ownPrefix is a prefix and the lines whose blocks contain it; none for an
// except.
type ownPrefix struct {
	prefix netip.Prefix
	lines  []int
}

// contentOf gives what the policies, ordered by their keys, allow. Named ports of
// ingress rules are the subject's.
func (e *Engine) contentOf(d direction, policies []*compiled, named []state.NamedPort) *content {
	key := contentKey(d, policies, named)
	if c := e.contents[key]; c != nil {
		return c
	}
	c := &content{key: key, direction: d}
	b := lineBuilder{lines: map[string]*line{}}
	for _, p := range policies {
		c.names = append(c.names, p.spec.Key())
		for i, r := range p.rules[d] {
			ref := RuleRef{Policy: p.spec.Key(), Index: i}
			c.rules = append(c.rules, ref)
			allowed := r.ports
			if d == ingress {
				allowed = allowed.resolved(named)
			}
			for _, x := range r.peers {
				b.add(x, allowed, ref)
			}
		}
	}
	c.lines = b.sorted()
	c.text = c.canonical()
	c.id = SetID(e.named(c.text, uint64(SetClosed)+1))
	c.findPrefixes()
	e.contents[key] = c
	return c
}

// contentKey is the same when contentOf is sure to give the same.
func contentKey(d direction, policies []*compiled, named []state.NamedPort) string {
	var b strings.Builder
	fmt.Fprint(&b, d)
	for _, p := range policies {
		fmt.Fprintf(&b, " %d", p.revision)
	}
	if d == ingress {
		for _, n := range named {
			fmt.Fprintf(&b, " %q=%d/%d", n.Name, n.Port, n.Protocol)
		}
	}
	return b.String()
}

type lineBuilder struct {
	lines map[string]*line
}

// add allows ports with a peer.
func (b *lineBuilder) add(p peer, allowed ports, ref RuleRef) {
	switch {
	case p.kind == peerBlock:
		allowed.names = nil // no identity is behind an address that could name ports
	case p.kind == peerAny && len(allowed.names) > 0:
		// Only pods have named ports: every pod is a peer for them.
		b.add(peer{kind: peerPods}, ports{names: allowed.names}, ref)
		allowed.names = nil
	}
	if p.kind == peerNone || allowed.empty() {
		return
	}
	text := p.text()
	l := b.lines[text]
	if l == nil {
		l = &line{peer: p}
		b.lines[text] = l
	}
	l.ports = l.ports.plus(allowed)
	if n := len(l.refs); n == 0 || l.refs[n-1] != ref {
		l.refs = append(l.refs, ref)
	}
}

// sorted gives the lines in the order of their peers' texts.
func (b *lineBuilder) sorted() []line {
	out := make([]line, 0, len(b.lines))
	for _, l := range b.lines {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(x, y line) int { return strings.Compare(x.peer.text(), y.peer.text()) })
	return out
}

// canonical is the same text for the same rules, and another for others.
func (c *content) canonical() string {
	var b strings.Builder
	fmt.Fprintln(&b, c.direction)
	for _, l := range c.lines {
		fmt.Fprintf(&b, "%s: %s\n", l.peer.text(), l.ports)
	}
	return b.String()
}

// findPrefixes fills own and at.
func (c *content) findPrefixes() {
	c.at = map[netip.Prefix][]int{}
	var cidrs bart.Table[[]int]
	for i, l := range c.lines {
		if l.peer.kind != peerBlock {
			continue
		}
		same, _ := cidrs.Get(l.peer.block.cidr)
		cidrs.Insert(l.peer.block.cidr, append(same, i))
		for _, p := range l.peer.block.prefixes() {
			c.at[p] = nil
		}
	}
	for p := range c.at {
		var lines []int
		for _, candidates := range cidrs.Supernets(p) {
			for _, i := range candidates {
				if c.lines[i].peer.block.contains(p) {
					lines = append(lines, i)
				}
			}
		}
		slices.Sort(lines)
		c.at[p] = lines
		c.own = append(c.own, ownPrefix{p, lines})
	}
	slices.SortFunc(c.own, func(x, y ownPrefix) int { return comparePrefixes(x.prefix, y.prefix) })
}

// covering gives the lines whose blocks contain p, which is no wider than any own
// prefix around it.
func (c *content) covering(p netip.Prefix) []int {
	for bits := p.Bits(); bits >= 0; bits-- {
		if lines, ok := c.at[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok {
			return lines
		}
	}
	return nil
}

// any is what is allowed with every peer.
func (c *content) any() ports {
	for _, l := range c.lines {
		if l.peer.kind == peerAny {
			return l.ports
		}
	}
	return ports{}
}

// sum is what these lines allow together.
func (c *content) sum(lines []int) ports {
	var p ports
	for _, i := range lines {
		p = p.plus(c.lines[i].ports)
	}
	return p
}

// covers tells whether c allows all that o does, whoever the peers are. It may
// be false where it is hard to see: when c allows by a block what o allows by a
// selector.
func (c *content) covers(o *content) bool {
	anyway := c.any()
	if anyway.all {
		return true
	}
	for _, l := range o.lines {
		switch l.peer.kind {
		case peerAny:
			if !anyway.covers(l.ports) {
				return false
			}
		case peerPods:
			if !c.forPods(l.peer.pods).plus(anyway).covers(l.ports) {
				return false
			}
		case peerBlock, peerNone:
		}
	}
	for _, own := range [][]ownPrefix{o.own, c.own} {
		for _, p := range own {
			if !c.sum(c.covering(p.prefix)).plus(anyway).covers(o.sum(o.covering(p.prefix))) {
				return false
			}
		}
	}
	return true
}

// forPods is what is allowed with all pods that a selector selects.
func (c *content) forPods(selector conjunction) ports {
	var p ports
	for _, l := range c.lines {
		if l.peer.kind == peerPods && l.peer.pods.covers(selector) {
			p = p.plus(l.ports)
		}
	}
	return p
}

// compareRefs orders rules by policy and index.
func compareRefs(a, b RuleRef) int {
	return cmp.Or(strings.Compare(a.Policy, b.Policy), cmp.Compare(a.Index, b.Index))
}
