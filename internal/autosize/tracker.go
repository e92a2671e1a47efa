package autosize

import (
	"math"
	"time"
)

// Time constants of what is known about a table.
const (
	slowRate   = 15 * time.Second // of the smoothed growth
	slowAhead  = 15 * time.Second // how far that is trusted when a table is judged
	growAhead  = 30 * time.Second // and when its new size is chosen
	fastAhead  = 10 * time.Second // the same of the growth of one sample
	switchOver = time.Second      // from a decision until the new table takes entries, at most
)

// tracker knows the recent past of one table.
type tracker struct {
	Table

	seen      bool
	at        time.Time // of last
	since     time.Time // of the first sample
	changed   time.Time // when its size changed; zero: never seen to
	last      Sample
	inserting float64 // inserts a second over Keep
	needed    float64 // entries that count
	gap       float64 // seconds between the last two samples
	fast      float64 // growth of needed between them, entries a second
	slow      float64 // the same, smoothed
	peaks     window
}

// observe takes a sample. It reports false when that says nothing new.
func (t *tracker) observe(at time.Time, s Sample) bool {
	if !t.seen {
		t.seen, t.at, t.since, t.last = true, at, at, s
		t.needed = t.need(s, 0)
		t.peaks.add(at, t.needed)
		return true
	}
	gap := at.Sub(t.at).Seconds()
	if gap <= 0 {
		return false
	}
	if s.Size != t.last.Size {
		t.changed = at
	}
	if t.Keep > 0 {
		rate := float64(s.Inserts-t.last.Inserts) / gap
		t.inserting += (rate - t.inserting) * weight(gap, t.Keep)
	}
	failures := 0
	if s.Failures > t.last.Failures {
		failures = int(s.Failures - t.last.Failures)
	}
	needed := t.need(s, failures)
	t.gap, t.fast = gap, (needed-t.needed)/gap
	t.slow += (t.fast - t.slow) * weight(gap, slowRate)
	t.at, t.last, t.needed = at, s, needed
	t.peaks.add(at, needed)
	return true
}

// weight is how much a value of the last gap seconds counts in a mean over tau.
func weight(gap float64, tau time.Duration) float64 { return 1 - math.Exp(-gap/tau.Seconds()) }

// need is how many of the entries count, those included that found no room.
func (t *tracker) need(s Sample, failures int) float64 {
	n := float64(s.Entries + s.Waiting)
	if failures > 0 {
		n = max(n, float64(s.Size)) + float64(failures)
	}
	if t.Keep == 0 {
		return n
	}
	young := max(t.inserting, 0) * t.Keep.Seconds()
	if n < 0.95*float64(s.Size) {
		return min(n, young) // nothing was evicted: no more are young than there are
	}
	return young
}

// ahead is how many entries there may be before another decision takes effect,
// and the growth in entries a second that says so.
func (t *tracker) ahead() (entries, rate float64) {
	soon, later := t.fast*(2*t.gap+switchOver.Seconds()), t.slow*slowAhead.Seconds()
	if soon > later {
		return t.needed + max(soon, 0), max(t.fast, 0)
	}
	return t.needed + max(later, 0), max(t.slow, 0)
}

// fitting is the size for what there is now and, less generously, for what there
// will be if it goes on like this, within bounds.
func (t *tracker) fitting(needed float64) int {
	ahead, _ := t.ahead()
	grown := min(max(t.slow*growAhead.Seconds(), t.fast*fastAhead.Seconds()), 2*max(t.needed, float64(t.last.Size)))
	return step(max(needed/targetFill, max(ahead, t.needed+grown)/aheadFill))
}

// wish says which size the table should have, if it is another one. largest is
// the largest it may get.
func (t *tracker) wish(at time.Time, largest int) (wish, bool) {
	size := float64(t.last.Size)
	if t.last.Old > 0 || t.Min == t.Max || (t.Keep > 0 && t.last.Inserts == 0) {
		return wish{}, false
	}
	resting := !t.changed.IsZero() && at.Sub(t.changed) < Pause
	fill, ahead := growFill, aheadFill
	if resting {
		fill, ahead = urgentFill, urgentAhead
	}
	w := wish{tracker: t, full: math.Inf(1), largest: largest}
	soon, rate := t.ahead()
	if w.rate = rate; rate > 0 {
		w.full = max(size-t.needed, 0) / rate
	}
	if t.needed >= fill*size || soon >= ahead*size {
		w.to, w.urgent = max(t.fitting(t.needed), stepAbove(t.last.Size)), resting
		return w, true
	}
	peak := t.peaks.max()
	// How many are inserted in so long a time is not known before it has passed twice.
	known := at.Sub(t.since) >= max(Pause, 2*t.Keep)
	if resting || !known || peak >= shrinkFill*size {
		return wish{}, false
	}
	w.to = max(t.fitting(peak), t.Min)
	// What is not a fifth smaller is not worth the way.
	return w, float64(w.to) <= 0.8*size
}

// window keeps the most of the last Pause in slots of half a minute.
type window struct {
	slots [21]slot
	now   int64 // number of the latest slot
}

const slotTime = Pause / 20

type slot struct {
	number int64 // since the epoch
	most   float64
}

func (w *window) add(at time.Time, v float64) {
	w.now = at.Unix() / int64(slotTime.Seconds())
	s := &w.slots[uint64(w.now)%uint64(len(w.slots))]
	if s.number != w.now {
		*s = slot{number: w.now}
	}
	s.most = max(s.most, v)
}

func (w *window) max() float64 {
	most := 0.0
	for _, s := range w.slots {
		if s.number > w.now-int64(len(w.slots)) {
			most = max(most, s.most)
		}
	}
	return most
}
