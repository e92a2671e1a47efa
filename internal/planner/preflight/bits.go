package preflight

import (
	"iter"
	"math/bits"
)

// set is a set of small numbers. All sets that are put together have the same
// length.
type set []uint64

const wordBits = 64

func newSet(n int) set { return make(set, (n+wordBits-1)/wordBits) }

func (s set) add(i int) { s[i/wordBits] |= 1 << (i % wordBits) }

// fill adds the numbers from first to last-1.
func (s set) fill(first, last int) {
	for i := first; i < last; i++ {
		s.add(i)
	}
}

func (s set) remove(i int) { s[i/wordBits] &^= 1 << (i % wordBits) }

func (s set) has(i int) bool { return s[i/wordBits]&(1<<(i%wordBits)) != 0 }

func (s set) addAll(o set) {
	for i := range o {
		s[i] |= o[i]
	}
}

// and gives what is in both.
func (s set) and(o set) set {
	out := make(set, len(s))
	for i := range s {
		out[i] = s[i] & o[i]
	}
	return out
}

// minus gives what is in s alone.
func (s set) minus(o set) set {
	out := make(set, len(s))
	for i := range s {
		out[i] = s[i] &^ o[i]
	}
	return out
}

// meets tells whether anything is in both.
func (s set) meets(o set) bool {
	for i := range s {
		if s[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

// covers tells whether all of o is in s.
func (s set) covers(o set) bool {
	for i := range s {
		if o[i]&^s[i] != 0 {
			return false
		}
	}
	return true
}

func (s set) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// all yields the numbers in order.
func (s set) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(i*wordBits + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}
