package conntrack

import "time"

// Bounds of the adaptive interval, and where it begins.
const (
	startInterval = 5 * time.Minute
	minInterval   = 10 * time.Second
	maxInterval   = 12 * time.Hour
)

// Shares of a table's size. When a pass deletes more than the upper one the next
// comes sooner; when it deletes less than the lower one, later.
const (
	ratioHigh = 0.25
	ratioLow  = 0.05
	ratioTop  = 0.9 // more counts as this
	slower    = 1.5
)

// Schedule says how often to collect.
type Schedule struct {
	// Fixed is the time between passes. With 0 it adapts to what passes find.
	Fixed time.Duration
	// Max bounds the adaptive interval. 0 leaves it at twelve hours.
	Max time.Duration
}

// First returns the interval before anything is known.
func (s Schedule) First() time.Duration { return s.clamp(startInterval) }

// Next returns the interval that follows prev. ratio is the largest share of its
// size that any table lost in the pass that ended prev. elapsed is the time in
// which that built up: when it is shorter than prev, as much more of it counts.
func (s Schedule) Next(prev time.Duration, ratio float64, elapsed time.Duration) time.Duration {
	if elapsed > 0 && elapsed < prev {
		ratio *= float64(prev) / float64(elapsed)
	}
	switch {
	case ratio > ratioHigh:
		prev = max(scale(prev, 1-min(ratio, ratioTop)), minInterval)
	case ratio > 0 && ratio < ratioLow:
		prev = min(scale(prev, slower), maxInterval)
	}
	return s.clamp(prev)
}

func (s Schedule) clamp(adaptive time.Duration) time.Duration {
	if s.Fixed > 0 {
		return s.Fixed
	}
	if s.Max > 0 {
		return min(adaptive, s.Max)
	}
	return adaptive
}

func scale(d time.Duration, by float64) time.Duration {
	return time.Duration(float64(d) * by).Round(time.Second)
}
