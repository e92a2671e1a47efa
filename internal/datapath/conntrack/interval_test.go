package conntrack

import (
	"testing"
	"time"
)

func TestNextInterval(t *testing.T) {
	for _, tc := range []struct {
		name     string
		schedule Schedule
		prev     time.Duration
		ratio    float64
		elapsed  time.Duration
		want     time.Duration
	}{
		{"many deleted", Schedule{}, time.Minute, 0.4, time.Minute, 36 * time.Second},
		{"more deleted", Schedule{}, time.Minute, 0.6, time.Minute, 24 * time.Second},
		{"few deleted", Schedule{}, 10 * time.Second, 0.01, 10 * time.Second, 15 * time.Second},
		{"none deleted", Schedule{}, time.Minute, 0, time.Minute, time.Minute},
		{"as it should be", Schedule{}, time.Minute, 0.1, time.Minute, time.Minute},
		{"at the upper bound", Schedule{}, time.Minute, 0.25, time.Minute, time.Minute},
		{"at the lower bound", Schedule{}, time.Minute, 0.05, time.Minute, time.Minute},
		{"all deleted counts as nine tenths", Schedule{}, 10 * time.Minute, 1, 10 * time.Minute, time.Minute},
		{"not below ten seconds", Schedule{}, 12 * time.Second, 0.9, 12 * time.Second, 10 * time.Second},
		{"not above twelve hours", Schedule{}, 11 * time.Hour, 0.01, 11 * time.Hour, 12 * time.Hour},
		{"rounded to a second", Schedule{}, 15 * time.Second, 0.01, 15 * time.Second, 23 * time.Second},
		{"early: as if it had gone on", Schedule{}, time.Minute, 0.2, 30 * time.Second, 36 * time.Second},
		{"early with few", Schedule{}, time.Minute, 0.01, 6 * time.Second, time.Minute},
		{"late counts as it is", Schedule{}, time.Minute, 0.4, 2 * time.Minute, 36 * time.Second},
		{"the time is not known", Schedule{}, time.Minute, 0.4, 0, 36 * time.Second},
		{"bounded", Schedule{Max: 12 * time.Second}, 10 * time.Second, 0.01, 10 * time.Second, 12 * time.Second},
		{"bounded from the start", Schedule{Max: time.Minute}, 5 * time.Minute, 0, 5 * time.Minute, time.Minute},
		{"fixed", Schedule{Fixed: 7 * time.Second}, 7 * time.Second, 0.9, 7 * time.Second, 7 * time.Second},
		{"fixed beats bounded", Schedule{Fixed: time.Hour, Max: time.Minute}, time.Hour, 0.9, time.Hour, time.Hour},
	} {
		if got := tc.schedule.Next(tc.prev, tc.ratio, tc.elapsed); got != tc.want {
			t.Errorf("%s: after %v with %v deleted in %v comes %v, want %v", tc.name, tc.prev, tc.ratio, tc.elapsed, got, tc.want)
		}
	}
}

func TestFirstInterval(t *testing.T) {
	for _, tc := range []struct {
		schedule Schedule
		want     time.Duration
	}{
		{Schedule{}, 5 * time.Minute},
		{Schedule{Max: time.Minute}, time.Minute},
		{Schedule{Max: time.Hour}, 5 * time.Minute},
		{Schedule{Fixed: time.Hour}, time.Hour},
	} {
		if got := tc.schedule.First(); got != tc.want {
			t.Errorf("%+v begins with %v, want %v", tc.schedule, got, tc.want)
		}
	}
}

// A pass must be done within its spread, and otherwise take a twentieth of a CPU.
func TestRest(t *testing.T) {
	for _, tc := range []struct {
		name                  string
		took, elapsed, spread time.Duration
		want                  time.Duration
	}{
		{"a step", 200 * time.Microsecond, 0, time.Minute, 3800 * time.Microsecond},
		{"a step that was kept waiting", time.Second, 0, time.Minute, longestRest},
		{"near the end", time.Second, 59990 * time.Millisecond, time.Minute, 10 * time.Millisecond},
		{"too late", time.Millisecond, 61 * time.Second, time.Minute, 0},
	} {
		if got := restAfter(tc.took, tc.elapsed, tc.spread); got != tc.want {
			t.Errorf("%s: rests %v, want %v", tc.name, got, tc.want)
		}
	}
}
