package sim

import (
	"math"
	"time"

	"github.com/placid-net/placid/internal/autosize"
)

// The tables that take part.
const (
	TCP       = "ct_tcp_map"
	Any       = "ct_any_map"
	Embryonic = "ct_new_map"
	Backends  = "backend_map"
)

// Times of a move, in seconds: until the new table takes entries (it is made, and
// the kernel passes two grace periods), and for each entry to follow: a million
// takes about a second.
const (
	moveStart    = 0.06
	movePerEntry = 1e-6
)

// table is one table of the simulated node.
type table struct {
	autosize.Table
	largest int // by its share of the budget
	size    int
	// A move: to the size next at the time begins, done with old at the time ends.
	next, old    int
	begins, ends float64

	entries  float64
	needed   float64 // of them, and of those that wait
	waiting  float64 // of a table that the agent writes
	inserts  float64
	failures float64
	queue    []float64 // of a table that evicts: arrivals by age in ticks, from head on
	head     int
	filled   int // ages that may hold any

	course Course
	last   float64 // when it was last resized, in seconds; 0: never
}

// flow lets entries come and go for one tick: arrivals, and of those that are
// there the share that leaves.
func (t *table) flow(arrivals, leaving float64) {
	t.entries -= t.entries * min(leaving, 1)
	room := max(float64(t.size)-t.entries, 0)
	t.inserts += min(arrivals, room)
	t.failures += max(arrivals-room, 0)
	t.entries += min(arrivals, room)
	t.needed = t.entries
}

// hold makes a table that the agent writes hold so many entries, as far as they
// fit. Those that do not wait.
func (t *table) hold(entries float64) {
	fits := min(entries, float64(t.size))
	t.inserts += max(fits-t.entries, 0)
	t.failures += max(entries-fits-t.waiting, 0)
	t.entries, t.waiting, t.needed = fits, entries-fits, entries
}

// evict lets entries come into a table that evicts the oldest, for one tick.
// Entries leave by themselves when they are as old as the queue is long.
func (t *table) evict(arrivals float64) {
	t.inserts += arrivals
	ages := len(t.queue)
	t.head = (t.head + ages - 1) % ages
	t.entries += arrivals - t.queue[t.head]
	t.queue[t.head] = arrivals
	keep := int(t.Keep.Seconds() / tick)
	t.needed += arrivals - t.queue[(t.head+keep)%ages]
	for t.filled = min(t.filled+1, ages); t.entries > float64(t.size) && t.filled > 0; {
		age := t.filled - 1
		amount := &t.queue[(t.head+age)%ages]
		gone := min(*amount, t.entries-float64(t.size))
		t.entries -= gone
		*amount -= gone
		if age < keep {
			t.course.Early += gone
			t.needed -= gone
		}
		if *amount > 0 {
			break
		}
		t.filled--
	}
}

// move carries a move on.
func (t *table) move(now float64) {
	if t.next != 0 && now >= t.begins {
		t.size, t.old, t.next = t.next, t.size, 0
	}
	if t.old != 0 && now >= t.ends {
		t.old = 0
	}
}

// moving tells whether a move is on its way.
func (t *table) moving() bool { return t.next != 0 || t.old != 0 }

// begin begins a move.
func (t *table) begin(now float64, d autosize.Decision) {
	t.next, t.begins = d.To, now+moveStart
	t.ends = t.begins + moveStart + t.entries*movePerEntry
	t.course.Resizes++
	if d.Urgent {
		t.course.Urgent++
	} else if gap := time.Duration((now - t.last) * float64(time.Second)); t.last > 0 && (t.course.Closest == 0 || gap < t.course.Closest) {
		t.course.Closest = gap
	}
	t.last = now
}

// taken is what the table takes now, in bytes, a new one from when it is made.
func (t *table) taken() float64 {
	live := int(t.entries)
	bytes := t.Bytes(t.size, live)
	if other := max(t.old, t.next); other != 0 {
		bytes += t.Bytes(other, live)
	}
	return float64(bytes)
}

// oracle is the smallest size that holds what it needs to at this moment and is
// not too full. What bounds the controller bounds it too.
func (t *table) oracle() int {
	return min(max(int(math.Ceil(t.needed/autosize.Limit)), t.Min), t.largest)
}

func (t *table) sample() autosize.Sample {
	return autosize.Sample{
		Entries: int(t.entries), Size: t.size, Old: max(t.old, t.next), Waiting: int(t.waiting),
		Inserts: int64(t.inserts), Failures: uint64(t.failures),
	}
}

// measure notes how the table stands; bucket is the number of the point.
func (t *table) measure(now float64, bucket int) {
	fill := t.needed / float64(t.size)
	t.course.Highest = max(t.course.Highest, fill)
	if bucket == len(t.course.Points) {
		t.course.Points = append(t.course.Points, Point{At: time.Duration(now * float64(time.Second))})
	}
	p := &t.course.Points[bucket]
	if fill >= p.Fill {
		p.Fill, p.Entries = fill, int(t.needed)
	}
	p.Size, p.Oracle = t.size, t.oracle()
}
