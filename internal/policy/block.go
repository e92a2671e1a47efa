package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// block is an IPBlock in canonical form: excepts are inside the CIDR, not inside
// one another, and sorted. The zero block has no address.
type block struct {
	cidr    netip.Prefix
	except  []netip.Prefix
	outside bool
}

// The addresses of IPv4 as the datapath's table of prefixes has them, inside of
// IPv6, and the prefix that must be in that table so that a wider one of IPv6 is
// not found for them.
var (
	mappedIPv4 = netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff})
	allIPv4    = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
)

// blockOf is false when b is not valid.
func blockOf(b state.IPBlock) (block, bool) {
	cidr, ok := canonicalPrefix(b.CIDR)
	if !ok {
		return block{}, false
	}
	var except []netip.Prefix
	for _, x := range b.Except {
		if x, ok = canonicalPrefix(x); !ok {
			return block{}, false
		}
		if contains(cidr, x) || contains(x, cidr) {
			except = append(except, x)
		}
	}
	if slices.ContainsFunc(except, func(x netip.Prefix) bool { return contains(x, cidr) }) {
		return block{}, true
	}
	slices.SortFunc(except, comparePrefixes)
	var outer []netip.Prefix
	for _, x := range except {
		if !slices.ContainsFunc(outer, func(o netip.Prefix) bool { return contains(o, x) }) {
			outer = append(outer, x)
		}
	}
	return block{cidr, outer, b.Outside}, true
}

// canonicalPrefix masks p, and makes IPv4 of IPv4 in IPv6. It is false when p is
// not valid.
func canonicalPrefix(p netip.Prefix) (netip.Prefix, bool) {
	if !p.IsValid() {
		return p, false
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// comparePrefixes orders wider ones first.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
}

// addrPrefix is the prefix of one address.
func addrPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// contains tells whether all of inner is in outer.
func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// contains tells whether all of p is in the block. A p that holds one of the
// block's excepts is not.
func (b block) contains(p netip.Prefix) bool {
	return contains(b.cidr, p) && !slices.ContainsFunc(b.except, func(x netip.Prefix) bool { return contains(x, p) })
}

// prefixes are those that the datapath must know to tell what is in the block.
func (b block) prefixes() []netip.Prefix {
	out := append([]netip.Prefix{b.cidr}, b.except...)
	if b.cidr.Addr().Is6() && b.cidr.Bits() < 96 && b.cidr.Contains(mappedIPv4) {
		out = append(out, allIPv4)
	}
	return out
}

// String gives e.g. "10.0.0.0/8 except 10.1.0.0/16,10.2.0.0/16", and "outside"
// before it.
func (b block) String() string {
	text := b.cidr.String()
	if b.outside {
		text = "outside " + text
	}
	if len(b.except) == 0 {
		return text
	}
	except := make([]string, len(b.except))
	for i, x := range b.except {
		except[i] = x.String()
	}
	return text + " except " + strings.Join(except, ",")
}

// prefixPeer is the PeerID of a prefix.
func (e *Engine) prefixPeer(p netip.Prefix) PeerID {
	return prefixBit | PeerID(e.digest(p.String())>>1)
}

// prefixBit is set in the PeerID of every prefix, and of nothing else.
const prefixBit PeerID = 1 << 63

func (p PeerID) isPrefix() bool { return p&prefixBit != 0 }
