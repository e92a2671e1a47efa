package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"
)

// maxPoolRanges bounds how many node ranges of one pool are ever carved: the
// lowest 16,777,216.
const maxPoolRanges = 1 << 24

// Pool is a range of the cluster that node ranges of NodeMask bits are carved
// from.
type Pool struct {
	CIDR     netip.Prefix
	NodeMask int
}

// String gives e.g. "10.0.0.0/8 (a /24 for each node)".
func (p Pool) String() string { return fmt.Sprintf("%s (a /%d for each node)", p.CIDR, p.NodeMask) }

// Assignment says which ranges a node holds, as found in the cluster.
type Assignment struct {
	Node string
	// Created decides between nodes whose ranges overlap: the older keeps its.
	Created  time.Time
	Prefixes []netip.Prefix
}

// ForeignPrefix is a range that lies outside all pools: the pools were changed
// after it was carved. Its node keeps it.
type ForeignPrefix struct {
	Node   string
	Prefix netip.Prefix
}

// PoolUsage is the state of one pool, counted in node ranges.
type PoolUsage struct {
	Pool  Pool
	Total int
	Used  int
}

// Carver knows which node holds which range and gives nodes new ones. It is not
// safe for concurrent use. The cost of a call does not depend on the number of
// nodes, except for Adopt, which costs n log n for n assignments.
//
// A new range is the first free one behind the last that was given, or, after
// NewCarver and Adopt, behind the highest in use; so a range comes back as late
// as it can.
type Carver struct {
	pools []*carvePool
	// claims holds the undisputed ranges and their nodes; ranges of different
	// nodes never overlap.
	claims bart.Table[string]
	nodes  map[string][]netip.Prefix
	// disputes are ranges of nodes that overlap an older node's, oldest first.
	// There are few or none.
	disputes []dispute
}

type carvePool struct {
	Pool
	shift  int // bits of an address inside a node range
	ranges bitset
	cursor int // where the search starts; ranges.size is the start of the pool
}

// slot is one range of a pool.
type slot struct {
	pool  *carvePool
	index int
}

type dispute struct {
	ConflictError
	created time.Time
}

// NewCarver returns a carver without assignments. ErrInvalid names a pool that
// is malformed, overlaps another, or is smaller than one node range.
func NewCarver(pools []Pool) (*Carver, error) {
	c := &Carver{nodes: map[string][]netip.Prefix{}}
	cidrs := make([]netip.Prefix, len(pools))
	for i, p := range pools {
		cidrs[i] = p.CIDR
	}
	masked, err := canonical(cidrs)
	if err != nil {
		return nil, fmt.Errorf("create pools: %w", err)
	}
	if len(masked) != len(pools) {
		return nil, fmt.Errorf("create pools: %w: a pool is listed twice in %s", ErrInvalid, joinPrefixes(cidrs))
	}
	for i, p := range pools {
		p.CIDR = masked[i]
		width := p.CIDR.Addr().BitLen()
		if p.NodeMask < p.CIDR.Bits() || p.NodeMask > width {
			return nil, fmt.Errorf("create pool %s: %w: the node mask must be %d to %d", p, ErrInvalid, p.CIDR.Bits(), width)
		}
		size := maxPoolRanges
		if b := p.NodeMask - p.CIDR.Bits(); b < 24 {
			size = 1 << b
		}
		c.pools = append(c.pools, &carvePool{Pool: p, shift: width - p.NodeMask, ranges: newBitset(size)})
	}
	return c, nil
}

// Adopt records assignments that exist. They are taken as they are, also where
// they lie outside the pools, which is reported. Of two nodes whose ranges
// overlap the older, then the one with the lesser name, keeps its claim (but
// what an earlier call recorded stays); the other is reported, keeps its range
// in Prefixes and gets no other from Carve.
func (c *Carver) Adopt(existing []Assignment) (conflicts []*ConflictError, foreign []ForeignPrefix) {
	sorted := slices.Clone(existing)
	slices.SortStableFunc(sorted, func(x, y Assignment) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Node, y.Node))
	})
	for _, a := range sorted {
		for _, p := range a.Prefixes {
			p = p.Masked()
			if slices.Contains(c.nodes[a.Node], p) {
				continue
			}
			c.nodes[a.Node] = append(c.nodes[a.Node], p)
			if !slices.ContainsFunc(c.pools, func(pool *carvePool) bool { return pool.CIDR.Overlaps(p) }) {
				foreign = append(foreign, ForeignPrefix{a.Node, p})
			}
			d := dispute{created: a.Created, ConflictError: ConflictError{Node: a.Node, Prefix: p}}
			if err := c.claim(&d); err != nil {
				conflicts = append(conflicts, err)
				c.disputes = append(c.disputes, d)
			}
			for _, pool := range c.pools {
				pool.block(p)
			}
		}
	}
	slices.SortStableFunc(c.disputes, func(x, y dispute) int {
		return cmp.Or(x.created.Compare(y.created), cmp.Compare(x.Node, y.Node))
	})
	return conflicts, foreign
}

// Carve returns the ranges of a node, after giving it one of every family that
// has a pool and that the node has no range of. It is idempotent. Either all
// missing families are served or nothing changes; the error is then a
// *PoolExhaustedError (ErrExhausted). For a node in a dispute it returns the
// ranges and a *ConflictError (ErrConflict).
func (c *Carver) Carve(node string) ([]netip.Prefix, error) {
	picked, err := c.plan(node)
	if err != nil {
		return c.Prefixes(node), err
	}
	for _, s := range picked {
		p := s.pool.at(s.index)
		s.pool.ranges.set(s.index)
		s.pool.cursor = s.index + 1
		c.claims.Insert(p, node)
		c.nodes[node] = append(c.nodes[node], p)
	}
	return c.Prefixes(node), nil
}

// Check returns the error that Carve would return, and changes nothing.
func (c *Carver) Check(node string) error {
	_, err := c.plan(node)
	return err
}

// Free takes all ranges from a node. Nodes whose dispute ends because of it are
// returned: they hold their ranges now.
func (c *Carver) Free(node string) (settled []string) {
	prefixes := c.nodes[node]
	delete(c.nodes, node)
	c.disputes = slices.DeleteFunc(c.disputes, func(d dispute) bool { return d.Node == node })
	for _, p := range prefixes {
		if holder, ok := c.claims.Get(p); ok && holder == node {
			c.claims.Delete(p)
		}
	}
	var open []dispute
	for _, d := range c.disputes {
		if c.claim(&d) != nil {
			open = append(open, d)
		} else {
			settled = append(settled, d.Node)
		}
	}
	c.disputes = open
	for _, p := range prefixes {
		c.unblock(p)
	}
	settled = slices.DeleteFunc(settled, func(n string) bool { return c.Conflict(n) != nil })
	slices.Sort(settled)
	return slices.Compact(settled)
}

// Prefixes returns the ranges of a node, disputed ones too, in a new slice; nil
// when it has none.
func (c *Carver) Prefixes(node string) []netip.Prefix { return slices.Clone(c.nodes[node]) }

// Conflict returns the first dispute of a node as a *ConflictError, else nil.
func (c *Carver) Conflict(node string) error {
	for i := range c.disputes {
		if c.disputes[i].Node == node {
			return &c.disputes[i].ConflictError
		}
	}
	return nil
}

// Complete says whether the node has a range of every family that has a pool,
// and none in dispute.
func (c *Carver) Complete(node string) bool {
	for i := range familyCount {
		if c.missing(node, i) {
			return false
		}
	}
	return c.Conflict(node) == nil
}

// Usage returns the state of the pools in their order.
func (c *Carver) Usage() []PoolUsage {
	out := make([]PoolUsage, len(c.pools))
	for i, p := range c.pools {
		out[i] = PoolUsage{Pool: p.Pool, Total: p.ranges.size, Used: p.ranges.count}
	}
	return out
}

// claim enters d's range as its node's, or returns who is in the way and
// records that in d.
func (c *Carver) claim(d *dispute) *ConflictError {
	in := func(held netip.Prefix, holder string) bool {
		if holder == d.Node {
			return false
		}
		d.HeldBy, d.HeldPrefix = holder, held
		return true
	}
	for held, holder := range c.claims.Supernets(d.Prefix) {
		if in(held, holder) {
			e := d.ConflictError
			return &e
		}
	}
	for held, holder := range c.claims.Subnets(d.Prefix) {
		if in(held, holder) {
			e := d.ConflictError
			return &e
		}
	}
	c.claims.Insert(d.Prefix, d.Node)
	return nil
}

// missing says whether there is a pool of the family and the node has no range
// of it.
func (c *Carver) missing(node string, family int) bool {
	if !slices.ContainsFunc(c.pools, func(p *carvePool) bool { return familyIndex(p.CIDR.Addr()) == family }) {
		return false
	}
	return !slices.ContainsFunc(c.nodes[node], func(p netip.Prefix) bool { return familyIndex(p.Addr()) == family })
}

// plan chooses what Carve gives to a node and changes nothing.
func (c *Carver) plan(node string) ([]slot, error) {
	if err := c.Conflict(node); err != nil {
		return nil, err
	}
	var picked []slot
	for i := range familyCount {
		if !c.missing(node, i) {
			continue
		}
		s, err := c.pick(i)
		if err != nil {
			return nil, fmt.Errorf("carve for node %s: %w", node, err)
		}
		picked = append(picked, s)
	}
	return picked, nil
}

// pick chooses the next free range of a family and changes nothing.
func (c *Carver) pick(family int) (slot, error) {
	e := &PoolExhaustedError{Family: 1 << family}
	for _, p := range c.pools {
		if familyIndex(p.CIDR.Addr()) != family {
			continue
		}
		if i, ok := p.ranges.nextClear(p.cursor); ok {
			return slot{p, i}, nil
		}
		e.Pools = append(e.Pools, p.Pool)
		e.Total += p.ranges.size
		e.Used += p.ranges.count
	}
	return slot{}, e
}

// unblock frees the ranges under p that nobody holds or disputes.
func (c *Carver) unblock(p netip.Prefix) {
	for _, pool := range c.pools {
		lo, hi, ok := pool.span(p)
		if !ok {
			continue
		}
		allFree := lo < hi && !c.inUse(p)
		for i := lo; i <= hi; i++ {
			if allFree || !c.inUse(pool.at(i)) {
				pool.ranges.clear(i)
			}
		}
	}
}

// inUse says whether somebody holds or disputes a part of p.
func (c *Carver) inUse(p netip.Prefix) bool {
	return c.claims.OverlapsPrefix(p) || slices.ContainsFunc(c.disputes, func(d dispute) bool { return d.Prefix.Overlaps(p) })
}

// block marks the ranges that p touches and moves the cursor behind the highest.
func (p *carvePool) block(prefix netip.Prefix) {
	lo, hi, ok := p.span(prefix)
	if !ok {
		return
	}
	for i := lo; i <= hi; i++ {
		p.ranges.set(i)
	}
	p.cursor = max(p.cursor, hi+1)
}

// span returns the first and last range of the pool that prefix touches.
func (p *carvePool) span(prefix netip.Prefix) (lo, hi int, ok bool) {
	if !p.CIDR.Overlaps(prefix) {
		return 0, 0, false
	}
	if prefix.Bits() <= p.CIDR.Bits() {
		return 0, p.ranges.size - 1, true
	}
	first, ok := indexOf(p.CIDR.Addr(), prefix.Addr(), p.shift)
	if !ok || first >= uint64(p.ranges.size) {
		return 0, 0, false
	}
	lo, hi = int(first), int(first)
	if wider := p.NodeMask - prefix.Bits(); wider > 0 {
		hi = p.ranges.size - 1
		if wider < 24 {
			hi = min(hi, lo+1<<wider-1)
		}
	}
	return lo, hi, true
}

// at returns the range with the given index.
func (p *carvePool) at(i int) netip.Prefix {
	return netip.PrefixFrom(addrAt(p.CIDR.Addr(), uint64(i), p.shift), p.NodeMask)
}
