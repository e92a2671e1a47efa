package ipam

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// addrAt returns base + n<<shift. The caller keeps the result inside the range
// that base starts.
func addrAt(base netip.Addr, n uint64, shift int) netip.Addr {
	hi, lo := halves(base)
	addHi, addLo := uint64(0), n<<shift
	switch {
	case shift >= 64:
		addHi = n << (shift - 64)
	case shift > 0:
		addHi = n >> (64 - shift)
	}
	lo, carry := bits.Add64(lo, addLo, 0)
	hi, _ = bits.Add64(hi, addHi, carry)

	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	a := netip.AddrFrom16(b)
	if base.Is4() {
		return a.Unmap()
	}
	return a
}

// indexOf returns (a-base)>>shift; ok is false when a lies below base, is of
// the other family or the index does not fit 64 bits.
func indexOf(base, a netip.Addr, shift int) (index uint64, ok bool) {
	if base.BitLen() != a.BitLen() || a.Less(base) {
		return 0, false
	}
	hi, lo := halves(a)
	baseHi, baseLo := halves(base)
	lo, borrow := bits.Sub64(lo, baseLo, 0)
	hi, _ = bits.Sub64(hi, baseHi, borrow)
	if shift >= 64 {
		return hi >> (shift - 64), true
	}
	if hi>>shift != 0 {
		return 0, false
	}
	return hi<<(64-shift) | lo>>shift, true
}

// halves returns the 16-byte form (IPv4 as ::ffff:a.b.c.d) as two numbers.
func halves(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}
