package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Allocator gives out the addresses of one node's pod CIDRs. Its methods are
// safe for concurrent use.
//
// An address is in one of four states: fresh (nobody has had it), held (by one
// owner), quarantined (given back less than the reuse delay ago) or rested. An
// allocation takes the fresh address that follows the last one given, and when
// there is none, the one that has rested longest; so an address comes back as
// late as it can.
//
// Not given out are the network and broadcast address of an IPv4 CIDR and the
// subnet-router anycast (first) address of an IPv6 CIDR, except that a CIDR of
// one or two addresses gives all. Of a CIDR with more than 65,536 addresses the
// lowest 65,536 are used.
//
// The times that are passed in must not go back; a time.Time with a monotonic
// reading never does.
type Allocator struct {
	mu       sync.Mutex
	delay    time.Duration
	families [familyCount]family
	owners   map[string]grant
	held     map[netip.Addr]string
	// draining are the CIDRs that were taken away while addresses of theirs
	// were held or quarantined, in order.
	draining []netip.Prefix
}

// grant is what one owner holds, by family; the zero Addr is nothing.
type grant [familyCount]netip.Addr

// family is the supply of one address family.
type family struct {
	pools  []*pool
	parked parked
}

// CIDRUsage is the state of one CIDR, in addresses.
type CIDRUsage struct {
	CIDR netip.Prefix
	// Used are held by an owner.
	Used int
	// Quarantined were given back and cannot be used yet.
	Quarantined int
	// Capacity is how many addresses pods can get; 0 when Draining.
	Capacity int
	// Draining is true for a CIDR that gives no new addresses, because it was
	// taken from the node (SetCIDRs) or was never the node's (Restore).
	Draining bool
}

// QuarantinedAddr is an address that was given back and cannot be used yet.
type QuarantinedAddr struct {
	Addr       netip.Addr
	ReleasedAt time.Time
}

// NewAllocator returns an allocator without CIDRs. A returned address rests for
// reuseDelay; a delay below zero counts as zero.
func NewAllocator(reuseDelay time.Duration) *Allocator {
	a := &Allocator{
		delay:  max(reuseDelay, 0),
		owners: map[string]grant{},
		held:   map[netip.Addr]string{},
	}
	for i := range a.families {
		a.families[i].parked.addrs = map[netip.Addr]parkedAddr{}
	}
	return a
}

// Allocate gives owner an address of each wanted family; a family that is not
// wanted yields the zero Addr. It is idempotent: an owner gets the addresses it
// already holds. Either all wanted families are served or nothing changes.
//
// Errors are *ExhaustedError (ErrExhausted), ErrNoCIDR, or ErrInvalid for an
// empty owner or no family.
func (a *Allocator) Allocate(owner string, want Families, now time.Time) (v4, v6 netip.Addr, err error) {
	if owner == "" || want&(IPv4|IPv6) == 0 {
		return v4, v6, fmt.Errorf("allocate %s for owner %q: %w: need an owner and a family", want, owner, ErrInvalid)
	}
	a.mu.Lock()
	defer a.mu.Unlock()

	got := a.owners[owner]
	var out grant
	for i := range a.families {
		if want&(1<<i) == 0 {
			continue
		}
		if !got[i].IsValid() {
			if got[i], err = a.pickLocked(i, now); err != nil {
				return netip.Addr{}, netip.Addr{}, fmt.Errorf("allocate for %s: %w", owner, err)
			}
		}
		out[i] = got[i]
	}
	for _, addr := range out {
		if addr.IsValid() {
			a.holdLocked(owner, addr)
		}
	}
	return out[0], out[1], nil
}

// Restore records that owner holds addr, which it got before a restart. The
// address may be quarantined, reserved or outside the CIDRs: it is in use, so
// it is held until it is released. Restoring what the owner already holds is
// success; ErrConflict means that the address has another owner, or the owner
// another address of the family, and that nothing changed.
func (a *Allocator) Restore(owner string, addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if owner == "" || !addr.IsValid() {
		return fmt.Errorf("restore address %s of owner %q: %w: need an owner and an address", addr, owner, ErrInvalid)
	}
	a.mu.Lock()
	defer a.mu.Unlock()

	if other, ok := a.held[addr]; ok && other != owner {
		return fmt.Errorf("restore address %s of %s: %w: %s holds it", addr, owner, ErrConflict, other)
	}
	if has := a.owners[owner][familyIndex(addr)]; has.IsValid() && has != addr {
		return fmt.Errorf("restore address %s of %s: %w: the owner holds %s", addr, owner, ErrConflict, has)
	}
	a.holdLocked(owner, addr)
	return nil
}

// Release takes all addresses from owner, quarantines them until now plus the
// reuse delay and returns them; an owner that holds nothing yields zero Addrs.
func (a *Allocator) Release(owner string, now time.Time) (v4, v6 netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()

	got := a.owners[owner]
	delete(a.owners, owner)
	for i, addr := range got {
		if addr.IsValid() {
			delete(a.held, addr)
			a.families[i].parked.add(addr, now.Add(a.delay))
		}
	}
	return got[0], got[1]
}

// RestoreQuarantine records that addr was released at releasedAt, before a
// restart; a time in the future counts as now. An address that is held stays
// held, one that is already quarantined rests until the later of the two times,
// and one whose time is over is left alone.
func (a *Allocator) RestoreQuarantine(addr netip.Addr, releasedAt, now time.Time) {
	addr = addr.Unmap().WithZone("")
	if releasedAt.After(now) {
		releasedAt = now
	}
	until := releasedAt.Add(a.delay)
	if !addr.IsValid() || !until.After(now) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()

	f := &a.families[familyIndex(addr)]
	if _, ok := a.held[addr]; ok || f.parked.addrs[addr].until.After(until) {
		return
	}
	f.mark(addr)
	f.parked.add(addr, until)
}

// SetCIDRs replaces the CIDRs that addresses are given from, in order of
// preference. New ones serve at once. One that is left out gives no new
// addresses; those of it that are held stay held until they are released.
// ErrInvalid, for CIDRs that are malformed or overlap, changes nothing.
func (a *Allocator) SetCIDRs(cidrs []netip.Prefix, now time.Time) error {
	cidrs, err := canonical(cidrs)
	if err != nil {
		return fmt.Errorf("set pod CIDRs: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()

	for i := range a.families {
		f := &a.families[i]
		old := f.pools
		f.pools = nil
		for _, c := range cidrs {
			if familyIndex(c.Addr()) != i {
				continue
			}
			f.pools = append(f.pools, a.poolLocked(c, old))
		}
		for _, p := range old {
			if !slices.Contains(cidrs, p.cidr) {
				a.draining = append(a.draining, p.cidr)
			}
		}
		f.parked.prune(now, f.usable)
	}
	a.draining = slices.DeleteFunc(a.draining, func(c netip.Prefix) bool { return slices.Contains(cidrs, c) })
	slices.SortFunc(a.draining, netip.Prefix.Compare)
	a.draining = slices.Compact(a.draining)
	return nil
}

// Usage returns the state of every CIDR: those that serve, in the order of
// SetCIDRs with IPv4 first, then those that drain. It costs time proportional
// to the addresses in use.
func (a *Allocator) Usage(now time.Time) []CIDRUsage {
	a.mu.Lock()
	defer a.mu.Unlock()

	var out []CIDRUsage
	for i := range a.families {
		for _, p := range a.families[i].pools {
			out = append(out, CIDRUsage{CIDR: p.cidr, Capacity: p.capacity})
		}
	}
	active := len(out)
	for _, c := range a.draining {
		out = append(out, CIDRUsage{CIDR: c, Draining: true})
	}
	for addr := range a.held {
		find(&out, addr).Used++
	}
	for i := range a.families {
		for addr, p := range a.families[i].parked.addrs {
			if p.until.After(now) {
				find(&out, addr).Quarantined++
			}
		}
	}
	drained := out[active:]
	slices.SortFunc(drained, func(x, y CIDRUsage) int { return x.CIDR.Compare(y.CIDR) })
	drained = slices.DeleteFunc(drained, func(u CIDRUsage) bool { return u.Used+u.Quarantined == 0 })
	a.draining = slices.DeleteFunc(a.draining, func(c netip.Prefix) bool {
		return !slices.ContainsFunc(drained, func(u CIDRUsage) bool { return u.CIDR == c })
	})
	return out[:active+len(drained)]
}

// Quarantined returns the addresses that were given back and cannot be used
// yet, the oldest first: what RestoreQuarantine wants after a restart.
func (a *Allocator) Quarantined(now time.Time) []QuarantinedAddr {
	a.mu.Lock()
	defer a.mu.Unlock()

	var out []QuarantinedAddr
	for i := range a.families {
		for addr, p := range a.families[i].parked.addrs {
			if p.until.After(now) {
				out = append(out, QuarantinedAddr{Addr: addr, ReleasedAt: p.until.Add(-a.delay)})
			}
		}
	}
	slices.SortFunc(out, func(x, y QuarantinedAddr) int {
		return cmp.Or(x.ReleasedAt.Compare(y.ReleasedAt), x.Addr.Compare(y.Addr))
	})
	return out
}

// Owners returns everybody who holds an address, sorted.
func (a *Allocator) Owners() []string {
	a.mu.Lock()
	defer a.mu.Unlock()

	out := make([]string, 0, len(a.owners))
	for o := range a.owners {
		out = append(out, o)
	}
	slices.Sort(out)
	return out
}

// Owner returns who holds addr; ok is false when nobody does.
func (a *Allocator) Owner(addr netip.Addr) (owner string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	owner, ok = a.held[addr.Unmap().WithZone("")]
	return owner, ok
}

// holdLocked moves addr, whatever state it is in, to owner.
func (a *Allocator) holdLocked(owner string, addr netip.Addr) {
	i := familyIndex(addr)
	g := a.owners[owner]
	if g[i] == addr {
		return
	}
	g[i] = addr
	a.owners[owner] = g
	a.held[addr] = owner
	a.families[i].mark(addr)
	a.families[i].parked.remove(addr)
}

// pickLocked chooses the next address of a family and changes nothing that a
// caller could see.
func (a *Allocator) pickLocked(i int, now time.Time) (netip.Addr, error) {
	f := &a.families[i]
	if len(f.pools) == 0 {
		return netip.Addr{}, fmt.Errorf("%w: the node has no %s pod CIDR", ErrNoCIDR, Families(1<<i))
	}
	for _, p := range f.pools {
		if addr, ok := p.fresh(); ok {
			return addr, nil
		}
	}
	oldest, ok := f.parked.oldest(now, f.usable)
	if ok && !oldest.until.After(now) {
		return oldest.addr, nil
	}
	return netip.Addr{}, a.exhaustedLocked(i, oldest.until)
}

func (a *Allocator) exhaustedLocked(i int, next time.Time) error {
	f := &a.families[i]
	e := &ExhaustedError{Family: 1 << i, NextFree: next}
	for _, p := range f.pools {
		e.CIDRs = append(e.CIDRs, p.cidr)
		e.Capacity += p.capacity
	}
	for addr := range f.parked.addrs {
		if f.usable(addr) {
			e.Quarantined++
		}
	}
	e.Used = e.Capacity - e.Quarantined
	return e
}

// poolLocked returns the pool of c out of old, or makes one that knows what is
// held or parked in c.
func (a *Allocator) poolLocked(c netip.Prefix, old []*pool) *pool {
	for _, p := range old {
		if p.cidr == c {
			return p
		}
	}
	p := newPool(c)
	for addr := range a.held {
		if n, ok := p.index(addr); ok {
			p.taken.set(n)
		}
	}
	for addr := range a.families[familyIndex(c.Addr())].parked.addrs {
		if n, ok := p.index(addr); ok {
			p.taken.set(n)
		}
	}
	return p
}

// usable says whether a pool of the family gives addr out.
func (f *family) usable(addr netip.Addr) bool {
	return slices.ContainsFunc(f.pools, func(p *pool) bool { _, ok := p.index(addr); return ok })
}

// mark records in the pool of addr that it is not fresh.
func (f *family) mark(addr netip.Addr) {
	for _, p := range f.pools {
		if n, ok := p.index(addr); ok {
			p.mark(n)
			return
		}
	}
}

// find returns the row that contains addr, and adds one for the address alone
// when there is none.
func find(rows *[]CIDRUsage, addr netip.Addr) *CIDRUsage {
	for i := range *rows {
		if (*rows)[i].CIDR.Contains(addr) {
			return &(*rows)[i]
		}
	}
	*rows = append(*rows, CIDRUsage{CIDR: netip.PrefixFrom(addr, addr.BitLen()), Draining: true})
	return &(*rows)[len(*rows)-1]
}

// canonical masks prefixes, drops repeats and refuses those that overlap.
func canonical(in []netip.Prefix) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%w: %q is not an IPv4 or IPv6 CIDR", ErrInvalid, p)
		}
		p = p.Masked()
		if slices.Contains(out, p) {
			continue
		}
		for _, q := range out {
			if p.Overlaps(q) {
				return nil, fmt.Errorf("%w: %s overlaps %s", ErrInvalid, p, q)
			}
		}
		out = append(out, p)
	}
	return out, nil
}
