package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/internal/autosize/sim"
)

// section is the document's, between whose markers the tables go.
const section = "simulation"

// fills are the tables whose fill is shown, in the order of columns.
func fills() []string { return []string{sim.TCP, sim.Any, sim.Embryonic, sim.Backends} }

// tables renders all results.
func tables(tuned, fixed []sim.Result) string {
	with := report.Table{
		Title: "With self-tuning. Goals: fill below 85 %, nothing refused, memory at most twice the oracle's, ten minutes between resizes that are not urgent.",
		Head: []string{
			"trace", "highest fill: tcp", "any", "embryonic", "backends", "refused", "mean memory", "oracle's", "ratio",
			"most memory", "oracle's", "budget", "resizes", "of them urgent", "least pause otherwise",
		},
	}
	without := report.Table{
		Title: "The same with the sizes that follow from the memory, which never change.",
		Head:  []string{"trace", "highest fill: tcp", "any", "embryonic", "backends", "refused", "evicted too early", "memory"},
	}
	for i := range tuned {
		with.Add(withRow(&tuned[i])...)
		without.Add(withoutRow(&fixed[i])...)
	}
	return strings.TrimSpace(with.Markdown() + "\n" + without.Markdown())
}

func withRow(r *sim.Result) []string {
	row := append([]string{r.Trace.Name}, fillCells(r)...)
	resizes, urgent, closest := 0, 0, time.Duration(0)
	for _, c := range r.Tables {
		resizes, urgent = resizes+c.Resizes, urgent+c.Urgent
		if c.Closest > 0 && (closest == 0 || c.Closest < closest) {
			closest = c.Closest
		}
	}
	pause := "–"
	if closest > 0 {
		pause = fmt.Sprintf("%.1f min", closest.Minutes())
	}
	return append(row, count(refused(r)), mebibytes(r.Mean), mebibytes(r.OracleMean), fmt.Sprintf("%.2f", r.Ratio()),
		mebibytes(r.Most), mebibytes(r.OracleMost), mebibytes(float64(r.Budget)),
		fmt.Sprint(resizes), fmt.Sprint(urgent), pause)
}

func withoutRow(r *sim.Result) []string {
	early := 0.0
	for _, c := range r.Tables {
		early += c.Early
	}
	row := append([]string{r.Trace.Name}, fillCells(r)...)
	return append(row, count(refused(r)), count(early), mebibytes(r.Mean))
}

// fillCells gives the highest fill of each table. One that a flood filled by
// design is marked.
func fillCells(r *sim.Result) []string {
	var out []string
	for _, name := range fills() {
		cell := "–"
		if c := r.Table(name); c != nil {
			cell = fmt.Sprintf("%.0f %%", 100*c.Highest)
			if r.Trace.Flood && name == sim.Embryonic {
				cell += " (evicts, by design)"
			}
		}
		out = append(out, cell)
	}
	return out
}

func refused(r *sim.Result) float64 {
	sum := 0.0
	for _, c := range r.Tables {
		sum += c.Failures
	}
	return sum
}

func count(n float64) string {
	if n >= 1e6 {
		return fmt.Sprintf("%.1f M", n/1e6)
	}
	return fmt.Sprintf("%.0f", n)
}

func mebibytes(b float64) string { return fmt.Sprintf("%.0f MiB", b/(1<<20)) }
