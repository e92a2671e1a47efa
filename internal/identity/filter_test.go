package identity

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustFilter(t testing.TB, items string) Filter {
	t.Helper()
	f, err := ParseFilter(strings.Fields(items))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Every rule of the filter, and every tie.
func TestFilterRules(t *testing.T) {
	for _, tc := range []struct {
		name, items, label string
		keep               bool
	}{
		// Without items: all but what the built-in patterns leave out.
		{"any label of the user", "", "k8s:app", true},
		{"any source", "", "container:anything", true},
		{"reserved labels", "", "reserved:host", true},
		{"namespace", "", "k8s:io.kubernetes.pod.namespace", true},
		{"labels of the namespace", "", "k8s:io.cilium.k8s.namespace.labels.team", true},
		{"label of the namespace with a key of Kubernetes", "", "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", true},
		{"application", "", "k8s:app.kubernetes.io/name", true},
		{"cluster", "", "k8s:io.cilium.k8s.policy.cluster", true},
		{"service account", "", "k8s:io.cilium.k8s.policy.serviceaccount", true},
		{"other label of Kubernetes, reversed", "", "k8s:io.kubernetes.container.name", false},
		{"other label of Kubernetes", "", "k8s:kubernetes.io/os", false},
		{"kubernetes.io not at the start", "", "k8s:node.kubernetes.io/instance-type", true},
		{"dot of a built-in pattern is a dot", "", "k8s:kubernetes-io/os", true},
		{"name of a stateful pod", "", "k8s:statefulset.kubernetes.io/pod-name", false},
		{"index of a stateful pod", "", "k8s:apps.kubernetes.io/pod-index", false},
		{"index of a job's pod", "", "k8s:batch.kubernetes.io/job-completion-index", false},
		{"number of a job", "", "k8s:batch.kubernetes.io/controller-uid", false},
		{"name of a job", "", "k8s:batch.kubernetes.io/job-name", true},
		{"beta label", "", "k8s:failure-domain.beta.kubernetes.io/zone", false},
		{"k8s.io", "", "k8s:k8s.io/cluster-autoscaler", false},
		{"pod-template-generation", "", "k8s:pod-template-generation", false},
		{"pod-template-hash", "", "k8s:pod-template-hash", false},
		{"controller-revision-hash", "", "k8s:controller-revision-hash", false},
		{"controller-uid", "", "k8s:controller-uid", false},
		{"annotations", "", "k8s:annotation.foo", false},
		{"etcd_node", "", "k8s:etcd_node", false},
		{"topology", "", "k8s:topology.kubernetes.io/zone", false},
		{"a key that only starts like an excluded one", "", "k8s:pod-template-hash-2", false},

		// Items with "!" leave out, and do not make a list of what is allowed.
		{"excluded", "!run-id", "k8s:run-id", false},
		{"excluded, another label", "!run-id", "k8s:app", true},
		{"excluded for a source", "k8s:!run-id", "k8s:run-id", false},
		{"excluded for another source", "container:!run-id", "k8s:run-id", true},
		{"source is compared whole", "k8:!run-id", "k8s:run-id", true},
		{"empty source is any", ":!run-id", "k8s:run-id", false},
		{"anchored on the left", "!id", "k8s:run-id", true},
		{"not anchored on the right", "!app", "k8s:apple", false},
		{"anchored on the right by hand", "!app$", "k8s:apple", true},
		{"anchored on the right by hand, equal", "!app$", "k8s:app", false},
		{"a dot is any character", "!a.b", "k8s:axb", false},
		{"an escaped dot is a dot", `!a\.b`, "k8s:axb", true},
		{"the first match counts, at 0 or not", "!(b|ab)", "k8s:abc", false},
		{"of alternatives the first that matches counts", "(a|abc) !ab", "k8s:abc", false},
		{"of alternatives the first that matches counts, longer", "(abc|a) !ab", "k8s:abc", true},
		{"values do not matter", "!web", "k8s:app", true},
		{"a match of no length leaves nothing out", "!x*", "k8s:app", true},

		// One inclusive item switches to the list of what is allowed.
		{"included", "app", "k8s:app", true},
		{"included, longer key", "app", "k8s:apple", true},
		{"not included", "app", "k8s:tier", false},
		{"included for a source", "k8s:app", "k8s:app", true},
		{"included for another source", "container:app", "k8s:app", false},
		{"built-in inclusions still hold: namespace", "app", "k8s:io.kubernetes.pod.namespace", true},
		{"built-in inclusions still hold: reserved", "app", "reserved:world", true},
		{"built-in exclusions still hold", "app", "k8s:pod-template-hash", false},
		{"an excluding item beside it", "app !tier", "k8s:tier", false},
		{"included with no length", "x*", "k8s:app", false},
		{"everything included", ".*", "k8s:anything", true},
		{"everything included does not beat an exclusion of the whole key", ".*", "k8s:pod-template-hash", false},
		{"everything included beats an exclusion of a part", ".*", "k8s:kubernetes.io/os", true},

		// Both match: the longer one wins, and a tie drops.
		{"inclusion is longer", "!foo foo.bar", "k8s:foo.bar", true},
		{"the order does not matter", "foo.bar !foo", "k8s:foo.bar", true},
		{"exclusion is longer", "foo !foo.bar", "k8s:foo.bar", false},
		{"equal length drops", "foo !foo", "k8s:foo", false},
		{"equal length drops, longer key", "foo !foo", "k8s:foobar", false},
		{"the longest inclusion counts", "f foo.bar !foo.b", "k8s:foo.bar", true},
		{"the shortest exclusion counts", "foo !f !foo.bar", "k8s:foo.bar", true},
		{"a longer inclusion brings back what is built in", `io\.kubernetes\.container`, "k8s:io.kubernetes.container.name", true},
		{"an inclusion as long as what is built in", `io\.kubernetes`, "k8s:io.kubernetes.container.name", false},
		{"the namespace stays: the shorter built-in exclusion counts", `!io\.kubernetes\.pod\.namespace`, "k8s:io.kubernetes.pod.namespace", true},
		{"an exclusion of equal length takes away what is built in", `!app\.kubernetes\.io`, "k8s:app.kubernetes.io/name", false},
		{"a longer built-in inclusion wins over the user's exclusion", "!app", "k8s:app.kubernetes.io/name", true},
		{"a match of no length is the shortest exclusion", "!x* !app", "k8s:app", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source, key := splitName(tc.label)
			if got := mustFilter(t, tc.items).Keep(source, key); got != tc.keep {
				t.Errorf("labels=%q keeps %s: %v, want %v", tc.items, tc.label, got, tc.keep)
			}
		})
	}
}

func TestParseFilterErrors(t *testing.T) {
	for _, tc := range []struct {
		items []string
		want  []string // parts of the error, one item a line
	}{
		{[]string{"k8s:"}, []string{`"k8s:"`, "the pattern is empty"}},
		{[]string{"!"}, []string{`"!"`, "the pattern is empty"}},
		{[]string{"k8s:!"}, []string{`"k8s:!"`, "the pattern is empty"}},
		{[]string{":"}, []string{`":"`, "the pattern is empty"}},
		{[]string{"app", "a(b"}, []string{`"a(b"`, "missing closing )"}},
		{[]string{"k8s:!a[b"}, []string{`"k8s:!a[b"`, "missing closing ]"}},
		{[]string{"(?:a|b)"}, []string{`"(?:a|b)"`, `before the first colon, "(?", is the source`}},
		{[]string{"!k8s:foo"}, []string{`"!k8s:foo"`, `write "k8s:!foo"`}},
		{[]string{"!k8s:!foo"}, []string{`"!k8s:!foo"`, `write "k8s:!foo"`}},
	} {
		f, err := ParseFilter(tc.items)
		if !errors.Is(err, ErrPattern) || f.patterns != nil {
			t.Errorf("%q: %v, %+v", tc.items, err, f)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %q does not say %q", tc.items, err, part)
			}
		}
	}
	_, err := ParseFilter([]string{"a(", "good", "b["})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 2 {
		t.Errorf("two bad items: %v", err)
	}
	f, err := ParseFilter([]string{"", "!app", ""})
	if err != nil || f.Keep("k8s", "app") || !f.Keep("k8s", "tier") {
		t.Errorf("empty items: %v", err)
	}
}

func TestZeroFilterKeepsAll(t *testing.T) {
	for _, key := range []string{"app", "pod-template-hash"} {
		if !(Filter{}).Keep("k8s", key) {
			t.Errorf("%s is left out", key)
		}
	}
}

func TestApply(t *testing.T) {
	labels := map[string]string{"k8s:app": "web", "k8s:pod-template-hash": "1", "reserved:host": "", "bare": "x"}
	before := maps.Clone(labels)
	got := mustFilter(t, "").Apply(labels)
	if want := map[string]string{"k8s:app": "web", "reserved:host": "", "bare": "x"}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !maps.Equal(labels, before) {
		t.Error("Apply changed its argument")
	}
	if got := mustFilter(t, "nothing").Apply(nil); got == nil || len(got) > 0 {
		t.Errorf("%v", got)
	}
}

func TestKeepPolicyLabels(t *testing.T) {
	for _, tc := range []struct {
		items, key     string
		pod, namespace bool
	}{
		{"", "app", true, true},
		{"", "pod-template-hash", false, true},
		{"", "kubernetes.io/metadata.name", false, true},
		// What stands for something else in an identity is no label of pods.
		{"", "io.kubernetes.pod.namespace", false, true},
		{"", "io.cilium.k8s.policy.serviceaccount", false, true},
		{"", "io.cilium.k8s.policy.cluster", false, true},
		{"", "io.cilium.k8s.namespace.labels.team", false, true},
		{".*", "io.cilium.k8s.anything", false, true},
		{"app", "tier", false, true},
		{`!io\.cilium\.k8s\.namespace\.labels`, "team", true, false},
	} {
		f := mustFilter(t, tc.items)
		if got := f.KeepPodLabel(tc.key); got != tc.pod {
			t.Errorf("labels=%q: KeepPodLabel(%s) = %v", tc.items, tc.key, got)
		}
		if got := f.KeepNamespaceLabel(tc.key); got != tc.namespace {
			t.Errorf("labels=%q: KeepNamespaceLabel(%s) = %v", tc.items, tc.key, got)
		}
	}
}

var itemForm = regexp.MustCompile(`^(?:([^:]*):)?(!?)(.*)$`)

// slowKeep is the rule as it is written down, without any shortcut.
func slowKeep(t *rapid.T, items []string, source, key string) bool {
	var included, ignored []int
	allowList := false
	for i, item := range slices.Concat(builtin(), items) {
		m := itemForm.FindStringSubmatch(item)
		exclude := m[2] == "!"
		allowList = allowList || (i >= len(builtin()) && !exclude)
		expr, err := regexp.Compile(m[3])
		if err != nil {
			t.Fatal(err)
		}
		if m[1] != "" && m[1] != source {
			continue
		}
		for n := range len(key) + 1 {
			// The match that starts where the key does, if that is where the first is.
			if at := expr.FindStringIndex(key); at != nil && slices.Equal(at, []int{0, n}) {
				if exclude {
					ignored = append(ignored, n)
				} else {
					included = append(included, n)
				}
			}
		}
	}
	longest, shortest := 0, 0
	if len(included) > 0 {
		longest = slices.Max(included)
	}
	if len(ignored) > 0 {
		shortest = slices.Min(ignored)
	}
	return (!allowList && shortest == 0) || longest > shortest
}

func TestFilterOracle(t *testing.T) {
	pieces := []string{
		"app", "a", "ap", "pl", "e", "kubernetes.io", "io.kubernetes", ".", "/", "-", "pod", "run-id", "beta.",
		"io.kubernetes.pod.namespace", "io.cilium.k8s.", "namespace.labels", "x", "pod-template-hash", "topology.",
	}
	operators := []string{`\.`, ".*", "x*", "(a|ap)", "$", "^", "[a-z]+", "(?i)A", `\b`, "a?", ".+"}
	sources := []string{"k8s", "gen", "reserved", "container"}
	word := func(from []string, least, most int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(from), least, most).Draw(t, "parts"), "")
		})
	}
	keys := word(pieces, 0, 4)
	item := rapid.Custom(func(t *rapid.T) string {
		text := word(slices.Concat(pieces, operators), 1, 3).Draw(t, "pattern")
		if rapid.Bool().Draw(t, "exclude") {
			text = "!" + text
		}
		if rapid.Bool().Draw(t, "withSource") {
			text = rapid.SampledFrom(append(sources, "")).Draw(t, "source") + ":" + text
		}
		return text
	})
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(item, 0, 4).Draw(t, "items")
		f, err := ParseFilter(items)
		if err != nil {
			t.Skip("no filter")
		}
		labels, want := map[string]string{}, map[string]string{}
		for range rapid.IntRange(0, 6).Draw(t, "labels") {
			source, key := rapid.SampledFrom(sources).Draw(t, "source"), keys.Draw(t, "key")
			labels[source+":"+key] = "v"
			if slowKeep(t, items, source, key) {
				want[source+":"+key] = "v"
			}
		}
		if !f.Keep(SourceKubernetes, NamespaceKey) {
			t.Fatalf("labels=%q leaves out the namespace", items)
		}
		if got := f.Apply(labels); !maps.Equal(got, want) {
			t.Fatalf("labels=%q keeps %v, want %v", items, got, want)
		}
	})
}

// Any text is a filter or a named error, and a filter decides any label.
func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"k8s:app !tier", `k8s:!io\.kubernetes`, "!", "a(b", "(?i)A|b", "\xff", `\Qa`, "k8s:(?:x)"} {
		f.Add(s, "k8s", "app")
	}
	f.Fuzz(func(t *testing.T, text, source, key string) {
		items := strings.Fields(text)
		filter, err := ParseFilter(items)
		if err != nil {
			if !errors.Is(err, ErrPattern) || filter.patterns != nil {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if len(filter.patterns) != len(builtin())+len(items) {
			t.Errorf("%q: %d patterns", text, len(filter.patterns))
		}
		name := source + ":" + key
		if splitSource, splitKey := splitName(name); filter.Keep(splitSource, splitKey) != (len(filter.Apply(map[string]string{name: ""})) == 1) {
			t.Errorf("%q: Keep and Apply differ about %q", text, name)
		}
		if filter.allowList && filter.Keep("k8s", "") {
			t.Errorf("%q: a key that nothing can match with a length is kept", text)
		}
	})
}
