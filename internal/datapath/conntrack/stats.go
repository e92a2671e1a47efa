package conntrack

import (
	"maps"
	"time"

	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Families, protocols and outcomes, as the labels of metrics.
const (
	FamilyIPv4 = "ipv4"
	FamilyIPv6 = "ipv6"

	ProtocolTCP    = "TCP"
	ProtocolNonTCP = "non-TCP"

	StatusCompleted   = "completed"
	StatusUncompleted = "uncompleted"
)

// Stats are the numbers of all passes since the collector was made.
type Stats struct {
	// Interval is the time between two passes, as it is now.
	Interval time.Duration
	// Entries is what the last complete pass found of each kind of entries; kinds
	// that no pass went through yet are absent.
	Entries []EntryStats
	// Runs counts passes by kind and outcome; all eight are there.
	Runs []RunStats
	// Fullest is that of the last pass. SourcePorts is how many ports there are
	// towards each destination; 0 where nothing is masqueraded.
	Fullest     []Fill
	SourcePorts int

	found       [kinds]*EntryStats
	scheduledAt time.Time
}

// EntryStats is what a pass found of one kind of entries.
type EntryStats struct {
	Family, Protocol string
	Alive, Deleted   uint64
}

// RunStats are the passes over one kind of entries that ended alike.
type RunStats struct {
	Family, Protocol, Status string
	Runs                     uint64
	// Seconds sums the time that they worked, rests left out. Buckets counts those
	// that took at most so many seconds.
	Seconds float64
	Buckets map[float64]uint64
}

// buckets returns the bounds of run times, in seconds.
func buckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

func newStats() Stats {
	var s Stats
	for kind := range kinds {
		family, protocol := labels(kind)
		for _, status := range []string{StatusCompleted, StatusUncompleted} {
			r := RunStats{Family: family, Protocol: protocol, Status: status, Buckets: map[float64]uint64{}}
			for _, bound := range buckets() {
				r.Buckets[bound] = 0
			}
			s.Runs = append(s.Runs, r)
		}
	}
	return s
}

func labels(kind int) (family, protocol string) {
	family, protocol = FamilyIPv4, ProtocolNonTCP
	if kind&int(bpf.TablesCtKindCT_KIND_IPV6) != 0 {
		family = FamilyIPv6
	}
	if kind&int(bpf.TablesCtKindCT_KIND_TCP) != 0 {
		protocol = ProtocolTCP
	}
	return family, protocol
}

// add counts a pass.
func (s *Stats) add(r Result) {
	for kind, k := range r.Kinds {
		run := &s.Runs[2*kind]
		if k.Complete {
			family, protocol := labels(kind)
			s.found[kind] = &EntryStats{Family: family, Protocol: protocol, Alive: k.Alive, Deleted: k.Deleted}
		} else {
			run = &s.Runs[2*kind+1]
		}
		seconds := k.Busy.Seconds()
		run.Runs++
		run.Seconds += seconds
		for _, bound := range buckets() {
			if seconds <= bound {
				run.Buckets[bound]++
			}
		}
	}
}

func (s *Stats) clone() Stats {
	out := *s
	out.Runs = append([]RunStats(nil), s.Runs...)
	for i := range out.Runs {
		out.Runs[i].Buckets = maps.Clone(out.Runs[i].Buckets)
	}
	for _, found := range s.found {
		if found != nil {
			out.Entries = append(out.Entries, *found)
		}
	}
	return out
}
