package agent

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Tables gives the tables of a document.
func Tables(l Lab) []report.Table { return []report.Table{calls(l), startTable(l), footprint(l)} }

func calls(l Lab) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("CNI calls for %d pods, milliseconds, by running the real plugin.", len(l.Paced)),
		Head:  []string{"what", "first", "p50", "p90", "p99", "goal p50 / p90", "Cilium 1.20-dev p50 / p90"},
	}
	plugin := make([]float64, len(l.Paced))
	for i := range plugin {
		plugin[i] = l.Paced[i] - l.PacedAgent[i]
	}
	row := func(name string, samples []float64, goal, peer string) {
		first := "–"
		if len(samples) > 0 {
			first = fmt.Sprintf("%.1f", samples[0])
		}
		cells := []string{name, first}
		for _, q := range []float64{0.5, 0.9, 0.99} {
			cells = append(cells, fmt.Sprintf("%.1f", stats.Quantile(samples, q)))
		}
		t.Add(append(cells, goal, peer)...)
	}
	row(fmt.Sprintf("ADD, one every %s", pace), l.Paced, "≤ 25 / ≤ 50", "460 / 1050; first 2300–5800")
	row("– of it in the agent", l.PacedAgent, "–", "–")
	row("– of it plugin process and socket", plugin, "–", "–")
	row("ADD, one after the other", l.Burst, "–", "–")
	row(fmt.Sprintf("ADD, %d at once", parallel), l.Parallel, "–", "–")
	row("DEL, one after the other", l.Deletes, "–", "–")
	return t
}

func startTable(l Lab) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Start of the agent, median (largest) of %d starts, milliseconds; from outside, and by the agent's log. "+
			"All but the first starts follow a `kill -9`.", len(l.Cold)),
		Head: []string{"start", "attached", "attached, log", "ready for pods", "ready, log", "goal: attached", "Cilium 1.20-dev: attached"},
	}
	for _, row := range []struct {
		name   string
		starts []Start
	}{
		{"first on the node", l.Cold}, {"again, no pods", l.Idle}, {fmt.Sprintf("again, %d pods", len(l.Paced)), l.Full},
	} {
		cells := []string{row.name}
		for _, value := range []func(Start) float64{
			func(s Start) float64 { return s.Attached },
			func(s Start) float64 { return s.AttachedLog },
			func(s Start) float64 { return s.Ready },
			func(s Start) float64 { return s.ReadyLog },
		} {
			var samples []float64
			for _, s := range row.starts {
				samples = append(samples, value(s))
			}
			cells = append(cells, fmt.Sprintf("%.0f (%.0f)", stats.Median(samples), stats.Quantile(samples, 1)))
		}
		t.Add(append(cells, "≤ 500", "3000–7200")...)
	}
	return t
}

func footprint(l Lab) report.Table {
	t := report.Table{
		Title: "What it holds.",
		Head:  []string{"what", "value", "goal", "Cilium 1.20-dev"},
	}
	t.Add("agent's resident memory, no pods", fmt.Sprintf("%.0f MiB (%.0f not of its binary)", l.IdleRSS, l.IdleAnon), "≤ 60 MB", "165 MB")
	t.Add(fmt.Sprintf("agent's resident memory, %d pods", len(l.Paced)),
		fmt.Sprintf("%.0f MiB (%.0f not of its binary)", l.FullRSS, l.FullAnon), "≤ 65 MB", "186 MB (50 pods)")
	t.Add(fmt.Sprintf("BPF programs, %d pods", len(l.Paced)), fmt.Sprintf("%d, by %d links", l.Programs, l.Links), "≤ 20", "689 (50 pods)")
	t.Add("memory of BPF maps", fmt.Sprintf("%.1f MiB", l.MapMemory), "≤ 151 MiB", "151 MiB")
	ready := "–"
	if len(l.NodesReady) > 0 {
		ready = fmt.Sprintf("%.1f s", stats.Quantile(l.NodesReady, 1)/1000)
	}
	t.Add(fmt.Sprintf("agents started → all nodes Ready, %d nodes", len(l.NodesReady)), ready, "≤ 3 s", "15 s")
	return t
}
