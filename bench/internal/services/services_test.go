package services

import (
	"strings"
	"testing"
)

func TestTables(t *testing.T) {
	r := Report{Size: Size{Counts: []int{10, 10_000}, Starts: 1, Changes: 3}, Agents: map[int]Agent{}}
	for _, count := range r.Size.Counts {
		cost := Cost{Took: float64(count) / 1e4, User: 0.5, System: 0.25}
		r.Agents[count] = Agent{
			Cold:    map[Part][]Cost{PartAgent: {cost}, PartWriter: {cost}, PartMaps: {cost}},
			Entries: 12 * count, Changes: []float64{1, 2, 3},
			Before: []Memory{{Heap: 3, RSS: 20}}, After: []Memory{{Heap: 75, RSS: 120}},
		}
	}
	var text strings.Builder
	for _, table := range Tables(r) {
		for _, row := range table.Rows {
			if len(row) != len(table.Head) {
				t.Errorf("row %q has %d cells, its head %d", row[0], len(row), len(table.Head))
			}
		}
		text.WriteString(table.Markdown())
	}
	for _, want := range []string{
		"10,000 services", "maps | 1 (1) | 1000 (1000) | ≤ 2000 |", "| 500 + 250 | 500 + 250 |", "p99 | 2.98 | 2.98 | ≤ 5 |",
		"| 120 | 120000 |", "| 75 (3) | 75 (3) |", "| 120 (20) | 120 (20) |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, text.String())
		}
	}
}

func TestResidentMiB(t *testing.T) {
	if got := residentMiB("Name:\tbench\nVmRSS:\t   61440 kB\n"); got != 60 {
		t.Errorf("VmRSS is %v MiB, want 60", got)
	}
	if got := residentMiB("Name:\tbench\n"); got != 0 {
		t.Errorf("without VmRSS it is %v MiB, want 0", got)
	}
}
