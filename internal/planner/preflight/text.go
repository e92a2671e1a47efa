package preflight

import (
	"fmt"
	"strings"

	"github.com/placid-net/placid/internal/config"
)

// plural gives "1 pod", "2 pods", "2 addresses".
func plural(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	case strings.HasSuffix(noun, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// shownNames is how many names a message lists.
const shownNames = 3

// names lists some, and counts the others.
func names(list []string) string {
	text := strings.Join(list[:min(len(list), shownNames)], ", ")
	if more := len(list) - shownNames; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// closest gives the name that a text was probably meant to be, the first of those
// that are equally close; empty if none is.
func closest(text string, names []string) string {
	return config.Closest(text, names, max(1, min(len(text)/4, 3)))
}
