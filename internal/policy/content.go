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

// content is what a list of policies says for a subject in one direction. It never
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

	closed  bool      // what no rule allows is denied
	denying bool      // a line denies something
	names   []string  // the policies, sorted
	isolate []string  // those that isolate
	rules   []RuleRef // all of their rules in this direction
	users   int       // bindings
}

// line is a peer and all that is said of it.
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

// contentOf gives what the policies say that make a stance. Named ports of ingress
// rules are the subject's.
func (e *Engine) contentOf(d direction, s stance, named []state.NamedPort) *content {
	key := contentKey(d, s, named)
	if c := e.contents[key]; c != nil {
		return c
	}
	c := &content{key: key, direction: d, closed: s.closed, isolate: s.isolating(d)}
	b := lineBuilder{lines: map[string]*line{}}
	if !s.closed {
		b.add(peer{kind: peerAny}, allPorts())
	}
	for _, p := range s.policies {
		c.names = append(c.names, p.key)
		for _, r := range p.rules[d] {
			c.rules = append(c.rules, r.ref)
			said := r.ports
			if d == ingress {
				said = said.resolved(named)
			}
			for _, x := range r.peers {
				b.add(x, said.flagged(r.ref.Deny, x.block.outside), r.ref)
			}
		}
	}
	c.lines = b.sorted()
	c.denying = slices.ContainsFunc(c.lines, func(l line) bool { return l.ports.denies() })
	c.text = c.canonical()
	c.id = SetID(e.named(c.text, uint64(SetClosed)+1))
	c.findPrefixes()
	e.contents[key] = c
	return c
}

// contentKey is the same when contentOf is sure to give the same.
func contentKey(d direction, s stance, named []state.NamedPort) string {
	var b strings.Builder
	fmt.Fprint(&b, d, s.closed)
	for _, p := range s.policies {
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

// add says something of a peer, because of these rules.
func (b *lineBuilder) add(p peer, said ports, refs ...RuleRef) {
	switch {
	case p.kind == peerBlock || p.kind == peerIdentity:
		said.names = nil // no pod is behind an address, or known by its labels, that could name ports
	case p.kind == peerAny && len(said.names) > 0:
		// Only pods have named ports: every pod is a peer for them.
		b.add(peer{kind: peerPods}, ports{names: said.names}, refs...)
		said.names = nil
	}
	if p.kind == peerNone || said.empty() {
		return
	}
	text := p.text()
	l := b.lines[text]
	if l == nil {
		l = &line{peer: p}
		b.lines[text] = l
	}
	l.ports = l.ports.plus(said)
	for _, ref := range refs {
		if n := len(l.refs); n == 0 || l.refs[n-1] != ref {
			l.refs = append(l.refs, ref)
		}
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

// sum is what these lines say together.
func (c *content) sum(lines []int) ports {
	var p ports
	for _, i := range lines {
		p = p.plus(c.lines[i].ports)
	}
	return p
}

// about is what is said of all peers that p stands for, and is not a block.
func (c *content) about(p peer) ports {
	var sum ports
	for _, l := range c.lines {
		if l.peer.kind == peerAny || l.peer.kind == p.kind && l.peer.identity == p.identity && l.peer.pods.covers(p.pods) {
			sum = sum.plus(l.ports)
		}
	}
	return sum
}

// open tells whether c allows everything.
func (c *content) open() bool {
	return !c.denying && slices.Contains(c.about(peer{kind: peerAny}).ranges, allowEverything)
}

// covers tells whether c allows all that o does, whoever the peers are: it says
// that of all who o allows something, and denies nobody anything that o does not
// deny. It may be false where it is hard to see: when c allows by a block what o
// allows by a selector.
func (c *content) covers(o *content) bool {
	if c.open() {
		return true
	}
	for _, l := range o.lines {
		if l.peer.kind != peerBlock && !c.about(l.peer).includes(o.about(l.peer), false) {
			return false
		}
	}
	for _, l := range c.lines {
		if l.peer.kind != peerBlock && !o.about(l.peer).includes(l.ports, true) {
			return false
		}
	}
	anybody := peer{kind: peerAny}
	mine, theirs := c.about(anybody), o.about(anybody)
	for _, own := range [][]ownPrefix{o.own, c.own} {
		for _, p := range own {
			if !c.sum(c.covering(p.prefix)).plus(mine).covers(o.sum(o.covering(p.prefix)).plus(theirs)) {
				return false
			}
		}
	}
	return true
}

// compareRefs orders rules by policy, those that allow first, and index.
func compareRefs(a, b RuleRef) int {
	return cmp.Or(strings.Compare(a.Policy, b.Policy), compareBools(a.Deny, b.Deny), cmp.Compare(a.Index, b.Index))
}
