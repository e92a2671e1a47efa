// Package report writes results as Markdown tables into a document, between
// markers that name the section.
//
// Invariants: what is outside of a section's markers is never changed; a
// section says when and on what it was measured.
package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoSection is returned when the document has no markers of that name.
var ErrNoSection = errors.New("no such section")

// Table is a table of text; every row has as many cells as Head.
type Table struct {
	Title string // a line above it; may be empty
	Head  []string
	Rows  [][]string
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Markdown gives the table's text.
func (t *Table) Markdown() string {
	var b strings.Builder
	if t.Title != "" {
		fmt.Fprintf(&b, "%s\n\n", t.Title)
	}
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.Head)
	line(append([]string{"---"}, slicesOf("--:", len(t.Head)-1)...))
	for _, r := range t.Rows {
		line(r)
	}
	return b.String()
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// Replace returns document with the text between the markers of section
// replaced by text.
func Replace(document []byte, section, text string) ([]byte, error) {
	begin := fmt.Appendf(nil, "<!-- begin %s -->\n", section)
	end := fmt.Appendf(nil, "<!-- end %s -->\n", section)
	head, rest, ok := bytes.Cut(document, begin)
	if !ok {
		return nil, fmt.Errorf("%w: %s: the document has no line %q", ErrNoSection, section, bytes.TrimSpace(begin))
	}
	_, tail, ok := bytes.Cut(rest, end)
	if !ok {
		return nil, fmt.Errorf("%w: %s: the document has no line %q after its begin", ErrNoSection, section, bytes.TrimSpace(end))
	}
	return bytes.Join([][]byte{head, begin, []byte(strings.TrimSpace(text) + "\n"), end, tail}, nil), nil
}

// Write replaces the section of the file at path by the line of Conditions and
// the tables.
func Write(path, section, conditions string, tables []Table) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	parts := []string{conditions}
	for i := range tables {
		parts = append(parts, tables[i].Markdown())
	}
	document, err = Replace(document, section, strings.Join(parts, "\n\n"))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, document, 0o644); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}

// Conditions says when and on what a run was made: date, kernel, CPU, and the
// load average of the minute before.
func Conditions(now time.Time) string {
	return fmt.Sprintf("Measured %s on Linux %s, %d × %s; load average %s when it began.",
		now.UTC().Format("2006-01-02 15:04 UTC"), kernel(), cpus(), cpuModel(), loadAverage())
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func cpus() int { return strings.Count(cpuinfo(), "\nprocessor") + 1 }

func cpuModel() string {
	for line := range strings.Lines(cpuinfo()) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "CPU of unknown model"
}

func cpuinfo() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return string(b)
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
