package verdict

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRegions checks that every address is in the region of the longest prefix
// that has it, that each region has an address, and that whole tells when none is
// left.
func TestRegions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) netip.Prefix {
			// Few bits, so that prefixes meet, and all of the space is sometimes taken.
			a := netip.AddrFrom4([4]byte{byte(rapid.IntRange(0, 7).Draw(t, "top")) << 5, 0, 0, 0})
			if rapid.Bool().Draw(t, "ipv6") {
				b := [16]byte{0: a.As4()[0]}
				a = netip.AddrFrom16(b)
			}
			return netip.PrefixFrom(a, rapid.IntRange(0, 3).Draw(t, "bits")).Masked()
		})
		prefixes := rapid.SliceOfDistinct(draw, func(p netip.Prefix) netip.Prefix { return p }).Draw(t, "prefixes")
		r := newRegions(slices.Values(prefixes))
		found := [families]bool{true, true}
		for i := range 8 {
			for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{byte(i) << 5, 1}), netip.AddrFrom16([16]byte{0: byte(i) << 5, 15: 1})} {
				longest := netip.Prefix{}
				for _, p := range prefixes {
					if p.Contains(a) && (!longest.IsValid() || p.Bits() > longest.Bits()) {
						longest = p
					}
				}
				switch n := r.of(a); {
				case n == nowhere && longest.IsValid():
					t.Fatalf("%s is nowhere, want %s", a, longest)
				case n == nowhere:
					found[familyOf(a)] = false
				case r.list[n].prefix != longest:
					t.Fatalf("%s is in %s, want %s", a, r.list[n], longest)
				}
			}
		}
		if found != r.whole {
			t.Fatalf("whole %v, want %v", r.whole, found)
		}
		for i, x := range r.list {
			if r.of(x.addr) != i || slices.ContainsFunc(x.without, func(p netip.Prefix) bool { return p.Contains(x.addr) }) {
				t.Fatalf("%s is not in %s", x.addr, x)
			}
		}
	})
}

func TestRegionName(t *testing.T) {
	var prefixes []netip.Prefix
	for _, p := range []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "0.0.0.0/1", "128.0.0.0/1"} {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	r := newRegions(slices.Values(prefixes))
	for addr, want := range map[string]string{
		"10.9.9.9":        "10.0.0.0/8 without 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16 and 1 more",
		"10.1.9.9":        "10.1.0.0/16 without 10.1.2.0/24",
		"::ffff:10.1.2.1": "10.1.2.0/24",
		"200.0.0.1":       "128.0.0.0/1",
	} {
		if got := r.list[r.of(netip.MustParseAddr(addr))].String(); got != want {
			t.Errorf("%s is in %q, want %q", addr, got, want)
		}
	}
	if r.whole != [families]bool{true, false} {
		t.Errorf("whole is %v", r.whole)
	}
}
