package resize

import (
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
)

func TestFlowNumbersDiffer(t *testing.T) {
	seen := map[abi.CCtKey]int{}
	for i := range 1 << 18 {
		key := flowNumber(i)
		if other, ok := seen[key]; ok {
			t.Fatalf("%d and %d have the same key", other, i)
		}
		seen[key] = i
	}
}

func TestTableSize(t *testing.T) {
	for _, tc := range []struct {
		entries int
		want    uint32
	}{{1, 1}, {1000, 1024}, {1024, 1024}, {1025, 2048}, {1_000_000, 1 << 20}} {
		if got := (size{Entries: tc.entries}).tableSize(); got != tc.want {
			t.Errorf("table for %d entries: %d, want %d", tc.entries, got, tc.want)
		}
	}
}

// Differences are those of a round, and what the measurement costs is in neither.
func TestTables(t *testing.T) {
	name := kinds()[0].name
	r := Report{
		Size: newSize(true), Idle: []float64{30, 20},
		Programs: map[string]map[string][]float64{
			programReal: {name: {105, 100, 130}}, programPlain: {name: {95, 96, 125}},
		},
		Moves: map[string][]Cost{wayKernel: {{Make: 0.3, Begin: 0.02, Move: 0.5, CPU: 0.2}, {Make: 0.1, Begin: 0.04, Move: 0.7, CPU: 0.4}}},
	}
	tables := Tables(r)
	for _, table := range tables {
		for _, row := range table.Rows {
			if len(row) != len(table.Head) {
				t.Errorf("row %q has %d cells, the head %d", row, len(row), len(table.Head))
			}
		}
	}
	for _, want := range [][]string{
		{name, "80 / 85", "75 / 76", "+5.0 / +5.0", "≤ 10"},
		{wayKernel, "100.0 / 200.0", "20.0 / 30.0", "500.0 / 600.0", "200.0 / 300.0", "3000 ns"},
	} {
		found := false
		for _, table := range tables {
			found = found || slices.ContainsFunc(table.Rows, func(row []string) bool { return slices.Equal(row, want) })
		}
		if !found {
			t.Errorf("no row %q in:\n%s", want, strings.Join([]string{tables[0].Markdown(), tables[2].Markdown()}, "\n"))
		}
	}
}
