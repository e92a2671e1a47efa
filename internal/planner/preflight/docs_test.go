package preflight

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/preflight.md")

const docsFile = "../../../docs/preflight.md"

// TestDocs keeps docs/preflight.md equal to the registry.
func TestDocs(t *testing.T) {
	want := document()
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the registry says: go test ./internal/planner/preflight -run TestDocs -update", docsFile)
	}
}

func document() string {
	var out strings.Builder
	out.WriteString(`<!-- Generated: go test ./internal/planner/preflight -run TestDocs -update -->

# What preflight finds

` + "`placid preflight`" + ` reads a live cluster, or files, and tells what does not work as
it is written, what is probably not meant, and what does not fit. It needs no
agent and changes nothing; see [cli.md](cli.md) for its flags and exit codes. As a
hook of Git: ` + "`placid preflight -q -f policies/`" + `.

A code never changes its meaning. ` + "`placid preflight --explain CODE`" + ` shows what
follows. The severity is the usual one; where a finding is harmless, it is lighter.

| Code | Severity | Finding | What it means |
|---|---|---|---|
`)
	for _, c := range Codes() {
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", c.Name, c.Severity, c.Title, strings.ReplaceAll(c.Explanation, "|", "\\|"))
	}
	out.WriteString("\n## Versions to come\n\nWith `--target-version`, for Cilium (no version of Placid changes what policies mean yet):\n\n| Since | Change | Source |\n|---|---|---|\n")
	for _, c := range changes() {
		fmt.Fprintf(&out, "| %s | %s | %s |\n", c.since, c.what, c.source)
	}
	out.WriteString("\n## Keys of older versions\n\n| Key | Removed by Cilium | Instead | Source |\n|---|---|---|---|\n")
	for _, k := range oldKeys() {
		key := "`" + k.key + "`"
		if len(k.values) > 0 {
			key += ": " + strings.Join(k.values, ", ")
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", key, k.removed, k.instead, k.source)
	}
	return out.String()
}

// TestCodes checks that every code is described, once, and in order.
func TestCodes(t *testing.T) {
	form := regexp.MustCompile(`^PLC-P[0-7]\d\d$`)
	var last string
	for _, c := range Codes() {
		if !form.MatchString(c.Name) || c.Name <= last {
			t.Errorf("%s after %s", c.Name, last)
		}
		if !slices.Contains(Severities(), c.Severity) || c.Title == "" || !strings.HasSuffix(c.Explanation, ".") {
			t.Errorf("%+v is not whole", c)
		}
		last = c.Name
		if got, ok := Explain(c.Name); !ok || got != c {
			t.Errorf("Explain(%s) = %v, %v", c.Name, got, ok)
		}
	}
	if _, ok := Explain("PLC-P000"); ok {
		t.Error("PLC-P000 is explained")
	}
}
