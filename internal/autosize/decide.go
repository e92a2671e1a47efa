package autosize

import (
	"fmt"
	"math"
	"time"
)

// wish is a size that a table should have.
type wish struct {
	*tracker
	to      int
	largest int     // the table's largest
	rate    float64 // at which it grows, entries a second
	full    float64 // seconds until it is full at that
	urgent  bool
}

// order puts what must not wait first and what saves memory last.
func (w wish) order() int {
	switch {
	case w.to <= w.last.Size:
		return 2
	case w.urgent:
		return 0
	}
	return 1
}

// decide makes the wish a decision within the budget, of which taken is taken.
// Where there is no room for the size that is wanted, the largest that there is
// room for is taken.
func (w wish) decide(budget, taken uint64) Decision {
	d := Decision{Map: w.Map, Action: Grow, From: w.last.Size, To: w.to, Urgent: w.urgent}
	if w.to <= w.last.Size {
		d.Action = Shrink
	}
	fits := func(size int) bool { return taken+w.Bytes(size, w.last.Entries) <= budget }
	if d.Action == Shrink {
		if !fits(d.To) {
			d.Action, d.Limit = Blocked, BoundBudget
			d.Missing = taken + w.Bytes(d.To, w.last.Entries) - budget
		}
		d.Reason = w.reason(d, budget, taken)
		return d
	}
	if d.To > w.largest {
		d.To, d.Limit = w.largest, BoundMaximum
	}
	if d.To <= d.From {
		d.Action, d.To = Blocked, w.to
	} else if !fits(d.To) {
		d.Limit, d.Missing = BoundBudget, taken+w.Bytes(d.To, w.last.Entries)-budget
		size := d.To
		for size > d.From && !fits(size) {
			size = stepBelow(size)
		}
		if size > d.From {
			d.To = size
		} else {
			d.Action = Blocked
		}
	}
	d.Reason = w.reason(d, budget, taken)
	return d
}

// reason says in one line what was seen, what is done, and what it costs.
func (w wish) reason(d Decision, budget, taken uint64) string {
	before, after := w.Bytes(d.From, w.last.Entries), w.Bytes(d.To, w.last.Entries)
	text := fmt.Sprintf("%s: %s: %d → %d", w.Label, w.seenText(d), d.From, d.To)
	change := fmt.Sprintf(", %s of %s budget", signed(int64(after)-int64(before)), mebibytes(budget))
	lack := fmt.Sprintf("%s missing while entries move, %s of %s budget are free",
		mebibytes(d.Missing), mebibytes(budget-min(taken, budget)), mebibytes(budget))
	switch {
	case d.Action == Blocked && d.Limit == BoundBudget:
		return text + " wanted, but " + lack
	case d.Action == Blocked:
		return fmt.Sprintf("%s wanted, but %d is its maximum", text, w.largest)
	case d.Limit == BoundBudget:
		return fmt.Sprintf("%s%s; %d wanted, but %s", text, change, w.to, lack)
	case d.Limit == BoundMaximum:
		return fmt.Sprintf("%s%s; %d wanted, but this is its maximum", text, change, w.to)
	}
	return text + change
}

// seenText says what a decision follows from.
func (w wish) seenText(d Decision) string {
	size := float64(d.From)
	if w.to <= w.last.Size {
		return fmt.Sprintf("%s at most in %s", percent(w.peaks.max()/size), seconds(Pause.Seconds()))
	}
	if w.Keep > 0 && w.needed > size {
		return fmt.Sprintf("evicts after %.1f s, before the %s that an entry is needed", size/w.inserting, seconds(w.Keep.Seconds()))
	}
	text := percent(w.needed / size)
	if w.Keep > 0 {
		text = fmt.Sprintf("%s younger than %s", text, seconds(w.Keep.Seconds()))
	}
	if w.rate >= 1 && w.full < time.Hour.Seconds() {
		text += fmt.Sprintf(" and growing %s entries/s, full in %s", short(w.rate), seconds(w.full))
	}
	return text
}

func percent(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) }

// short gives a number as 870, 9k or 1.2M.
func short(n float64) string {
	switch {
	case n < 999.5:
		return fmt.Sprintf("%.0f", n)
	case n < 999500:
		return fmt.Sprintf("%.0fk", n/1e3)
	}
	return fmt.Sprintf("%.1fM", n/1e6)
}

// seconds gives a time as 40 s, 3 min or 2 h.
func seconds(s float64) string {
	switch {
	case s < 120:
		return fmt.Sprintf("%.0f s", math.Max(s, 0))
	case s < 7200:
		return fmt.Sprintf("%.0f min", s/60)
	}
	return fmt.Sprintf("%.0f h", s/3600)
}

const mebibyte = 1 << 20

func mebibytes(b uint64) string {
	m := float64(b) / mebibyte
	if m >= 10 || m == math.Trunc(m) {
		return fmt.Sprintf("%.0f MiB", m)
	}
	return fmt.Sprintf("%.1f MiB", m)
}

func signed(b int64) string {
	if b < 0 {
		return "-" + mebibytes(uint64(-b))
	}
	return "+" + mebibytes(uint64(b))
}
