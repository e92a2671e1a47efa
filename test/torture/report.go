package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errBroke says that something broke that must not.
var errBroke = errors.New("something broke while tables moved")

// errNoSection is returned for a document without the markers.
var errNoSection = errors.New("the document has no such section")

// table is one of text.
type table struct {
	title string
	head  []string
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| %s |\n| --- |%s\n", t.title, strings.Join(t.head, " | "), strings.Repeat(" --: |", len(t.head)-1))
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r, " | "))
	}
	return b.String()
}

// write replaces what is between the markers of a section of the document.
func write(path, section, conditions string, tables []table) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	begin, end := fmt.Appendf(nil, "<!-- begin %s -->\n", section), fmt.Appendf(nil, "<!-- end %s -->\n", section)
	head, rest, ok := bytes.Cut(document, begin)
	_, tail, closed := bytes.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s: %w: %s", path, errNoSection, section)
	}
	parts := []string{conditions}
	for i := range tables {
		parts = append(parts, tables[i].markdown())
	}
	text := strings.TrimSpace(strings.Join(parts, "\n")) + "\n"
	if err := os.WriteFile(path, bytes.Join([][]byte{head, begin, []byte(text), end, tail}, nil), 0o644); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}

// conditions says when, on what and with what a run was made.
func (r *result) conditions() string {
	var u unix.Utsname
	kernel := "?"
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	o := r.Options
	return fmt.Sprintf("Measured %s on Linux %s: %d times a window of %s for each column of the tables; %d long connections, at most %d new connections and %d queries a second, %d other flows in the tables, which have %d entries at first.\n",
		r.Began.Format("2006-01-02 15:04 UTC"), kernel, o.Rounds, o.Window, o.Connections, o.Rate, o.Queries, o.Fillers, o.Size)
}

// tables are what the run found.
func (r *result) tables() []table {
	return []table{r.movesTable(), r.brokenTable(), r.dropsTable(), r.latencyTable()}
}

func (r *result) movesTable() table {
	m, t := r.Moves, table{title: "What moved.", head: []string{"what", "number"}}
	for _, row := range []struct {
		what   string
		number int
	}{
		{"moves that ended", m.Done},
		{"flows and rows that they moved", int(m.Entries)},
		{"times that the agent was killed during a move", m.Kills},
		{"… of which it left a table half-way", m.HalfWay},
		{"… of which the table has the new size", m.Finished},
		{"… of which the table has the size that it had", m.Back},
		{"moves that were refused", m.Refused},
		{"times that a version with another layout of flows took over, or this one again", r.Changes.Done},
		{"… of which before the one before had brought all flows over", r.Changes.Early},
		{"entries that were there before windows with moves, and cannot have expired", r.Compared},
		{"**… of which were lost**", r.Lost},
	} {
		t.add(row.what, fmt.Sprint(row.number))
	}
	t.add("longest move", m.Longest.Round(time.Millisecond).String())
	if r.Changes.Done > 0 {
		t.add("longest until all flows were brought over", r.Changes.Longest.Round(time.Millisecond).String())
	}
	return t
}

// kinds of load in the order of tables.
func kinds() []string {
	return []string{longDirect, longService, longMasked, freshDirect, fresh, queries, masked}
}

// measured are the sorts of windows that there were, in the order of tables.
func (r *result) measured() []sort {
	return slices.DeleteFunc(sorts(), func(what sort) bool { return len(r.Windows[what]) == 0 })
}

// columns are the heads of a table of what is counted: a name, each sort of window,
// and empty tables.
func (r *result) columns() []string {
	out := []string{"what"}
	for _, what := range append(r.measured(), emptied) {
		out = append(out, what.text())
	}
	return out
}

func (r *result) brokenTable() table {
	t := table{title: "What broke, and what breaks when the agent restarts with tables of another size that are empty.", head: r.columns()}
	counts := []map[failure]int{}
	for _, what := range r.measured() {
		counts = append(counts, broken(r.Failures, r.Windows[what]))
	}
	without := map[failure]int{}
	if !r.Emptied.Begin.IsZero() {
		// It takes a while until somebody sees that no answer comes.
		without = broken(r.Failures, []span{{r.Emptied.Begin, r.Emptied.Begin.Add(time.Hour)}})
	}
	for _, kind := range kinds() {
		row := []string{kind}
		for _, c := range append(counts, without) {
			row = append(row, ofKind(c, kind))
		}
		t.add(row...)
	}
	return t
}

// ofKind sums up the failures of a kind.
func ofKind(all map[failure]int, kind string) string {
	sum, reasons := 0, []string{}
	for f, n := range all {
		if f.Kind == kind {
			sum += n
			reasons = append(reasons, fmt.Sprintf("%d %s", n, f.Reason))
		}
	}
	if sum == 0 {
		return "0"
	}
	slices.Sort(reasons)
	return fmt.Sprintf("%d (%s)", sum, strings.Join(reasons, ", "))
}

func (r *result) dropsTable() table {
	t := table{title: "Packets that the programs dropped, or took note of, by reason; inserts that the kernel refused.", head: r.columns()}
	sums := map[string]map[sort]uint64{}
	for _, d := range r.Dropped {
		key := d.Program + ": " + d.Reason
		if sums[key] == nil {
			sums[key] = map[sort]uint64{}
		}
		sums[key][d.When] += d.Packets
	}
	if len(sums) == 0 {
		sums["none"] = nil
	}
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		row := []string{key}
		for _, what := range append(r.measured(), emptied) {
			row = append(row, fmt.Sprint(sums[key][what]))
		}
		t.add(row...)
	}
	full, other := uint64(0), uint64(0)
	for _, i := range r.Inserts {
		full, other = full+i.Full, other+i.Busy+i.Failed
	}
	for what, number := range map[string]uint64{"lack of room": full, "another cause": other} {
		row := make([]string, len(t.head))
		row[0], row[1] = "inserts refused for "+what+", all windows together", fmt.Sprint(number)
		t.add(row...)
	}
	slices.SortStableFunc(t.rows, func(a, b []string) int { return cmp.Compare(a[0], b[0]) })
	return t
}

func (r *result) latencyTable() table {
	heads := make([]string, 0, len(sorts()))
	for _, what := range r.measured() {
		heads = append(heads, what.text())
	}
	t := table{
		title: "Latency in ms, " + strings.Join(heads, " → ") + ". New connections: until a block came back on it.",
		head:  []string{"what", "a second", "p50", "p90", "p99", "p99.9", "most"},
	}
	for _, l := range r.Latencies {
		cell := func(format string, of func(quantiles) float64) string {
			var parts []string
			for _, what := range r.measured() {
				parts = append(parts, fmt.Sprintf(format, of(l.In[what])))
			}
			return strings.Join(parts, " → ")
		}
		row := []string{l.Kind, cell("%.0f", func(q quantiles) float64 { return q.Rate })}
		for _, of := range []func(quantiles) float64{
			func(q quantiles) float64 { return q.P50 }, func(q quantiles) float64 { return q.P90 }, func(q quantiles) float64 { return q.P99 },
			func(q quantiles) float64 { return q.P999 }, func(q quantiles) float64 { return q.Max },
		} {
			row = append(row, cell("%.2f", func(q quantiles) float64 { return of(q) / 1000 }))
		}
		t.add(row...)
	}
	return t
}

// verdict fails a run in which anything was lost or ended by a move. Answers that a
// machine without a moment to spare leaves out come without moves too; of those of
// short connections and queries there must not be more with moves than without.
func (r *result) verdict() error {
	var errs []error
	if r.Lost > 0 || r.Compared == 0 {
		errs = append(errs, fmt.Errorf("%d of %d entries were lost", r.Lost, r.Compared))
	}
	if r.Moves.Done == 0 || len(r.Moves.Problems) > 0 {
		errs = append(errs, fmt.Errorf("%d moves ended; problems %v", r.Moves.Done, r.Moves.Problems))
	}
	if r.Options.Other != "" && r.Changes.Done == 0 {
		errs = append(errs, errors.New("no version with another layout took over"))
	}
	errs = append(errs, r.failed()...)
	for _, d := range r.Dropped {
		if d.When != quiet && d.When != emptied && !d.Event {
			errs = append(errs, fmt.Errorf("%d packets dropped by %s: %s", d.Packets, d.Program, d.Reason))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", errBroke, errors.Join(errs...))
}

// failed are the failures in windows with moves that come from them.
func (r *result) failed() []error {
	silent := map[string]int{}
	for f, n := range broken(r.Failures, r.Windows[quiet]) {
		silent[f.Kind] += n
	}
	var errs []error
	for f, n := range broken(r.Failures, slices.Concat(r.Windows[moving], r.Windows[killing], r.Windows[layouts])) {
		short := f.Kind == fresh || f.Kind == freshDirect || f.Kind == queries || f.Kind == masked
		if !short || f.Reason != "no answer" || n > 2*silent[f.Kind] {
			errs = append(errs, fmt.Errorf("%d × %s: %s", n, f.Kind, f.Reason))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errs
}
