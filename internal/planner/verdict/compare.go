package verdict

import (
	"context"
	"fmt"
	"slices"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// progressStep is after how many classes of peers Options.Progress is told.
const progressStep = 64

// Compare finds what the peers of a cluster may say to one another under one side
// and not under the other. The error is that ctx ended.
func Compare(ctx context.Context, cluster Cluster, old, now Side, o Options) (Result, error) {
	c := newComparer(cluster, [sides]Side{old, now}, o)
	res := c.result()
	if err := c.count(ctx, &res); err != nil {
		return Result{}, fmt.Errorf("compare verdicts: %w", err)
	}
	if err := c.list(ctx, &res); err != nil {
		return Result{}, fmt.Errorf("explain verdicts: %w", err)
	}
	res.Cut = c.cut(o.Flows)
	return res, nil
}

// face is how both sides see the addresses of one family of a peer.
type face [sides]key

// transition is a direction of a group: the sets that it is under.
type transition struct {
	direction int
	sets      [sides]policy.SetID
}

// changed is what a transition changes: the faces with which it allows something
// else, and whether all that are not listed as same are among them.
type changed struct {
	faces []int
	dense bool
}

// class is peers that nothing can tell apart but their names.
type class struct {
	transitions [directions]int
	faces       [families]int // absent where it has no address
}

// comparer goes through pairs of peers.
type comparer struct {
	cluster Cluster
	options Options
	sides   [sides]*side
	sets    *portSets
	groups  int
	peers   []peer // groups first
	classOf []int  // of peers

	classes     []class
	members     [][]int // of classes: peers, in order
	faces       []face
	withFace    [][]int // of faces: classes
	transitions []transition
	under       [][]int       // of transitions: classes
	changes     []changed     // of transitions
	changedAt   map[int][]int // of faces: ingress transitions that change with them
	dense       []int         // ingress transitions that are

	// What the class that is gone through allows the others: memory of value.
	values [directions]memory
	seen   memory
}

// memory remembers pairs of numbers by an index, until it is cleared.
type memory struct {
	stamp  int
	stamps []int
	values [][sides]portsID
}

func newMemory(n int) memory { return memory{1, make([]int, n), make([][sides]portsID, n)} }

func (m *memory) clear() { m.stamp++ }

func newComparer(cluster Cluster, in [sides]Side, o Options) *comparer {
	b := newBase(cluster, in[before].Policies, in[after].Policies)
	var filled [sides]*side
	for i := range filled {
		if o.Progress != nil {
			o.Progress("compile policies", i, int(sides))
		}
		filled[i] = b.side(in[i])
	}
	return b.compare(filled, o)
}

// base is what does not depend on the sides that are compared.
type base struct {
	cluster  Cluster
	mentions mentions
	groups   []peer
	others   []peer
	numbers  identities
	sets     *portSets
}

// newBase makes groups of pods for all of these policies.
func newBase(cluster Cluster, policies ...[]state.NetworkPolicy) *base {
	m := mentioned(policies...)
	g := newGrouper(m, newRegions(m.prefixesOf()))
	return &base{cluster: cluster, mentions: m, groups: g.groups(cluster.Pods), others: g.others(cluster.Nodes), numbers: identities{}, sets: newPortSets()}
}

// side compiles one side, whose policies the base knows.
func (b *base) side(in Side) *side {
	s := newSide(in, b.cluster, b.mentions, b.sets)
	s.compile(s.describe(b.groups, b.numbers))
	return s
}

func (b *base) compare(filled [sides]*side, o Options) *comparer {
	c := &comparer{
		cluster: b.cluster, options: o, sets: b.sets, sides: filled,
		groups: len(b.groups), peers: slices.Concat(b.groups, b.others), changedAt: map[int][]int{},
	}
	c.classify()
	c.findChanges()
	c.values = [directions]memory{newMemory(len(c.transitions)), newMemory(len(c.faces))}
	c.seen = newMemory(len(c.classes))
	return c
}

func (c *comparer) progress(what string, done, total int) {
	if c.options.Progress != nil {
		c.options.Progress(what, done, total)
	}
}

// result gives all but the changes.
func (c *comparer) result() Result {
	others := len(c.peers) - c.groups
	res := Result{Groups: c.groups, Others: others, Pairs: len(c.peers)*len(c.peers) - others*others, Changes: []Change{}}
	for i, s := range c.sides {
		res.Unfit[i] = s.unfit()
		if s.Identities != nil {
			res.Sizes[i] = s.size(c.peers[:c.groups])
		}
	}
	return res
}

// classify puts peers that are judged alike into classes.
func (c *comparer) classify() {
	faces, transitions, classes := map[face]int{}, map[transition]int{}, map[class]int{}
	for i, p := range c.peers {
		var x class
		for d := range directions {
			t := transition{direction: d} // of what is no pod: open
			for s := 0; s < sides && i < c.groups; s++ {
				t.sets[s] = c.sides[s].set(i, d)
			}
			x.transitions[d] = intern(transitions, &c.transitions, t)
		}
		for f := range families {
			x.faces[f] = absent
			if p.place[f] != absent {
				x.faces[f] = intern(faces, &c.faces, c.faceOf(i, f))
			}
		}
		n := intern(classes, &c.classes, x)
		c.classOf = append(c.classOf, n)
		if n == len(c.members) {
			c.members = append(c.members, nil)
		}
		c.members[n] = append(c.members[n], i)
	}
	c.withFace, c.under = make([][]int, len(c.faces)), make([][]int, len(c.transitions))
	for n, x := range c.classes {
		for f, number := range x.faces {
			if number != absent && (f == ipv4 || number != x.faces[ipv4]) {
				c.withFace[number] = append(c.withFace[number], n)
			}
		}
		c.under[x.transitions[ingress]] = append(c.under[x.transitions[ingress]], n)
	}
}

// intern gives the number of x in list, and adds it when it is not there.
func intern[T comparable](known map[T]int, list *[]T, x T) int {
	n, ok := known[x]
	if !ok {
		n = len(*list)
		known[x] = n
		*list = append(*list, x)
	}
	return n
}

// faceOf gives the face of a peer's addresses of a family.
func (c *comparer) faceOf(peer, family int) face {
	p := c.peers[peer]
	var out face
	for i, s := range c.sides {
		out[i].id = p.id
		if peer < c.groups {
			out[i].id = s.ids[peer]
		}
		if p.place[family] >= 0 {
			out[i].prefix = s.prefixOf(p.addrs[family])
		}
	}
	return out
}

// value gives what a transition allows with a face on both sides.
func (c *comparer) value(transition, face int) [sides]portsID {
	t, f := c.transitions[transition], c.faces[face]
	if t.direction == ingress && f[before].id == state.IdentityHost {
		return [sides]portsID{allPorts, allPorts} // a node always reaches its own pods
	}
	return [sides]portsID{c.sides[before].allowed(t.sets[before], f[before]), c.sides[after].allowed(t.sets[after], f[after])}
}

// findChanges finds for every transition the faces with which it allows something
// else.
func (c *comparer) findChanges() {
	byKey := [sides]map[key][]int{{}, {}} // faces by identity alone, and by prefix alone
	var moved []int
	for n, f := range c.faces {
		for s := range sides {
			byKey[s][key{id: f[s].id}] = append(byKey[s][key{id: f[s].id}], n)
			if f[s].prefix != 0 {
				byKey[s][key{prefix: f[s].prefix}] = append(byKey[s][key{prefix: f[s].prefix}], n)
			}
		}
		if f[before] != f[after] {
			moved = append(moved, n)
		}
	}
	for n, t := range c.transitions {
		x := c.changesOf(n, byKey, moved)
		c.changes = append(c.changes, x)
		if t.direction != ingress {
			continue
		}
		if x.dense {
			c.dense = append(c.dense, n)
		}
		for _, f := range x.faces {
			c.changedAt[f] = append(c.changedAt[f], n)
		}
	}
}

func (c *comparer) changesOf(n int, byKey [sides]map[key][]int, moved []int) changed {
	t := c.transitions[n]
	candidates := moved
	if t.sets[before] != t.sets[after] {
		if c.sides[before].view(t.sets[before]).rest != c.sides[after].view(t.sets[after]).rest {
			return changed{dense: true}
		}
		candidates = c.facesOf(t, byKey)
	}
	var out changed
	for _, f := range candidates {
		if v := c.value(n, f); v[before] != v[after] {
			out.faces = append(out.faces, f)
		}
	}
	return out
}

// facesOf gives the faces that have entries of their own in a transition's sets.
func (c *comparer) facesOf(t transition, byKey [sides]map[key][]int) []int {
	var out []int
	for s, id := range t.sets {
		set := c.sides[s].view(id).set
		if set == nil {
			continue
		}
		for p := range set.Entries {
			out = append(out, byKey[s][keyOf(p)]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// keyOf gives the key with nothing but what an entry is filed under.
func keyOf(p policy.PeerID) key {
	if p > policy.PeerID(state.IdentityMax) {
		return key{prefix: p}
	}
	return key{id: uint32(p)}
}

// difference is a change between two classes.
type difference struct {
	to, family int // family -1 is both
	ports      [sides]portsID
}

// from gives what changes from a class, in no order.
func (c *comparer) from(n int) []difference {
	var out []difference
	c.forget()
	for _, to := range c.candidates(n) {
		var own []difference
		for f := range families {
			if d, ok := c.between(n, to, f); ok {
				own = append(own, d)
			}
		}
		shared := 0
		for f := range families {
			if c.classes[n].faces[f] != absent && c.classes[to].faces[f] != absent {
				shared++
			}
		}
		if len(own) == shared && (shared == 1 || shared == families && own[0].ports == own[1].ports) {
			own = own[:1]
			own[0].family = -1
		}
		out = append(out, own...)
	}
	return out
}

// forget clears what is remembered of a class.
func (c *comparer) forget() {
	c.values[ingress].clear()
	c.values[egress].clear()
}

// between compares one family of a pair of classes; false when nothing changes.
func (c *comparer) between(from, to, family int) (difference, bool) {
	a, b := c.classes[from], c.classes[to]
	if a.faces[family] == absent || b.faces[family] == absent {
		return difference{}, false
	}
	out := c.remember(egress, b.faces[family], a.transitions[egress], b.faces[family])
	var in [sides]portsID
	if family == ipv4 || a.faces[ipv6] == a.faces[ipv4] {
		in = c.remember(ingress, b.transitions[ingress], b.transitions[ingress], a.faces[family])
	} else {
		in = c.value(b.transitions[ingress], a.faces[family])
	}
	d := difference{to: to, family: family}
	for s := range sides {
		d.ports[s] = c.sets.both(out[s], in[s])
	}
	return d, d.ports[before] != d.ports[after]
}

// remember is value, asked once for each index while the class stays the same.
func (c *comparer) remember(direction, index, transition, face int) [sides]portsID {
	m := &c.values[direction]
	if m.stamps[index] != m.stamp {
		m.stamps[index], m.values[index] = m.stamp, c.value(transition, face)
	}
	return m.values[index]
}

// candidates gives the classes for which traffic from a class may have changed.
func (c *comparer) candidates(n int) []int {
	x := c.classes[n]
	out := c.changes[x.transitions[egress]]
	if out.dense {
		return c.allClasses()
	}
	c.seen.clear()
	var list []int
	add := func(classes []int) {
		for _, to := range classes {
			if c.seen.stamps[to] != c.seen.stamp {
				c.seen.stamps[to] = c.seen.stamp
				list = append(list, to)
			}
		}
	}
	for _, f := range out.faces {
		add(c.withFace[f])
	}
	for _, t := range c.dense {
		add(c.under[t])
	}
	for _, f := range x.faces {
		if f == absent {
			continue
		}
		for _, t := range c.changedAt[f] {
			add(c.under[t])
		}
	}
	return list
}

func (c *comparer) allClasses() []int {
	all := make([]int, len(c.classes))
	for i := range all {
		all[i] = i
	}
	return all
}

// count counts all changes.
func (c *comparer) count(ctx context.Context, res *Result) error {
	for n := range c.classes {
		if n%progressStep == 0 {
			c.progress("compare groups", n, len(c.classes))
			if err := ctx.Err(); err != nil {
				return err //nolint:wrapcheck // Compare does
			}
		}
		for _, d := range c.from(n) {
			pairs := len(c.members[n]) * len(c.members[d.to])
			old, now := c.sets.sets[d.ports[before]], c.sets.sets[d.ports[after]]
			res.Changed += pairs
			if !now.minus(old).Empty() {
				res.Opened += pairs
			}
			if !old.minus(now).Empty() {
				res.Closed += pairs
			}
		}
	}
	return nil
}

// list explains the first changes, in the order of the peers.
func (c *comparer) list(ctx context.Context, res *Result) error {
	known := map[int][]difference{}
	for from := 0; from < len(c.peers) && len(res.Changes) < res.Changed && !c.enough(res); from++ {
		c.progress("explain changes", len(res.Changes), res.Changed)
		if err := ctx.Err(); err != nil {
			return err //nolint:wrapcheck // Compare does
		}
		n := c.classOf[from]
		if known[n] == nil {
			known[n] = c.from(n)
		}
		type row struct {
			to int
			difference
		}
		var rows []row
		for _, d := range known[n] {
			for _, to := range c.members[d.to] {
				rows = append(rows, row{to, d})
			}
		}
		slices.SortStableFunc(rows, func(a, b row) int { return a.to - b.to })
		for _, r := range rows {
			if c.enough(res) {
				break
			}
			res.Changes = append(res.Changes, c.explain(from, r.to, r.difference))
		}
	}
	return nil
}

func (c *comparer) enough(res *Result) bool {
	return c.options.Limit > 0 && len(res.Changes) >= c.options.Limit
}
