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
	// affinityKeep is how long Kubernetes keeps a client at its backend by default,
	// sockKeep how long most sockets live. A flood of either leaves the others room.
	affinityKeep = 3 * time.Hour
	sockKeep     = 10 * time.Minute
	softShare    = 0.125
)

// Tuned gives a table the bounds that it is tuned within. One that is fixed, as its
// size was set, is only counted; so is one that is no table of tables, and cannot
// be moved.
//
// Of tables that evict, entries are needed for a time and then only fill what is
// free. They get a part of the budget at most, and never get smaller than they
// began: what an entry is worth is known too badly for that. Nor does a trie, which
// takes no memory for being large. What a Maglev table takes, 64 KiB and more,
// follows from the Services alone: it is no part of what the budget is for.
func Tuned(s sizing.Sized, fixed bool) Table {
	t := Table{Table: s.Table, Min: min(s.Entries, leastSize), Max: mostSize}
	if s.Kind == sizing.LRU || s.Kind == sizing.LPM {
		t.Min = s.Entries
	}
	switch s.Map {
	case "ct_new_map":
		t.Keep, t.Share = embryonicKeep, embryonicShare
	case "affinity_map":
		t.Keep, t.Share = affinityKeep, softShare
	case "sock_map":
		t.Keep, t.Share = sockKeep, softShare
	case "maglev_map":
		t.EntryBytes = 8
	}
	if fixed || s.Map == "fragment_map" {
		t.Min, t.Max = s.Entries, s.Entries
	}
	return t
}

// Tunable gives all tables that sizes are of, as they are tuned. A size that was set
// stays.
func Tunable(sizes sizing.Sizes) []Table {
	var out []Table
	for _, s := range sizes.Tables {
		out = append(out, Tuned(s, s.From == sizing.FromKey))
	}
	return out
}
