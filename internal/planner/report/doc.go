// Package report writes what was planned as one page of HTML: no scripts, nothing
// from anywhere else, light and dark, and fit to be printed. It knows nothing of
// what it shows: callers fill in the small structs of report.go.
//
// Invariants: every text is escaped, wherever it stands; the same Report gives the
// same bytes; what a colour says is also said in words.
package report
