// Command simulate plays the traces of internal/autosize/sim, prints what came of
// them, and writes it into a document and into pictures:
//
//	go run ./bench/cmd/simulate docs/sizing.md docs/img
//
// It needs neither root nor time, and always gives the same.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/internal/autosize/sim"
)

const usage = `usage: simulate DOCUMENT FOLDER

Simulates the self-tuning of table sizes, prints its tables, writes them to
DOCUMENT, and one picture a trace to FOLDER.`

// errGoals is returned when a trace misses its goals.
var errGoals = errors.New("goals missed")

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments\n%s", len(args), usage)
	}
	old, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	if _, err = report.Replace(old, section, ""); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	tuned, fixed, err := play()
	if err != nil {
		return err
	}
	text := tables(tuned, fixed)
	if _, err = fmt.Fprintln(out, text); err != nil {
		return fmt.Errorf("print the tables: %w", err)
	}
	if err = write(args[0], args[1], text, tuned); err != nil {
		return err
	}
	return missed(tuned)
}

// write puts the tables into the document and the pictures into the folder.
func write(document, folder, text string, results []sim.Result) error {
	old, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	changed, err := report.Replace(old, section, text)
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	if err = os.WriteFile(document, changed, 0o644); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	for i := range results {
		picture, err := svgDraw(&results[i])
		if err != nil {
			return fmt.Errorf("draw %s: %w", results[i].Trace.Name, err)
		}
		if err = os.WriteFile(filepath.Join(folder, fileName(results[i].Trace)), picture, 0o644); err != nil {
			return fmt.Errorf("write the picture: %w", err)
		}
	}
	return nil
}

// fileName is that of a trace's picture.
func fileName(t sim.Trace) string { return "sizing-" + t.Name + ".svg" }

// play plays all traces, with the controller and with sizes that stay.
func play() (tuned, fixed []sim.Result, err error) {
	for _, trace := range sim.Traces() {
		for _, results := range []*[]sim.Result{&tuned, &fixed} {
			r, err := sim.Run(trace)
			if err != nil {
				return nil, nil, err
			}
			*results = append(*results, r)
			trace.Fixed = true
		}
	}
	return tuned, fixed, nil
}

// missed says which traces missed which goals.
func missed(results []sim.Result) error {
	var problems []error
	for i := range results {
		for _, p := range results[i].Problems() {
			problems = append(problems, fmt.Errorf("%w: %s: %s", errGoals, results[i].Trace.Name, p))
		}
	}
	return errors.Join(problems...)
}
