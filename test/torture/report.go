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
	return fmt.Sprintf("Measured %s on Linux %s: %d times a window of %s without moves, one with moves, and one in which the agent is killed besides; %d long connections, at most %d new connections and %d queries a second, %d other flows in the tables, which have %d entries at first.\n",
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
		{"entries that were there before windows with moves, and cannot have expired", r.Compared},
		{"**… of which were lost**", r.Lost},
	} {
		t.add(row.what, fmt.Sprint(row.number))
	}
	t.add("longest move", m.Longest.Round(time.Millisecond).String())
	return t
}

// kinds of load in the order of tables.
func kinds() []string {
	return []string{longDirect, longService, longMasked, freshDirect, fresh, queries, masked}
}

func (r *result) brokenTable() table {
	t := table{title: "What broke, and what breaks when the agent restarts with tables of another size that are empty.", head: []string{"what", "without moves", "with moves", "and kills", "with empty tables"}}
	quiet, moving, killing := broken(r.Failures, r.Quiet), broken(r.Failures, r.Moving), broken(r.Failures, r.Killing)
	emptied := map[failure]int{}
	if !r.Emptied.Begin.IsZero() {
		// It takes a while until somebody sees that no answer comes.
		emptied = broken(r.Failures, []span{{r.Emptied.Begin, r.Emptied.Begin.Add(time.Hour)}})
	}
	for _, kind := range kinds() {
		t.add(kind, ofKind(quiet, kind), ofKind(moving, kind), ofKind(killing, kind), ofKind(emptied, kind))
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
	t := table{title: "Packets that the programs dropped, or took note of, by reason; inserts that the kernel refused.", head: []string{"what", "without moves", "with moves", "and kills", "with empty tables"}}
	sums := map[string]map[string]uint64{}
	for _, d := range r.Dropped {
		key := d.Program + ": " + d.Reason
		if sums[key] == nil {
			sums[key] = map[string]uint64{}
		}
		sums[key][d.When] += d.Packets
	}
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		t.add(key, fmt.Sprint(sums[key]["quiet"]), fmt.Sprint(sums[key]["moving"]), fmt.Sprint(sums[key]["killing"]), fmt.Sprint(sums[key]["emptied"]))
	}
	if len(sums) == 0 {
		t.add("none", "0", "0", "0", "0")
	}
	full, busy, failed := uint64(0), uint64(0), uint64(0)
	for _, i := range r.Inserts {
		full, busy, failed = full+i.Full, busy+i.Busy, failed+i.Failed
	}
	t.add("inserts refused for lack of room, all windows", "", fmt.Sprint(full), "", "")
	t.add("inserts refused for another cause, all windows", "", fmt.Sprint(busy+failed), "", "")
	return t
}

func (r *result) latencyTable() table {
	t := table{title: "Latency in ms, without moves → with moves → with kills of the agent besides. New connections: until a block came back on it.", head: []string{"what", "a second", "p50", "p90", "p99", "p99.9", "most"}}
	three := func(a, b, c float64) string {
		return fmt.Sprintf("%.2f → %.2f → %.2f", a/1000, b/1000, c/1000)
	}
	for _, l := range r.Latencies {
		q, m, k := l.Quiet, l.Moving, l.Killing
		t.add(l.Kind, fmt.Sprintf("%.0f → %.0f → %.0f", q.Rate, m.Rate, k.Rate), three(q.P50, m.P50, k.P50), three(q.P90, m.P90, k.P90),
			three(q.P99, m.P99, k.P99), three(q.P999, m.P999, k.P999), three(q.Max, m.Max, k.Max))
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
	errs = append(errs, r.failed()...)
	for _, d := range r.Dropped {
		if (d.When == "moving" || d.When == "killing") && !d.Event {
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
	for f, n := range broken(r.Failures, r.Quiet) {
		silent[f.Kind] += n
	}
	var errs []error
	for f, n := range broken(r.Failures, slices.Concat(r.Moving, r.Killing)) {
		short := f.Kind == fresh || f.Kind == freshDirect || f.Kind == queries || f.Kind == masked
		if !short || f.Reason != "no answer" || n > 2*silent[f.Kind] {
			errs = append(errs, fmt.Errorf("%d × %s: %s", n, f.Kind, f.Reason))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errs
}
