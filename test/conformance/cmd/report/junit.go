package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// outcome is how a case ended.
type outcome int

const (
	passed outcome = iota
	failed
	skipped
)

func (o outcome) String() string { return [...]string{"passed", "failed", "skipped"}[o] }

// result is one case of a suite.
type result struct {
	name    string
	outcome outcome
	message string // why it failed or was skipped, in one line; may be empty
	took    time.Duration
}

// suite is what one JUnit file says.
type suite struct {
	results []result
	focus   string // the regular expression of what was to run, or empty for all
	broken  bool   // the suite as a whole failed, by its own word
}

// The elements of a JUnit file that are read. The root is <testsuites> or a lone
// <testsuite>.
type (
	junitRoot struct {
		Suites []junitSuite `xml:"testsuite"`
		junitSuite
	}
	junitSuite struct {
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Seconds float64       `xml:"time,attr"`
		Failure *junitMessage `xml:"failure"`
		Error   *junitMessage `xml:"error"`
		Skipped *junitMessage `xml:"skipped"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
	}
)

// specPrefix starts the names of ginkgo's specs; its other nodes, such as the
// one before the suite, have another in brackets.
const specPrefix = "[It] "

// parseJUnit reads a JUnit file of ginkgo or cyclonus. Of ginkgo's nodes that
// are no specs it keeps those that failed. Cases of cyclonus, whose names repeat,
// get the number that its log has for them.
func parseJUnit(r io.Reader) (suite, error) {
	var root junitRoot
	if err := xml.NewDecoder(r).Decode(&root); err != nil {
		return suite{}, fmt.Errorf("parse JUnit: %w", err)
	}
	var s suite
	for _, part := range append(root.Suites, root.junitSuite) {
		s.addProperties(part.Properties)
		ofGinkgo := len(part.Properties) > 0
		for i, c := range part.Cases {
			r := c.result()
			if !ofGinkgo {
				r.name = fmt.Sprintf("#%d %s", i+1, r.name)
			}
			if ofGinkgo && !strings.HasPrefix(c.Name, specPrefix) && r.outcome != failed {
				continue
			}
			s.results = append(s.results, r)
		}
	}
	return s, nil
}

func (s *suite) addProperties(properties []junitProperty) {
	for _, p := range properties {
		switch p.Name {
		case "FocusStrings":
			s.focus = p.Value
		case "SuiteSucceeded":
			s.broken = s.broken || p.Value != "true"
		}
	}
}

func (c junitCase) result() result {
	r := result{name: specName(c.Name), took: time.Duration(c.Seconds * float64(time.Second))}
	switch {
	case c.Failure != nil:
		r.outcome, r.message = failed, firstLine(c.Failure.Message)
	case c.Error != nil:
		r.outcome, r.message = failed, firstLine(c.Error.Message)
	case c.Skipped != nil:
		r.outcome, r.message = skipped, firstLine(c.Skipped.Message)
	}
	return r
}

// specName is the name of a spec without ginkgo's prefix, and without the list
// of labels that ginkgo puts behind it: they are in the name already.
func specName(name string) string {
	name, isSpec := strings.CutPrefix(name, specPrefix)
	if !isSpec {
		return name
	}
	if start := strings.LastIndex(name, " [sig-"); start > 0 && strings.HasSuffix(name, "]") {
		return name[:start]
	}
	return name
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
