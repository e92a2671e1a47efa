package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// hostile is the name of an object that nobody should be able to have.
const hostile = `</style><script>alert("1")</script>'"><img src=x onerror=alert(2)>{{.}}`

// full is a report with something of every kind, all texts being the same.
func full(text string) Report {
	bar := Bar{Label: text, Detail: text, Now: 10, After: 20, Limit: 100, Text: text, Mark: text}
	points := []Point{{1, 0.2}, {2, 0.9}, {3, 1.4}}
	return Report{
		Title: text, Subject: text, Made: time.Unix(1e9, 0), Version: text,
		Verdict: Verdict{Tone: Bad, Label: text, Title: text, Text: text},
		Figures: []Figure{{text, text, text}},
		Sections: []Section{{
			ID: text, Title: text, Lead: text, Chart: &Chart{XLabel: text, Mark: 2, Lines: []Line{{text, text, points}}},
			Bars: []Bar{bar}, Cards: []Card{{text, text, []Bar{bar}}},
			Shares:   []ShareList{{Title: text, Lead: text, Now: text, After: text, Shares: []Share{{text, 1, 2}}, More: 3}},
			Findings: []Finding{{Warn, text, text}}, Pastes: []Paste{{text, text}}, Notes: []string{text},
		}},
	}
}

// TestEverythingIsEscaped has the same hostile text everywhere.
func TestEverythingIsEscaped(t *testing.T) {
	out, err := Page(full(hostile))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Page(full("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"<script", "<img", "onerror=alert(2)>", "</style>", "<"} {
		if got, want := bytes.Count(out, []byte(tag)), bytes.Count(plain, []byte(tag)); got != want {
			t.Errorf("%q is there %d times, want %d as with a harmless name", tag, got, want)
		}
	}
	if n := bytes.Count(out, []byte("&lt;/style&gt;")); n < 20 {
		t.Errorf("the text is there %d times, escaped", n)
	}
}

// TestNothingIsLoaded looks for addresses of anything else.
func TestNothingIsLoaded(t *testing.T) {
	out, err := Page(full("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"http://", "https://", "<script", "<link", "<img", "@import", "url(", "javascript:"} {
		if bytes.Contains(out, []byte(bad)) {
			t.Errorf("the page has %q", bad)
		}
	}
}

func TestEmptySectionsAreLeftOut(t *testing.T) {
	out, err := Page(Report{Title: "t", Sections: []Section{{Title: "nothing here"}, {Title: "something", Notes: []string{"n"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "nothing here") || !strings.Contains(string(out), "something") {
		t.Error("the wrong sections are shown")
	}
}

func TestBars(t *testing.T) {
	for _, tc := range []struct {
		bar     Bar
		percent string
		tone    Tone
		width   float64
	}{
		{Bar{Now: 0, Limit: 100}, "0%", Plain, 0},
		{Bar{Now: 1, Limit: 100000}, "<0.1%", Plain, 0.6},
		{Bar{Now: 5, Limit: 100}, "5.0%", Plain, 5},
		{Bar{Now: 5, After: 80, Limit: 100}, "80%", Warn, 5},
		{Bar{Now: 5, After: 101, Limit: 100}, "101%", Bad, 5},
		{Bar{Now: 5000, Limit: 100}, ">999%", Bad, 100},
		{Bar{Now: 5}, "–", Plain, 0},
	} {
		if p, tone, w := percent(tc.bar), toneOf(tc.bar), width(tc.bar.Now, tc.bar.Limit); p != tc.percent || tone != tc.tone || w != tc.width {
			t.Errorf("%+v: %s, %q, %g, want %s, %q, %g", tc.bar, p, tone, w, tc.percent, tc.tone, tc.width)
		}
	}
}

func TestChart(t *testing.T) {
	c := &Chart{Lines: []Line{{Points: []Point{{1, 0}, {2, 1}, {3, 9}}}}}
	if got := path(c, c.Lines[0]); got != "M0.00 100.00 L50.00 20.00 L100.00 -620.00" {
		t.Errorf("the line is %q", got)
	}
	if got := place(c, 2); got != 50 {
		t.Errorf("2 is at %g", got)
	}
	if got := strings.Join(ticks(c), " "); got != "1.00× 1.50× 2.00× 2.50× 3.00×" {
		t.Errorf("the ticks are %q", got)
	}
	if got := path(&Chart{}, Line{}); got != "" {
		t.Errorf("a line of nothing is %q", got)
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 16777216: "16,777,216", -1234: "-1,234", -100: "-100"} {
		if got := number(n); got != want {
			t.Errorf("%d is written as %q, want %q", n, got, want)
		}
	}
}
