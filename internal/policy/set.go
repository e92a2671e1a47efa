package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

var (
	errTooManyRanges = fmt.Errorf("more than %d port ranges: write neighbouring ports as one range with endPort, or name the whole protocol", MaxRanges)
	errCollision     = errors.New("its number is taken by something else: change any rule or port of it to get another")
)

// set is a content that subjects are bound to, or were since the last Take, with
// its entries.
type set struct {
	content  *content         // any of those with this text
	contents map[*content]int // bindings by content: they differ in whose rules they are
	users    int              // bindings
	entries  map[PeerID]entry
	own      map[netip.Prefix]entry // of content.own; no entry for excepts
	omitted  map[uint32]error       // identities whose entry does not fit, and why
	fresh    bool                   // no Update had it yet

	cached    *origin // of contents, unless stale
	stale     bool
	published *origin // that the last Update had
}

// entry is what a set says of one peer, and the lines that say so.
type entry struct {
	ports PortsID
	lines []int
}

func (x entry) equal(o entry) bool { return x.ports == o.ports && slices.Equal(x.lines, o.lines) }

// at gives the entry of a peer; nil when there is none.
func (s *set) at(peer PeerID) *entry {
	if x, ok := s.entries[peer]; ok {
		return &x
	}
	return nil
}

// origin says whose rules a set is made of.
type origin struct {
	names  []string
	rules  []RuleRef
	byLine [][]int // indexes into rules
}

// list is a list of ports that entries use.
type list struct {
	ranges []PortRange
	refs   int
	fresh  bool // no Update had it yet
}

// selector is a selector of sets in use, and what it selects.
type selector struct {
	pods conjunction
	ids  group[*identity]
	uses map[*set]int // the line that it is in
}

// enter makes sure that the set of a content is there. It gives the reason when
// it does not fit.
func (e *Engine) enter(c *content) string {
	if s := e.sets[c.id]; s != nil {
		if s.content.text != c.text {
			return errCollision.Error()
		}
		return ""
	}
	s := &set{
		content: c, contents: map[*content]int{}, entries: map[PeerID]entry{}, own: map[netip.Prefix]entry{},
		omitted: map[uint32]error{}, fresh: true, stale: true,
	}
	entries, err := e.plan(s)
	if err != nil {
		e.release(s)
		return err.Error()
	}
	e.sets[c.id] = s
	e.changes.sets[s] = struct{}{}
	for peer, x := range entries {
		e.put(s, peer, x)
	}
	e.mention(s)
	return ""
}

// plan gives the entries of a new set for all but prefixes, fills own, and takes
// hold of its selectors. It changes nothing else.
func (e *Engine) plan(s *set) (map[PeerID]entry, error) {
	c := s.content
	entries := map[PeerID]entry{}
	members := map[*identity][]int{}
	for i, l := range c.lines {
		switch l.peer.kind {
		case peerPods:
			if len(l.ports.ranges) > MaxRanges { // whether it selects anything yet or not
				return nil, fmt.Errorf("with %s it speaks of %w", l.peer.who(), errTooManyRanges)
			}
			sel := e.selector(l.peer.pods)
			sel.uses[s] = i
			for id := range sel.ids {
				members[id] = append(members[id], i)
			}
		case peerAny, peerIdentity:
			x, _, err := e.entryOf(c, []int{i}, nil)
			if err != nil {
				return nil, fmt.Errorf("with %s it speaks of %w", l.peer.who(), err)
			}
			entries[PeerID(l.peer.identity)] = x // PeerAny is no identity
		case peerBlock, peerNone:
		}
	}
	if err := e.planPrefixes(s); err != nil {
		return nil, err
	}
	return entries, e.planMembers(c, members, entries)
}

// planPrefixes fills own of a new set.
func (e *Engine) planPrefixes(s *set) error {
	taken := map[PeerID]struct{}{}
	for _, own := range s.content.own {
		peer := e.prefixPeer(own.prefix)
		x, ok, err := e.entryOf(s.content, own.lines, nil)
		if _, twice := taken[peer]; err == nil && (twice || !e.prefixes.free(own.prefix, peer)) {
			err = errCollision
		}
		taken[peer] = struct{}{}
		if err != nil {
			return fmt.Errorf("with addresses of %s it speaks of %w", own.prefix, err)
		}
		if ok {
			s.own[own.prefix] = x
		}
	}
	return nil
}

// planMembers adds the entries of identities, whose lines are given.
func (e *Engine) planMembers(c *content, members map[*identity][]int, entries map[PeerID]entry) error {
	type result struct {
		entry entry
		ok    bool
	}
	same := map[string]result{} // by lines, where the identity's ports do not matter
	for id, lines := range members {
		key := fmt.Sprint(lines)
		r, known := same[key]
		if !known {
			var err error
			if r.entry, r.ok, err = e.entryOf(c, lines, id.NamedPorts); err != nil {
				return fmt.Errorf("with identity %d its rules together speak of %w", id.ID, err)
			}
			if !slices.ContainsFunc(lines, func(i int) bool { return len(c.lines[i].ports.names) > 0 }) {
				same[key] = r
			}
		}
		if r.ok {
			entries[PeerID(id.ID)] = r.entry
		}
	}
	return nil
}

// entryOf gives what the lines say of a peer that has these named ports; ok is
// false when that is nothing.
func (e *Engine) entryOf(c *content, lines []int, named []state.NamedPort) (x entry, ok bool, err error) {
	var sum ports
	for _, i := range lines {
		if p := c.lines[i].ports.resolved(named); !p.empty() {
			sum = sum.plus(p)
			x.lines = append(x.lines, i)
		}
	}
	if sum.empty() {
		return entry{}, false, nil
	}
	x.ports, err = e.list(sum)
	return x, err == nil, err
}

// denial gives an entry that denies everything, in place of one that says what
// these lines do and does not fit.
func (e *Engine) denial(lines []int) (x entry, err error) {
	x.ports, err = e.list(ports{ranges: []PortRange{denyEverything}})
	x.lines = lines
	return x, err
}

// list gives the number of a list of ports.
func (e *Engine) list(p ports) (PortsID, error) {
	if slices.Equal(p.ranges, []PortRange{allowEverything}) {
		return PortsAll, nil
	}
	if len(p.ranges) > MaxRanges {
		return 0, errTooManyRanges
	}
	id := PortsID(e.named(p.String(), uint64(PortsAll)+1))
	switch l := e.lists[id]; {
	case l == nil:
		e.lists[id] = &list{ranges: p.ranges, fresh: true}
		e.changes.lists[id] = struct{}{}
	case !slices.Equal(l.ranges, p.ranges):
		return 0, fmt.Errorf("a list of ports that does not fit: %w", errCollision)
	}
	return id, nil
}

// put sets an entry.
func (e *Engine) put(s *set, peer PeerID, x entry) {
	old, had := s.entries[peer]
	if had && old.equal(x) {
		return
	}
	e.take(s, peer)
	s.entries[peer] = x
	if x.ports != PortsAll {
		e.lists[x.ports].refs++
	}
}

// take removes an entry, if it is there, and remembers what it was.
func (e *Engine) take(s *set, peer PeerID) {
	e.changes.entry(s, peer)
	x, had := s.entries[peer]
	if !had {
		return
	}
	delete(s.entries, peer)
	if l := e.lists[x.ports]; x.ports != PortsAll {
		l.refs--
		e.changes.lists[x.ports] = struct{}{}
	}
}

// join adds a binding to the content's set.
func (e *Engine) join(c *content) {
	s := e.sets[c.id]
	s.users++
	s.contents[c]++
	s.stale = s.stale || s.contents[c] == 1
	e.changes.sets[s] = struct{}{}
}

// leave takes one away. The set stays until the next Take.
func (e *Engine) leave(c *content) {
	s := e.sets[c.id]
	s.users--
	if s.contents[c]--; s.contents[c] == 0 {
		delete(s.contents, c)
		s.stale = true
	}
	e.changes.sets[s] = struct{}{}
}

// remove takes a set that nobody uses out of everything.
func (e *Engine) remove(s *set) {
	s.fresh = true // what its entries were need not be remembered
	for peer := range s.entries {
		e.take(s, peer)
	}
	e.release(s)
	delete(e.sets, s.content.id)
	delete(e.changes.omitting, s)
	e.retry = true
}

// selector gives the selector with this text.
func (e *Engine) selector(pods conjunction) *selector {
	text := pods.String()
	if sel := e.selectors[text]; sel != nil {
		return sel
	}
	sel := &selector{pods: pods, ids: group[*identity]{}, uses: map[*set]int{}}
	for id := range e.identitiesByLabel.find(pods) {
		sel.ids[id] = struct{}{}
		id.selectors[sel] = struct{}{}
	}
	e.selectors[text] = sel
	e.selectorsFor.add(sel, pods)
	return sel
}

// release lets go of a set's selectors.
func (e *Engine) release(s *set) {
	for _, l := range s.content.lines {
		if l.peer.kind != peerPods {
			continue
		}
		text := l.peer.pods.String()
		sel := e.selectors[text]
		if sel == nil {
			continue
		}
		delete(sel.uses, s)
		if len(sel.uses) > 0 {
			continue
		}
		for id := range sel.ids {
			delete(id.selectors, sel)
		}
		delete(e.selectors, text)
		e.selectorsFor.remove(sel)
	}
}

// origin gives whose rules the set is made of; of a set without users, whose they
// were.
func (s *set) origin() *origin {
	if !s.stale || len(s.contents) == 0 {
		return s.cached
	}
	o := &origin{byLine: make([][]int, len(s.content.lines))}
	for c := range s.contents {
		o.names = append(o.names, c.names...)
		o.rules = append(o.rules, c.rules...)
	}
	slices.Sort(o.names)
	slices.SortFunc(o.rules, compareRefs)
	o.names, o.rules = slices.Compact(o.names), slices.Compact(o.rules)
	index := make(map[RuleRef]int, len(o.rules))
	for i, r := range o.rules {
		index[r] = i
	}
	for i := range o.byLine {
		from := map[int]struct{}{}
		for c := range s.contents {
			for _, r := range c.lines[i].refs {
				from[index[r]] = struct{}{}
			}
		}
		o.byLine[i] = slices.Sorted(maps.Keys(from))
	}
	s.cached, s.stale = o, false
	return o
}

func (o *origin) equal(p *origin) bool {
	return slices.Equal(o.names, p.names) && slices.Equal(o.rules, p.rules) && slices.EqualFunc(o.byLine, p.byLine, slices.Equal[[]int])
}

// of gives the indexes of the rules that the lines come from.
func (o *origin) of(lines []int) []int {
	var out []int
	for _, i := range lines {
		out = append(out, o.byLine[i]...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// export gives the set with the entries of all peers but of prefixes that are not
// in live; nil is all of them.
func (s *set) export(o *origin, live map[PeerID]netip.Prefix) *Set {
	out := &Set{
		ID: s.content.id, Egress: s.content.direction == egress,
		Rules: slices.Clone(o.rules), Names: slices.Clone(o.names), Entries: make(map[PeerID]Entry, len(s.entries)),
	}
	rules := map[string][]int{} // entries of the same lines share the list
	for peer, x := range s.entries {
		if _, ok := live[peer]; live != nil && peer.isPrefix() && !ok {
			continue
		}
		key := fmt.Sprint(x.lines)
		if rules[key] == nil {
			rules[key] = o.of(x.lines)
		}
		out.Entries[peer] = Entry{x.ports, rules[key]}
	}
	return out
}

// omission says which entries do not fit.
func (s *set) omission() string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s.omitted)) {
		out = append(out, fmt.Sprintf("with identity %d, which it denies until then, its rules together speak of %s", id, s.omitted[id]))
	}
	return strings.Join(out, "; ")
}
