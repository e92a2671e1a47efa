package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/placid-net/placid/bench/internal/report"
	"github.com/placid-net/placid/internal/autosize/sim"
)

const docs = "../../../docs"

// played plays all traces once for all tests.
var played = sync.OnceValue(func() (out struct {
	tuned, fixed []sim.Result
	err          error
},
) {
	out.tuned, out.fixed, out.err = play()
	return out
})

func results(t *testing.T) (tuned, fixed []sim.Result) {
	t.Helper()
	p := played()
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.tuned, p.fixed
}

// TestDocumentIsCurrent: the document holds what the simulation gives now.
func TestDocumentIsCurrent(t *testing.T) {
	tuned, fixed := results(t)
	document, err := os.ReadFile(filepath.Join(docs, "sizing.md"))
	if err != nil {
		t.Fatal(err)
	}
	current, err := report.Replace(document, section, tables(tuned, fixed))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(document, current) {
		t.Error("docs/sizing.md is not current; run: go run ./bench/cmd/simulate docs/sizing.md docs/img")
	}
	for _, trace := range sim.Traces() {
		picture, err := os.ReadFile(filepath.Join(docs, "img", fileName(trace)))
		if err != nil {
			t.Errorf("%v; run: go run ./bench/cmd/simulate docs/sizing.md docs/img", err)
		}
		if !bytes.Contains(document, []byte("img/"+fileName(trace))) {
			t.Errorf("docs/sizing.md does not show %s", fileName(trace))
		}
		if !bytes.Contains(picture, []byte(trace.Name+": how full")) {
			t.Errorf("%s is of another trace", fileName(trace))
		}
	}
}

// TestWritesDocumentAndPictures writes into a folder of its own.
func TestWritesDocumentAndPictures(t *testing.T) {
	folder := t.TempDir()
	document := filepath.Join(folder, "doc.md")
	if err := os.WriteFile(document, []byte("before\n<!-- begin simulation -->\nold\n<!-- end simulation -->\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tuned, fixed := results(t)
	if err := write(document, folder, tables(tuned, fixed), tuned); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range sim.Traces() {
		if !strings.Contains(string(text), "\n| "+trace.Name+" | ") {
			t.Errorf("%s has no row", trace.Name)
		}
		picture, err := os.Open(filepath.Join(folder, fileName(trace)))
		if err != nil {
			t.Error(err)
			continue
		}
		for d := xml.NewDecoder(picture); ; {
			if _, err = d.Token(); err != nil {
				break
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s is no XML: %v", fileName(trace), err)
		}
		if err := picture.Close(); err != nil {
			t.Error(err)
		}
	}
	if !strings.HasPrefix(string(text), "before\n") || !strings.HasSuffix(string(text), "\nafter\n") || strings.Contains(string(text), "old\n") {
		t.Errorf("the document is now:\n%s", text)
	}
}

func TestRunRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.md")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"no arguments":               nil,
		"one argument":               {empty},
		"no document":                {filepath.Join(t.TempDir(), "missing.md"), "."},
		"a document without markers": {empty, t.TempDir()},
	} {
		if err := run(io.Discard, args); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMissedGoalsAreNamed(t *testing.T) {
	tuned, fixed := results(t)
	if err := missed(tuned); err != nil {
		t.Error(err)
	}
	err := missed(fixed)
	if !errors.Is(err, errGoals) || !strings.Contains(err.Error(), "deploy-wave: tcp: up to 100 % full") {
		t.Errorf("missed() = %v", err)
	}
}
