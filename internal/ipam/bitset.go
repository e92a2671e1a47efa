package ipam

import "math/bits"

// bitset is a fixed number of bits that knows how many are set.
type bitset struct {
	words []uint64
	size  int
	count int
}

func newBitset(size int) bitset {
	return bitset{words: make([]uint64, (size+63)/64), size: size}
}

func (b *bitset) has(i int) bool { return b.words[i/64]&(1<<(i%64)) != 0 }

func (b *bitset) set(i int) {
	if !b.has(i) {
		b.words[i/64] |= 1 << (i % 64)
		b.count++
	}
}

func (b *bitset) clear(i int) {
	if b.has(i) {
		b.words[i/64] &^= 1 << (i % 64)
		b.count--
	}
}

// nextClear returns the first clear bit at or after from, wrapping round to the
// start; ok is false when all bits are set.
func (b *bitset) nextClear(from int) (i int, ok bool) {
	if b.count == b.size {
		return 0, false
	}
	if i, ok := b.clearIn(from, b.size); ok {
		return i, true
	}
	return b.clearIn(0, from)
}

// clearIn returns the first clear bit of [from, to).
func (b *bitset) clearIn(from, to int) (int, bool) {
	for i := from; i < to; {
		free := ^b.words[i/64] >> (i % 64)
		if free == 0 {
			i += 64 - i%64
			continue
		}
		i += bits.TrailingZeros64(free)
		return i, i < to
	}
	return 0, false
}
