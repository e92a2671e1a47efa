package cli

import (
	"bytes"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/placid-net/placid/internal/planner/preflight"
)

// The parts of a SARIF 2.1.0 log that are written (OASIS, Static Analysis Results
// Interchange Format Version 2.1.0, section 3).
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID      string    `json:"id"`
		Short   sarifText `json:"shortDescription"`
		Full    sarifText `json:"fullDescription"`
		Default struct {
			Level preflight.Severity `json:"level"`
		} `json:"defaultConfiguration"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		Rule      string             `json:"ruleId"`
		Index     int                `json:"ruleIndex"`
		Level     preflight.Severity `json:"level"` // has the same words
		Message   sarifText          `json:"message"`
		Locations []sarifLocation    `json:"locations,omitempty"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

const (
	sarifSchema  = "https://json.schemastore.org/sarif-2.1.0.json"
	sarifVersion = "2.1.0"
	// standardInput is what the origin of objects calls that: it is no file.
	standardInput = "standard input"
)

// writeSARIF writes findings as one run of a SARIF log. Every code is a rule.
func writeSARIF(out *bytes.Buffer, res preflightResult, version string) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "placid preflight", Version: version}}, Results: []sarifResult{}}
	codes := preflight.Codes()
	for _, c := range codes {
		rule := sarifRule{ID: c.Name, Short: sarifText{c.Title}, Full: sarifText{c.Explanation}}
		rule.Default.Level = c.Severity
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
	}
	for _, f := range res.Findings {
		run.Results = append(run.Results, sarifResult{
			Rule: f.Code, Index: slices.IndexFunc(codes, func(c preflight.Code) bool { return c.Name == f.Code }),
			Level: f.Severity, Message: sarifText{f.Message}, Locations: sarifLocations(f),
		})
	}
	return encode(out, outJSON, sarifLog{sarifSchema, sarifVersion, []sarifRun{run}})
}

// sarifLocations gives the file, if there is one, and the object with the field.
func sarifLocations(f preflight.Finding) []sarifLocation {
	var l sarifLocation
	if f.Origin.File != "" && f.Origin.File != standardInput {
		l.Physical = &sarifPhysical{}
		l.Physical.Artifact.URI = (&url.URL{Path: filepath.ToSlash(f.Origin.File)}).String()
	}
	if name := f.Object.String(); name != "" {
		l.Logical = append(l.Logical, sarifLogical{name, "resource"})
	}
	if f.Field != "" {
		l.Logical = append(l.Logical, sarifLogical{f.Field, "property"})
	}
	if l.Physical == nil && l.Logical == nil {
		return nil
	}
	return []sarifLocation{l}
}
