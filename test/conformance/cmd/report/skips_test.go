package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSkips(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want []string // pattern, reason, ...
	}{
		"empty":            {"", nil},
		"only a heading":   {"# What this is.\n", nil},
		"one":              {"# no SCTP\nSCTP\n", []string{"SCTP", "no SCTP"}},
		"lines of reason":  {"# no SCTP\n#  here\nSCTP", []string{"SCTP", "no SCTP here"}},
		"one for two":      {"# slow\na\nb\n", []string{"a", "slow", "b", "slow"}},
		"heading is apart": {"# heading\n\n# slow\na\n", []string{"a", "slow"}},
		"reasons follow":   {"# slow\na\n# dull\nb\n", []string{"a", "slow", "b", "dull"}},
	} {
		t.Run(name, func(t *testing.T) {
			skips, err := parseSkips(strings.NewReader(test.file))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range skips {
				got = append(got, s.pattern.String(), s.reason)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("parseSkips (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSkipsRefuses(t *testing.T) {
	for file, want := range map[string]string{
		"SCTP\n":                 `line 1: "SCTP" has no reason`,
		"# heading\n\nSCTP\n":    `line 3: "SCTP" has no reason`,
		"#\nSCTP\n":              `line 2: "SCTP" has no reason`,
		"# unfinished\n(SCTP\n":  "line 2: error parsing regexp",
		"# slow\na\n\nb\n# ok\n": `line 4: "b" has no reason`,
	} {
		if skips, err := parseSkips(strings.NewReader(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseSkips(%q) = %v, %v; want an error with %q", file, skips, err, want)
		}
	}
}

// TestSkipList reads the list that the suites are run with.
func TestSkipList(t *testing.T) {
	skips, err := readSkips("../../skip.txt")
	if err != nil {
		t.Fatal(err)
	}
	if why := reasonOf("Netpol [Feature:SCTPConnectivity] [LinuxOnly] x", skips); !strings.Contains(why, "SCTP sockets") {
		t.Errorf("the reason to leave SCTP out is %q", why)
	}
	// Specs about SCTP in a policy, probed over TCP, do run.
	if why := reasonOf("Netpol should not mistakenly treat 'protocol: SCTP' as 'protocol: TCP'", skips); why != "" {
		t.Errorf("a spec that opens no SCTP socket is left out: %s", why)
	}
}

func FuzzParseSkips(f *testing.F) {
	list, err := os.ReadFile("../../skip.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(list))
	f.Add("# a\nb\n\n#c\n(\n")
	f.Fuzz(func(t *testing.T, file string) {
		skips, err := parseSkips(strings.NewReader(file))
		if err != nil {
			return
		}
		for _, s := range skips {
			if s.reason == "" || !strings.Contains(file, s.pattern.String()) {
				t.Errorf("skip %q for %q is not of the list", s.pattern, s.reason)
			}
		}
	})
}
