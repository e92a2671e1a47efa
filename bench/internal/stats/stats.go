// Package stats sums up samples. It is pure.
//
// Invariants: no function changes its argument; an empty argument gives NaN.
package stats

import (
	"math"
	"slices"
)

// Quantile returns the q-quantile (0 is the smallest, 1 the largest) by linear
// interpolation between the two nearest samples.
func Quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(samples))
	at := min(max(q, 0), 1) * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + (s[high]-s[low])*(at-float64(low))
}

// Median returns the 0.5-quantile.
func Median(samples []float64) float64 { return Quantile(samples, 0.5) }

// Min returns the smallest sample.
func Min(samples []float64) float64 { return Quantile(samples, 0) }

// Ratios divides each sample by the one of the same round in base. Both have
// the same length; ratios of rounds are steadier than the ratio of medians,
// because a round's noise is in both.
func Ratios(samples, base []float64) []float64 {
	out := make([]float64, min(len(samples), len(base)))
	for i := range out {
		out[i] = samples[i] / base[i]
	}
	return out
}
