package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

//go:embed page.tmpl
var page string

//go:embed page.css
var style string

// Tone says how something is to be taken.
type Tone string

// The tones. The zero value says nothing.
const (
	Plain Tone = ""
	Good  Tone = "good"
	Warn  Tone = "warn"
	Bad   Tone = "bad"
)

// Report is one page.
type Report struct {
	Title   string // e.g. "Capacity plan"
	Subject string // e.g. "for Cilium, as of 12 nodes and 512 pods"
	Made    time.Time
	Version string // of the program
	Verdict Verdict
	Figures []Figure
	// Sections follow each other; one with nothing in it but a title is left out.
	Sections []Section
}

// Verdict is what the page says first.
type Verdict struct {
	Tone  Tone
	Label string // a word or two above the title, e.g. "First limit"
	Title string
	Text  string
}

// Figure is one number of the summary. After is empty where it stays.
type Figure struct{ Label, Now, After string }

// Section is a part of the page with what it has of the kinds below.
type Section struct {
	ID, Title, Lead string
	Chart           *Chart
	Bars            []Bar
	Cards           []Card
	Shares          []ShareList
	Findings        []Finding
	Pastes          []Paste
	Notes           []string
}

func (s Section) empty() bool {
	return s.Chart == nil && len(s.Bars)+len(s.Cards)+len(s.Shares)+len(s.Findings)+len(s.Pastes)+len(s.Notes) == 0
}

// Bar shows how much of a limit is needed, now and after.
type Bar struct {
	Label, Detail string
	Now, After    float64
	Limit         float64
	// Text is the numbers in words, e.g. "1,234 of 65,536", Mark what stands at the
	// end, e.g. "full at 3.1x".
	Text, Mark string
}

// Card is a group of bars, e.g. of a node.
type Card struct {
	Title, Detail string
	Bars          []Bar
}

// ShareList shows parts of a whole, the largest first.
type ShareList struct {
	Title, Lead string
	// Now and After head the numbers; an empty After leaves them out.
	Now, After string
	Shares     []Share
	More       int // that are not shown
}

// Share is one part.
type Share struct {
	Name       string
	Now, After int
}

// Chart shows lines over how far something has grown. 1 of Y is the limit.
type Chart struct {
	XLabel string // e.g. "times the cluster"
	Lines  []Line
	// Mark is where the first line meets the limit; 0: nowhere.
	Mark float64
}

// Line is one line. X of its points rises, and all lines have the same first and
// last.
type Line struct {
	Name, Detail string
	Points       []Point
}

// Point is one point of a line.
type Point struct{ X, Y float64 }

// Finding is something that a person should know.
type Finding struct {
	Tone  Tone
	Title string
	Text  string
}

// Paste is text to be copied somewhere.
type Paste struct{ Where, Text string }

// Page gives the page.
func Page(r Report) ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"width": width, "tone": toneOf, "percent": percent, "path": path, "place": place, "ticks": ticks, "top": top,
		"share": shareWidth, "number": number, "shown": func(s Section) bool { return !s.empty() },
		"style": func() template.CSS { return template.CSS(style) }, // our own file
		"made":  func(at time.Time) string { return at.UTC().Format("2 January 2006, 15:04 UTC") },
		"inc":   func(n int) int { return n + 1 },
	}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("parse the page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, r); err != nil {
		return nil, fmt.Errorf("write the page: %w", err)
	}
	return out.Bytes(), nil
}

// Shares of the limit from which a bar is said to be nearly full, and too full.
const (
	nearlyFull = 0.8
	tooFull    = 1
)

// width is how much of a bar's length, 0 to 100, something takes. What is not
// nothing can be seen.
func width(n, limit float64) float64 {
	if !(limit > 0) || !(n > 0) {
		return 0
	}
	return math.Round(100*min(max(100*n/limit, 0.6), 100)) / 100
}

func toneOf(b Bar) Tone {
	switch need := max(b.Now, b.After); {
	case !(b.Limit > 0):
		return Plain
	case need > b.Limit*tooFull:
		return Bad
	case need >= b.Limit*nearlyFull:
		return Warn
	}
	return Plain
}

// percent gives e.g. "0.4%", "12%" or "more than 999%".
func percent(b Bar) string {
	if !(b.Limit > 0) {
		return "–"
	}
	p := 100 * max(b.Now, b.After) / b.Limit
	switch {
	case p > 999:
		return ">999%"
	case p > 0 && p < 0.1:
		return "<0.1%"
	case p < 9.95 && p > 0:
		return strconv.FormatFloat(p, 'f', 1, 64) + "%"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + "%"
}

// chartTop is the fill at the top of a chart: what is beyond is not seen. Lines end
// at farBeyond.
const (
	chartTop  = 1.25
	farBeyond = 20
)

// path gives the points of a line in a field of 100 by 100.
func path(c *Chart, l Line) string {
	from, to := span(c)
	var b strings.Builder
	for i, p := range l.Points {
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(&b, "%s%.2f %.2f ", verb, 100*(p.X-from)/(to-from), 100-100*min(p.Y, farBeyond)/chartTop)
	}
	return strings.TrimSpace(b.String())
}

// span gives the first and last X of a chart.
func span(c *Chart) (from, to float64) {
	if len(c.Lines) == 0 || len(c.Lines[0].Points) < 2 {
		return 0, 1
	}
	points := c.Lines[0].Points
	from, to = points[0].X, points[len(points)-1].X
	if !(to > from) {
		to = from + 1
	}
	return from, to
}

// place gives where something is along a chart, 0 to 100.
func place(c *Chart, x float64) float64 {
	from, to := span(c)
	return math.Round(100*min(max(100*(x-from)/(to-from), 0), 100)) / 100
}

// top gives where a fill is in a chart, from above, 0 to 100.
func top(fill float64) float64 { return math.Round(100*(100-100*fill/chartTop)) / 100 }

// ticks gives five values along a chart.
func ticks(c *Chart) []string {
	from, to := span(c)
	out := make([]string, 5)
	for i := range out {
		x := from + (to-from)*float64(i)/4
		digits := 0
		switch {
		case to < 10:
			digits = 2
		case to < 100:
			digits = 1
		}
		out[i] = strconv.FormatFloat(x, 'f', digits, 64) + "×"
	}
	return out
}

// shareWidth is how much of the largest share one is, 0 to 100.
func shareWidth(l ShareList, n int) float64 {
	most := 1
	for _, s := range l.Shares {
		most = max(most, s.Now, s.After)
	}
	return width(float64(n), float64(most))
}

// number writes a whole number with commas.
func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
