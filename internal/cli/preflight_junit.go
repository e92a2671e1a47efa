package cli

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/placid-net/placid/internal/planner/preflight"
)

// The parts of a JUnit report that are written, as Jenkins and GitLab read them.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		File    string        `xml:"file,attr,omitempty"`
		Failure *junitFailure `xml:"failure"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

const junitName = "placid preflight"

// writeJUnit writes findings as test cases: those as bad as --fail-on are failures.
// Without any finding there is one case, which passed.
func writeJUnit(out *bytes.Buffer, res preflightResult) error {
	suite := junitSuite{Name: junitName}
	for _, f := range res.Findings {
		text := fmt.Sprintf("%s %s", f.Severity, f.Message)
		c := junitCase{Class: f.Object.String(), Name: strings.TrimSpace(f.Code + " " + f.Field), File: f.Origin.File}
		if c.Class == "" {
			c.Class = "cluster"
		}
		if f.Severity.AtLeast(res.failOn) {
			suite.Failures++
			c.Failure = &junitFailure{Type: f.Code, Message: titleOf(f.Code), Text: text}
		} else {
			c.Output = text
		}
		suite.Cases = append(suite.Cases, c)
	}
	if len(suite.Cases) == 0 {
		suite.Cases = []junitCase{{Class: "cluster", Name: "preflight"}}
	}
	suite.Tests = len(suite.Cases)
	text, err := xml.MarshalIndent(junitSuites{Suites: []junitSuite{suite}}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode as XML: %w", err)
	}
	out.WriteString(xml.Header)
	out.Write(text)
	out.WriteByte('\n')
	return nil
}

func titleOf(code string) string {
	c, _ := preflight.Explain(code)
	return c.Title
}
