package autosize

import (
	"math"
	"math/bits"
)

// Sizes go in steps of a quarter of a power of two: 4096, 5120, 6144, 7168, 8192.
// A step is at least a seventh, so a table does not change for little, and at most
// a quarter, so it is not far larger than it must be.

// smallest is the least step.
const smallest = 16

// step gives the least step that is at least n.
func step(n float64) int {
	if n > math.MaxInt32 { // far beyond any table
		n = math.MaxInt32
	}
	return stepAt(int(math.Ceil(n)))
}

func stepAt(n int) int {
	if n <= smallest {
		return smallest
	}
	quarter := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + quarter - 1) / quarter * quarter
}

// stepAbove gives the least step above n.
func stepAbove(n int) int { return stepAt(n + 1) }

// stepBelow gives the largest step below n, the least step if there is none.
func stepBelow(n int) int {
	if n <= smallest+1 {
		return smallest
	}
	quarter := 1 << max(bits.Len(uint(n-1))-3, 0)
	return (n - 1) / quarter * quarter
}
