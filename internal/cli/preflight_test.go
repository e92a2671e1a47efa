package cli

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/planner/preflight"
)

const preflightFile = "testdata/preflight.yaml"

// TestPreflightGolden needs no agent: it is asked of a socket that nobody serves.
func TestPreflightGolden(t *testing.T) {
	file := " -f " + preflightFile
	golden(t, []goldenCase{
		{"preflight", unreachableAgent(), "preflight" + file, ExitFailed},
		{"preflight-quiet", unreachableAgent(), "preflight -q" + file, ExitFailed},
		{"preflight-cilium", unreachableAgent(), "preflight validate-cnp --for cilium --target-version 1.20" + file, ExitOK},
		{"preflight-fail-on", unreachableAgent(), "preflight --for cilium --fail-on warning -q" + file, ExitFailed},
		{"preflight-json", unreachableAgent(), "preflight -o json" + file, ExitFailed},
		{"preflight-sarif", unreachableAgent(), "preflight -o sarif -q" + file, ExitFailed},
		{"preflight-junit", unreachableAgent(), "preflight -o junit" + file, ExitFailed},
		{"preflight-explain", unreachableAgent(), "preflight --explain plc-p204", ExitOK},
		{"preflight-explain-none", unreachableAgent(), "preflight --explain PLC-P999", ExitUsage},
		{"preflight-explain-sarif", unreachableAgent(), "preflight --explain all -o sarif", ExitUsage},
		{"preflight-bad-version", unreachableAgent(), "preflight --target-version new" + file, ExitUsage},
		{"preflight-bad-severity", unreachableAgent(), "preflight --fail-on fatal" + file, ExitUsage},
		{"preflight-no-file", unreachableAgent(), "preflight -f testdata/nothing-there.yaml", ExitUnjudged},
	})
}

// TestPreflightBroken checks that what cannot be read fails, and the rest is checked.
func TestPreflightBroken(t *testing.T) {
	text, err := os.ReadFile(preflightFile)
	if err != nil {
		t.Fatal(err)
	}
	got := placid(t, unreachableAgent(), "a: [\n---\n"+string(text), "preflight", "--for", "cilium", "-f", "-")
	if got.code != ExitFailed || !strings.Contains(got.stdout, preflight.Unreadable) || !strings.Contains(got.stdout, preflight.NoPeer) {
		t.Errorf("exit %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// TestSARIF checks what SARIF 2.1.0 requires (sections 3.13, 3.14, 3.19, 3.27, 3.49):
// version, runs, the name of the driver, results with a message, rules with different
// ids, levels, and indexes that lead to the rule.
func TestSARIF(t *testing.T) {
	got := placid(t, unreachableAgent(), "", "preflight", "-o", "sarif", "-f", preflightFile)
	var log sarifLog
	d := json.NewDecoder(strings.NewReader(got.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("%+v", log)
	}
	run := log.Runs[0]
	var ids []string
	for _, r := range run.Tool.Driver.Rules {
		if r.Short.Text == "" || r.Full.Text == "" || !slices.Contains(preflight.Severities(), r.Default.Level) {
			t.Errorf("rule %+v", r)
		}
		ids = append(ids, r.ID)
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("ids of rules: %v", ids)
	}
	if len(run.Results) == 0 {
		t.Fatal("no results")
	}
	for _, r := range run.Results {
		if r.Index < 0 || r.Index >= len(ids) || ids[r.Index] != r.Rule || r.Message.Text == "" || !slices.Contains(preflight.Severities(), r.Level) {
			t.Errorf("result %+v", r)
		}
		for _, l := range r.Locations {
			if l.Physical != nil && l.Physical.Artifact.URI != preflightFile {
				t.Errorf("location %+v", l.Physical)
			}
		}
	}
	empty := sarifLocations(preflight.Finding{})
	space := preflight.Finding{}
	space.Origin.File = "a b/c:d.yaml"
	if uri := sarifLocations(space)[0].Physical.Artifact.URI; empty != nil || uri != "a%20b/c:d.yaml" {
		t.Errorf("%v, %q", empty, uri)
	}
}

// TestJUnit checks that the counts are those of the cases, and that there is a case
// where nothing was found.
func TestJUnit(t *testing.T) {
	for _, args := range [][]string{{"-f", preflightFile}, {"-f", preflightFile, "--for", "cilium", "-q"}} {
		got := placid(t, unreachableAgent(), "", append([]string{"preflight", "-o", "junit"}, args...)...)
		var suites junitSuites
		if err := xml.Unmarshal([]byte(got.stdout), &suites); err != nil {
			t.Fatal(err)
		}
		s := suites.Suites[0]
		failures := 0
		for _, c := range s.Cases {
			if c.Failure != nil {
				failures++
			}
		}
		if s.Tests != len(s.Cases) || s.Tests == 0 || s.Failures != failures || (failures > 0) != (got.code == ExitFailed) {
			t.Errorf("%v: exit %d, %+v", args, got.code, s)
		}
	}
}
