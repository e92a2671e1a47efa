package whatif

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
)

// Finding is an identity.Finding, with what it is about for scripts.
type Finding struct {
	Policy    string   `json:"policy"`
	Key       string   `json:"key"`
	Namespace bool     `json:"namespace"` // the label is one of namespaces
	Fields    []string `json:"fields"`
	Message   string   `json:"message"`
}

// broken gives what a filter breaks of the policies: peers that are selected by
// labels which it leaves out and, where pods are selected by identity labels,
// subjects too.
func broken(f identity.Filter, policies []state.NetworkPolicy, byIdentity bool) []Finding {
	var out []Finding
	for _, x := range identity.Unmatchable(f, policies) {
		out = append(out, Finding(x))
	}
	if byIdentity {
		for _, p := range policies {
			out = append(out, brokenSubject(f, p)...)
		}
		slices.SortStableFunc(out, func(a, b Finding) int { return strings.Compare(a.Policy, b.Policy) })
	}
	return out
}

// brokenSubject is about what a policy selects its pods by.
func brokenSubject(f identity.Filter, p state.NetworkPolicy) []Finding {
	field := "spec.podSelector"
	if p.Kind != state.PolicyKubernetes {
		field = "spec.endpointSelector"
		if p.Part > 0 {
			field = fmt.Sprintf("specs[%d].endpointSelector", p.Part-1)
		}
	}
	var out []Finding
	for _, name := range subjectNames(p) {
		source, key, _ := strings.Cut(name, ":")
		if f.Keep(source, key) {
			continue
		}
		label, namespace := strings.CutPrefix(key, identity.NamespaceLabelPrefix)
		out = append(out, Finding{
			Policy: p.Key(), Key: label, Namespace: namespace, Fields: []string{field},
			Message: fmt.Sprintf("policy %s selects its pods by the label %q (%s), which the filter (key labels) leaves out of identities: "+
				"no pod seems to have it, and pods that it protects may be open; keep it in labels or select by another one", p.Key(), label, field),
		})
	}
	return out
}

// subjectNames are the names of labels that a policy selects its pods by, sorted.
func subjectNames(p state.NetworkPolicy) []string {
	prefix := ""
	if p.Kind == state.PolicyKubernetes {
		prefix = identity.SourceKubernetes + ":"
	}
	return selectorNames(prefix, p.Subject)
}

func selectorNames(prefix string, s state.Selector) []string {
	names := map[string]struct{}{}
	for key := range s.MatchLabels {
		names[prefix+key] = struct{}{}
	}
	for _, x := range s.Expressions {
		names[prefix+x.Key] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names))
}

// selectedBy gives the names of labels that policies select peers by, and pods if
// that is by identity labels too, with the keys of the policies.
func selectedBy(policies []state.NetworkPolicy, byIdentity bool) map[string]map[string]struct{} {
	out := map[string]map[string]struct{}{}
	for _, p := range policies {
		note := func(names []string) {
			for _, name := range names {
				if out[name] == nil {
					out[name] = map[string]struct{}{}
				}
				out[name][p.Key()] = struct{}{}
			}
		}
		if byIdentity {
			note(subjectNames(p))
		}
		for _, r := range slices.Concat(p.Ingress, p.Egress, p.IngressDeny, p.EgressDeny) {
			for _, x := range r.Peers {
				note(peerNames(x))
			}
		}
	}
	return out
}

func peerNames(p state.PolicyPeer) []string {
	var out []string
	if p.Pods != nil {
		out = append(out, selectorNames(identity.SourceKubernetes+":", *p.Pods)...)
	}
	if p.Namespaces != nil {
		out = append(out, selectorNames(identity.SourceKubernetes+":"+identity.NamespaceLabelPrefix, *p.Namespaces)...)
	}
	if p.Endpoints != nil {
		out = append(out, selectorNames("", *p.Endpoints)...)
	}
	return out
}
