package packets

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/report"
)

// goal is what a path should cost, and what it costs in the peer under the
// policies of each group.
type goal struct {
	want string
	peer map[node.Group]string
}

func goals() map[string]goal {
	peer := func(open, ports, blocks string) map[node.Group]string {
		return map[node.Group]string{node.GroupOpen: open, node.GroupPorts: ports, node.GroupBlocks: blocks}
	}
	return map[string]goal{
		pathLocal:    {"≤ 160", peer("1153 / 908", "896 / 975", "962 / 1077")},
		pathReply:    {"≤ 160", peer("645 / 682", "635 / 673", "635 / 702")},
		pathRotating: {"≤ 350", peer("1336 / 1104", "1373 / 1335", "1517 / 1484")},
		pathNew:      {"≤ 800", peer("2162–2194 / 2092–2682", "2400–2500 / 2512–2621", "2585–2620 / 2599–2671")},
		pathNewFull:  {"≤ 800", nil},
		pathRemote:   {"≤ 200", peer("756 / 662", "628 / 696", "645 / 699")},
		pathOutside:  {"≤ 200", peer("756 / 662", "628 / 696", "645 / 699")},
		pathDenied:   {"≤ 200", peer("–", "396 / 401", "439 / 471")},
		pathSpoofed:  {"≤ 200", nil},
		pathArrives:  {"≤ 200", peer("784 / 646", "658 / 690", "705 / 717")},
	}
}

func (g goal) cells(groups ...node.Group) []string {
	out := []string{or(g.want)}
	for _, group := range groups {
		out = append(out, or(g.peer[group]))
	}
	return out
}

func or(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// Tables gives the tables of a document.
func Tables(r Report) []report.Table {
	return []report.Table{pathTable(r), policyTable(r), endpointTable(r)}
}

func pathTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Nanoseconds a packet, least / median of %d samples; %d endpoints, one established flow, no policies.", r.Rounds, r.Pods),
		Head:  []string{"path", "IPv4, 64 B", "IPv6, 74 B", "IPv4, 1400 B", "IPv6, 1400 B", "goal", "Cilium 1.20-dev, two runs"},
	}
	for _, path := range []string{
		pathLocal, pathRemote, pathStack, pathFromNode, pathTunnel, pathSpoofed, pathArrives, pathArrivesStack, pathLeaves,
		pathEncap, pathDecap, pathEmpty, pathLookup, pathLongLookup, pathLPM,
	} {
		row := []string{path}
		for _, large := range []bool{false, true} {
			for _, is6 := range []bool{false, true} {
				row = append(row, cell(r.Results, func(c Result) bool {
					return c.Path == path && c.IPv6 == is6 && (c.Size > 100) == large && c.Pods == r.Pods && !c.Policy
				}))
			}
		}
		t.Add(append(row, goals()[path].cells(node.GroupOpen)...)...)
	}
	return t
}

func policyTable(r Report) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("By policy, smallest packets, measured in one run: pods without policies, pods isolated in both directions by one policy "+
			"with ports, and pods whose policy has %d blocks a direction and family too.", node.Blocks),
		Head: []string{
			"path", "IPv4, none", "IPv4, ports", "IPv4, blocks", "IPv6, none", "IPv6, ports", "IPv6, blocks", "goal",
			"Cilium 1.20-dev, none", "ports", "200 blocks",
		},
	}
	for _, path := range []string{pathLocal, pathReply, pathRotating, pathNew, pathNewFull, pathOutside, pathArrives, pathDenied} {
		row := []string{path}
		for _, is6 := range []bool{false, true} {
			for _, g := range groups() {
				row = append(row, cell(r.Results, func(c Result) bool {
					return c.Path == path && c.IPv6 == is6 && c.Group == g && c.Policy
				}))
			}
		}
		t.Add(append(row, goals()[path].cells(groups()...)...)...)
	}
	return t
}

func endpointTable(r Report) report.Table {
	t := report.Table{
		Title: "The same by the number of endpoints, smallest packets.",
		Head:  []string{"path", "2 endpoints", fmt.Sprintf("%d endpoints", r.Pods), fmt.Sprintf("%d, each in turn", r.Pods)},
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
			return cell(r.Results, func(c Result) bool {
				return c.Path == path && c.IPv6 == row.is6 && c.Size < 100 && c.Pods == pods && !c.Policy
			})
		}
		t.Add(row.name, pick(row.path, fewPods), pick(row.path, r.Pods), pick(row.turn, r.Pods))
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
