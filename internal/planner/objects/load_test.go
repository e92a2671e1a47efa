package objects

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// tree writes files below a new directory, by path, and returns it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// read reads files below a directory; problems come as lines "severity place
// object field: message", with dir taken out.
func read(t *testing.T, dir string, paths ...string) (*snapshot.Snapshot, []string) {
	t.Helper()
	full := []string{dir}
	if len(paths) > 0 {
		full = nil
		for _, p := range paths {
			full = append(full, filepath.Join(dir, p))
		}
	}
	s, err := Load(t.Context(), Options{Paths: full})
	if err != nil {
		t.Fatalf("load %v: %v", paths, err)
	}
	return s, problemLines(s, dir)
}

func problemLines(s *snapshot.Snapshot, dir string) []string {
	var out []string
	for _, p := range s.Problems {
		text := string(p.Severity)
		if p.Origin != (snapshot.Origin{}) {
			text += " " + place(p.Origin)
		}
		text += ": "
		for _, part := range []string{p.Object.String(), p.Field} {
			if part != "" {
				text += part + ": "
			}
		}
		text += p.Message
		if dir != "" {
			text = strings.ReplaceAll(text, dir+"/", "")
		}
		out = append(out, text)
	}
	return out
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func podNames(s *snapshot.Snapshot) string {
	var names []string
	for _, p := range s.Pods {
		names = append(names, p.Ref.String())
	}
	return strings.Join(names, " ")
}

func policyNames(s *snapshot.Snapshot) string {
	var names []string
	for _, p := range s.Policies {
		names = append(names, p.Key())
	}
	return strings.Join(names, " ")
}

const (
	podA = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {podIP: 10.0.0.1}\n"
	podB = "apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: shop}\n"
	deny = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec: {podSelector: {}}\n"
)

// TestForms reads the same two pods in every form that they are written in.
func TestForms(t *testing.T) {
	jsonA := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"shop","labels":{"app":"web"}},"status":{"podIP":"10.0.0.1"}}`
	jsonB := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b","namespace":"shop"}}`
	bare := strings.NewReplacer(`"apiVersion":"v1","kind":"Pod",`, "")
	for name, text := range map[string]string{
		"yaml stream":              podA + "---\n" + podB,
		"yaml stream, marks":       "\uFEFF# pods\n%YAML 1.1\n---\n" + podA + "...\n--- # next\n" + podB + "---\n---\n# nothing\n",
		"yaml, windows":            strings.ReplaceAll(podA+"---\n"+podB, "\n", "\r\n"),
		"yaml, json documents":     "# two\n---\n" + jsonA + "\n--- " + jsonB + "\n",
		"kubectl yaml list":        "apiVersion: v1\nitems:\n" + elements(podA, "") + elements(podB, "") + "kind: List\nmetadata:\n  resourceVersion: \"\"\n",
		"indented yaml list":       "kind: List\napiVersion: v1\nitems:\n\n  # both\n" + elements(podA, "  ") + elements(podB, "  "),
		"typed yaml list":          "apiVersion: v1\nitems:\n" + elements(untyped(podA), "") + elements(untyped(podB), "") + "kind: PodList\nmetadata: {}\n",
		"typed yaml list, kind up": "apiVersion: v1\nkind: PodList\nitems:\n" + elements(untyped(podA), "") + elements(untyped(podB), ""),
		"yaml list in flow style":  "kind: List\napiVersion: v1\nitems: [" + jsonA + ", " + jsonB + "]\n",
		"yaml list, flow elements": "items:\n- " + jsonA + "\n- " + jsonB + "\nkind: List\napiVersion: v1\n",
		"yaml sequence":            elements(podA, "") + elements(podB, ""),
		"yaml list of lists": "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: PodList\n  items:\n" +
			elements(untyped(podA), "  ") + "- kind: List\n  apiVersion: v1\n  items:\n  - kind: List\n    items:\n" + elements(podB, "    "),
		"json stream":         jsonA + "\n" + jsonB,
		"json array":          "[" + jsonA + "," + jsonB + "]",
		"json list":           `{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":""},"items":[` + jsonA + "," + jsonB + "]}",
		"typed json list":     `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[` + bare.Replace(jsonA) + "," + bare.Replace(jsonB) + "]}",
		"sorted json list":    `{"apiVersion":"v1","items":[` + bare.Replace(jsonA) + "," + bare.Replace(jsonB) + `],"kind":"PodList"}`,
		"json list of lists":  `{"kind":"List","apiVersion":"v1","items":[[` + jsonA + `],{"kind":"List","items":[[` + jsonB + `]]}]}`,
		"json list and a pod": `{"kind":"List","apiVersion":"v1","items":[` + jsonA + `]}` + jsonB,
	} {
		t.Run(name, func(t *testing.T) {
			s, problems := read(t, tree(t, map[string]string{"in.yaml": text}), "in.yaml")
			wantLines(t, problems)
			if got := podNames(s); got != "shop/a shop/b" {
				t.Errorf("pods %s", got)
			}
			if got := s.Pods[0].Labels["app"]; got != "web" {
				t.Errorf("label app of the first pod is %q", got)
			}
		})
	}
}

// elements makes an element of a list of a document.
func elements(document, indent string) string {
	out := ""
	for i, line := range strings.Split(strings.TrimSuffix(document, "\n"), "\n") {
		lead := "  "
		if i == 0 {
			lead = "- "
		}
		out += indent + lead + line + "\n"
	}
	return out
}

func untyped(document string) string {
	return strings.TrimPrefix(strings.TrimPrefix(document, "apiVersion: v1\n"), "kind: Pod\n")
}

func TestBrokenDocumentLeavesTheOthers(t *testing.T) {
	text := podA + "---\n" + deny + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n\tname: tab\n---\n" + podB + "---\n" +
		strings.ReplaceAll(deny, "name: deny", "name: other")
	s, problems := read(t, tree(t, map[string]string{"in.yaml": text}))
	wantLines(t, problems,
		"error in.yaml, document 3: NetworkPolicy: the YAML cannot be read: line 14: found character that cannot start any token")
	if got := podNames(s) + " " + policyNames(s); got != "shop/a shop/b shop/deny shop/other" {
		t.Errorf("read %s", got)
	}
}

func TestEmptyInput(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"empty file":   {"in.yaml": ""},
		"comments":     {"in.yaml": "# nothing\n---\n# here\n"},
		"no directory": {},
		"only logs":    {"a.log": "x", "b/table.txt": "y"},
		"workloads":    {"in.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(t.Context(), Options{Paths: []string{tree(t, files)}})
			if !errors.Is(err, ErrEmpty) {
				t.Errorf("error %v, want ErrEmpty", err)
			}
			t.Log(err)
		})
	}
	if _, err := Load(t.Context(), Options{Paths: []string{"/none/such"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that the path does not exist", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := tree(t, map[string]string{"in.yaml": podA})
	if _, err := Load(ctx, Options{Paths: []string{dir}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the context ended", err)
	}
}
