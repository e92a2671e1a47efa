package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const document = "# Title\n\n<!-- begin a -->\nold\n<!-- end a -->\nbetween\n<!-- begin b -->\n<!-- end b -->\nend\n"

func TestReplaceChangesOneSection(t *testing.T) {
	got, err := Replace([]byte(document), "a", "new\n\n")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(document, "old\n", "new\n", 1)
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	again, err := Replace(got, "a", "new")
	if err != nil || string(again) != want {
		t.Errorf("a second time (%v):\n%s", err, again)
	}
}

func TestReplaceNeedsBothMarkers(t *testing.T) {
	for _, doc := range []string{"", "<!-- begin a -->\n", "<!-- end a -->\n", "<!-- end a -->\n<!-- begin a -->\n"} {
		if _, err := Replace([]byte(doc), "a", "x"); !errors.Is(err, ErrNoSection) {
			t.Errorf("%q: error %v, want ErrNoSection", doc, err)
		}
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
	table := Table{Title: "Things.", Head: []string{"what", "ns"}}
	table.Add("one", "1")
	if err := Write(path, "b", "Measured now.", []Table{table}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "<!-- begin b -->\nMeasured now.\n\nThings.\n\n| what | ns |\n| --- | --: |\n| one | 1 |\n<!-- end b -->\n"
	if !strings.Contains(string(got), want) || !strings.Contains(string(got), "old") {
		t.Errorf("got:\n%s\nwant in it:\n%s", got, want)
	}
}

func TestConditions(t *testing.T) {
	got := Conditions(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))
	if !strings.Contains(got, "2030-01-02 03:04 UTC") || strings.Contains(got, "?") || strings.Contains(got, "0 ×") {
		t.Errorf("Conditions = %q", got)
	}
}
