package main

import (
	"encoding/xml"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ginkgoFile = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="942" disabled="2" errors="1" failures="1" time="61.5">
  <testsuite name="Kubernetes e2e suite" tests="942">
    <properties>
      <property name="SuiteSucceeded" value="false"></property>
      <property name="FocusStrings" value="Netpol"></property>
      <property name="SkipStrings" value="SCTP"></property>
    </properties>
    <testcase name="[SynchronizedBeforeSuite]" status="passed" time="1.5"></testcase>
    <testcase name="[It] [sig-network] Netpol allows [Feature:NetworkPolicy] [sig-network, Feature:NetworkPolicy]" status="passed" time="12.25"></testcase>
    <testcase name="[It] [sig-network] Netpol denies [sig-network]" status="failed" time="61">
      <failure message="Had 3 wrong results in reachability matrix&#xA;at line 2" type="failed">a stack</failure>
      <system-err>a log</system-err>
    </testcase>
    <testcase name="[It] [sig-network] Netpol over SCTP [sig-network]" status="skipped"><skipped message="skipped"></skipped></testcase>
    <testcase name="[It] [sig-network] Netpol on Windows [sig-network]" status="skipped"><skipped message="skipped - only on Windows"></skipped></testcase>
    <testcase name="[It] [sig-network] Netpol is interrupted" status="interrupted"><error message="interrupted" type="interrupted">x</error></testcase>
    <testcase name="[SynchronizedAfterSuite]" status="failed"><failure message="clean up" type="failed">x</failure></testcase>
  </testsuite>
</testsuites>`

const cyclonusFile = `<testsuite tests="0" failures="1" time="" name="cyclonus">
    <testcase classname="" name="ingress: deny all" time=""></testcase>
    <testcase classname="" name="egress: deny all" time=""><failure message="" type=""></failure></testcase>
</testsuite>`

func TestParseJUnit(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want suite
	}{
		"ginkgo": {ginkgoFile, suite{focus: "Netpol", broken: true, results: []result{
			{name: "[sig-network] Netpol allows [Feature:NetworkPolicy]", took: 12250 * time.Millisecond},
			{name: "[sig-network] Netpol denies", outcome: failed, message: "Had 3 wrong results in reachability matrix", took: time.Minute + time.Second},
			{name: "[sig-network] Netpol over SCTP", outcome: skipped, message: "skipped"},
			{name: "[sig-network] Netpol on Windows", outcome: skipped, message: "skipped - only on Windows"},
			{name: "[sig-network] Netpol is interrupted", outcome: failed, message: "interrupted"},
			{name: "[SynchronizedAfterSuite]", outcome: failed, message: "clean up"},
		}}},
		"cyclonus": {cyclonusFile, suite{results: []result{
			{name: "#1 ingress: deny all"},
			{name: "#2 egress: deny all", outcome: failed},
		}}},
		"empty": {"<testsuites></testsuites>", suite{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseJUnit(strings.NewReader(test.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(suite{}, result{})); diff != "" {
				t.Errorf("parseJUnit (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseJUnitRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"nothing":   "",
		"cut off":   ginkgoFile[:len(ginkgoFile)/2],
		"no number": `<testsuite><testcase name="a" time="soon"></testcase></testsuite>`,
		"no XML":    "PASS",
	} {
		if s, err := parseJUnit(strings.NewReader(file)); err == nil {
			t.Errorf("%s: parseJUnit = %+v, want an error", name, s)
		}
	}
}

func TestSpecName(t *testing.T) {
	for name, want := range map[string]string{
		"[It] [sig-network] Netpol x [Slow] [sig-network, Slow]": "[sig-network] Netpol x [Slow]",
		"[It] [sig-network] Netpol x":                            "[sig-network] Netpol x",
		"[It] [sig-network]":                                     "[sig-network]",
		"[BeforeSuite]":                                          "[BeforeSuite]",
		"plain [sig-network]":                                    "plain [sig-network]",
	} {
		if got := specName(name); got != want {
			t.Errorf("specName(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzParseJUnit(f *testing.F) {
	f.Add(ginkgoFile)
	f.Add(cyclonusFile)
	f.Fuzz(func(t *testing.T, file string) {
		s, err := parseJUnit(strings.NewReader(file))
		if err != nil {
			return
		}
		// A failed case is never lost: it is what the exit status depends on.
		if want := failuresIn(t, file); tallyOf(s.results)[failed] < want {
			t.Errorf("%d failed cases in the file, %d in %+v", want, tallyOf(s.results)[failed], s.results)
		}
	})
}

// failuresIn counts the failed cases of the suites in a file, slowly.
func failuresIn(t *testing.T, file string) int {
	t.Helper()
	type node struct {
		XMLName  xml.Name
		Children []node `xml:",any"`
	}
	var root node
	if err := xml.NewDecoder(strings.NewReader(file)).Decode(&root); err != nil {
		t.Fatalf("parseJUnit took what is no XML: %v", err)
	}
	is := func(n node, names ...string) bool { return slices.Contains(names, n.XMLName.Local) }
	count := 0
	countCases := func(parent node) {
		for _, c := range parent.Children {
			if !is(c, "testcase") {
				continue
			}
			for _, child := range c.Children {
				if is(child, "failure", "error") {
					count++
					break
				}
			}
		}
	}
	countCases(root)
	for _, part := range root.Children {
		if is(part, "testsuite") {
			countCases(part)
		}
	}
	return count
}

func tallyOf(results []result) tally {
	var count tally
	for _, r := range results {
		count[r.outcome]++
	}
	return count
}
