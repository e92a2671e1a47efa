package packets

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/cluster"
	"github.com/placid-net/placid/bench/internal/report"
)

// goalsOfServices are what paths should cost, and what they cost in the peer.
func goalsOfServices() map[string][2]string {
	return map[string][2]string{
		pathLocal:           {"≤ 160", "1153 / 908"},
		pathRotating:        {"≤ 350", "1336 / 1104"},
		pathNew:             {"≤ 800", "2162–2194 / 2092–2682"},
		pathService:         {"≤ 190", "1198 / 1137"},
		pathServiceReply:    {"≤ 190", "846 / 865"},
		pathServiceRotating: {"≤ 350", "–"},
		pathServiceNew:      {"≤ 1000", "3019–3242 / 2466–2521"},
		pathServiceNewAll:   {"≤ 1000", "–"},
		pathNodePort:        {"≤ 220", "1342 / 1045"},
		// The peer masquerades in a second program, after that of the pod.
		pathMasquerade:      {"≤ 200 + 160", "756 + 569 / 662 + 463"},
		pathMasqueradeReply: {"≤ 220", "953 / 794"},
	}
}

// servicePaths are the paths in the order of the table.
func servicePaths() []string {
	return []string{
		pathLocal, pathService, pathServiceReply, pathRotating, pathServiceRotating, pathNew, pathServiceNew, pathServiceNewAll,
		pathNodePort, pathNodePortReply, pathNodePortNew, pathMasquerade, pathMasqueradeReply, pathMasqueradeNew,
	}
}

// ServiceTables gives the tables of a document.
func ServiceTables(r ServicesReport) []report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Nanoseconds a packet by the number of services, each with %d backends of either family: least / median of %d samples; smallest packets.",
			cluster.Backends, r.Samples),
		Head: []string{"path"},
	}
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, count := range r.Counts {
			t.Head = append(t.Head, fmt.Sprintf("%s, %d", family, count))
		}
	}
	t.Head = append(t.Head, "goal", "Cilium 1.20-dev, two runs")
	for _, path := range servicePaths() {
		row := []string{path}
		for _, is6 := range []bool{false, true} {
			for _, count := range r.Counts {
				row = append(row, serviceCell(r, path, is6, count))
			}
		}
		g := goalsOfServices()[path]
		t.Add(append(row, or(g[0]), or(g[1]))...)
	}
	return []report.Table{t}
}

func serviceCell(r ServicesReport, path string, is6 bool, count int) string {
	var of []Result
	for _, s := range r.Results {
		if s.Services == count {
			of = append(of, s.Result)
		}
	}
	return cell(of, func(c Result) bool { return c.Path == path && c.IPv6 == is6 })
}
