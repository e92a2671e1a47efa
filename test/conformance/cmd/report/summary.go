package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// filtered is what ginkgo says of a spec that was left out by its name.
const filtered = "skipped"

// explain keeps the results that were asked for, and says of those that the skip
// list left out why.
func explain(s suite, skips []skip) ([]result, error) {
	focus, err := regexp.Compile(s.focus)
	if err != nil {
		return nil, fmt.Errorf("focus of the suite: %w", err)
	}
	var kept []result
	for _, r := range s.results {
		if r.outcome != skipped || r.message != filtered {
			kept = append(kept, r)
			continue
		}
		if why := reasonOf(r.name, skips); why != "" && focus.MatchString(r.name) {
			r.message = why
			kept = append(kept, r)
		}
	}
	return kept, nil
}

// reasonOf is the reason that the skip list has for a spec, or "".
func reasonOf(name string, skips []skip) string {
	for _, s := range skips {
		if s.pattern.MatchString(name) {
			return s.reason
		}
	}
	return ""
}

// tally counts results by outcome.
type tally [skipped + 1]int

func (t tally) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t[passed], t[failed], t[skipped])
}

// write prints the results of a suite, the failed ones first, and counts them.
func write(out *strings.Builder, title string, results []result) tally {
	var count tally
	var took time.Duration
	for _, r := range results {
		count[r.outcome]++
		took += r.took
	}
	fmt.Fprintf(out, "%s: %s", title, count)
	if took > 0 {
		fmt.Fprintf(out, "; the cases took %s together", took.Round(time.Second))
	}
	fmt.Fprintln(out)
	for _, o := range []outcome{failed, skipped, passed} {
		for _, r := range results {
			if r.outcome == o {
				fmt.Fprintf(out, "  %-8s%s%s\n", o, r.name, note(r))
			}
		}
	}
	return count
}

// note is what is said of a result behind its name.
func note(r result) string {
	var parts []string
	if r.took > 0 {
		parts = append(parts, r.took.Round(time.Second).String())
	}
	if r.message != "" {
		parts = append(parts, r.message)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ": ") + ")"
}
