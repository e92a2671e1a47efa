package preflight

import (
	"cmp"
	"slices"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// Severity says how much a finding matters.
type Severity string

// The severities, the worst first.
const (
	// Error: something does not work as it is written, or was not read.
	Error Severity = "error"
	// Warning: it is probably not what was meant.
	Warning Severity = "warning"
	// Note: it may be meant so, and is good to know.
	Note Severity = "note"
)

// Severities returns them all, the worst first.
func Severities() []Severity { return []Severity{Error, Warning, Note} }

// rank is lower for what is worse.
func (s Severity) rank() int { return slices.Index(Severities(), s) }

// AtLeast tells whether s is as bad as o, or worse.
func (s Severity) AtLeast(o Severity) bool { return s.rank() <= o.rank() }

// Object names one object of the API, as snapshot.Object does.
type Object struct {
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// String gives e.g. "NetworkPolicy default/web"; empty for no object.
func (o Object) String() string { return snapshot.Object(o).String() }

func (o Object) compare(p Object) int {
	return cmp.Or(cmp.Compare(o.Kind, p.Kind), cmp.Compare(o.Namespace, p.Namespace), cmp.Compare(o.Name, p.Name))
}

// Finding is one thing that was found.
type Finding struct {
	// Code is one of Codes, and never means anything else.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	// Object is what it is about; empty for the cluster, or for a text that is no
	// object. Origin is where that was read.
	Object Object          `json:"object,omitzero"`
	Origin snapshot.Origin `json:"origin,omitzero"`
	// Field is its path in the object, e.g. "spec.ingress[0].from[1]", or a key of
	// the configuration; empty for the whole.
	Field string `json:"field,omitempty"`
	// Message is a sentence that says what is wrong and what to do.
	Message string `json:"message"`
}

// compare orders by object, severity, code and field. What has no object is first.
func (f Finding) compare(o Finding) int {
	return cmp.Or(
		f.Object.compare(o.Object), cmp.Compare(f.Origin.File, o.Origin.File), cmp.Compare(f.Origin.Document, o.Origin.Document),
		cmp.Compare(f.Origin.Item, o.Origin.Item), cmp.Compare(f.Severity.rank(), o.Severity.rank()), cmp.Compare(f.Code, o.Code),
		naturally(f.Field, o.Field), cmp.Compare(f.Message, o.Message),
	)
}

// naturally compares texts with numbers in them: "x[2]" is before "x[10]".
func naturally(a, b string) int {
	for len(a) > 0 && len(b) > 0 {
		i, j := digits(a), digits(b)
		if i > 0 && j > 0 {
			if c := cmp.Or(cmp.Compare(i, j), cmp.Compare(a[:i], b[:j])); c != 0 {
				return c
			}
			a, b = a[i:], b[j:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits counts those that the text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// Counts are how many findings there are of each severity.
type Counts struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Notes    int `json:"notes"`
}

// Count counts findings.
func Count(findings []Finding) Counts {
	var c Counts
	for _, f := range findings {
		switch f.Severity {
		case Error:
			c.Errors++
		case Warning:
			c.Warnings++
		case Note:
			c.Notes++
		}
	}
	return c
}

// AtLeast counts the findings that are as bad as s, or worse.
func AtLeast(findings []Finding, s Severity) int {
	n := 0
	for _, f := range findings {
		if f.Severity.AtLeast(s) {
			n++
		}
	}
	return n
}
