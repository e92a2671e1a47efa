package cli

import (
	"bytes"
	"fmt"
	"strings"

	verdicts "github.com/placid-net/placid/internal/planner/verdict"
)

// verdictTable has a row for each change.
func verdictTable(changes []verdicts.Change) *grid {
	g := newGrid("FROM", "TO", "CLOSED", "OPENED", "CAUSE")
	for _, c := range changes {
		g.add(peerText(c.From), toText(c), portsText(c.Closed), portsText(c.Opened), strings.Join(causeTexts(c.Causes), "; "))
	}
	return g
}

// peerText names a peer and, of pods, how many they are.
func peerText(p verdicts.Peer) string {
	if p.Kind == verdicts.Pods && p.Pods > 1 {
		return fmt.Sprintf("%s (%d)", p.Name, p.Pods)
	}
	return p.Name
}

func toText(c verdicts.Change) string {
	if c.Family != "" {
		return peerText(c.To) + ", " + c.Family + " only"
	}
	return peerText(c.To)
}

func portsText(p verdicts.Ports) string {
	if p.Empty() {
		return "-"
	}
	return p.String()
}

// causeTexts gives a sentence for each cause, e.g. "ingress: denied now by
// default/web spec.ingressDeny[0]".
func causeTexts(causes []verdicts.Cause) []string {
	var out []string
	for _, c := range causes {
		text := c.Direction + ": " + string(c.Effect)
		switch {
		case len(c.Rules) > 0:
			text += " by " + strings.Join(c.Rules, ", ")
		case len(c.Policies) > 0:
			text += " by " + strings.Join(c.Policies, ", ")
		case c.Reason != "":
			text += ": " + c.Reason
		}
		out = append(out, text)
	}
	return out
}

// verdictSummary says in one line how much changes.
func verdictSummary(r verdicts.Result) string {
	of := fmt.Sprintf("%s of %s and %s", counted(r.Pairs, "pair", "pairs"), counted(r.Groups, "group of pods", "groups of pods"), counted(r.Others, "other peer", "other peers"))
	if r.Changed == 0 {
		return "No verdict changes among " + of + "."
	}
	return fmt.Sprintf("%s among %s: %d closed, %d opened.", counted(r.Changed, "verdict changes", "verdicts change"), of, r.Closed, r.Opened)
}

// verdictsText writes the changes, and says what is not shown.
func verdictsText(out *bytes.Buffer, r verdicts.Result) {
	out.WriteString(verdictSummary(r) + "\n")
	for i, side := range []string{"Now", "Then"} {
		for _, u := range r.Unfit[i] {
			fmt.Fprintf(out, "%s: %s\n", side, u)
		}
	}
	if len(r.Changes) > 0 {
		verdictTable(r.Changes).render(out, "  ")
	}
	moreText(out, r.Changed-len(r.Changes))
}

// moreText says how many rows are not shown.
func moreText(out *bytes.Buffer, left int) {
	if left > 0 {
		fmt.Fprintf(out, "  … and %d more; --limit 0 shows all\n", left)
	}
}
