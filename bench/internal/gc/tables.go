package gc

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
	"github.com/placid-net/placid/bench/internal/tcp"
)

// Tables gives the tables of a document.
func Tables(r Report) []report.Table {
	return []report.Table{costTable(r), latencyTable(r), stormTable(r)}
}

func costTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Seconds of CPU for a million entries, of which one in %d has expired: least / median of %d passes over %d entries, "+
			"and the median of the rounds' ratios to the first.", expiredShare, r.Size.Rounds, r.Size.Entries),
		Head: []string{"collection", "CPU seconds", "ratio"},
	}
	for _, way := range ways() {
		s := r.CPU[way]
		t.Add(way, fmt.Sprintf("%.3f / %.3f", stats.Min(s), stats.Median(s)),
			fmt.Sprintf("%.2f", stats.Median(stats.Ratios(s, r.CPU[wayKernel]))))
	}
	return t
}

func latencyTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Round trips between two pods in microseconds, least / median of %d rounds of %.1f s, on the CPU on which pass follows pass "+
			"over %d entries. Ratios are medians of those to the same round without a collection.", r.Size.Rounds, r.Size.Seconds, r.Size.Entries),
		Head: []string{"collection", "p50", "ratio", "p99", "ratio", "p99.9", "ratio", "passes", "their CPU"},
	}
	for _, way := range []string{wayNone, wayKernel, wayBatch} {
		row := []string{way}
		for _, value := range []func(tcp.Latency) float64{
			func(l tcp.Latency) float64 { return l.P50 },
			func(l tcp.Latency) float64 { return l.P99 },
			func(l tcp.Latency) float64 { return l.P999 },
		} {
			samples, base := each(r.Latency[way], value), each(r.Latency[wayNone], value)
			row = append(row, fmt.Sprintf("%.1f / %.1f", stats.Min(samples), stats.Median(samples)),
				fmt.Sprintf("%.2f", stats.Median(stats.Ratios(samples, base))))
		}
		w := r.Work[way]
		t.Add(append(row, fmt.Sprint(w.Passes), fmt.Sprintf("%.2f s", w.CPU))...)
	}
	return t
}

func each(all []tcp.Latency, value func(tcp.Latency) float64) []float64 {
	var out []float64
	for _, l := range all {
		out = append(out, value(l))
	}
	return out
}

func stormTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("New flows, opened by running the programs on their handshakes, while pass follows pass over %d entries that live.", r.Size.Entries),
		Head:  []string{"what", "value", "goal"},
	}
	s := r.Storm
	t.Add("flows opened", fmt.Sprintf("%d, %.0f a second", s.Opened, s.Rate), fmt.Sprintf("%d a second", r.Size.Rate))
	t.Add("of them in the table at the end", fmt.Sprint(s.Found), "all")
	t.Add("of the entries that were there to live: lost", fmt.Sprint(s.Lost), "0")
	t.Add("passes meanwhile", fmt.Sprint(s.Passes), "–")
	t.Add("expired entries put in / all entries deleted, closed connections included", fmt.Sprintf("%d / %d", s.Expired, s.Deleted), "all, or more")
	return t
}
