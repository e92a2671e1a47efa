package config

import "strings"

// suggest gives the name that text was probably meant to be, "" if none is near.
// names must be in a fixed order: of several equally near the first wins.
func suggest(text string, names []string) string {
	text = strings.ReplaceAll(strings.ToLower(text), "_", "-")
	return Closest(text, names, max(2, len(text)/4))
}

// Closest gives the name that is most like text, the first of those that are equally
// so; empty if more than most bytes differ in each: to insert, delete, replace or
// swap with their neighbour.
func Closest(text string, names []string, most int) string {
	best, least := "", most+1
	for _, name := range names {
		if d := editDistance(text, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// didYouMean gives the end of a message about an unknown name.
func didYouMean(suggestion string) string {
	if suggestion == "" {
		return "`placid config` lists all keys"
	}
	return "did you mean " + suggestion + "?"
}

// editDistance is the number of bytes to insert, delete, replace or swap with
// their neighbour to turn a into b (optimal string alignment).
func editDistance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
