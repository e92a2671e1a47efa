package autosize

import (
	"time"

	"github.com/placid-net/placid/internal/sizing"
)

// How tables are tuned.
const (
	// leastSize is the least that a table shrinks to: below, there is little to win.
	leastSize = 16384
	// mostSize is Cilium's largest size.
	mostSize = 1 << 24

	// embryonicKeep is how long a resolver waits for its answer.
	embryonicKeep = 5 * time.Second
	// embryonicShare leaves most of the budget to flows that are more than a try.
	embryonicShare = 0.375
	// affinityKeep is how long Kubernetes keeps a client at its backend by default.
	affinityKeep = 3 * time.Hour
	// sockKeep is how long idle connections are remembered by default.
	sockKeep = 8000 * time.Second
)

// Tunable gives the tables that sizes are of, as they are tuned. A size that was
// set stays. So does that of a table that is no table of tables, and cannot be
// moved. Tables that evict never get smaller than they began: what an entry is
// worth is known too badly for that.
func Tunable(sizes sizing.Sizes) []Table {
	var out []Table
	for _, s := range sizes.Tables {
		t := Table{Table: s.Table, Min: min(s.Entries, leastSize), Max: mostSize}
		switch s.Map {
		case "ct_new_map":
			t.Min, t.Keep, t.Share = s.Entries, embryonicKeep, embryonicShare
		case "affinity_map":
			t.Min, t.Keep = s.Entries, affinityKeep
		case "sock_map":
			t.Min, t.Keep = s.Entries, sockKeep
		}
		if s.From == sizing.FromKey || s.Map == "fragment_map" {
			t.Min, t.Max = s.Entries, s.Entries
		}
		out = append(out, t)
	}
	return out
}
