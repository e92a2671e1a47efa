package identity

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ErrPattern is an item of a filter that cannot be used.
var ErrPattern = errors.New("bad label pattern")

// Filter decides which labels are part of an identity. ParseFilter makes one;
// the zero Filter keeps every label.
type Filter struct {
	patterns []pattern
	// allowList is set when the user gave an inclusive pattern: a label that no
	// inclusive pattern matches is left out.
	allowList bool
}

// pattern is one item of a filter.
type pattern struct {
	source  string // empty is any
	exclude bool
	expr    *regexp.Regexp
	// prefix begins every match; whole tells that it is the only one.
	prefix string
	whole  bool
}

// builtin returns the patterns that are part of every filter, Cilium's: those of
// a pod's place, its owner and its applications come in, those that Kubernetes
// gives to single pods, jobs and revisions stay out.
func builtin() []string {
	return []string{
		`reserved:.*`,
		`io\.kubernetes\.pod\.namespace`,
		`io\.cilium\.k8s\.namespace\.labels`,
		`app\.kubernetes\.io`,
		`io\.cilium\.k8s\.policy\.cluster`,
		`io\.cilium\.k8s\.policy\.serviceaccount`,

		`!io\.kubernetes`,
		`!kubernetes\.io`,
		`!statefulset\.kubernetes\.io/pod-name`,
		`!apps\.kubernetes\.io/pod-index`,
		`!batch\.kubernetes\.io/job-completion-index`,
		`!batch\.kubernetes\.io/controller-uid`,
		`!.*beta\.kubernetes\.io`,
		`!k8s\.io`,
		`!pod-template-generation`,
		`!pod-template-hash`,
		`!controller-revision-hash`,
		`!controller-uid`,
		`!annotation.*`,
		`!etcd_node`,
		`!topology\.kubernetes\.io`,
	}
}

// ParseFilter reads the items of the key `labels`, each [source:][!]pattern; the
// built-in patterns go before them. The pattern is a regular expression that
// must match a label's key from its first character on, but not to its last. An
// item without a source is about labels of all sources; one with "!" leaves
// labels out. Any item without "!" makes the filter leave out every label that
// no pattern includes. Empty items are skipped. No item can leave out the name of
// the namespace: a built-in exclusion that is shorter than its pattern always
// matches it too.
//
// The error is ErrPattern and names every bad item, one a line.
func ParseFilter(items []string) (Filter, error) {
	var f Filter
	var problems []error
	for i, item := range slices.Concat(builtin(), items) {
		if item == "" {
			continue
		}
		p, err := parsePattern(item)
		if err != nil {
			problems = append(problems, fmt.Errorf("%w %q: %w", ErrPattern, item, err))
			continue
		}
		f.patterns = append(f.patterns, p)
		if i >= len(builtin()) && !p.exclude {
			f.allowList = true
		}
	}
	if len(problems) > 0 {
		return Filter{}, errors.Join(problems...)
	}
	return f, nil
}

func parsePattern(item string) (pattern, error) {
	source, text, hasSource := strings.Cut(item, ":")
	if !hasSource {
		source, text = "", item
	}
	if rest, ok := strings.CutPrefix(source, "!"); ok {
		return pattern{}, fmt.Errorf("the \"!\" goes after the source: write %q", rest+":!"+strings.TrimPrefix(text, "!"))
	}
	text, exclude := strings.CutPrefix(text, "!")
	if text == "" {
		return pattern{}, errors.New("the pattern is empty; an item is [source:][!]pattern")
	}
	expr, err := regexp.Compile(text)
	if err != nil {
		if hasSource {
			return pattern{}, fmt.Errorf("%w (what stands before the first colon, %q, is the source)", err, source)
		}
		return pattern{}, err
	}
	p := pattern{source: source, exclude: exclude, expr: expr}
	p.prefix, p.whole = expr.LiteralPrefix()
	return p, nil
}

// match tells whether the pattern matches the label, and how many bytes of its
// key.
func (p pattern) match(source, key string) (length int, ok bool) {
	if (p.source != "" && p.source != source) || !strings.HasPrefix(key, p.prefix) {
		return 0, false
	}
	if p.whole {
		return len(p.prefix), true
	}
	at := p.expr.FindStringIndex(key)
	if at == nil || at[0] != 0 {
		return 0, false
	}
	return at[1], true
}

// Keep tells whether the label is part of an identity. The longest match of the
// inclusive patterns is compared with the shortest of the others: the label stays
// if the former is longer, or if the user gave no inclusive pattern and the
// latter is none, or of no length.
func (f Filter) Keep(source, key string) bool {
	included, ignored := 0, -1
	for _, p := range f.patterns {
		n, ok := p.match(source, key)
		switch {
		case !ok:
		case !p.exclude:
			included = max(included, n)
		case ignored < 0 || n < ignored:
			ignored = n
		}
	}
	ignored = max(ignored, 0)
	return (!f.allowList && ignored == 0) || included > ignored
}

// Apply returns the labels ("source:key" to value) that are part of an identity.
// It leaves labels as it is.
func (f Filter) Apply(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for name, value := range labels {
		if f.Keep(splitName(name)) {
			out[name] = value
		}
	}
	return out
}

// KeepPodLabel tells whether a policy can select peers by this label of pods: an
// identity can have it, and it stands for nothing else there.
func (f Filter) KeepPodLabel(key string) bool {
	return !isDerived(key) && f.Keep(SourceKubernetes, key)
}

// KeepNamespaceLabel tells whether a policy can select peers by this label of
// their namespaces: an identity can have it.
func (f Filter) KeepNamespaceLabel(key string) bool {
	return f.Keep(SourceKubernetes, NamespaceLabelPrefix+key)
}

// builtinPart returns the filter without the user's items.
func (f Filter) builtinPart() Filter {
	return Filter{patterns: f.patterns[:min(len(f.patterns), len(builtin()))]}
}

// splitName splits "source:key"; a name without a colon has no source.
func splitName(name string) (source, key string) {
	source, key, ok := strings.Cut(name, ":")
	if !ok {
		return "", name
	}
	return source, key
}
