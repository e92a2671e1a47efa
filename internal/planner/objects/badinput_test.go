package objects

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// policyWith is a NetworkPolicy of which lines can be replaced.
func policyWith(replace ...string) string {
	return strings.NewReplacer(replace...).Replace(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  podSelector:
    matchLabels: {app: web}
  ingress:
  - from:
    - podSelector: {}
    ports:
    - port: 80
`)
}

// TestBadObjects reads one object that is wrong in some way, after a pod that is
// not.
func TestBadObjects(t *testing.T) {
	const where = "in.yaml, document 2: "
	const web = "NetworkPolicy shop/web: "
	for name, c := range map[string]struct {
		text string
		want []string
		read string // policies
	}{
		"as it should be": {policyWith(), nil, "shop/web"},
		"old version": {policyWith("networking.k8s.io/v1", "networking.k8s.io/v1beta1"), []string{
			"error " + where + web + "apiVersion: apiVersion networking.k8s.io/v1beta1 of the kind is not read; write it as networking.k8s.io/v1 " +
				"(kubectl convert does that), or export it from an API server that serves it",
		}, ""},
		"older version": {policyWith("networking.k8s.io/v1", "extensions/v1beta1"), []string{
			"error " + where + web + "apiVersion: apiVersion extensions/v1beta1 of the kind is not read; write it as networking.k8s.io/v1 " +
				"(kubectl convert does that), or export it from an API server that serves it",
		}, ""},
		"old version of Cilium's": {"apiVersion: cilium.io/v1\nkind: CiliumNetworkPolicy\nmetadata: {name: web, namespace: shop}\n", []string{
			"error " + where + "CiliumNetworkPolicy shop/web: apiVersion: apiVersion cilium.io/v1 of the kind is not read; write it as cilium.io/v2 " +
				"(kubectl convert does that), or export it from an API server that serves it",
		}, ""},
		"no version": {policyWith("apiVersion: networking.k8s.io/v1\n", ""), []string{
			"error " + where + web + "apiVersion: it has no apiVersion; write apiVersion: networking.k8s.io/v1",
		}, ""},
		"no kind":      {policyWith("kind: NetworkPolicy\n", ""), []string{"error " + where + "kind: it is missing"}, ""},
		"no name":      {policyWith("  name: web\n", ""), []string{"error " + where + "NetworkPolicy: metadata.name: it is missing"}, ""},
		"no namespace": {policyWith("  namespace: shop\n", ""), []string{"warning " + where + "NetworkPolicy default/web: metadata.namespace: it is missing; default is taken for it, as kubectl does"}, "default/web"},
		"unknown field": {policyWith("    ports:", "    port:"), []string{
			"warning " + where + web + "spec.ingress[0].port: no such field is known; it is not read",
		}, "shop/web"},
		"wrong case": {policyWith("podSelector:\n", "podselector:\n"), []string{
			"warning " + where + web + "spec.podselector: no such field is known; it is not read",
		}, "shop/web"},
		"field twice": {policyWith("  ingress:", "  podSelector: {}\n  ingress:"), []string{
			"error " + where + "NetworkPolicy: the YAML cannot be read: line 14: the key \"podSelector\" stands twice",
		}, ""},
		"wrong type": {policyWith("matchLabels: {app: web}", "matchLabels: [web]"), []string{
			"error " + where + web + "spec.podSelector.matchLabels: it is of the type array, where a mapping belongs",
		}, ""},
		"old boolean in a label": {policyWith("app: web", "enabled: yes"), []string{
			"error " + where + web + "spec.podSelector.matchLabels: it is of the type bool, where a string belongs",
		}, ""},
		"spec is a text":   {policyWith("spec:", "spec: none\nother:"), []string{"error " + where + web + "spec: it is of the type string, where a mapping belongs"}, ""},
		"a tab":            {policyWith("  name: web", "\tname: web"), []string{"error " + where + "NetworkPolicy: the YAML cannot be read: line 9: found character that cannot start any token"}, ""},
		"open quote":       {policyWith("name: web", "name: \"web"), []string{"error " + where + "NetworkPolicy: the YAML cannot be read: line 9: found unexpected end of stream"}, ""},
		"alias to nowhere": {policyWith("{app: web}", "*web"), []string{"error " + where + "NetworkPolicy: the YAML cannot be read: unknown anchor 'web' referenced"}, ""},
		"cyclic labels":    {policyWith("{app: web}", "&a {app: *a}"), []string{"error " + where + "NetworkPolicy: the YAML cannot be read: line 13: the anchor \"a\" contains itself"}, ""},
		"a template":       {policyWith("name: web", "name: {{ .Name }}"), []string{"error " + where + "NetworkPolicy: the YAML cannot be read: line 9: a key is a list or a mapping"}, ""},
		"a word":           {"hello", []string{"warning " + where + "1 documents of the file are no objects of Kubernetes, this one first; they have no kind"}, ""},
		"no object":        {"a: 1\nb: [2]\n", []string{"warning " + where + "1 documents of the file are no objects of Kubernetes, this one first; they have no kind"}, ""},
		"unknown kind": {"apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: x}\n", []string{
			"warning " + where + "Widget: an object of the kind Widget (example.com/v1) is not read",
		}, ""},
		"policy of another network": {"apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\nmetadata: {name: x}\n", []string{
			"warning " + where + "NetworkPolicy: an object of the kind NetworkPolicy (crd.projectcalico.org/v1) is not read: " +
				"neither Placid nor Cilium enforces it, and no verdict counts it in",
		}, ""},
		"bad address of a service": {"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.0.0, ports: [{port: 80}]}\n", []string{
			"warning " + where + "Service shop/web: spec.clusterIPs[0]: \"10.0.0\": not an IP address; it is left out",
		}, ""},
		"bad amount of memory": {"apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {capacity: {memory: much, cpu: 4}}\n", []string{
			"warning " + where + "Node n1: status.capacity.memory: \"much\" is no amount; it is taken as not known",
		}, ""},
		"bad address of a pod": {"apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shop}\nstatus: {podIPs: [{ip: nowhere}]}\n", []string{
			"warning " + where + "Pod shop/x: status.podIPs[0].ip: \"nowhere\" is not an IP address; it is left out",
		}, ""},
		"lists in lists": {strings.Repeat("[", 20) + strings.Repeat("]", 20) + "\n", []string{"error in.yaml, document 2, item 1: it is in more than 10 lists, one in the other"}, ""},
		"items without kind": {"items:\n- metadata: {name: x}\nmetadata: {}\n", []string{
			"error " + where + "items of the list have no kind, and the list does not say it either",
		}, ""},
		"broken behind items": {"items:\n" + elements(deny, "") + "kind: [\n", []string{
			"error " + where + "around the items of the list: line 11: did not find expected node content",
		}, "shop/deny"},
		"broken element": {"kind: List\napiVersion: v1\nitems:\n" + elements(strings.ReplaceAll(deny, "{}", "{"), "") + elements(deny, ""), []string{
			"error in.yaml, document 2, item 1: NetworkPolicy: the YAML cannot be read: line 11: did not find expected ',' or '}'",
		}, "shop/deny"},
	} {
		t.Run(name, func(t *testing.T) {
			s, problems := read(t, tree(t, map[string]string{"in.yaml": podA + "---\n" + c.text}))
			wantLines(t, problems, c.want...)
			if got := policyNames(s); got != c.read {
				t.Errorf("policies %q, want %q", got, c.read)
			}
			if !strings.HasPrefix(podNames(s), "shop/a") {
				t.Errorf("pods %q: the one before is missing", podNames(s))
			}
		})
	}
}

func TestBrokenJSON(t *testing.T) {
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"shop"}}`
	for name, c := range map[string]struct{ text, want string }{
		"cut off":            {`{"kind":"List","items":[` + pod + `,{"kind"`, "error in.json, document 1, item 1: the JSON cannot be read on from byte 100: it ends in the middle of an object; nothing behind is read"},
		"items are no list":  {pod + `{"kind":"List","items":{}}`, "error in.json, document 2: the JSON cannot be read on from byte 99: items is no list, but begins with {; nothing behind is read"},
		"marks of YAML":      {pod + "\n---\n" + pod, "error in.json, document 2: the JSON cannot be read on from byte 76: invalid character '-' in numeric literal; nothing behind is read"},
		"field twice":        {pod + `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"x","namespace":"shop"},"spec":{"podSelector":{},"podSelector":{}}}`, "error in.json, document 2: NetworkPolicy shop/x: spec.podSelector: it stands twice"},
		"an element is text": {`{"kind":"List","apiVersion":"v1","items":[` + pod + `,"hello"]}`, "warning in.json, document 1, item 2: 1 documents of the file are no objects of Kubernetes, this one first; they have no kind"},
	} {
		t.Run(name, func(t *testing.T) {
			s, problems := read(t, tree(t, map[string]string{"in.json": c.text}))
			wantLines(t, problems, c.want)
			if podNames(s) != "shop/a" {
				t.Errorf("pods %q", podNames(s))
			}
		})
	}
}

func TestDuplicates(t *testing.T) {
	s, problems := read(t, tree(t, map[string]string{
		"1.yaml": podA + "---\n" + deny, "2.yaml": podA + "---\n" + strings.Replace(deny, "{podSelector: {}}", "{podSelector: {}, policyTypes: [Egress]}", 1),
	}))
	wantLines(t, problems, "warning 2.yaml, document 2: NetworkPolicy shop/deny: there is another one that says something else, in 1.yaml, document 2; that one is used")
	if len(s.Pods) != 1 || len(s.Policies) != 1 || s.Policies[0].IsolatesEgress {
		t.Errorf("pods %s, policies %+v", podNames(s), s.Policies)
	}
}

func TestFoldedDoubts(t *testing.T) {
	text := ""
	for i := range 3 {
		text += fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: shop}\nspec: {clusterIP: 10.0.0.%d, magic: true}\n", i, i+1)
		text += fmt.Sprintf("---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w%d}\n", i)
	}
	_, problems := read(t, tree(t, map[string]string{"in.yaml": text}))
	wantLines(t, problems,
		"warning in.yaml, document 1: Service shop/s0: spec.magic: no such field is known; it is not read (and so for 2 more of the kind)",
		"warning in.yaml, document 2: Widget: 3 objects of the kind Widget (example.com/v1) are not read")
}

// TestSecrets checks that nothing of a Secret comes out, in whatever form it is.
func TestSecrets(t *testing.T) {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: hush, namespace: shop}\ndata: {password: aHVzaA==}\n"
	credentials := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: eni-config, namespace: kube-system}\ndata:\n" +
		"  eni_conf: '{\"access_secret\": \"hush\"}'\n  10-terway.conf: '{\"type\": \"terway\", \"eniip_virtual_type\": \"datapathv2\"}'\n"
	other := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\ndata: {token: hush}\n"
	s, problems := read(t, tree(t, map[string]string{
		"a.yaml": podA + "---\n" + secret + "---\n" + strings.Replace(secret, "{password: aHVzaA==}", "{password: [}", 1),
		"b.yaml": "kind: SecretList\napiVersion: v1\nitems:\n- metadata: {name: hush}\n  data: {x: y}\n",
		"c.yaml": credentials + "---\n" + other,
		"d.json": `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"hush"},"data":{"a":"aHVzaA=="}}`,
	}))
	wantLines(t, problems)
	if got := fmt.Sprintf("%+v", *s); strings.Contains(got, "hush") || strings.Contains(got, "aHVz") {
		t.Errorf("something of a secret came out: %s", got)
	}
	if s.Platform != snapshot.Terway {
		t.Errorf("platform %q", s.Platform)
	}
}

func TestDirectory(t *testing.T) {
	dir := tree(t, map[string]string{
		"k8s-pods-1.yaml": "apiVersion: v1\nitems:\n" + elements(untyped(podA), "") + "kind: PodList\n",
		"sub/deep/b.YML":  podB, "sub/policies.json": `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"deny","namespace":"shop"},"spec":{"podSelector":{}}}`,
		".git/hidden.yaml": podB, "agent.log": "kind: Pod", "table.txt": "x", "values.yaml": "image: web\nreplicas: 2\n",
		"flows.json": `{"flow":{"time":"now"}}` + "\n" + `{"flow":`, "dump.yaml": "\x1f\x8b\x00\x01", "empty.yaml": "",
	})
	for link, to := range map[string]string{"sub/again": "..", "sub/deep/pod.yaml": "../../k8s-pods-1.yaml", "sub/self.yaml": "self.yaml"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	s, problems := read(t, dir)
	wantLines(t, problems, "error sub/self.yaml: it cannot be read: EvalSymlinks: too many links")
	if got := podNames(s) + " " + policyNames(s); got != "shop/a shop/b shop/deny" {
		t.Errorf("read %s", got)
	}
	// agent.log, table.txt; and of those with the right name dump, empty, flows, values.
	if s.Input.Skipped != 6 || s.Input.Files != 3 || s.Input.Objects != 3 {
		t.Errorf("input %+v", s.Input)
	}
}

func TestBinaryFileThatWasAskedFor(t *testing.T) {
	dir := tree(t, map[string]string{"dump.tar.gz": "\x1f\x8b\x08\x00\xff"})
	_, err := Load(t.Context(), Options{Paths: []string{filepath.Join(dir, "dump.tar.gz")}})
	if err == nil || !strings.Contains(err.Error(), "dump.tar.gz: it is no text") {
		t.Errorf("error %v", err)
	}
}

func TestStdin(t *testing.T) {
	s, err := Load(t.Context(), Options{Paths: []string{"-"}, Stdin: strings.NewReader(podA)})
	if err != nil || podNames(s) != "shop/a" || s.Origins[snapshot.Object{Kind: "Pod", Namespace: "shop", Name: "a"}].File != stdinName {
		t.Errorf("error %v, pods %+v", err, s)
	}
	text := "items:\n" + elements(untyped(podA), "") + "kind: PodList\napiVersion: v1\n"
	s, err = Load(t.Context(), Options{Paths: []string{"-"}, Stdin: strings.NewReader(text)})
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, problemLines(s, ""), "error standard input, document 1: items of the list have no kind, and the list says it behind them; store it as a file, and give that")
	if _, err := Load(t.Context(), Options{Paths: []string{"-"}}); err == nil {
		t.Error("no standard input is no error")
	}
}

// TestBombs reads texts that are small and blow up.
func TestBombs(t *testing.T) {
	const limit = 1 << 20
	labels := "&a0 {x: y}\n"
	for i := range 40 {
		labels += fmt.Sprintf("      l%d: &a%d {p: *a%d, q: *a%d, r: *a%d}\n", i, i+1, i, i, i)
	}
	merges := "&m0 {x: y}\n"
	for i := range 40 {
		merges += fmt.Sprintf("      l%d: &m%d {<<: [*m%d, *m%d, *m%d]}\n", i, i+1, i, i, i)
	}
	for name, text := range map[string]string{
		"aliases":      policyWith("matchLabels: {app: web}", "matchLabels:\n      first: "+labels),
		"merges":       policyWith("matchLabels: {app: web}", "matchLabels:\n      first: "+merges),
		"long aliases": policyWith("matchLabels: {app: web}", "matchLabels:\n      a: &a "+strings.Repeat("x", 1<<16)+"\n      b: ["+strings.Repeat("*a,", 2000)+"]\n"),
		"deep":         policyWith("{app: web}", strings.Repeat("[", 5000)+strings.Repeat("]", 5000)),
	} {
		t.Run(name, func(t *testing.T) {
			problems := readLimited(t, podA+"---\n"+text, limit)
			if len(problems) != 1 || !strings.Contains(problems[0], "with its aliases it is an object of more than 16 MiB") &&
				!strings.Contains(problems[0], "levels deep") {
				t.Errorf("problems %.300q", problems)
			}
		})
	}
}

// readLimited reads a text with a limit for its objects, and returns the problems.
func readLimited(t *testing.T, text string, limit int) []string {
	t.Helper()
	dir := tree(t, map[string]string{"in.yaml": text})
	s, err := load(t.Context(), Options{Paths: []string{dir}}, limit)
	if err != nil {
		t.Fatal(err)
	}
	return problemLines(s, dir)
}

// TestLargeObject reads objects of more bytes than they may have, in each form.
func TestLargeObject(t *testing.T) {
	const limit = 1 << 17
	junk := strings.Repeat("x: y\n", limit/5+1)
	words := strings.Repeat(`"xxxxxxxxxxxxxxxx",`, limit/19+4096)
	for name, c := range map[string]struct{ text, want string }{
		"yaml document": {podA + "---\nkind: Pod\n" + junk + "---\n" + podB, "in.yaml, document 2: an object of more than 16 MiB"},
		"yaml element": {
			"kind: List\napiVersion: v1\nitems:\n" + elements(podA, "") + "- kind: Pod\n  " + strings.ReplaceAll(junk, "\n", "\n  ") + "\n" + elements(podB, ""),
			"in.yaml, document 1, item 2: line 8: an object of more than 16 MiB",
		},
		"json": {`{"kind":"List","items":[{"kind":"Pod","x":[` + words + `""]}]}`, "in.yaml, document 1: the JSON cannot be read on from byte 24: here is an object of more than 16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := readLimited(t, c.text, limit)
			if len(problems) != 1 || !strings.Contains(problems[0], c.want) {
				t.Errorf("problems %q", problems)
			}
		})
	}
}
