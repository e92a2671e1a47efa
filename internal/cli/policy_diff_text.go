package cli

import (
	"bytes"
	"fmt"
	"strings"

	verdicts "github.com/placid-net/placid/internal/planner/verdict"
)

// policyDiffText writes a diff for people.
func policyDiffText(out *bytes.Buffer, d policyDelta, connections bool) {
	fmt.Fprintf(out, "Policies: %s.\n", policyCounts(d.Policies))
	for _, x := range d.Policies.lists() {
		for _, key := range x.keys {
			fmt.Fprintf(out, "  %-8s %s\n", x.what, key)
		}
	}
	out.WriteByte('\n')
	verdictsText(out, d.Verdicts)
	if connections {
		out.WriteString("\n" + connectionsHead(d.Connections) + "\n")
		if len(d.Connections) > 0 {
			connectionTable(d.Connections).render(out, "  ")
		}
	}
}

func policyCounts(p policyChanges) string {
	return fmt.Sprintf("%d added, %d removed, %d changed, %d the same", len(p.Added), len(p.Removed), len(p.Changed), p.Same)
}

// keyList is keys of policies, and what happened to them.
type keyList struct {
	what string
	keys []string
}

func (p policyChanges) lists() []keyList {
	return []keyList{{"added", p.Added}, {"removed", p.Removed}, {"changed", p.Changed}}
}

func connectionsHead(list []cutConnection) string {
	if len(list) == 0 {
		return "No connection of this node would be cut."
	}
	return counted(len(list), "connection of this node would be cut:", "connections of this node would be cut:")
}

// policyDiffMarkdown writes a diff for a merge request.
func policyDiffMarkdown(out *bytes.Buffer, d policyDelta, connections bool) {
	fmt.Fprintf(out, "### Network policies: %s\n\n", mark(verdictHeadline(d.Verdicts)))
	fmt.Fprintf(out, "%s → %s: %s.\n", code(d.Old), code(d.New), policyCounts(d.Policies))
	for _, x := range d.Policies.lists() {
		if len(x.keys) > 0 {
			words := make([]string, len(x.keys))
			for i, key := range x.keys {
				words[i] = code(key)
			}
			fmt.Fprintf(out, "- %s: %s\n", x.what, strings.Join(words, ", "))
		}
	}
	fmt.Fprintf(out, "\n%s\n", mark(verdictSummary(d.Verdicts)))
	for i, side := range []string{"Now", "Then"} {
		for _, u := range d.Verdicts.Unfit[i] {
			fmt.Fprintf(out, "\n> %s: %s\n", side, mark(u))
		}
	}
	if len(d.Verdicts.Changes) > 0 {
		markdownTable(out, []string{"From", "To", "Closed", "Opened", "Cause"}, verdictTable(d.Verdicts.Changes).rows)
	}
	if left := d.Verdicts.Changed - len(d.Verdicts.Changes); left > 0 {
		fmt.Fprintf(out, "\n… and %d more.\n", left)
	}
	if !connections {
		return
	}
	fmt.Fprintf(out, "\n%s\n", mark(connectionsHead(d.Connections)))
	if len(d.Connections) > 0 {
		g := connectionTable(d.Connections)
		markdownTable(out, g.header, g.rows)
	}
}

// verdictHeadline says what there is to look at in a few words.
func verdictHeadline(r verdicts.Result) string {
	if r.Changed == 0 {
		return "no verdict changes"
	}
	return fmt.Sprintf("%s (%d closed, %d opened)", counted(r.Changed, "verdict changes", "verdicts change"), r.Closed, r.Opened)
}

// markdownTable writes a table; its cells are plain text.
func markdownTable(out *bytes.Buffer, header []string, rows [][]string) {
	out.WriteString("\n| " + strings.Join(header, " | ") + " |\n|" + strings.Repeat(" --- |", len(header)) + "\n")
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = mark(cell)
		}
		out.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
}

// mark gives text that Markdown shows as it is.
func mark(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r':
			r = ' '
		case r == '<':
			b.WriteString("&lt;")
			continue
		case r == '&':
			b.WriteString("&amp;")
			continue
		case strings.ContainsRune("\\`*_[]|~#@", r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// code gives text as code, whatever is in it.
func code(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	fence := "`"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		return fence + " " + text + " " + fence
	}
	return fence + text + fence
}
