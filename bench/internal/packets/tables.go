package packets

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
)

// goal is what a path should cost, and what it costs in the peer, whose figure
// holds conntrack and policy too.
type goal struct{ want, peer string }

func goals() map[string]goal {
	return map[string]goal{
		pathLocal:   {"≤ 160", "1153 / 908"},
		pathRemote:  {"≤ 200", "756 / 662"},
		pathSpoofed: {"≤ 200", "–"},
		pathArrives: {"≤ 200", "784 / 646"},
	}
}

// Tables gives the tables of a document.
func Tables(results []Result) []report.Table {
	return []report.Table{pathTable(results), endpointTable(results)}
}

func pathTable(results []Result) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Nanoseconds a packet, least / median of %d samples; %d endpoints, one flow.", rounds, manyPods),
		Head:  []string{"path", "IPv4, 64 B", "IPv6, 74 B", "IPv4, 1400 B", "IPv6, 1400 B", "goal", "Cilium 1.20-dev, two runs"},
	}
	for _, path := range []string{
		pathLocal, pathRemote, pathStack, pathTunnel, pathSpoofed, pathArrives, pathArrivesStack, pathLeaves, pathEncap,
		pathDecap, pathLookup,
	} {
		row := []string{path}
		for _, large := range []bool{false, true} {
			for _, is6 := range []bool{false, true} {
				row = append(row, cell(results, func(r Result) bool {
					return r.Path == path && r.IPv6 == is6 && (r.Size > 100) == large && r.Pods == manyPods
				}))
			}
		}
		g := goals()[path]
		if g.want == "" {
			g = goal{"–", "–"}
		}
		t.Add(append(row, g.want, g.peer)...)
	}
	return t
}

func endpointTable(results []Result) report.Table {
	t := report.Table{
		Title: "The same by the number of endpoints, smallest packets.",
		Head:  []string{"path", "2 endpoints", fmt.Sprintf("%d endpoints", manyPods), fmt.Sprintf("%d, each in turn", manyPods)},
	}
	for _, row := range []struct {
		name, path, turn string
		is6              bool
	}{
		{pathLocal + ", IPv4", pathLocal, pathLocalTurn, false},
		{pathLocal + ", IPv6", pathLocal, pathLocalTurn, true},
		{pathArrives + ", IPv4", pathArrives, pathArrivesTurn, false},
		{pathArrives + ", IPv6", pathArrives, pathArrivesTurn, true},
	} {
		pick := func(path string, pods int) string {
			return cell(results, func(r Result) bool {
				return r.Path == path && r.IPv6 == row.is6 && r.Size < 100 && r.Pods == pods
			})
		}
		t.Add(row.name, pick(row.path, fewPods), pick(row.path, manyPods), pick(row.turn, manyPods))
	}
	return t
}

// cell is the first result that fits.
func cell(results []Result, fits func(Result) bool) string {
	for _, r := range results {
		if fits(r) {
			return fmt.Sprintf("%.0f / %.0f", max(0, r.Min), max(0, r.Median)) // the empty program may be unlucky
		}
	}
	return "–"
}
