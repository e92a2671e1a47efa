package preflight

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// regions divide all addresses by prefixes: each region is a prefix without the
// longer ones inside of it.
type regions struct {
	prefixes []netip.Prefix // those inside of another come right after it
	end      []int          // of prefixes: the first that is not inside any more
	at       map[netip.Prefix]int
}

// newRegions divides by the prefixes, and those of all addresses.
func newRegions(prefixes map[netip.Prefix]bool) *regions {
	r := &regions{at: map[netip.Prefix]int{}}
	r.prefixes = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	for p := range prefixes {
		r.prefixes = append(r.prefixes, p)
	}
	slices.SortFunc(r.prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	r.prefixes = slices.Compact(r.prefixes)
	r.end = make([]int, len(r.prefixes))
	var around []int
	for i, p := range r.prefixes {
		r.at[p] = i
		for len(around) > 0 && !r.prefixes[around[len(around)-1]].Overlaps(p) {
			r.end[around[len(around)-1]] = i
			around = around[:len(around)-1]
		}
		around = append(around, i)
	}
	for _, i := range around {
		r.end[i] = len(r.prefixes)
	}
	return r
}

// add puts the regions of a block, without its exceptions, into a set in which they
// begin at base.
func (r *regions) add(to set, base int, b *state.IPBlock) {
	block := newSet(len(to) * wordBits)
	r.each(b.CIDR, func(i int) { block.add(base + i) })
	for _, e := range b.Except {
		r.each(e, func(i int) { block.remove(base + i) })
	}
	to.addAll(block)
}

func (r *regions) each(p netip.Prefix, do func(i int)) {
	first, ok := r.at[plainPrefix(p)]
	if !ok {
		return
	}
	for i := first; i < r.end[first]; i++ {
		do(i)
	}
}

// plainPrefix gives a prefix in the form in which it is compared: masked, and IPv4
// as such.
func plainPrefix(p netip.Prefix) netip.Prefix {
	const mapped = 128 - 32
	if p.Addr().Is4In6() && p.Bits() >= mapped {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	return p.Masked()
}

// inside tells whether all addresses of p are in q.
func inside(p, q netip.Prefix) bool { return p.Bits() >= q.Bits() && q.Contains(p.Addr()) }
