package steps

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Tables gives the tables of a document.
func Tables(r Results) []report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Milliseconds, median (p90) of %d; a pod does not wait for those in italics.", r.Rounds),
		Head:  []string{"step", "the pair is made with its end in the pod (Placid)", "a spare pair's end is moved to the pod"},
	}
	var moved, made float64
	for _, s := range Steps() {
		t.Add(s.Name, cell(r.Made[s.Name], s.MadeWait), cell(r.Moved[s.Name], s.MovedWait))
		if s.MovedWait {
			moved += stats.Median(r.Moved[s.Name])
		}
		if s.MadeWait {
			made += stats.Median(r.Made[s.Name])
		}
	}
	t.Add("**what a pod waits for**", fmt.Sprintf("**%.1f**", made), fmt.Sprintf("**%.1f**", moved))
	return []report.Table{t, addTable(r), startTable(r.Crowded)}
}

func addTable(r Results) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("ADD with %d policies and %d identities known, milliseconds: policies, identity and interface, without the plugin and "+
			"the agent's socket; %d of each kind in turn.", crowdPolicies, crowdIdentities, r.Rounds),
		Head: []string{"pod", "p50", "p90", "least", "ratio to no policies"},
	}
	for _, kind := range addKinds() {
		s := r.Crowded.Adds[kind]
		t.Add(kind, fmt.Sprintf("%.1f", stats.Median(s)), fmt.Sprintf("%.1f", stats.Quantile(s, 0.9)), fmt.Sprintf("%.1f", stats.Min(s)),
			fmt.Sprintf("%.2f", stats.Median(stats.Ratios(s, r.Crowded.Adds[addAlone]))))
	}
	return t
}

func startTable(c Crowded) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("What an agent that starts does for them, with %d pods on its node.", crowdPods),
		Head:  []string{"what", "least / median"},
	}
	t.Add("learn policies and identities, compile the pods' sets", fmt.Sprintf("%.0f / %.0f ms", stats.Min(c.Learn), stats.Median(c.Learn)))
	t.Add(fmt.Sprintf("write %d entries of policy sets", c.Entries), fmt.Sprintf("%.0f / %.0f ms", stats.Min(c.Write), stats.Median(c.Write)))
	t.Add("heap of what is known", fmt.Sprintf("%.1f MiB", c.Heap))
	return t
}

func cell(samples []float64, waits bool) string {
	if len(samples) == 0 {
		return "–"
	}
	text := fmt.Sprintf("%.2f (%.2f)", stats.Median(samples), stats.Quantile(samples, 0.9))
	if !waits {
		text = "*" + text + "*"
	}
	return text
}
