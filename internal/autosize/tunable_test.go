package autosize_test

import (
	"testing"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/sizing"
)

func TestTunable(t *testing.T) {
	sizes, err := sizing.Plan(sizing.Input{
		Memory: 16 << 30, Ratio: 0.0025,
		Explicit: map[string]int{sizing.KeyAny: 5000, sizing.KeyMaglev: 100},
	})
	if err != nil {
		t.Fatal(err)
	}
	tables := autosize.Tunable(sizes)
	if len(tables) != len(sizes.Tables) {
		t.Fatalf("%d tables of %d", len(tables), len(sizes.Tables))
	}
	got := map[string]autosize.Table{}
	for _, table := range tables {
		got[table.Map] = table
	}
	for name, want := range map[string][2]int{
		tcp:            {16384, 1 << 24},
		anyProto:       {5000, 5000}, // set
		"maglev_map":   {100, 100},
		embryonic:      {65536, 1 << 24},
		"affinity_map": {65536, 1 << 24},
		"sock_map":     {75882, 1 << 24},
		"fragment_map": {8192, 8192}, // cannot be moved
		"policy_map":   {16384, 1 << 24},
	} {
		if table := got[name]; table.Min != want[0] || table.Max != want[1] {
			t.Errorf("%s: sizes %d to %d, want %d to %d", name, table.Min, table.Max, want[0], want[1])
		}
	}
	for name, table := range got {
		// Entries of a table that evicts have a time after which they are worth nothing.
		if evicts := table.Kind == sizing.LRU && table.Min < table.Max; evicts != (table.Keep > 0) {
			t.Errorf("%s is a %s and keeps entries for %s", name, table.Kind, table.Keep)
		}
	}
	budget := sizing.DefaultBudget(16<<30, sizes)
	if _, err := autosize.New(autosize.Config{Budget: budget, Tables: tables}); err != nil {
		t.Error(err)
	}
}
