package preflight

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

// Keys of labels, as identities have them.
const (
	podPrefix       = identity.SourceKubernetes + ":"
	namespaceName   = podPrefix + identity.NamespaceKey
	namespacePrefix = podPrefix + identity.NamespaceLabelPrefix
	// metadataName is the label that the API server gives to every namespace.
	metadataName = namespacePrefix + "kubernetes.io/metadata.name"
)

// term is one condition on labels.
type term struct {
	key    string
	op     state.Operator
	values []string // of In and NotIn: sorted, each once
}

// terms are conditions that all must hold, in canonical form; none hold for all
// labels. Selectors that mean the same have equal texts.
type terms []term

// termsOf gives the conditions of a selector, with prefix before every key.
func termsOf(prefix string, s state.Selector) terms {
	out := make(terms, 0, len(s.MatchLabels)+len(s.Expressions))
	for key, value := range s.MatchLabels {
		out = append(out, term{prefix + key, state.OperatorIn, []string{value}})
	}
	for _, r := range s.Expressions {
		out = append(out, term{prefix + r.Key, r.Operator, slices.Compact(slices.Sorted(slices.Values(r.Values)))})
	}
	return out.canonical()
}

func (t terms) canonical() terms {
	slices.SortFunc(t, term.compare)
	return slices.CompactFunc(t, func(a, b term) bool { return a.compare(b) == 0 })
}

func (t term) compare(o term) int {
	return cmp.Or(cmp.Compare(t.key, o.key), cmp.Compare(t.op, o.op), slices.Compare(t.values, o.values))
}

// matches tells whether labels fulfil the condition as Kubernetes has it.
func (t term) matches(labels map[string]string) bool {
	value, ok := labels[t.key]
	return t.op.Holds(t.values, value, ok)
}

// covers tells whether whatever o selects is selected by t too: t has no condition
// that o lacks.
func (t terms) covers(o terms) bool {
	for _, x := range t {
		if !slices.ContainsFunc(o, func(y term) bool { return x.compare(y) == 0 }) {
			return false
		}
	}
	return true
}

// single gives the value that a key must have, if there is just one.
func (t terms) single(key string) (string, bool) {
	for _, x := range t {
		if x.key == key && x.op == state.OperatorIn && len(x.values) == 1 {
			return x.values[0], true
		}
	}
	return "", false
}

// String gives a text that is different for different conditions.
func (t terms) String() string {
	var b strings.Builder
	for _, x := range t {
		b.WriteString(x.key + "\x01" + string(x.op) + "\x01" + strings.Join(x.values, "\x02") + "\x00")
	}
	return b.String()
}

// text gives the conditions as kubectl writes them, without what stands for the
// source of labels.
func (t terms) text() string {
	var parts []string
	for _, x := range t {
		parts = append(parts, x.text())
	}
	return strings.Join(parts, ",")
}

func (t term) text() string {
	key := plainKey(t.key)
	switch t.op {
	case state.OperatorExists:
		return key
	case state.OperatorDoesNotExist:
		return "!" + key
	case state.OperatorNotIn:
		return key + " notin (" + strings.Join(t.values, ",") + ")"
	case state.OperatorIn:
		if len(t.values) == 1 {
			return key + "=" + t.values[0]
		}
	}
	return key + " in (" + strings.Join(t.values, ",") + ")"
}

// plainKey gives the key of a label as people know it.
func plainKey(key string) string {
	if key == namespaceName {
		return "namespace"
	}
	if label, ok := strings.CutPrefix(key, namespacePrefix); ok {
		return "namespace label " + label
	}
	return strings.TrimPrefix(key, podPrefix)
}

// subjectTerms are what a policy selects its pods by, as labels of identities.
func subjectTerms(p *state.NetworkPolicy) terms {
	switch p.Kind {
	case state.PolicyCiliumClusterwide:
		return termsOf("", p.Subject)
	case state.PolicyCilium:
		return append(termsOf("", p.Subject), inNamespace(p.Namespace)).canonical()
	default:
		return append(termsOf(podPrefix, p.Subject), inNamespace(p.Namespace)).canonical()
	}
}

func inNamespace(name string) term { return term{namespaceName, state.OperatorIn, []string{name}} }

// peerTerms are what a peer selects pods by; ok is false if it does not select pods.
func peerTerms(namespace string, p *state.PolicyPeer) (out terms, ok bool) {
	switch {
	case p.Endpoints != nil:
		return termsOf("", *p.Endpoints), true
	case p.Pods == nil && p.Namespaces == nil:
		return nil, false
	}
	if p.Pods != nil {
		out = termsOf(podPrefix, *p.Pods)
	}
	if p.Namespaces != nil {
		out = append(out, termsOf(namespacePrefix, *p.Namespaces)...)
	} else {
		out = append(out, inNamespace(namespace))
	}
	return out.canonical(), true
}

// keysOf collects the keys of conditions.
func keysOf(into map[string]bool, t terms) {
	for _, x := range t {
		into[x.key] = true
	}
}

// sortedKeys are the keys of a set of names.
func sortedKeys(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }
