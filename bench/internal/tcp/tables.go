package tcp

import (
	"fmt"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Tables gives the tables of a document.
func Tables(samples []Sample, size Size) []report.Table {
	local := report.Table{
		Title: fmt.Sprintf("Pods of one node: median of %d rounds of %s, and the median of the rounds' ratios to the veth pair. A rate is that of the round's median round trip or connect.", size.Rounds, size.Duration),
	}
	apart := report.Table{
		Title: "Pods of two nodes, whose namespaces a veth pair joins: the same, with ratios to the kernel's own routing, or its own VXLAN.",
	}
	fill(&local, samples, []string{PathRaw, PathRouted, PathLimit, PathLocal, PathPolicy})
	goalRow := []string{"goal", "≥ 0.94", "", "≥ 0.92", "", "≥ 0.97", ""}
	peerRow := []string{"Cilium 1.20-dev, IPv4", "0.97", "–", "0.90", "–", "–", "–"}
	local.Add(goalRow...)
	local.Add(peerRow...)
	fill(&apart, samples, []string{PathRoutedApart, PathNative, PathTunnelRouting, PathTunnel})
	return []report.Table{local, apart}
}

func fill(t *report.Table, samples []Sample, paths []string) {
	t.Head = []string{"path"}
	for _, m := range Modes() {
		for _, is6 := range families() {
			t.Head = append(t.Head, fmt.Sprintf("%s, %s", m.unit(), familyName(is6)))
		}
	}
	for _, path := range paths {
		row := []string{path}
		for _, m := range Modes() {
			for _, is6 := range families() {
				row = append(row, cell(samples, path, m, is6))
			}
		}
		t.Add(row...)
	}
}

func familyName(is6 bool) string {
	if is6 {
		return "IPv6"
	}
	return "IPv4"
}

func (m Mode) unit() string {
	if m == Stream {
		return "Gbit/s"
	}
	return string(m) + "/s"
}

// cell is a path's median, and the ratio to what it is compared with.
func cell(samples []Sample, path string, m Mode, is6 bool) string {
	s, ok := find(samples, path, m, is6)
	if !ok {
		return "–"
	}
	text := fmt.Sprintf("%.0f", stats.Median(s.Rates))
	if m == Stream {
		text = fmt.Sprintf("%.1f", stats.Median(s.Rates)/1e9)
	}
	if base, ok := find(samples, s.Base, m, is6); ok {
		text += fmt.Sprintf(" (%.2f)", stats.Median(stats.Ratios(s.Rates, base.Rates)))
	}
	return text
}

func find(samples []Sample, path string, m Mode, is6 bool) (Sample, bool) {
	for _, s := range samples {
		if s.Path == path && s.Mode == m && s.IPv6 == is6 {
			return s, true
		}
	}
	return Sample{}, false
}
