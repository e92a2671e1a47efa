// Command report prints what JUnit files of ginkgo and cyclonus say, case by
// case, and ends with status 1 if a case failed or a file is missing, broken or
// without a single case that passed. test/conformance/run calls it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// errNotPassed tells that something failed; the report has said what.
var errNotPassed = errors.New("not everything passed")

func main() {
	skips := flag.String("skips", "", "`file` with the specs that were left out, and why")
	flag.Parse()
	var out strings.Builder
	err := run(&out, *skips, flag.Args())
	fmt.Print(out.String())
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run reports on the files, each titled by its name and its folder's.
func run(out *strings.Builder, skipFile string, files []string) error {
	if len(files) == 0 {
		return errors.New("no JUnit files: name at least one")
	}
	skips, err := readSkips(skipFile)
	if err != nil {
		return err
	}
	var total tally
	good := true
	for _, file := range files {
		count, err := reportFile(out, file, skips)
		if err != nil {
			good = false
			fmt.Fprintf(out, "%s: %v\n", title(file), err)
		}
		for o, n := range count {
			total[o] += n
		}
		fmt.Fprintln(out)
	}
	good = good && total[failed] == 0
	fmt.Fprintln(out, "conformance:", total)
	if !good {
		return errNotPassed
	}
	return nil
}

func readSkips(file string) ([]skip, error) {
	if file == "" {
		return nil, nil
	}
	list, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("skip list: %w", err)
	}
	skips, err := parseSkips(bytes.NewReader(list))
	if err != nil {
		return nil, fmt.Errorf("skip list %s: %w", file, err)
	}
	return skips, nil
}

// reportFile prints one file's cases. An error is one of the suite as a whole.
func reportFile(out *strings.Builder, file string, skips []skip) (tally, error) {
	junit, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return tally{}, fmt.Errorf("no results: the suite did not end; see %s", logOf(file))
	}
	if err != nil {
		return tally{}, err
	}
	s, err := parseJUnit(bytes.NewReader(junit))
	if err != nil {
		return tally{}, err
	}
	results, err := explain(s, skips)
	if err != nil {
		return tally{}, err
	}
	count := write(out, title(file), results)
	switch {
	case count[passed]+count[failed] == 0:
		return count, fmt.Errorf("no case ran; see %s", logOf(file))
	case s.broken && count[failed] == 0:
		return count, fmt.Errorf("the suite failed outside of its cases; see %s", logOf(file))
	}
	return count, nil
}

// title is the last folder and the name of a file: native/netpol.
func title(file string) string {
	return filepath.Base(filepath.Dir(file)) + "/" + strings.TrimSuffix(filepath.Base(file), ".xml")
}

// logOf is the file with the whole output of a suite.
func logOf(file string) string { return strings.TrimSuffix(file, ".xml") + ".log" }
