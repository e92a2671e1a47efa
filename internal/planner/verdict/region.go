package verdict

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// region is the addresses of a prefix that are in no longer prefix of its regions.
type region struct {
	prefix  netip.Prefix
	without []netip.Prefix // the longest of those inside, in order
	addr    netip.Addr     // one of its addresses
}

// nowhere is the number of no region: of an address that is in none.
const nowhere = -1

// regions divide the addresses that are in any of some prefixes.
type regions struct {
	list []region
	tree *bart.Table[int] // from prefixes to list
	// whole tells of which families every address is in one of them.
	whole [families]bool
}

// newRegions divides by the prefixes, which are masked and not IPv4 in IPv6.
func newRegions(prefixes iter.Seq[netip.Prefix]) regions {
	// In this order, what is inside of a prefix comes right after it.
	sorted := slices.SortedFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	inside := map[netip.Prefix][]netip.Prefix{}
	var outermost [families][]netip.Prefix
	var around []netip.Prefix
	for _, p := range sorted {
		for len(around) > 0 && !around[len(around)-1].Contains(p.Addr()) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 {
			outer := around[len(around)-1]
			inside[outer] = append(inside[outer], p)
		} else {
			outermost[familyOf(p.Addr())] = append(outermost[familyOf(p.Addr())], p)
		}
		around = append(around, p)
	}
	r := regions{tree: &bart.Table[int]{}}
	for _, p := range sorted {
		if addr, ok := free(p, inside[p]); ok {
			r.tree.Insert(p, len(r.list))
			r.list = append(r.list, region{p, inside[p], addr})
		}
	}
	for f, all := range [families]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		_, left := free(netip.PrefixFrom(all, 0), outermost[f])
		r.whole[f] = !left
	}
	return r
}

// free gives the first address of a prefix that is in none of those inside, which
// are in order and apart.
func free(p netip.Prefix, inside []netip.Prefix) (netip.Addr, bool) {
	addr := p.Addr()
	for _, x := range inside {
		if x.Contains(addr) {
			addr = lastOf(x).Next()
		}
	}
	return addr, addr.IsValid() && p.Contains(addr)
}

// lastOf gives the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// of gives the number of the region that an address is in, or nowhere.
func (r regions) of(a netip.Addr) int {
	if i, ok := r.tree.Lookup(a.Unmap()); ok {
		return i
	}
	return nowhere
}

// shownPrefixes is how many prefixes the name of a region lists.
const shownPrefixes = 3

// String gives e.g. "10.0.0.0/8 without 10.1.0.0/16".
func (r region) String() string {
	if len(r.without) == 0 {
		return r.prefix.String()
	}
	var words []string
	for _, p := range r.without[:min(len(r.without), shownPrefixes)] {
		words = append(words, p.String())
	}
	text := r.prefix.String() + " without " + strings.Join(words, ", ")
	if more := len(r.without) - len(words); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// prefixesOf yields the prefixes that policies mention.
func (m mentions) prefixesOf() iter.Seq[netip.Prefix] { return maps.Keys(m.prefixes) }
