package stats

import (
	"math"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	samples := []float64{4, 1, 3, 2, 5}
	for _, c := range []struct{ q, want float64 }{
		{0, 1}, {1, 5}, {0.5, 3}, {0.25, 2}, {0.9, 4.6}, {-1, 1}, {2, 5},
	} {
		if got := Quantile(samples, c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("Quantile(%v) = %v, want %v", c.q, got, c.want)
		}
	}
	if !slices.Equal(samples, []float64{4, 1, 3, 2, 5}) {
		t.Errorf("the argument was changed: %v", samples)
	}
	if got := Median([]float64{1, 2}); got != 1.5 {
		t.Errorf("Median of 1 and 2 = %v, want 1.5", got)
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("Quantile of nothing = %v, want NaN", got)
	}
}

func TestRatios(t *testing.T) {
	got := Ratios([]float64{9, 8}, []float64{10, 16})
	if !slices.Equal(got, []float64{0.9, 0.5}) {
		t.Errorf("Ratios = %v, want [0.9 0.5]", got)
	}
}
