package services

import (
	"fmt"
	"strings"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Tables gives the tables of a document.
func Tables(r Report) []report.Table { return []report.Table{coldTable(r), changeTable(r)} }

// thousands writes a number as people do.
func thousands(n int) string {
	text := fmt.Sprint(n)
	if len(text) <= 3 {
		return text
	}
	return text[:len(text)-3] + "," + text[len(text)-3:]
}

// head are the columns of a table by the number of services.
func head(r Report, first string) []string {
	out := []string{first}
	for _, count := range r.Size.Counts {
		out = append(out, thousands(count)+" services")
	}
	return append(out, "goal at 10,000")
}

func coldTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("From nothing to %d backends a service in the kernel, milliseconds: median (least) of %d starts, and the CPU that they took.", cluster.Backends, r.Size.Starts),
		Head:  head(r, "what"),
	}
	for _, row := range []struct {
		part       Part
		name, goal string
	}{
		{PartAgent, "rows of the state tables → compiler → writer → maps", "≤ 2000"},
		{PartWriter, "of that the writer, with what it plans and checks", "–"},
		{PartMaps, "of that the map writes alone", "≤ 500"},
	} {
		times, cpu := []string{row.name}, []string{"– its CPU, user + kernel"}
		for _, count := range r.Size.Counts {
			costs := r.Agents[count].Cold[row.part]
			took := pick(costs, func(c Cost) float64 { return 1000 * c.Took })
			times = append(times, fmt.Sprintf("%s (%s)", short(stats.Median(took)), short(stats.Min(took))))
			cpu = append(cpu, fmt.Sprintf("%s + %s",
				short(stats.Median(pick(costs, func(c Cost) float64 { return 1000 * c.User }))),
				short(stats.Median(pick(costs, func(c Cost) float64 { return 1000 * c.System })))))
		}
		t.Add(append(times, row.goal)...)
		t.Add(append(cpu, "–")...)
	}
	return t
}

// short writes three digits or so.
func short(v float64) string {
	if v < 10 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	return fmt.Sprintf("%.0f", v)
}

func pick[T any](all []T, f func(T) float64) []float64 {
	out := make([]float64, 0, len(all))
	for _, v := range all {
		out = append(out, f(v))
	}
	return out
}

func changeTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("One of the %d backends of a random service is replaced every %s, %d times: until the frontend leads to it in the kernel, milliseconds. "+
			"Memory is that of a process with the node's datapath, state tables and what serves services.",
			cluster.Backends, changePace, r.Size.Starts*r.Size.Changes),
		Head: head(r, "what"),
	}
	row := func(name, goal string, cell func(Agent) string) {
		cells := []string{name}
		for _, count := range r.Size.Counts {
			cells = append(cells, cell(r.Agents[count]))
		}
		t.Add(append(cells, goal)...)
	}
	quantile := func(q float64) func(Agent) string {
		return func(a Agent) string { return fmt.Sprintf("%.2f", stats.Quantile(a.Changes, q)) }
	}
	row("change in effect, p50", "–", quantile(0.5))
	row("change in effect, p90", "–", quantile(0.9))
	row("change in effect, p99", "≤ 5", quantile(0.99))
	row("change in effect, longest", "–", quantile(1))
	row("entries of the maps", "–", func(a Agent) string { return fmt.Sprint(a.Entries) })
	row("heap of the process after a collection, MiB (without services)", "–", func(a Agent) string {
		return fmt.Sprintf("%.0f (%.0f)", stats.Median(pick(a.After, heap)), stats.Median(pick(a.Before, heap)))
	})
	row("resident memory of the process, MiB (without services)", "–", func(a Agent) string {
		return fmt.Sprintf("%.0f (%.0f)", stats.Median(pick(a.After, resident)), stats.Median(pick(a.Before, resident)))
	})
	return t
}

func heap(m Memory) float64     { return m.Heap }
func resident(m Memory) float64 { return m.RSS }
