package objects

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

// TestConvertAsKubectl compares the conversion with the library that kubectl uses.
func TestConvertAsKubectl(t *testing.T) {
	for _, text := range []string{
		"", "# nothing", "null", "~", "a", "a: b", "[]", "{}", "- 1\n- 2.5\n- 1e3\n- 0x1f\n- 0o17\n- 0b11\n- 1_000\n- -3\n- +4",
		"- true\n- True\n- FALSE\n- yes\n- No\n- on\n- OFF\n- y\n- n\n- Null\n- 'yes'\n- \"no\"\n- |-\n  yes",
		"a: 2026-11-02\nb: 2026-11-02T08:00:00Z\nc: 12:30:45\nd: 0777\ne: 08\nf: 1.\ng: .5\nh: 12e03",
		"1: a\n2.5: b\nyes: d\n'3': e\n",
		"a: &x {b: 1, c: [1, 2]}\nd: *x\ne: {<<: *x, b: 2}\nf:\n  <<: [*x, {c: 3, g: 4}]\n  h: 5",
		"a: |\n  one\n   two\n\n  three\nb: >-\n  one\n  two\nc: \"tab\\t \\u00e9 \\\" é\"\nd: 'it''s'\n",
		"a: !!str 12\nb: !!int \"12\"\nc: !!binary aGk=\nd: !!float 1\n",
		"{\"a\": {\"b\": [1, \"x\", null, true]}, \"c\": \"\\u2028<&>\"}", "a: 123456789012345678901234567890\nb: 18446744073709551615\nc: -9223372036854775808",
	} {
		want, err := yaml.YAMLToJSON([]byte(text)) // which takes what is merged in for a key that stands twice
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		got, err := yamlToJSON([]byte(text), 1, maxObject)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(parsed(t, want), parsed(t, got)); diff != "" {
			t.Errorf("%q (-kubectl's +ours):\n%s", text, diff)
		}
	}
}

func TestConvertErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\nb: 2\na: 3":      `line 12: the key "a" stands twice`,
		"a: .inf":               "line 10: .inf is no number that JSON has",
		"? [a]\n: b":            "line 10: a key is a list or a mapping",
		"~: b":                  "line 10: a key is null",
		"a: *b":                 "unknown anchor 'b' referenced",
		"a: &a [*a]":            `line 10: the anchor "a" contains itself`,
		"a: {<<: 3}":            "line 10: what is merged in with << is no mapping",
		"a: b: c":               "mapping values are not allowed in this context",
		"a: !!int x":            "line 10: ",
		"a: !!binary \"@@\"":    "line 10: ",
		"\n\n a: 1\n  b: \"x\n": "line 13: ",
	} {
		if _, err := yamlToJSON([]byte(text), 10, maxObject); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func parsed(t testing.TB, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// drawYAML makes a value that YAML can write.
func drawYAML(t *rapid.T, depth int) any {
	word := rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "yes", "no", "on", "null", "~", "1", "0x1", "1.5", "true", "- a", "a: b", "a\nb", "  c", "#d", "\"", "'", "{}", "*x", "&y", "é", "\t", "2026-11-02", "|", ">", "%", "@", "key:", "x #y"}),
		rapid.StringN(0, 12, -1))
	kind := rapid.IntRange(0, 6).Draw(t, "kind")
	switch {
	case depth > 0 && kind < 3:
		out := map[string]any{}
		for range rapid.IntRange(0, 4).Draw(t, "fields") {
			out[word.Draw(t, "key")] = drawYAML(t, depth-1)
		}
		return out
	case depth > 0 && kind == 3:
		out := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "elements") {
			out = append(out, drawYAML(t, depth-1))
		}
		return out
	case kind == 4:
		return rapid.Bool().Draw(t, "bool")
	case kind == 5:
		return rapid.Int64Range(-1<<52, 1<<52).Draw(t, "number")
	}
	return word.Draw(t, "word")
}

// TestConvertWritten converts values that the library wrote.
func TestConvertWritten(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text, err := yaml.Marshal(drawYAML(r, 4))
		if err != nil {
			r.Skip("no YAML")
		}
		want, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			r.Skip("the library does not read what it wrote")
		}
		got, err := yamlToJSON(text, 1, maxObject)
		if err != nil {
			r.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(parsed(t, want), parsed(t, got)); diff != "" {
			r.Fatalf("%q (-kubectl's +ours):\n%s", text, diff)
		}
	})
}

// only gives the fields of a value that are read, by its tree.
func only(v any, read fields) any {
	if read == nil {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if of, ok := read[key]; ok {
				out[key] = only(value, of)
			}
		}
		if len(out) == 0 {
			return nil // as an element of a list that has no field left
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, only(e, read))
		}
		return out
	}
	return v
}

// checkPrune compares what is read of a text with what is read of it when it is
// pruned; it tells whether anything was pruned.
func checkPrune(t testing.TB, text []byte, read fields) bool {
	t.Helper()
	whole, err := yamlToJSON(text, 1, maxObject)
	if err != nil {
		return false // lines that are left out need not be right
	}
	small := prune(text, read)
	got, err := yamlToJSON(small, 1, maxObject)
	if err != nil {
		t.Fatalf("pruned text cannot be read: %v\n%s\n--- from\n%s", err, small, text)
	}
	if diff := cmp.Diff(only(parsed(t, whole), read), only(parsed(t, got), read)); diff != "" {
		t.Fatalf("pruned (-whole +pruned):\n%s\n%s\n--- from\n%s", diff, small, text)
	}
	return len(small) < len(text)
}

func TestPrune(t *testing.T) {
	dir := "../../../examples/cluster"
	text, err := os.ReadFile(filepath.Join(dir, "pods.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range strings.Split(string(text), "\n- ")[1:] {
		pod = strings.TrimSuffix("  "+pod, "kind: List\n")
		if !checkPrune(t, []byte(pod), podFields()) {
			t.Fatalf("nothing was pruned of\n%s", pod)
		}
	}
	if !checkPrune(t, []byte(podText), podFields()) {
		t.Error("nothing was pruned of a whole pod")
	}
	small := prune([]byte(podText), podFields())
	if len(small) > len(podText)/2 || strings.Contains(string(small), "volumes") {
		t.Errorf("%d of %d bytes are left:\n%s", len(small), len(podText), small)
	}
}

// TestPruneStrange prunes texts whose lines mislead.
func TestPruneStrange(t *testing.T) {
	read := fields{"a": nil, "b": {"c": nil, "d": {"e": nil}}}
	for text, pruned := range map[string]bool{
		"x: 1\na: 2\n":               true,
		"x: \"one\na: two\"\na: 3\n": false, "x: 'one\na: two'\na: 3\n": false, "x: {y: 1,\na: 2}\na: 3\n": false,
		"x: [\na, b]\na: 3\n": false, "x: &q 1\na: *q\n": false, "x: !t 1\na: 2\n": false,
		"x: |\n  a: 1\n  b: 2\na: 3\n": true, "x: >-\n   \"open\na: 3\n": false, "x: one\n  a: two\n": false,
		"b:\n  x: 1\n  c: 2\n": true, "b:\n- x: 1\n  c: 2\n- c: 3\n- x: 4\n": true, "b:\n  - c: 2\n    x: 1\n  -\n    x: 3\n    c: 4\n": true,
		"b:\n- d:\n  - x: 1\n    e: 2\n  c: 3\nx: 4\n": true, "b: {c: 1, x: 2}\nx: 1\n": false, "b: {}\nx: 1\n": true,
		"b:\na: 1\nx: 2\n": true, "\"x\": 1\na: 2\n": false, "? x\n: 1\na: 2\n": false, "x:\n- - a: 1\n  - b\na: 1\n": true,
		"a: |\n  # kept\n\n  x: 1\nx: 2\n": true, "# first\nx: 1 # \"\na: 'it''s' # c\n": true, "x: \"\\\\\"\na: 1\n": true, "x: \"\\\"\na: 1\"\n": false,
		"  a: 1\n  x: 2\n": true, "x:\r\n  y: 1\r\na: 2\r\n": true, "b:\n  d:\n    e: 1\n    x: 2\n  c: 3\n  x: 4\n": true,
		"b:\n- - c: 1\nx: 2\n": false, "b:\n- c\nx: 2\n": false, "x: 'a': 1\n": false,
	} {
		if got := checkPrune(t, []byte(text), read); got != pruned {
			t.Errorf("%q: pruned %v, want %v", text, got, pruned)
		}
	}
}

// TestPruneWritten prunes what the library wrote.
func TestPruneWritten(t *testing.T) {
	read := fields{"a": nil, "1": {"a": nil, "yes": {"a": nil, "1": nil}}, "true": {"1": {"a": nil}}}
	rapid.Check(t, func(r *rapid.T) {
		text, err := yaml.Marshal(map[string]any{"x": drawYAML(r, 4), "a": drawYAML(r, 2), "b": map[string]any{"c": drawYAML(r, 2), "y": drawYAML(r, 3)}})
		if err != nil {
			r.Skip("no YAML")
		}
		checkPrune(t, text, read)
		checkPrune(t, text, fields{"a": nil, "b": {"c": nil}})
	})
}

// FuzzPrune looks for a text of which other fields are read when it is pruned.
func FuzzPrune(f *testing.F) {
	f.Add("x: |\n  a: 1\nb:\n- x: 1\n  c: \"2\"\n")
	f.Add("b:\n  d:\n  - e: 1\n    x: {}\n  c: [1]\na: 'x''y'\n")
	f.Fuzz(func(t *testing.T, text string) {
		whole, err := yamlToJSON([]byte(text), 1, 1<<20)
		if err != nil || len(whole) == 0 || whole[0] != '{' {
			return
		}
		checkPrune(t, []byte(text), fields{"a": nil, "b": {"c": nil, "d": {"e": nil}}})
	})
}
