package tcp

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// ServicesTables gives the tables of a document.
func ServicesTables(r ServicesReport) []report.Table {
	return []report.Table{connectTable(r), ratioTable(r), syncTable(r)}
}

// find is the sample of a case; nil when there is none.
func (r ServicesReport) find(path string, services int, target Target) *ServiceSample {
	for i, s := range r.Samples {
		if s.Path == path && s.Services == services && s.Target == target {
			return &r.Samples[i]
		}
	}
	return nil
}

// header are the columns by number of services and target.
func (r ServicesReport) header(first string, targets []Target) []string {
	out := []string{first}
	for _, count := range r.Spec.Counts {
		for _, target := range targets {
			out = append(out, fmt.Sprintf("%d: %s", count, target))
		}
	}
	return out
}

// servicePaths are the paths in the order of the tables.
func servicePaths() []string {
	return []string{PathPackets, PathSockets, PathNFTables, PathIPTables}
}

func connectTable(r ServicesReport) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Connect, one round trip and reset, from a pod to a pod of the same node, microseconds: p50 / p99 of %s, medians of %d rounds. "+
			"Columns say how many services there are, and which of them is asked; *no service* is a backend's own address.", r.Spec.Duration, r.Spec.Rounds),
		Head: r.header("path", allTargets()),
	}
	for _, path := range append([]string{PathRaw, PathRouted}, servicePaths()...) {
		row := []string{path}
		for _, count := range r.Spec.Counts {
			for _, target := range allTargets() {
				cell := "–"
				if s := r.find(path, count, target); s != nil {
					cell = fmt.Sprintf("%.0f / %.0f", stats.Median(s.P50), stats.Median(s.P99))
				}
				row = append(row, cell)
			}
		}
		t.Add(row...)
	}
	return t
}

// ratioTable compares the medians of a round.
func ratioTable(r ServicesReport) report.Table {
	t := report.Table{
		Title: "The same as ratios of p50 to the veth pair, medians of the rounds' ratios.",
		Head:  append(r.header("path", allTargets()), "goal"),
	}
	for _, path := range append([]string{PathRouted}, servicePaths()...) {
		row := []string{path}
		for _, count := range r.Spec.Counts {
			for _, target := range allTargets() {
				row = append(row, ratio(r.find(path, count, target), r.find(PathRaw, count, TargetPod)))
			}
		}
		goal := "–"
		if path == PathPackets || path == PathSockets {
			goal = "≤ 1.08, flat"
		}
		t.Add(append(row, goal)...)
	}
	return t
}

func ratio(s, base *ServiceSample) string {
	if s == nil || base == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f", stats.Median(stats.Ratios(s.P50, base.P50)))
}

func syncTable(r ServicesReport) report.Table {
	t := report.Table{
		Title: "How long kube-proxy takes from the start of its process to serve all services, which are in the API server already: seconds, the CPU " +
			"of it and of the programs that it runs, and its resident memory then. One start each.",
		Head: []string{"path"},
	}
	for _, count := range r.Spec.Counts {
		t.Head = append(t.Head, fmt.Sprintf("%d services", count), "CPU", "MiB")
	}
	for _, path := range []string{PathNFTables, PathIPTables} {
		row := []string{path}
		for _, count := range r.Spec.Counts {
			cells := []string{"–", "–", "–"}
			for _, s := range r.Syncs {
				if s.Path == path && s.Services == count {
					cells = []string{fmt.Sprintf("%.1f", s.Took.Seconds()), fmt.Sprintf("%.1f", s.CPU.Seconds()), fmt.Sprintf("%.0f", s.RSS)}
				}
			}
			row = append(row, cells...)
		}
		t.Add(row...)
	}
	return t
}
