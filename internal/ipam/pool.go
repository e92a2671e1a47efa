package ipam

import "net/netip"

// maxPoolAddrs bounds how many addresses of one CIDR are ever given out: the
// lowest 65,536. A node holds some hundred pods; a wider CIDR (an IPv6 /64)
// would only cost memory.
const maxPoolAddrs = 1 << 16

// pool is the usable part of one CIDR. A bit of taken is set for every address
// that is reserved, held or parked, so a clear bit is an address that nobody
// has had since the pool was made.
type pool struct {
	cidr     netip.Prefix
	taken    bitset
	cursor   int
	first    int
	last     int
	capacity int
}

func newPool(cidr netip.Prefix) *pool {
	size := maxPoolAddrs
	hostBits := cidr.Addr().BitLen() - cidr.Bits()
	if hostBits < 16 {
		size = 1 << hostBits
	}
	p := &pool{cidr: cidr, taken: newBitset(size), first: 0, last: size - 1}
	// RFC 3021 and RFC 6164: in a range of two, and of one, all are usable.
	if hostBits > 1 {
		p.first = 1 // network address, or subnet-router anycast
		p.taken.set(0)
		if cidr.Addr().Is4() && 1<<hostBits == size {
			p.last = size - 2 // broadcast address
			p.taken.set(size - 1)
		}
	}
	p.cursor = p.first
	p.capacity = p.last - p.first + 1
	return p
}

// index returns the position of a; ok is false when the pool never gives a out.
func (p *pool) index(a netip.Addr) (i int, ok bool) {
	n, ok := indexOf(p.cidr.Addr(), a, 0)
	if !ok || n < uint64(p.first) || n > uint64(p.last) {
		return 0, false
	}
	return int(n), true
}

// fresh returns the next address that nobody has had.
func (p *pool) fresh() (netip.Addr, bool) {
	i, ok := p.taken.nextClear(p.cursor)
	if !ok {
		return netip.Addr{}, false
	}
	return addrAt(p.cidr.Addr(), uint64(i), 0), true
}

// mark sets the bit at i and moves the cursor behind it.
func (p *pool) mark(i int) {
	p.taken.set(i)
	p.cursor = i + 1
}
