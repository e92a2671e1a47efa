package resize

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
	"github.com/placid-net/placid/bench/internal/tcp"
)

// Tables gives the tables of a document.
func Tables(r Report) []report.Table {
	return []report.Table{programTable(r), stateTable(r), moveTable(r), latencyTable(r)}
}

// differences subtracts each sample's partner of the same round.
func differences(samples, base []float64) []float64 {
	out := make([]float64, min(len(samples), len(base)))
	for i := range out {
		out[i] = samples[i] - base[i]
	}
	return out
}

// nanoseconds gives the least and the median, less what the measurement costs.
func nanoseconds(samples []float64, idle float64) string {
	return fmt.Sprintf("%.0f / %.0f", stats.Min(samples)-idle, stats.Median(samples)-idle)
}

// moreNanoseconds gives the difference of the least, and the median of the rounds'
// differences.
func moreNanoseconds(samples, base []float64) string {
	return fmt.Sprintf("%+.1f / %+.1f", stats.Min(samples)-stats.Min(base), stats.Median(differences(samples, base)))
}

func programTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("from_pod as it is, and the same source compiled with plain maps in place of the maps of maps, on the same tables: nanoseconds a packet, "+
			"least / median of %d samples of each in turn; the difference of the least / the median of the rounds' differences. "+
			"Smallest TCP segments over IPv4 to a pod of the node; %d established flows in the table.", r.Size.Samples, openFlows),
		Head: []string{"packet", programReal, programPlain, "difference", "goal"},
	}
	idle := stats.Min(r.Idle)
	for _, k := range kinds() {
		with, without := r.Programs[programReal][k.name], r.Programs[programPlain][k.name]
		t.Add(k.name, nanoseconds(with, idle), nanoseconds(without, idle), moreNanoseconds(with, without), "≤ 10")
	}
	return t
}

func stateTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("The same packets before a move, while every entry is in the old table still, and when all have moved: nanoseconds a packet, "+
			"least / median of %d rounds; what the old table costs is compared to the packets of the same round after the move.", r.Size.States),
		Head: []string{"packet", stateBefore, stateOld, stateAfter, "what the old table costs"},
	}
	idle := stats.Min(r.Idle)
	for _, k := range kinds() {
		row := []string{k.name}
		for _, state := range []string{stateBefore, stateOld, stateAfter} {
			row = append(row, nanoseconds(r.States[state][k.name], idle))
		}
		t.Add(append(row, moreNanoseconds(r.States[stateOld][k.name], r.States[stateAfter][k.name]))...)
	}
	return t
}

func moveTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("%d flows to a table of %d entries, and %d backends to one of %d, on an idle CPU: milliseconds, least / median of %d.",
			r.Size.Entries, 2*r.Size.tableSize(), r.Size.Backends, 2*r.Size.Backends, r.Size.Moves),
		Head: []string{"what moves, and how", "make the new table", "put it in place", "move the entries", "CPU of both", "CPU a flow"},
	}
	for _, way := range []string{wayKernel, wayBack, wayBatch, wayBackends} {
		n := r.Size.Entries
		put, made := "–", "–"
		if way == wayBackends {
			n = r.Size.Backends
		} else {
			made = milliseconds(r.Moves[way], func(c Cost) float64 { return c.Make })
		}
		if way == wayKernel || way == wayBack {
			put = milliseconds(r.Moves[way], func(c Cost) float64 { return c.Begin })
		}
		cpu := func(c Cost) float64 { return c.CPU }
		t.Add(way, made, put, milliseconds(r.Moves[way], func(c Cost) float64 { return c.Move }), milliseconds(r.Moves[way], cpu),
			fmt.Sprintf("%.0f ns", stats.Median(each(r.Moves[way], cpu))*1e9/float64(n)))
	}
	return t
}

func milliseconds(costs []Cost, value func(Cost) float64) string {
	samples := each(costs, value)
	return fmt.Sprintf("%.1f / %.1f", 1000*stats.Min(samples), 1000*stats.Median(samples))
}

func each[T any](all []T, value func(T) float64) []float64 {
	var out []float64
	for _, one := range all {
		out = append(out, value(one))
	}
	return out
}

func latencyTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Round trips between two pods in microseconds, least / median of %d rounds of %.1f s, on the CPU on which %d flows move to a new table. "+
			"Ratios are medians of those to the same round without a move.", r.Size.Rounds, r.Size.Seconds, r.Size.Entries),
		Head: []string{"meanwhile", "p50", "ratio", "p99", "ratio", "p99.9", "ratio", "flows moved", "moves ended", "their CPU"},
	}
	for _, way := range latencyWays() {
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
		t.Add(append(row, fmt.Sprint(w.Entries), fmt.Sprint(w.Ended), fmt.Sprintf("%.2f s", w.CPU))...)
	}
	return t
}
