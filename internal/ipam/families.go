package ipam

import "net/netip"

// Families is a set of address families.
type Families uint8

// The members of Families.
const (
	IPv4 Families = 1 << iota
	IPv6
)

// familyCount is the number of families; family i is the bit 1<<i of Families.
const familyCount = 2

// String gives "IPv4", "IPv6", "IPv4+IPv6" or "none".
func (f Families) String() string {
	switch f & (IPv4 | IPv6) {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	case IPv4 | IPv6:
		return "IPv4+IPv6"
	}
	return "none"
}

// FamilyOf returns the family of a valid address.
func FamilyOf(a netip.Addr) Families { return 1 << familyIndex(a) }

// familyIndex is 0 for IPv4 and 1 for IPv6.
func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
