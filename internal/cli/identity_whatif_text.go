package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/planner/whatif"
)

// whatIfText writes the answer for people; limit is the most rows of a table, 0
// is all.
func whatIfText(out *bytes.Buffer, r whatif.Result, limit int) {
	if r.Proposal != nil {
		proposalText(out, *r.Proposal)
	}
	fmt.Fprintf(out, "Filter now:   %s\nFilter then:  %s\n\n", cmp.Or(r.Now.Labels, "(built-in patterns)"), cmp.Or(r.Then.Labels, "(built-in patterns)"))
	whatIfCounts(out, r)
	out.WriteByte('\n')
	namespacesText(out, r, limit)
	rankingText(out, r.Keys, limit)
	varyingText(out, r.Varying, limit)
	findingsText(out, "Policies select on labels that the new filter leaves out:", r.Broken)
	findingsText(out, "Policies select on labels that are left out already:", r.BrokenNow)
	unlabelledText(out, r.Unlabelled, limit)
	verdictsText(out, r.Verdicts)
}

func proposalText(out *bytes.Buffer, p whatif.Proposal) {
	head := "The shortest list that keeps every verdict:"
	if !p.Smallest {
		head = "A list that keeps every verdict, of which nothing can be left out:"
	}
	// Single quotes: a backslash is one, in YAML as in a shell.
	fmt.Fprintf(out, "%s\n\n  labels: '%s'\n\n", head, p.Labels)
	for _, k := range p.Keys {
		fmt.Fprintf(out, "  %s: %s\n", k.Key, someOf(k.Fields))
	}
	if len(p.Keys) == 0 {
		out.WriteString("  No verdict depends on a label of pods.\n")
	}
	if p.Guarded != p.Labels {
		fmt.Fprintf(out, "\nWith those labels too that policies select on and no verdict depends on now (%s):\n\n  labels: '%s'\n",
			counted(p.GuardedIdentities, "identity", "identities"), p.Guarded)
	}
	out.WriteByte('\n')
}

// shownFields is how many places a line names.
const shownFields = 3

func someOf(list []string) string {
	text := strings.Join(list[:min(len(list), shownFields)], ", ")
	if more := len(list) - shownFields; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// whatIfCounts compares what the filters come to.
func whatIfCounts(out *bytes.Buffer, r whatif.Result) {
	g := newGrid("", "NOW", "THEN")
	add := func(what string, now, then int) { g.add(what, strconv.Itoa(now), strconv.Itoa(then)) }
	add("identities", r.Now.Identities.Total, r.Then.Identities.Total)
	add("entries from addresses to identities", r.Addresses, r.Addresses)
	if r.For == snapshot.Placid {
		add("policy sets", r.Now.Policy.Sets, r.Then.Policy.Sets)
		add("policy entries of all sets", r.Now.Policy.Entries, r.Then.Policy.Entries)
		add("policy entries of the largest node", r.Now.Policy.NodeEntries, r.Then.Policy.NodeEntries)
	} else {
		add("policy map entries of all pods", r.Now.Policy.PodEntries, r.Then.Policy.PodEntries)
		add("policy map entries of the largest pod", r.Now.Policy.LargestPodEntries, r.Then.Policy.LargestPodEntries)
	}
	g.render(out, "")
	fmt.Fprintf(out, "\n%s with a network of their own; %s of %s move to another identity.\n", counted(r.Pods, "pod", "pods"), strconv.Itoa(r.Moved), counted(r.Addresses, "address", "addresses"))
	fmt.Fprintf(out, "The API server would write %s, update %s, and later delete %d.\n",
		counted(r.Writes.Created, r.Writes.IdentityKind, r.Writes.IdentityKind+" objects"),
		counted(r.Writes.Updated, r.Writes.EndpointKind+" object", r.Writes.EndpointKind+" objects"), r.Writes.Deleted)
	if r.For != snapshot.Placid && r.NamedPortIdentities[1] > 0 {
		fmt.Fprintf(out, "From Cilium 1.20 on, pods with other named ports have other identities: %d more now, %d more then.\n", r.NamedPortIdentities[0], r.NamedPortIdentities[1])
	}
}

// namespacesText lists the namespaces with most identities.
func namespacesText(out *bytes.Buffer, r whatif.Result, limit int) {
	now, then := r.Now.Identities.Namespaces, r.Then.Identities.Namespaces
	names := slices.SortedFunc(maps.Keys(now), func(a, b string) int { return cmp.Or(cmp.Compare(now[b], now[a]), cmp.Compare(a, b)) })
	g := newGrid("NAMESPACE", "IDENTITIES NOW", "THEN")
	for _, n := range shownOf(names, limit) {
		g.add(n, strconv.Itoa(now[n]), strconv.Itoa(then[n]))
	}
	section(out, "Identities by namespace:", g, len(names))
}

func rankingText(out *bytes.Buffer, keys []whatif.Key, limit int) {
	g := newGrid("LABEL", "CAUSES", "ALONE", "VALUES", "PODS", "POLICIES", "NOW", "THEN")
	for _, k := range shownOf(keys, limit) {
		causes := "-"
		if k.Kept || k.KeptThen {
			causes = strconv.Itoa(k.Causes)
		}
		g.add(labelName(k.Key), causes, strconv.Itoa(k.Alone), strconv.Itoa(k.Values), strconv.Itoa(k.Pods), strconv.Itoa(k.Policies), keptText(k.Kept), keptText(k.KeptThen))
	}
	section(out, "Labels by the identities that they cause (CAUSES: fewer without it; ALONE: with it alone):", g, len(keys))
}

// labelName gives the key of a label for people.
func labelName(key string) string {
	if of, ok := strings.CutPrefix(key, identity.NamespaceLabelPrefix); ok {
		return "namespace label " + of
	}
	return key
}

func keptText(kept bool) string {
	if kept {
		return "kept"
	}
	return "left out"
}

func varyingText(out *bytes.Buffer, list []whatif.Varying, limit int) {
	if len(list) == 0 {
		return
	}
	g := newGrid("LABEL", "NAMESPACE", "VALUES", "PODS", "NOW", "THEN")
	for _, v := range shownOf(list, limit) {
		g.add(v.Key, v.Namespace, strconv.Itoa(v.Values), strconv.Itoa(v.Pods), keptText(v.Kept), keptText(v.KeptThen))
	}
	section(out, "Labels that differ from pod to pod (where most):", g, len(list))
}

func findingsText(out *bytes.Buffer, head string, findings []whatif.Finding) {
	if len(findings) == 0 {
		return
	}
	out.WriteString(head + "\n")
	for _, f := range findings {
		out.WriteString("  " + f.Message + "\n")
	}
	out.WriteByte('\n')
}

func unlabelledText(out *bytes.Buffer, groups []whatif.Unlabelled, limit int) {
	if len(groups) == 0 {
		return
	}
	g := newGrid("NAMESPACE", "PODS", "EXAMPLE", "LABELS")
	for _, u := range shownOf(groups, limit) {
		var words []string
		for _, key := range slices.Sorted(maps.Keys(u.Labels)) {
			words = append(words, key+"="+u.Labels[key])
		}
		for _, key := range u.Varying {
			words = append(words, key+"=…")
		}
		g.add(u.Namespace, strconv.Itoa(u.Pods), u.Example, someOf(words))
	}
	section(out, "Pods of whose own labels the new filter leaves none:", g, len(groups))
}

// section writes a table with a heading, and how many of total rows it lacks.
func section(out *bytes.Buffer, head string, g *grid, total int) {
	out.WriteString(head + "\n")
	g.render(out, "  ")
	moreText(out, total-len(g.rows))
	out.WriteByte('\n')
}

// shownOf gives the first of a list; a limit of 0 is all.
func shownOf[T any](list []T, limit int) []T {
	if limit == 0 || len(list) <= limit {
		return list
	}
	return list[:limit]
}
