package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/placid-net/placid/internal/planner/capacity"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// planText writes a plan for a terminal: what is met first, then the tables, what
// makes identities, and what to set.
func planText(out *bytes.Buffer, r capacity.Result, node string) {
	fmt.Fprintf(out, "Plan for %s: %s\n", platformName(r.Platform), countsText(r.Now))
	if r.Growth != "" {
		fmt.Fprintf(out, "Grown by %s: %s\n", r.Growth, countsText(r.After))
	}
	out.WriteString("\nFirst limit: " + firstText(r) + "\n")
	if node == "" {
		out.WriteString("\nTables, each on the node with the least headroom:\n")
		planTables(out, r)
	} else {
		fmt.Fprintf(out, "\nTables of node %s:\n", node)
		nodeTables(out, r, node)
	}
	identitiesText(out, r)
	fmt.Fprintf(out, "\nServices: the documented rule (backends × ports) gives %d entries, %s stores %d a node.\n",
		r.Services.Documented, platformName(r.Platform), r.Services.Exact)
	if len(r.Services.Largest) > 0 {
		top := r.Services.Largest[0]
		fmt.Fprintf(out, "The largest is %s: documented %d, really %d ('placid plan service %s' says why).\n", top.Service, top.Documented, top.Exact, top.Service)
	}
	configurationText(out, r.Configuration)
	if len(r.Notes) > 0 {
		out.WriteString("\nAssumed:\n")
		for _, n := range r.Notes {
			writeWrapped(out, "  - ", n)
		}
	}
}

func platformName(p snapshot.Platform) string {
	s := string(p)
	return strings.ToUpper(s[:1]) + s[1:]
}

func countsText(c capacity.Counts) string {
	return fmt.Sprintf("%s, %s, %s, %s, %s, %s", plural(c.Nodes, "node"), plural(c.Namespaces, "namespace"), plural(c.Pods, "pod"),
		plural(c.Services, "Service"), strings.Replace(plural(c.Policies, "policy"), "policys", "policies", 1),
		strings.Replace(plural(c.Identities, "identity"), "identitys", "identities", 1))
}

func firstText(r capacity.Result) string {
	if r.First == nil {
		return "none, however far the cluster grows"
	}
	l := r.First
	where := ""
	if l.Node != "" {
		where = " of node " + l.Node
	}
	if l.What != "" {
		where += " (" + l.What + ")"
	}
	at := l.At
	if r.Growth == "" {
		at += " of what runs now"
	}
	text := fmt.Sprintf("%s%s, %s, at %s: then %s.", l.Name, where, humanize.Comma(int64(l.Limit)), at, l.Full)
	if l.At == "now" {
		text = fmt.Sprintf("%s%s, %s, is exceeded now: %s.", l.Name, where, humanize.Comma(int64(l.Limit)), l.Full)
	}
	if r.Growth != "" && l.Times >= 1 {
		text += " The growth that was asked for fits."
	}
	return text
}

// planTables lists every table once.
func planTables(out *bytes.Buffer, r capacity.Result) {
	g := newGrid("NAME", "NODE", "NOW", "AFTER", "LIMIT", "FILL", "MEMORY", "FULL AT")
	estimated := ""
	for _, t := range r.Tables {
		if t.Now == 0 && t.After == 0 && t.FullAt == "" {
			continue
		}
		name := t.Name
		if !t.Exact {
			name += " *"
			if t.Kind == capacity.KindTable {
				estimated = t.Model
			}
		}
		g.add(name, dash(shortNode(t.Node)), strconv.Itoa(t.Now), strconv.Itoa(t.After), strconv.Itoa(t.Limit),
			fillText(t.After, t.Limit), memoryText(t.BytesAfter), dash(t.FullAt))
	}
	g.render(out, "  ")
	if estimated != "" {
		writeWrapped(out, "  * ", "estimated: "+estimated)
	}
}

// shortNode gives the first part of a name that is a domain's.
func shortNode(name string) string {
	host, _, _ := strings.Cut(name, ".")
	return host
}

func nodeTables(out *bytes.Buffer, r capacity.Result, node string) {
	i := slices.IndexFunc(r.Nodes, func(n capacity.Node) bool { return n.Name == node })
	g := newGrid("NAME", "NOW", "AFTER", "SIZE", "LIMIT", "FILL", "OF")
	for _, t := range r.Nodes[i].Tables {
		g.add(t.Name, strconv.Itoa(t.Now), strconv.Itoa(t.After), strconv.Itoa(t.Size), strconv.Itoa(t.Limit), fillText(t.After, t.Limit), dash(t.What))
	}
	g.render(out, "  ")
	fmt.Fprintf(out, "  All tables take %s, and %s when it has grown.\n", humanize.IBytes(r.Nodes[i].Bytes), humanize.IBytes(r.Nodes[i].BytesAfter))
}

func fillText(need, size int) string {
	if size == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(need)/float64(size))
}

func memoryText(bytes uint64) string {
	if bytes == 0 {
		return "-"
	}
	return humanize.IBytes(bytes)
}

func identitiesText(out *bytes.Buffer, r capacity.Result) {
	i := r.Identities
	fmt.Fprintf(out, "\nIdentities: %d now, %d after, of %s.", i.Now, i.After, humanize.Comma(int64(i.Limit)))
	if len(i.Labels) > 0 {
		var words []string
		for _, l := range i.Labels[:min(len(i.Labels), 3)] {
			words = append(words, fmt.Sprintf("%s (%d)", l.Name, l.Count))
		}
		fmt.Fprintf(out, " Labels that make the most: %s.", strings.Join(words, ", "))
	}
	out.WriteByte('\n')
}

func configurationText(out *bytes.Buffer, c capacity.Configuration) {
	if c.Text == "" && len(c.Advice) == 0 {
		out.WriteString("\nNothing has to be set: every table stays below 80%.\n")
		return
	}
	if c.Text != "" {
		fmt.Fprintf(out, "\nSet, so that every table stays below 80%% (%s):\n", c.Where)
		for line := range strings.Lines(c.Text) {
			out.WriteString("  " + line)
		}
	}
	if len(c.Advice) > 0 {
		out.WriteString("\nNo key helps against:\n")
		for _, a := range c.Advice {
			writeWrapped(out, "  - ", a)
		}
	}
}

// wrapAt is the width that sentences are broken at.
const wrapAt = 100

// writeWrapped writes a sentence in lines, the first after the mark and the others
// beneath it.
func writeWrapped(out *bytes.Buffer, mark, text string) {
	indent := strings.Repeat(" ", len(mark))
	line := mark
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > wrapAt && len(line) > len(mark) {
			out.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += word + " "
	}
	out.WriteString(strings.TrimRight(line, " ") + "\n")
}

// serviceCostText shows how the entries of a Service come about.
func serviceCostText(out *bytes.Buffer, c capacity.ServiceCost, platform snapshot.Platform) {
	fmt.Fprintf(out, "Service %s (%s) on node %s, in the tables of %s\n\n", c.Service, c.Type, c.Node, platformName(platform))
	g := newGrid("PART", "ENTRIES", "AS")
	for _, s := range c.Steps {
		g.add(s.What, strconv.Itoa(s.Entries), s.Formula)
	}
	g.add("together", strconv.Itoa(c.Exact), "")
	g.add("documented", strconv.Itoa(c.Documented), "backends × ports and protocols")
	g.render(out, "  ")
	if len(c.Why) > 0 {
		out.WriteString("\nWhat the rule leaves out:\n")
		for _, w := range c.Why {
			writeWrapped(out, "  - ", w)
		}
	}
	out.WriteString("\nBy table:\n")
	t := newGrid("TABLE", "ENTRIES")
	for _, row := range c.Tables {
		t.add(row.Table, strconv.Itoa(row.Entries))
	}
	t.render(out, "  ")
}
