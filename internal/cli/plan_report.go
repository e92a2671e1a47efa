package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/placid-net/placid/internal/planner/capacity"
	"github.com/placid-net/placid/internal/planner/report"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// How much the report shows of what there can be thousands of.
const (
	reportNodes    = 18
	reportBars     = 4 // of each node
	reportFindings = 40
)

// planReport makes the page of a plan.
func planReport(r capacity.Result, s *snapshot.Snapshot, now time.Time, version string) report.Report {
	platform := platformName(r.Platform)
	out := report.Report{
		Title: "Capacity plan", Subject: "For the tables and limits of " + platform, Made: now, Version: version,
		Verdict: planVerdict(r), Figures: planFigures(r),
	}
	if r.Growth != "" {
		out.Subject += ", with growth " + r.Growth
	}
	out.Sections = []report.Section{
		{
			ID: "growth", Title: "How far it can grow", Lead: "How full each of the first limits gets while the cluster grows. The dashed line is where the first one is met.",
			Chart: planChart(r),
		},
		{
			ID: "tables", Title: "Tables and limits", Lead: "The fullest first, each on the node with the least headroom. A table that tunes itself is measured against the most that it can become.",
			Bars: planBars(r),
		},
		planNodes(r),
		planIdentities(r),
		planServices(r, platform),
		{ID: "configuration", Title: "What to set", Lead: planAdviceLead(r), Findings: planAdvice(r), Pastes: planPastes(r)},
		{ID: "problems", Title: "Problems in the input", Lead: "What could not be read, or not as it was meant.", Findings: inputFindings(s)},
		{ID: "assumed", Title: "What this rests on", Notes: planNotes(r)},
	}
	return out
}

func planVerdict(r capacity.Result) report.Verdict {
	v := report.Verdict{Label: "First limit", Tone: report.Good, Title: "No limit is met, however far the cluster grows"}
	if r.First == nil {
		return v
	}
	l := r.First
	where := ""
	if l.Node != "" {
		where = " of node " + l.Node
	}
	v.Tone = report.Warn
	v.Title = fmt.Sprintf("%s%s: full at %s", capitalised(l.Name), where, l.At)
	if r.Growth == "" {
		v.Title += " of what runs now"
	}
	v.Text = fmt.Sprintf("The limit is %s. Beyond it, %s.", humanize.Comma(int64(l.Limit)), l.Full)
	switch {
	case l.At == "now":
		v.Tone, v.Title = report.Bad, fmt.Sprintf("%s%s: beyond the limit now", capitalised(l.Name), where)
	case r.Growth != "" && l.Times < 1:
		v.Tone = report.Bad
		v.Text += " The growth that was asked for does not fit."
	case r.Growth != "" && l.Times >= 1:
		v.Tone = report.Good
		v.Text += " The growth that was asked for fits."
	}
	if l.What != "" {
		v.Text += " (" + capitalised(l.What) + ".)"
	}
	return v
}

// capitalised begins a sentence with words; a name such as lb4_services_v2 is left.
func capitalised(s string) string {
	if s == "" || strings.ContainsAny(s, "_0123456789") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func planFigures(r capacity.Result) []report.Figure {
	var out []report.Figure
	for _, f := range []struct {
		label      string
		now, after int
	}{
		{"Nodes", r.Now.Nodes, r.After.Nodes},
		{"Namespaces", r.Now.Namespaces, r.After.Namespaces},
		{"Pods", r.Now.Pods, r.After.Pods},
		{"Services", r.Now.Services, r.After.Services},
		{"Policies", r.Now.Policies, r.After.Policies},
		{"Identities", r.Now.Identities, r.After.Identities},
	} {
		fig := report.Figure{Label: f.label, Now: humanize.Comma(int64(f.now))}
		if f.after != f.now {
			fig.After = humanize.Comma(int64(f.after))
		}
		out = append(out, fig)
	}
	return out
}

func planChart(r capacity.Result) *report.Chart {
	if len(r.Curve) == 0 {
		return nil
	}
	c := &report.Chart{XLabel: "times what runs now", Mark: r.First.Times}
	if r.Growth != "" {
		c.XLabel = "parts of the growth " + r.Growth
	}
	for i, curve := range r.Curve {
		line := report.Line{Name: curve.Name, Detail: "full at " + r.Limits[i].At}
		if curve.Node != "" {
			line.Detail = curve.Node + ", " + line.Detail
		}
		for _, p := range curve.Points {
			line.Points = append(line.Points, report.Point{X: p.Times, Y: p.Fill})
		}
		c.Lines = append(c.Lines, line)
	}
	return c
}

func planBars(r capacity.Result) []report.Bar {
	var out []report.Bar
	tables := slices.Clone(r.Tables)
	slices.SortStableFunc(tables, func(a, b capacity.Table) int {
		return cmp.Compare(b.Fill(max(b.Now, b.After)), a.Fill(max(a.Now, a.After)))
	})
	for _, t := range tables {
		if t.Now == 0 && t.After == 0 {
			continue
		}
		b := report.Bar{
			Label: t.Name, Detail: t.Node, Now: float64(t.Now), After: float64(t.After), Limit: float64(t.Limit),
			Text: needText(t.Now, t.After, t.Limit),
		}
		if t.BytesAfter > 0 {
			b.Text += ", " + humanize.IBytes(t.BytesAfter)
		}
		if !t.Exact {
			b.Text += ", estimated"
		}
		if t.FullAt != "" {
			b.Mark = "full at " + t.FullAt
		}
		if t.FullAt == "now" {
			b.Mark = "beyond it now"
		}
		out = append(out, b)
	}
	return out
}

// needText gives e.g. "1,200 → 2,400 of 65,536".
func needText(now, after, limit int) string {
	text := humanize.Comma(int64(now))
	if after != now {
		text += " → " + humanize.Comma(int64(after))
	}
	return text + " of " + humanize.Comma(int64(limit))
}

// planNodes shows the nodes with the least headroom, each with its fullest tables.
func planNodes(r capacity.Result) report.Section {
	fill := func(t capacity.NodeTable) float64 {
		if t.Limit == 0 {
			return 0
		}
		return float64(max(t.Now, t.After)) / float64(t.Limit)
	}
	type card struct {
		report.Card
		fill float64
	}
	var cards []card
	for _, n := range r.Nodes {
		tables := slices.Clone(n.Tables)
		slices.SortStableFunc(tables, func(a, b capacity.NodeTable) int { return cmp.Compare(fill(b), fill(a)) })
		c := card{Card: report.Card{Title: n.Name, Detail: plural(n.Pods, "pod") + ", tables take " + humanize.IBytes(n.BytesAfter)}}
		if n.Memory > 0 {
			c.Detail += " of " + humanize.IBytes(n.Memory)
		}
		for _, t := range tables[:min(len(tables), reportBars)] {
			c.Bars = append(c.Bars, report.Bar{
				Label: t.Name, Now: float64(t.Now), After: float64(t.After), Limit: float64(t.Limit), Text: needText(t.Now, t.After, t.Limit),
			})
			c.fill = max(c.fill, fill(t))
		}
		cards = append(cards, c)
	}
	slices.SortStableFunc(cards, func(a, b card) int { return cmp.Compare(b.fill, a.fill) })
	s := report.Section{ID: "nodes", Title: "Headroom by node", Lead: "The nodes with the least headroom first, each with what is fullest on it."}
	for _, c := range cards[:min(len(cards), reportNodes)] {
		s.Cards = append(s.Cards, c.Card)
	}
	if more := len(cards) - reportNodes; more > 0 {
		s.Notes = []string{fmt.Sprintf("%s with more headroom: placid plan -o json has them all.", plural(more, "more node"))}
	}
	return s
}

func planIdentities(r capacity.Result) report.Section {
	i := r.Identities
	s := report.Section{
		ID: "identities", Title: "Identities",
		Lead: fmt.Sprintf("%s of %s, %s after growth. Pods with the same labels share one.", humanize.Comma(int64(i.Now)), humanize.Comma(int64(i.Limit)), humanize.Comma(int64(i.After))),
	}
	after := ""
	if r.Growth != "" {
		after = "after"
	}
	for _, l := range []struct {
		title, lead string
		shares      []capacity.Share
		after       string
	}{
		{"By namespace", "Those with the most.", i.Namespaces, after},
		{"By label", "So many fewer there would be without the label.", i.Labels, ""},
	} {
		list := report.ShareList{Title: l.title, Lead: l.lead, Now: "now", After: l.after}
		for _, share := range l.shares {
			list.Shares = append(list.Shares, report.Share{Name: share.Name, Now: share.Count, After: share.After})
		}
		if len(list.Shares) > 0 {
			s.Shares = append(s.Shares, list)
		}
	}
	if len(s.Shares) == 0 {
		s.Lead = ""
	}
	return s
}

func planServices(r capacity.Result, platform string) report.Section {
	list := report.ShareList{Title: "The largest Services", Lead: "Entries on one node: by the documented rule, and as they are stored.", Now: "rule", After: "stored"}
	for _, c := range r.Services.Largest {
		list.Shares = append(list.Shares, report.Share{Name: c.Service.String(), Now: c.Documented, After: c.Exact})
	}
	if len(list.Shares) == 0 {
		return report.Section{}
	}
	s := report.Section{
		ID: "services", Title: "Services: the rule and what is stored", Shares: []report.ShareList{list},
		Lead: fmt.Sprintf("The documented rule, backends times ports, gives %s entries for all Services. %s stores %s on a node.",
			humanize.Comma(int64(r.Services.Documented)), platform, humanize.Comma(int64(r.Services.Exact))),
	}
	for _, c := range r.Services.Largest[:1] {
		for _, why := range c.Why {
			s.Notes = append(s.Notes, c.Service.String()+": "+why)
		}
	}
	return s
}

func planAdviceLead(r capacity.Result) string {
	if r.Configuration.Text == "" && len(r.Configuration.Advice) == 0 {
		return "Nothing: every table stays below 80% of its limit."
	}
	return "So that everything stays below 80% of its limit."
}

func planAdvice(r capacity.Result) []report.Finding {
	var out []report.Finding
	for _, s := range r.Configuration.Settings {
		out = append(out, report.Finding{Title: fmt.Sprintf("%s: %s → %s", s.Key, s.Now, s.Value), Text: s.Why})
	}
	for _, a := range r.Configuration.Advice {
		out = append(out, report.Finding{Tone: report.Warn, Title: a})
	}
	if len(out) == 0 {
		out = []report.Finding{{Tone: report.Good, Title: "Nothing has to be set"}}
	}
	return out
}

func planPastes(r capacity.Result) []report.Paste {
	if r.Configuration.Text == "" {
		return nil
	}
	return []report.Paste{{Where: r.Configuration.Where, Text: r.Configuration.Text}}
}

// inputFindings are the problems of the input, errors first.
func inputFindings(s *snapshot.Snapshot) []report.Finding {
	problems := slices.Clone(s.Problems)
	slices.SortStableFunc(problems, func(a, b snapshot.Problem) int {
		return cmp.Compare(string(a.Severity), string(b.Severity)) // "error" before "warning"
	})
	var out []report.Finding
	for _, p := range problems[:min(len(problems), reportFindings)] {
		f := report.Finding{Tone: report.Warn, Title: p.Message, Text: placeText(p)}
		if p.Severity == snapshot.Fatal {
			f.Tone = report.Bad
		}
		out = append(out, f)
	}
	return andMore(out, len(problems))
}

func planNotes(r capacity.Result) []string {
	out := slices.Clone(r.Notes)
	for _, t := range r.Tables {
		if !t.Exact && t.Model != "" && t.Kind == capacity.KindTable {
			return append(out, "Tables of connections are estimated: "+t.Model+".")
		}
	}
	return out
}
