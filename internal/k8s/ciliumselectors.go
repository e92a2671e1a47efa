package k8s

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

// Sources of labels, before the colon in the key of a selector. Without one it is
// any.
const (
	sourceAny      = "any"
	sourceReserved = "reserved"
	// reservedHost is the label of nodes themselves, which no pod has.
	reservedHost = sourceReserved + ":host"
)

const selectsNoPods = "the policy selects no pods"

// namespaceKey is the label of identities for the namespace of a pod;
// namespaceLabels begins those for its labels.
const (
	namespaceKey    = identity.SourceKubernetes + ":" + identity.NamespaceKey
	namespaceLabels = identity.SourceKubernetes + ":" + identity.NamespaceLabelPrefix
)

// noPods is a selector of identities that selects no pod.
func noPods() state.Selector {
	return state.Selector{Expressions: []state.Requirement{{Key: reservedHost, Operator: state.OperatorExists}}}
}

// subject converts the subject of a rule. Where a part of the selector is not
// understood, the rest selects, and understood is false.
func (c *ciliumConverter) subject(field string, rule *v2.Rule) (out state.Selector, understood bool) {
	endpoints, nodes := rule.EndpointSelector, rule.NodeSelector
	switch {
	case nodes != nil && endpoints != nil:
		c.problem(field, "endpointSelector and nodeSelector exclude each other", selectsNoPods)
		return noPods(), true
	case nodes != nil:
		c.unsupported = append(c.unsupported, field+".nodeSelector: policies of nodes are not enforced; "+selectsNoPods)
		return noPods(), true
	case endpoints == nil:
		c.problem(field, "it has none of endpointSelector and nodeSelector", selectsNoPods)
		return noPods(), true
	}
	s := selectorConverter{reservedToo: true}
	s.convert(field+".endpointSelector", endpoints)
	for _, p := range s.problems {
		c.problem(p.field, p.why, "the policy isolates without rules what the rest selects")
	}
	if s.reserved > 0 {
		c.unsupported = append(c.unsupported, field+".endpointSelector: what has reserved labels is under no policies; "+selectsNoPods)
	}
	if c.namespace != "" {
		if ns, ok := s.out.MatchLabels[namespaceKey]; ok && ns != c.namespace {
			c.problem(field+".endpointSelector", fmt.Sprintf("%q is not the policy's own namespace", ns), "it is taken for that")
		}
		s.match(namespaceKey, c.namespace, true)
	}
	return s.out, len(s.problems) == 0
}

// endpoints converts a selector of peers: identities, or with a reserved label an
// entity. A selector that only says what labels there must not be is also about
// what has none, which counts in a rule that denies.
func (c *ciliumConverter) endpoints(field string, in *metav1.LabelSelector) []state.PolicyPeer {
	if in == nil {
		c.refuse(field, "it is null")
		return nil
	}
	if name, ok := soleReserved(in); ok {
		switch e := state.Entity(name); e {
		case state.EntityAll, state.EntityCluster, state.EntityNone: // are no labels
		default:
			return []state.PolicyPeer{c.entity(field, e)}
		}
	}
	s := selectorConverter{}
	s.convert(field, in)
	for _, p := range s.problems {
		c.refuse(p.field, "%s", p.why)
	}
	switch {
	case c.namespace != "" && !s.names(namespaceKey) && !s.names(namespaceLabels):
		s.match(namespaceKey, c.namespace, true)
	case c.namespace == "" && !s.names(namespaceKey): // pods, not what has no namespace
		s.out.Expressions = append(s.out.Expressions, state.Requirement{Key: namespaceKey, Operator: state.OperatorExists})
	}
	out := []state.PolicyPeer{{Endpoints: &s.out}}
	if c.deny && !s.asks() {
		for _, e := range []state.Entity{state.EntityWorld, state.EntityHost, state.EntityRemoteNode, state.EntityInit} {
			out = append(out, state.PolicyPeer{Entity: e})
		}
	}
	return out
}

// objects converts a selector of Kubernetes objects by their own labels.
func (c *ciliumConverter) objects(field string, in *metav1.LabelSelector) *state.Selector {
	if in == nil {
		c.refuse(field, "it is missing")
		return nil
	}
	s := selectorConverter{plain: true}
	s.convert(field, in)
	for _, p := range s.problems {
		c.refuse(p.field, "%s", p.why)
	}
	return &s.out
}

// soleReserved returns the name of the reserved label that is all that the
// selector asks for.
func soleReserved(s *metav1.LabelSelector) (name string, ok bool) {
	const prefix = sourceReserved + ":"
	if len(s.MatchLabels)+len(s.MatchExpressions) != 1 {
		return "", false
	}
	for key, value := range s.MatchLabels {
		name, ok = strings.CutPrefix(key, prefix)
		return name, ok && value == ""
	}
	e := s.MatchExpressions[0]
	name, ok = strings.CutPrefix(e.Key, prefix)
	return name, ok && e.Operator == metav1.LabelSelectorOpExists && len(e.Values) == 0
}

// selectorConverter converts one selector of Cilium's kind.
type selectorConverter struct {
	plain       bool // keys without their source, for objects that are no identities
	reservedToo bool // keys of reserved labels stay
	out         state.Selector
	reserved    int // conditions that ask for a reserved label
	problems    []struct{ field, why string }
}

func (s *selectorConverter) problem(field, format string, args ...any) {
	s.problems = append(s.problems, struct{ field, why string }{field, fmt.Sprintf(format, args...)})
}

func (s *selectorConverter) convert(field string, in *metav1.LabelSelector) {
	for _, k := range slices.Sorted(maps.Keys(in.MatchLabels)) {
		key, err := s.key(k, false)
		if err != nil {
			s.problem(field+".matchLabels["+k+"]", "%v", err)
			continue
		}
		s.match(key, in.MatchLabels[k], false)
	}
	for i, e := range in.MatchExpressions {
		f := fmt.Sprintf("%s.matchExpressions[%d]", field, i)
		if err := checkRequirement(e); err != nil {
			s.problem(f+err.Field, "%v", err)
			continue
		}
		without := e.Operator == metav1.LabelSelectorOpDoesNotExist || e.Operator == metav1.LabelSelectorOpNotIn
		key, err := s.key(e.Key, without)
		if err != nil {
			s.problem(f+".key", "%v", err)
			continue
		}
		s.out.Expressions = append(s.out.Expressions, state.Requirement{Key: key, Operator: state.Operator(e.Operator), Values: e.Values})
	}
}

// match adds a condition on a value; override takes the place of one on another
// value, which otherwise stays.
func (s *selectorConverter) match(key, value string, override bool) {
	if old, ok := s.out.MatchLabels[key]; ok && old != value && !override {
		s.out.Expressions = append(s.out.Expressions, state.Requirement{Key: key, Operator: state.OperatorIn, Values: []string{value}})
		return
	}
	if s.out.MatchLabels == nil {
		s.out.MatchLabels = map[string]string{}
	}
	s.out.MatchLabels[key] = value
}

// key converts the key of a condition; without says that those without the label
// fulfil it.
func (s *selectorConverter) key(k string, without bool) (string, error) {
	source, name, ok := strings.Cut(k, ":")
	if !ok {
		source, name = sourceAny, k
	}
	switch {
	case name == "":
		return "", fmt.Errorf("%q is not a label's key", k)
	case source == sourceReserved && s.reservedToo:
		if !without {
			s.reserved++
		}
		return k, nil
	case source == sourceReserved:
		return "", fmt.Errorf("%q: a reserved label wants to stand alone", k)
	case source != sourceAny && source != identity.SourceKubernetes:
		return "", fmt.Errorf("%q: nothing has labels of the source %q", k, source)
	case s.plain:
		return name, nil
	}
	return identity.SourceKubernetes + ":" + name, nil
}

// names tells whether a condition is on a key that begins so.
func (s *selectorConverter) names(prefix string) bool {
	begins := func(key string) bool { return strings.HasPrefix(key, prefix) }
	return slices.ContainsFunc(slices.Collect(maps.Keys(s.out.MatchLabels)), begins) ||
		slices.ContainsFunc(s.out.Expressions, func(r state.Requirement) bool { return begins(r.Key) })
}

// asks tells whether there must be any label.
func (s *selectorConverter) asks() bool {
	return len(s.out.MatchLabels) > 0 || slices.ContainsFunc(s.out.Expressions, func(r state.Requirement) bool {
		return r.Operator == state.OperatorIn || r.Operator == state.OperatorExists
	})
}
