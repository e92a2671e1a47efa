package objects

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// splitAll gives the values that a text is split into, as parsed JSON.
func splitAll(t rapid.TB, text string) (values []any, problems []string) {
	t.Helper()
	take := func(it item) {
		raw := it.raw
		if it.yaml {
			var err error
			if raw, err = yamlToJSON(it.raw, it.line, maxObject); err != nil {
				problems = append(problems, err.Error())
				return
			}
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		values = append(values, v)
	}
	s := splitter{file: "in", limit: maxObject, given: typeMeta{"v1", "PodList"}, emit: take, problem: func(p snapshot.Problem) { problems = append(problems, p.Message) }}
	if err := s.split(strings.NewReader(text)); err != nil {
		problems = append(problems, err.Error())
	}
	return values, problems
}

// TestSplitList compares the elements of lists with those that are found when a
// list is read as a whole.
func TestSplitList(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var want []any
		for range rapid.IntRange(1, 4).Draw(r, "elements") {
			want = append(want, map[string]any{"kind": "Pod", "x": drawYAML(r, 3), "z": drawYAML(r, 1)})
		}
		list := map[string]any{"apiVersion": "v1", "items": want, "kind": "PodList", "metadata": map[string]any{"a": drawYAML(r, 1)}}
		inYAML, err := yaml.Marshal(list)
		if err != nil {
			r.Skip("no YAML")
		}
		inJSON, err := json.Marshal(list)
		if err != nil {
			r.Skip("no JSON")
		}
		// What the library reads of what it wrote is not always the same.
		var back struct {
			Items []any `json:"items"`
		}
		if err := yaml.Unmarshal(inYAML, &back); err != nil {
			r.Skip("the library does not read what it wrote")
		}
		for text, want := range map[string][]any{string(inYAML): back.Items, string(inJSON): parsedList(t, inJSON)} {
			got, problems := splitAll(r, text)
			if diff := cmp.Diff(want, got); diff != "" || len(problems) > 0 {
				r.Fatalf("problems %q, elements (-want +got):\n%s\nof\n%s", problems, diff, text)
			}
		}
	})
}

func parsedList(t *testing.T, text []byte) []any {
	t.Helper()
	list, _ := parsed(t, text).(map[string]any)
	items, _ := list["items"].([]any)
	return items
}

// TestSplitDocuments compares documents with those that went into a stream.
func TestSplitDocuments(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var text strings.Builder
		var want []any
		for range rapid.IntRange(1, 4).Draw(r, "documents") {
			document, err := yaml.Marshal(map[string]any{"kind": "Pod", "x": drawYAML(r, 3)})
			if err != nil {
				r.Skip("no YAML")
			}
			var back any
			if err := yaml.Unmarshal(document, &back); err != nil {
				r.Skip("the library does not read what it wrote")
			}
			want = append(want, back)
			text.WriteString("---" + rapid.SampledFrom([]string{"\n", " # next\n", "\n\n# a comment\n"}).Draw(r, "mark"))
			text.Write(document)
		}
		got, problems := splitAll(r, text.String())
		if diff := cmp.Diff(want, got); diff != "" || len(problems) > 0 {
			r.Fatalf("problems %q, documents (-want +got):\n%s\nof\n%s", problems, diff, text.String())
		}
	})
}

// FuzzLoad looks for a text that the reader does not survive, and checks that what
// comes out says where it came from.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		podA, deny, policyWith(), "items:\n" + elements(podA, "  ") + "kind: List\n", `{"kind":"List","items":[{"kind":"Pod"}]}`, "a: *b", "- - - kind: Pod",
		configMap("eni-config", "  10-terway.conf: '{}'\n"), ciliumNode, placidNode, "kind: NetworkPolicy", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n",
	} {
		f.Add(text)
	}
	known := newKnowledge(1 << 20)
	f.Fuzz(func(t *testing.T, text string) {
		all := newCollector()
		file := all.file("in", false, func(int, int, string) {})
		err := run(t.Context(), known.decodeItem, file.take, func(p *pipeline) error {
			s := splitter{file: "in", limit: known.limit, emit: p.emit, problem: p.problem}
			return s.split(strings.NewReader(text))
		})
		if err != nil {
			return
		}
		file.done()
		s := all.snapshot()
		for object, origin := range s.Origins {
			if object.Name == "" || origin.Document == 0 {
				t.Errorf("object %+v of %+v", object, origin)
			}
		}
		for _, p := range s.Problems {
			if p.Message == "" || p.Severity != snapshot.Fatal && p.Severity != snapshot.Doubt {
				t.Errorf("problem %+v", p)
			}
		}
	})
}
