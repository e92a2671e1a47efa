package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// skip is a line of the skip list.
type skip struct {
	pattern *regexp.Regexp
	reason  string
}

// parseSkips reads a skip list: a regular expression a line. The comment right
// above it is the reason, which also holds for the lines that follow at once.
// An empty line ends a reason. An expression without one is an error.
func parseSkips(r io.Reader) ([]skip, error) {
	var skips []skip
	var reason []string
	inComment := false
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		comment, isComment := strings.CutPrefix(line, "#")
		switch {
		case line == "":
			reason = nil
		case isComment && inComment:
			reason = append(reason, strings.TrimSpace(comment))
		case isComment:
			reason = []string{strings.TrimSpace(comment)}
		default:
			pattern, err := regexp.Compile(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			why := strings.TrimSpace(strings.Join(reason, " "))
			if why == "" {
				return nil, fmt.Errorf("line %d: %q has no reason: write it as a comment above the line", number, line)
			}
			skips = append(skips, skip{pattern, why})
		}
		inComment = isComment
	}
	return skips, lines.Err()
}
