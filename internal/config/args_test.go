package config

import (
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestParseArgs(t *testing.T) {
	for _, tc := range []struct {
		line  string
		flags []arg
		stray []string
		wrong string
	}{
		{line: ""},
		{line: " \t\n"},
		{line: "--a=1 --b=2", flags: []arg{{"a", "1", true}, {"b", "2", true}}},
		{line: "--a 1 --b", flags: []arg{{"a", "1", true}, {"b", "", false}}},
		{line: "--a=", flags: []arg{{"a", "", true}}},
		{line: "--a=''", flags: []arg{{"a", "", true}}},
		{line: "--a -1", flags: []arg{{"a", "-1", true}}},
		// A value that has "--" inside, where splitting the line at "--" goes wrong.
		{line: "--labels=k8s:a--b --mtu=1400", flags: []arg{{"labels", "k8s:a--b", true}, {"mtu", "1400", true}}},
		{line: "--a=--b", flags: []arg{{"a", "--b", true}}},
		// Words that follow belong to the value, as they do when the line is split at "--".
		{line: "--labels=k8s:a k8s:b --c=1", flags: []arg{{"labels", "k8s:a k8s:b", true}, {"c", "1", true}}},
		{line: `--a="x y" '--b=p q'`, flags: []arg{{"a", "x y", true}, {"b", "p q", true}}},
		{line: `--a=x" "y'"'`, flags: []arg{{"a", `x y"`, true}}},
		{line: `--a="say \"hi\""`, flags: []arg{{"a", `say "hi"`, true}}},
		{line: `--a=x\ y`, flags: []arg{{"a", "x y", true}}},
		// Backslashes of regular expressions stay.
		{line: `--labels=k8s:io\.kubernetes\.pod "--b=\.\\" '--c=\'`, flags: []arg{
			{"labels", `k8s:io\.kubernetes\.pod`, true}, {"b", `\.\"`, true},
		}, wrong: "not closed"},
		{line: `--labels=k8s:io\.kubernetes\.pod`, flags: []arg{{"labels", `k8s:io\.kubernetes\.pod`, true}}},
		{line: "stray -x --a=1 --", flags: []arg{{"a", "1", true}}, stray: []string{"stray", "-x", "--"}},
		{line: "--a=\"open", wrong: `the quote " is not closed`},
		{line: "--a='open", wrong: "the quote ' is not closed"},
	} {
		flags, stray, err := parseArgs(tc.line)
		if tc.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%q: error %v, want %q", tc.line, err, tc.wrong)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(flags, tc.flags) || !reflect.DeepEqual(stray, tc.stray) {
			t.Errorf("%q: %+v, stray %q, %v", tc.line, flags, stray, err)
		}
	}
}

// Any line is parsed or refused, and a flag that is written in quotes, alone or
// between others, comes back as it was.
func FuzzParseArgs(f *testing.F) {
	f.Add("--a=1 --b '2 3'", "labels", `k8s:io\.x --y "z"`)
	f.Add(`\ " '`, "mtu", "'")
	f.Fuzz(func(t *testing.T, line, key, value string) {
		flags, stray, err := parseArgs(line)
		if err == nil {
			if n := len(strings.FieldsFunc(line, unicode.IsSpace)); len(flags)+len(stray) > n {
				t.Errorf("%q: %d parts from %d words", line, len(flags)+len(stray), n)
			}
		}
		if !utf8.ValidString(key) || !utf8.ValidString(value) || key == "" || strings.ContainsAny(key, "='\"\\") || strings.ContainsFunc(key, unicode.IsSpace) {
			return
		}
		quoted := "--" + key + "='" + strings.ReplaceAll(value, "'", `'"'"'`) + "'"
		flags, stray, err = parseArgs("--x=1 " + quoted + "\t--y")
		want := []arg{{"x", "1", true}, {key, value, true}, {"y", "", false}}
		if err != nil || !reflect.DeepEqual(flags, want) || stray != nil {
			t.Errorf("%s: %+v, stray %q, %v", quoted, flags, stray, err)
		}
	})
}
