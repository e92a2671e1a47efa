package identity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// Finding is a label that a policy selects its peers by and that no identity has:
// the filter leaves it out, or it stands for something else than a label of pods.
// Such a peer matches nothing, whatever the operator of the condition is; of a rule
// that denies nobody can tell whom it matches, and it denies everybody.
type Finding struct {
	Policy string // state.NetworkPolicy.Key
	Key    string // as the selector has it, without a source
	// Namespace is true for a label of namespaces, false for one of pods.
	Namespace bool
	// Fields are the selectors, e.g. "spec.ingress[0].from[1].podSelector".
	Fields []string
	// Message is one sentence that names all of it and says what follows.
	Message string
}

// Unmatchable returns what the filter would break of the policies: findings for
// each policy and label, ordered by policy, key, pods before namespaces, and rules
// that allow before those that deny. Rules of a direction that a NetworkPolicy of
// Kubernetes does not isolate are left out, as they do nothing; so are the
// selectors of subjects, which are about the pods' real labels.
func Unmatchable(filter Filter, policies []state.NetworkPolicy) []Finding {
	var out []Finding
	for _, p := range policies {
		g := guard{filter: filter, uses: map[use][]string{}}
		g.policy(&p)
		for _, u := range slices.SortedFunc(maps.Keys(g.uses), use.compare) {
			out = append(out, Finding{
				Policy: p.Key(), Key: u.key, Namespace: u.namespace, Fields: g.uses[u], Message: u.message(p.Key(), g.uses[u]),
			})
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(a.Policy, b.Policy) })
	return out
}

// guard collects the labels of one policy that identities lack, with the fields
// that name them.
type guard struct {
	filter Filter
	uses   map[use][]string
}

// use is a label that selectors name.
type use struct {
	key             string
	namespace, deny bool
}

func (u use) compare(o use) int {
	after := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(u.key, o.key), after(u.namespace, o.namespace), after(u.deny, o.deny))
}

func (g guard) policy(p *state.NetworkPolicy) {
	if p.Kind == state.PolicyKubernetes {
		if p.IsolatesIngress {
			g.rules("spec.ingress", "from", false, p.Ingress)
		}
		if p.IsolatesEgress {
			g.rules("spec.egress", "to", false, p.Egress)
		}
		return
	}
	spec := p.Field()
	g.rules(spec+".ingress", "fromEndpoints", false, p.Ingress)
	g.rules(spec+".ingressDeny", "fromEndpoints", true, p.IngressDeny)
	g.rules(spec+".egress", "toEndpoints", false, p.Egress)
	g.rules(spec+".egressDeny", "toEndpoints", true, p.EgressDeny)
}

// rules goes through the peers of one list of rules.
func (g guard) rules(list, peers string, deny bool, rules []state.PolicyRule) {
	for i, rule := range rules {
		for j, peer := range rule.Peers {
			field := fmt.Sprintf("%s[%d].%s[%d]", list, i, peers, j)
			if peer.Pods != nil {
				g.selector(field+".podSelector", peer.Pods, func(key string) (use, bool) {
					return use{key: key, deny: deny}, g.filter.KeepPodLabel(key)
				})
			}
			if peer.Namespaces != nil {
				g.selector(field+".namespaceSelector", peer.Namespaces, func(key string) (use, bool) {
					return use{key: key, namespace: true, deny: deny}, g.filter.KeepNamespaceLabel(key)
				})
			}
			if peer.Endpoints != nil {
				g.selector(field, peer.Endpoints, func(name string) (use, bool) { return g.identityKey(name, deny) })
			}
		}
	}
}

// identityKey is about a key that identities have, "k8s:app".
func (g guard) identityKey(name string, deny bool) (u use, known bool) {
	source, key := splitName(name)
	known = g.filter.Keep(source, key)
	if label, ok := strings.CutPrefix(key, NamespaceLabelPrefix); ok {
		return use{key: label, namespace: true, deny: deny}, known
	}
	return use{key: key, deny: deny}, known
}

// selector goes through the keys of a selector; of tells what use of a label a key
// is, and whether identities have it.
func (g guard) selector(field string, s *state.Selector, of func(key string) (u use, known bool)) {
	add := func(key string) {
		if u, known := of(key); !known && !slices.Contains(g.uses[u], field) {
			g.uses[u] = append(g.uses[u], field)
		}
	}
	for key := range s.MatchLabels {
		add(key)
	}
	for _, r := range s.Expressions {
		add(r.Key)
	}
}

// message gives the sentence of a finding.
func (u use) message(policy string, fields []string) string {
	what, why := "pod label", "which the filter (key labels) leaves out of identities"
	then, advice := "they match nothing", "keep it in labels or select by another one"
	switch {
	case u.namespace:
		what = "namespace label"
	case isDerived(u.key) && strings.HasSuffix(fields[0], ".podSelector"):
		why, advice = "which stands for something else in identities", "select by a label of the pods or, with a namespaceSelector, of their namespaces"
	}
	if u.deny {
		then = "nobody can tell whom they match, and everybody is denied"
	}
	return fmt.Sprintf("policy %s selects peers by the %s %q (%s), %s: %s; %s",
		policy, what, u.key, strings.Join(fields, ", "), why, then, advice)
}

// maxValues is how many values of a label Unlabelled tells apart in a namespace.
const maxValues = 16

// Group is pods of one namespace that have the same labels.
type Group struct {
	Namespace string
	// Labels are those that all its pods have with the same value, Varying the
	// keys of those that differ, sorted.
	Labels  map[string]string
	Varying []string
	// Pods are its pods, sorted by name.
	Pods []state.PodRef
}

// Unlabelled returns the pods that have labels of their own of which the filter
// leaves none, so that only namespace and service account tell them apart. They
// are grouped by namespace and labels; a label that the built-in patterns leave
// out, or that has more than 16 values among the pods of a namespace that have the
// same keys, does not make groups of its own. Groups are ordered by namespace and
// first pod.
func Unlabelled(filter Filter, pods []state.Pod) []Group {
	similar := map[string][]state.Pod{} // by namespace and keys
	for _, pod := range pods {
		keys := ownKeys(pod)
		if len(keys) == 0 || slices.ContainsFunc(keys, filter.KeepPodLabel) {
			continue
		}
		id := pod.Ref.Namespace + "\x00" + strings.Join(keys, "\x00")
		similar[id] = append(similar[id], pod)
	}
	var out []Group
	for _, alike := range similar {
		out = append(out, groups(filter.builtinPart(), alike)...)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pods[0].Name, b.Pods[0].Name))
	})
	return out
}

// ownKeys returns the keys of the labels that are the pod's own, sorted.
func ownKeys(pod state.Pod) []string {
	keys := slices.Sorted(maps.Keys(pod.Labels))
	return slices.DeleteFunc(keys, isDerived)
}

// groups divides pods of one namespace that have the same keys.
func groups(builtin Filter, pods []state.Pod) []Group {
	keys := ownKeys(pods[0])
	telling := slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		values := map[string]bool{}
		for _, pod := range pods {
			values[pod.Labels[key]] = true
		}
		return len(values) > maxValues || !builtin.KeepPodLabel(key)
	})
	members := map[string][]state.Pod{}
	for _, pod := range pods {
		var id strings.Builder
		for _, key := range telling {
			id.WriteString(pod.Labels[key] + "\x00")
		}
		members[id.String()] = append(members[id.String()], pod)
	}
	var out []Group
	for _, m := range members {
		out = append(out, newGroup(keys, m))
	}
	return out
}

func newGroup(keys []string, pods []state.Pod) Group {
	g := Group{Namespace: pods[0].Ref.Namespace, Labels: map[string]string{}}
	for _, key := range keys {
		if slices.ContainsFunc(pods, func(p state.Pod) bool { return p.Labels[key] != pods[0].Labels[key] }) {
			g.Varying = append(g.Varying, key)
		} else {
			g.Labels[key] = pods[0].Labels[key]
		}
	}
	for _, p := range pods {
		g.Pods = append(g.Pods, p.Ref)
	}
	slices.SortFunc(g.Pods, func(a, b state.PodRef) int { return cmp.Compare(a.Name, b.Name) })
	return g
}
