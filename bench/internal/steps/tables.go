package steps

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Tables gives the tables of a document.
func Tables(r Results) []report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Milliseconds, median (p90) of %d; a pod does not wait for those in italics.", rounds),
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
	return []report.Table{t}
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
