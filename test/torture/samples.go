package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

// tick is the resolution of what is shown over time.
const tick = 250 * time.Millisecond

// samples are latencies and failures of the load, by when they began.
type samples struct {
	mu sync.Mutex
	// Took has the latencies in microseconds, by kind and tick since 1970.
	Took     map[string]map[int64][]float32
	Failures []failure
}

// failure is one thing that broke.
type failure struct {
	Kind   string    `json:"kind"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

func newSamples() *samples { return &samples{Took: map[string]map[int64][]float32{}} }

func tickOf(t time.Time) int64 { return t.UnixNano() / int64(tick) }

// took notes how long something took.
func (s *samples) took(kind string, began time.Time, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ticks := s.Took[kind]
	if ticks == nil {
		ticks = map[int64][]float32{}
		s.Took[kind] = ticks
	}
	at := tickOf(began)
	ticks[at] = append(ticks[at], float32(d.Microseconds()))
}

func (s *samples) failed(kind string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Failures = append(s.Failures, failure{kind, reason(err), time.Now()})
}

// span is a time from one moment to another.
type span struct {
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
}

func (s span) holds(t time.Time) bool { return !t.Before(s.Begin) && t.Before(s.End) }

// during collects the latencies of a kind in all of the spans, sorted.
func (s *samples) during(kind string, spans []span) []float32 {
	var out []float32
	for at, took := range s.Took[kind] {
		begin := time.Unix(0, at*int64(tick))
		if slices.ContainsFunc(spans, func(sp span) bool { return sp.holds(begin) && sp.holds(begin.Add(tick)) }) {
			out = append(out, took...)
		}
	}
	slices.Sort(out)
	return out
}

// quantile of sorted samples in microseconds; NaN of none.
func quantile(sorted []float32, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return float64(sorted[int(q*float64(len(sorted)-1))])
}

// broken counts failures of each kind and reason in all of the spans.
func broken(failures []failure, spans []span) map[failure]int {
	out := map[failure]int{}
	for _, f := range failures {
		if slices.ContainsFunc(spans, func(sp span) bool { return sp.holds(f.At) }) {
			f.At = time.Time{}
			out[f]++
		}
	}
	return out
}
