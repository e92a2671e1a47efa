package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/placid-net/placid/internal/planner/report"
	"github.com/placid-net/placid/internal/planner/snapshot"
	verdicts "github.com/placid-net/placid/internal/planner/verdict"
	"github.com/placid-net/placid/internal/planner/whatif"
)

// reportShares is how many namespaces and labels the page of a what-if shows.
const reportShares = 20

// whatIfReport makes the page of another label filter.
func whatIfReport(r whatif.Result, s *snapshot.Snapshot, now time.Time, version string) report.Report {
	number := func(n int) string { return humanize.Comma(int64(n)) }
	return report.Report{
		Title: "Another label filter", Subject: "For " + platformName(r.For) + ": " + cmp.Or(r.Then.Labels, "the built-in patterns alone"),
		Made: now, Version: version, Verdict: whatIfVerdict(r),
		Figures: []report.Figure{
			{Label: "Pods", Now: number(r.Pods)},
			{Label: "Identities", Now: number(r.Now.Identities.Total), After: number(r.Then.Identities.Total)},
			{Label: "Policy entries", Now: number(r.Now.Policy.Entries), After: number(r.Then.Policy.Entries)},
			{Label: "Addresses that move", Now: number(r.Moved)},
			{Label: r.Writes.IdentityKind + " made", Now: number(r.Writes.Created)},
			{Label: r.Writes.IdentityKind + " deleted later", Now: number(r.Writes.Deleted)},
		},
		Sections: []report.Section{
			{
				ID: "identities", Title: "Identities", Lead: "Pods with the same labels share one.",
				Shares: []report.ShareList{whatIfNamespaces(r), whatIfLabels(r)},
			},
			{ID: "verdicts", Title: "Verdicts", Lead: verdictSummary(r.Verdicts), Findings: whatIfVerdicts(r.Verdicts)},
			{ID: "broken", Title: "Selectors that would match nothing", Lead: "They select on labels that the new filter leaves out.", Findings: whatIfBroken(r)},
			{ID: "configuration", Title: "What to set", Pastes: whatIfPastes(r)},
			{ID: "problems", Title: "Problems in the input", Lead: "What could not be read, or not as it was meant.", Findings: inputFindings(s)},
			{ID: "notes", Title: "What this rests on", Notes: r.Notes},
		},
	}
}

func whatIfVerdict(r whatif.Result) report.Verdict {
	v := report.Verdict{
		Label: "Verdicts", Tone: report.Good, Title: "No verdict changes",
		Text: fmt.Sprintf("%s become %s.", humanize.Comma(int64(r.Now.Identities.Total)), counted(r.Then.Identities.Total, "identity", "identities")),
	}
	if r.Verdicts.Changed > 0 {
		v.Tone, v.Title = report.Bad, counted(r.Verdicts.Changed, "verdict changes", "verdicts change")
		v.Text += fmt.Sprintf(" %d are closed, %d opened.", r.Verdicts.Closed, r.Verdicts.Opened)
	} else if len(r.Broken) > 0 {
		v.Tone = report.Warn
		v.Text += " But there are selectors on labels that are left out: of pods to come they select nobody."
	}
	return v
}

// largest gives the names with the largest numbers, by name where they are equal.
func largest(numbers map[string]int) []string {
	return slices.SortedFunc(maps.Keys(numbers), func(a, b string) int {
		return cmp.Or(cmp.Compare(numbers[b], numbers[a]), cmp.Compare(a, b))
	})
}

func whatIfNamespaces(r whatif.Result) report.ShareList {
	list := report.ShareList{Title: "By namespace", Lead: "Those with the most.", Now: "now", After: "then"}
	names := largest(r.Now.Identities.Namespaces)
	for _, name := range names[:min(len(names), reportShares)] {
		list.Shares = append(list.Shares, report.Share{Name: name, Now: r.Now.Identities.Namespaces[name], After: r.Then.Identities.Namespaces[name]})
	}
	list.More = len(names) - len(list.Shares)
	return list
}

func whatIfLabels(r whatif.Result) report.ShareList {
	list := report.ShareList{Title: "By label", Lead: "So many fewer there would be without the label.", Now: "causes"}
	causes := map[string]int{}
	for _, k := range r.Keys {
		if k.Kept && k.Causes > 0 {
			causes[k.Key] = k.Causes
		}
	}
	names := largest(causes)
	for _, name := range names[:min(len(names), reportShares)] {
		list.Shares = append(list.Shares, report.Share{Name: name, Now: causes[name]})
	}
	list.More = len(names) - len(list.Shares)
	return list
}

func whatIfBroken(r whatif.Result) []report.Finding {
	var out []report.Finding
	for _, f := range r.Broken[:min(len(r.Broken), reportFindings)] {
		out = append(out, report.Finding{Tone: report.Warn, Title: f.Policy + ": " + f.Key, Text: f.Message})
	}
	return andMore(out, len(r.Broken))
}

func whatIfVerdicts(r verdicts.Result) []report.Finding {
	var out []report.Finding
	for _, c := range r.Changes[:min(len(r.Changes), reportFindings)] {
		f := report.Finding{Tone: report.Bad, Title: peerText(c.From) + " → " + toText(c), Text: strings.Join(causeTexts(c.Causes), "; ")}
		if !c.Closed.Empty() {
			f.Text = "closed: " + c.Closed.String() + "; " + f.Text
		}
		if !c.Opened.Empty() {
			f.Text = "opened: " + c.Opened.String() + "; " + f.Text
		}
		out = append(out, f)
	}
	return andMore(out, r.Changed)
}

// andMore says how many there are that are not shown.
func andMore(shown []report.Finding, all int) []report.Finding {
	if more := all - len(shown); more > 0 {
		shown = append(shown, report.Finding{Title: fmt.Sprintf("and %d more", more)})
	}
	return shown
}

func whatIfPastes(r whatif.Result) []report.Paste {
	if r.Proposal == nil {
		return []report.Paste{{Where: "the filter that was judged", Text: "labels: '" + r.Then.Labels + "'"}}
	}
	out := []report.Paste{{Where: "the shortest list that keeps every verdict", Text: "labels: '" + r.Proposal.Labels + "'"}}
	if r.Proposal.Guarded != r.Proposal.Labels {
		out = append(out, report.Paste{Where: "with the labels of all selectors", Text: "labels: '" + r.Proposal.Guarded + "'"})
	}
	return out
}
