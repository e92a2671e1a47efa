package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// Keys of labels, as identities have them.
const (
	podPrefix             = "k8s:"
	namespaceLabelsPrefix = "k8s:io.cilium.k8s.namespace.labels."
	namespaceKey          = "k8s:io.kubernetes.pod.namespace"

	// derivedPrefix begins the keys of labels that stand for something else than a
	// label of the pod.
	derivedPrefix = "k8s:io.cilium.k8s."

	// subjectNamespace is the key of a subject's namespace among its labels. No
	// label of a pod, which begins with podPrefix or ownLabelPrefix, has it.
	subjectNamespace = "namespace"
	// ownLabelPrefix begins the keys of a subject's own labels that look as if they
	// stood for something else.
	ownLabelPrefix = "own:"
)

// derived tells whether a key of identities stands for something else than a label
// of the pod.
func derived(key string) bool { return key == namespaceKey || strings.HasPrefix(key, derivedPrefix) }

// ownKey is the key of a pod's own label among the labels of subjects, where
// podPrefix is before it already.
func ownKey(key string) string {
	if derived(key) {
		return ownLabelPrefix + key
	}
	return key
}

// direction is ingress or egress, from the pod's point of view.
type direction int

const (
	ingress direction = iota
	egress
	directions
)

// String gives "ingress" or "egress".
func (d direction) String() string {
	if d == egress {
		return "egress"
	}
	return "ingress"
}

// compiled is a policy with its selectors and rules in canonical form.
type compiled struct {
	spec     state.NetworkPolicy
	key      string
	revision uint64 // no two SetPolicy have the same
	subject  conjunction
	valid    bool // subject can select something
	rules    [directions][]rule
	subjects group[*subject] // those that it selects now
}

// rule is one PolicyRule.
type rule struct {
	ref   RuleRef
	peers []peer
	ports ports // without flags
}

func (d direction) isolatedBy(p state.NetworkPolicy) bool {
	if d == egress {
		return p.IsolatesEgress
	}
	return p.IsolatesIngress
}

// counts tells whether c matters for a direction. Kubernetes' own does where it
// isolates.
func (c *compiled) counts(d direction) bool {
	return d.isolatedBy(c.spec) || c.spec.Kind != state.PolicyKubernetes && len(c.rules[d]) > 0
}

// denies tells whether c has rules of a direction that deny.
func (c *compiled) denies(d direction) bool {
	return slices.ContainsFunc(c.rules[d], func(r rule) bool { return r.ref.Deny })
}

func (e *Engine) compile(p state.NetworkPolicy) *compiled {
	e.revision++
	c := &compiled{spec: p, key: p.Key(), revision: e.revision, subjects: group[*subject]{}}
	c.subject, c.valid = subjectOf(p)
	e.addRules(c, ingress, p.Ingress, false)
	e.addRules(c, ingress, p.IngressDeny, true)
	e.addRules(c, egress, p.Egress, false)
	e.addRules(c, egress, p.EgressDeny, true)
	return c
}

// subjectOf gives what a policy requires of a subject's labels; false when nothing
// can meet it.
func subjectOf(p state.NetworkPolicy) (conjunction, bool) {
	prefix := ""
	if p.Kind == state.PolicyKubernetes {
		prefix = podPrefix
	}
	c, ok := requirements(prefix, p.Subject)
	if p.Kind == state.PolicyKubernetes {
		for i := range c {
			c[i].key = ownKey(c[i].key)
		}
	}
	if p.Kind != state.PolicyCiliumClusterwide {
		c = append(c, requirement{subjectNamespace, state.OperatorIn, []string{p.Namespace}})
	}
	return c.canonical(), ok
}

func (e *Engine) addRules(c *compiled, d direction, list []state.PolicyRule, deny bool) {
	for i, r := range list {
		c.rules[d] = append(c.rules[d], rule{
			ref: RuleRef{c.key, i, deny}, peers: e.peersOf(c.spec.Namespace, r.Peers, deny), ports: portsOf(r.Ports, deny),
		})
	}
}

// selectorPart is a selector on the labels of pods, of namespaces, or of
// identities.
type selectorPart struct {
	prefix   string // of the keys in identities
	selector *state.Selector
	known    func(key string) bool
}

// unknown names the first key, in their order, that identities lack; ok is true
// when they have all.
func (s selectorPart) unknown() (key string, ok bool) {
	keys := slices.Collect(maps.Keys(s.selector.MatchLabels))
	for _, x := range s.selector.Expressions {
		keys = append(keys, x.Key)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !s.known(k) {
			return k, false
		}
	}
	return "", true
}

func (e *Engine) podLabelKnown(key string) bool {
	return !derived(podPrefix+key) && (e.cfg.PodLabelKnown == nil || e.cfg.PodLabelKnown(key))
}

func (e *Engine) namespaceLabelKnown(key string) bool {
	return e.cfg.NamespaceLabelKnown == nil || e.cfg.NamespaceLabelKnown(key)
}

// labelKnown is about a key as identities have it.
func (e *Engine) labelKnown(key string) bool {
	if name, ok := strings.CutPrefix(key, namespaceLabelsPrefix); ok {
		return e.namespaceLabelKnown(name)
	}
	name, ok := strings.CutPrefix(key, podPrefix)
	switch {
	case !ok:
		return false // of a source that no label of a pod has
	case derived(key):
		return e.cfg.DerivedLabelKnown == nil || e.cfg.DerivedLabelKnown(name)
	}
	return e.podLabelKnown(name)
}
