package flood

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Tables gives the tables of a document.
func Tables(r Report) []report.Table { return []report.Table{floodTable(r), clientTable(r)} }

func floodTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("SYNs and datagrams of both families from random sources to a closed port of an isolated pod; %d rounds of %.0f s with it and %.0f s without.",
			r.Size.Rounds, r.Size.Seconds, r.Size.Seconds),
		Head: []string{"what", "value", "goal"},
	}
	var sent, dropped, arrived, evicted int
	var rates []float64
	for _, p := range r.Flooded {
		sent, dropped, arrived, evicted = sent+p.Sent, dropped+p.Dropped, arrived+p.Arrived, evicted+p.Evicted
		rates = append(rates, p.Rate)
	}
	lost, opened, failed := 0, 0, 0
	for _, p := range r.Flooded {
		for _, c := range p.Clients {
			lost, opened, failed = lost+c.Lost, opened+c.Opened, failed+c.Failed
		}
	}
	t.Add("frames of the flood", fmt.Sprintf("%d, %.0f a second (median)", sent, stats.Median(rates)), "–")
	t.Add("of them dropped before the node", fmt.Sprint(dropped), "–")
	t.Add("table of new flows", fmt.Sprintf("%d entries: the flood is %.0f times that a round", r.Size.Table, float64(sent)/float64(len(r.Flooded))/float64(r.Size.Table)), "≥ 10 times")
	t.Add("packets that reached the pod meanwhile, its clients' included", fmt.Sprint(arrived), "–")
	t.Add("new flows evicted", fmt.Sprint(evicted), "–")
	t.Add("established flows followed", fmt.Sprint(r.Established), "–")
	t.Add("of them forgotten by the node", fmt.Sprint(r.Forgotten), "0")
	t.Add("of their connections lost", fmt.Sprint(lost), "0")
	t.Add("honest new connections during the flood: opened / failed", fmt.Sprintf("%d / %d", opened, failed), "all / 0")
	return t
}

func clientTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("What clients of the pod see, in microseconds, median of the rounds without the flood → with it, and of the ratios: %d connections "+
			"each that exchange a byte all the time, and a new one every %s. All share one CPU, on the other the flood is made and received.",
			r.Size.Conns, newPace),
		Head: []string{"client", "round trip p50", "ratio", "p99", "ratio", "connect and round trip p50", "ratio", "p99", "ratio"},
	}
	if len(r.Calm) == 0 {
		return t
	}
	for i, c := range r.Calm[0].Clients {
		row := []string{c.Name}
		for _, value := range []func(ClientPhase) float64{
			func(c ClientPhase) float64 { return c.P50 },
			func(c ClientPhase) float64 { return c.P99 },
			func(c ClientPhase) float64 { return c.ConnectP50 },
			func(c ClientPhase) float64 { return c.ConnectP99 },
		} {
			calm, flooded := series(r.Calm, i, value), series(r.Flooded, i, value)
			row = append(row, fmt.Sprintf("%.0f → %.0f", stats.Median(calm), stats.Median(flooded)),
				fmt.Sprintf("%.2f", stats.Median(stats.Ratios(flooded, calm))))
		}
		t.Add(row...)
	}
	return t
}

func series(phases []Phase, client int, value func(ClientPhase) float64) []float64 {
	var out []float64
	for _, p := range phases {
		out = append(out, value(p.Clients[client]))
	}
	return out
}
