package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const skipFile = "# no SCTP here\nSCTP\n# slow\nServices\n"

// files writes files into a folder that is called native, and returns its path.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "native")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range contents {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func ginkgo(succeeded, cases string) string {
	return `<testsuites><testsuite><properties><property name="FocusStrings" value="Netpol"/>` +
		`<property name="SuiteSucceeded" value="` + succeeded + `"/></properties>` + cases + `</testsuite></testsuites>`
}

const (
	passedCase = `<testcase name="[It] Netpol a" time="2"/>`
	failedCase = `<testcase name="[It] Netpol b" time="3"><failure message="3 wrong"/></testcase>`
	sctpCase   = `<testcase name="[It] Netpol SCTP"><skipped message="skipped"/></testcase>`
	otherCases = `<testcase name="[It] Services c"><skipped message="skipped"/></testcase><testcase name="[It] Netpol d"><skipped message="skipped"/></testcase>`
	choosyCase = `<testcase name="[It] Netpol e"><skipped message="skipped - needs two zones"/></testcase>`
)

func TestRun(t *testing.T) {
	for name, test := range map[string]struct {
		netpol, cyclonus string // files; "" is none
		want             string
		good             bool
	}{
		"all pass": {
			ginkgo("true", passedCase+otherCases+sctpCase+choosyCase), `<testsuite><testcase name="deny all"/></testsuite>`,
			`native/netpol: 1 passed, 0 failed, 2 skipped; the cases took 2s together
  skipped Netpol SCTP (no SCTP here)
  skipped Netpol e (skipped - needs two zones)
  passed  Netpol a (2s)

native/cyclonus: 1 passed, 0 failed, 0 skipped
  passed  #1 deny all

conformance: 2 passed, 0 failed, 2 skipped
`, true,
		},
		"one fails": {
			ginkgo("false", passedCase+failedCase), `<testsuite><testcase name="deny all"/></testsuite>`,
			`native/netpol: 1 passed, 1 failed, 0 skipped; the cases took 5s together
  failed  Netpol b (3s: 3 wrong)
  passed  Netpol a (2s)

native/cyclonus: 1 passed, 0 failed, 0 skipped
  passed  #1 deny all

conformance: 2 passed, 1 failed, 0 skipped
`, false,
		},
		"one suite did not end": {
			ginkgo("true", passedCase), "",
			`native/netpol: 1 passed, 0 failed, 0 skipped; the cases took 2s together
  passed  Netpol a (2s)

native/cyclonus: no results: the suite did not end; see DIR/cyclonus.log

conformance: 1 passed, 0 failed, 0 skipped
`, false,
		},
		"nothing ran, and a file is cut off": {
			ginkgo("true", sctpCase), "<testsuite><testcase",
			`native/netpol: 0 passed, 0 failed, 1 skipped
  skipped Netpol SCTP (no SCTP here)
native/netpol: no case ran; see DIR/netpol.log

native/cyclonus: parse JUnit: XML syntax error on line 1: unexpected EOF

conformance: 0 passed, 0 failed, 1 skipped
`, false,
		},
		"the suite failed outside of its cases": {
			ginkgo("false", passedCase), `<testsuite><testcase name="deny all"/></testsuite>`,
			`native/netpol: 1 passed, 0 failed, 0 skipped; the cases took 2s together
  passed  Netpol a (2s)
native/netpol: the suite failed outside of its cases; see DIR/netpol.log

native/cyclonus: 1 passed, 0 failed, 0 skipped
  passed  #1 deny all

conformance: 2 passed, 0 failed, 0 skipped
`, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			contents := map[string]string{"skip.txt": skipFile, "netpol.xml": test.netpol}
			if test.cyclonus != "" {
				contents["cyclonus.xml"] = test.cyclonus
			}
			folder := files(t, contents)
			var out strings.Builder
			err := run(&out, filepath.Join(folder, "skip.txt"), []string{filepath.Join(folder, "netpol.xml"), filepath.Join(folder, "cyclonus.xml")})
			if good := err == nil; good != test.good || (!good && !errors.Is(err, errNotPassed)) {
				t.Errorf("run = %v, want success: %t", err, test.good)
			}
			if diff := cmp.Diff(test.want, strings.ReplaceAll(out.String(), folder, "DIR")); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	folder := files(t, map[string]string{"bad.txt": "SCTP\n", "netpol.xml": ginkgo("true", passedCase)})
	netpol := []string{filepath.Join(folder, "netpol.xml")}
	for name, test := range map[string]struct {
		skips string
		files []string
		want  string
	}{
		"no files":      {"", nil, "no JUnit files"},
		"no skip list":  {filepath.Join(folder, "absent.txt"), netpol, "absent.txt"},
		"bad skip list": {filepath.Join(folder, "bad.txt"), netpol, "has no reason"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := run(&out, test.skips, test.files); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("run = %v, want an error with %q", err, test.want)
			}
		})
	}
}
