package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// consoleBlock is a command of a document and what it prints.
var consoleBlock = regexp.MustCompile("(?s)```console\n\\$ (placid [^\n]*)\n.*?```\n")

// TestPlanningDoc keeps docs/planning.md true: its commands are run, from the root of
// the repository, and print what it shows.
func TestPlanningDoc(t *testing.T) {
	path := filepath.Join(docsDir, "planning.md")
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	shown := consoleBlock.ReplaceAllStringFunc(string(document), func(block string) string {
		runs++
		command := consoleBlock.FindStringSubmatch(block)[1]
		return "```console\n$ " + command + "\n" + atRoot(t, words(command)[1:]) + "```\n"
	})
	if runs < 6 {
		t.Errorf("%d commands, want those of a walk", runs)
	}
	compareGolden(t, path, shown)
}

// atRoot runs a command in the root of the repository.
func atRoot(t *testing.T, args []string) string {
	t.Helper()
	t.Chdir("../..")
	defer t.Chdir("internal/cli")
	var out, notes bytes.Buffer
	code := Run(t.Context(), Env{
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &notes, Getenv: func(string) string { return "" },
		Now: func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }, Version: "v0.1.0",
	}, args)
	if code == ExitUsage {
		t.Fatalf("%v: %s", args, notes.String())
	}
	if code != ExitOK {
		fmt.Fprintf(&out, "(exit code %d)\n", code)
	}
	return out.String()
}

// words splits a command line as a shell does, as far as quotes go.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		out = append(out, strings.Fields(part)...)
	}
	return out
}
