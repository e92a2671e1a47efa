package preflight

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/policy/resolve"
	"github.com/placid-net/placid/internal/state"
)

// The directions.
const (
	ingress = iota
	egress
	directions
)

func directionText(d int) string { return [directions]string{"ingress", "egress"}[d] }

// scene is a cluster as the checks see it, and what they found.
type scene struct {
	in         *snapshot.Snapshot
	options    Options
	filter     identity.Filter
	byIdentity bool // the platform selects pods by identity labels alone
	// What of the cluster was given; without it, what depends on it is not told.
	hasPods, hasNamespaces bool

	namespaces map[string]state.Namespace
	index      *index
	peers      *peers
	ports      *portClasses
	policies   []*policyView
	findings   []Finding
	onlyDenies map[*policyView]bool // that let nobody send anything, which is told
}

// policyView is a policy with its selectors and rules compiled.
type policyView struct {
	state.NetworkPolicy // as it is written
	resolved            *state.NetworkPolicy
	notes               []string // of references that lead nowhere
	key                 string
	object              Object
	origin              snapshot.Origin
	terms               terms
	subjects            set // groups
	rules               [directions][]*ruleView
}

// ruleView is one rule of a policy.
type ruleView struct {
	policy  *policyView
	ref     policy.RuleRef
	egress  bool
	written *state.PolicyRule
	rule    *state.PolicyRule // with references replaced
	peers   set
	ports   set
	// refused is set if a part of it is not understood or not enforced, so that it
	// is not what it is written as.
	refused bool
}

func (r *ruleView) field() string { return r.ref.Field(r.egress) }

// name names a rule for people.
func (r *ruleView) name() string { return r.policy.object.String() + " " + r.field() }

func newScene(in *snapshot.Snapshot, o Options) *scene {
	s := &scene{in: in, options: o, namespaces: map[string]state.Namespace{}, onlyDenies: map[*policyView]bool{}}
	s.byIdentity = o.For == snapshot.Cilium || o.For == snapshot.Terway
	s.hasPods = len(in.Pods) > 0
	for _, n := range in.Namespaces {
		s.namespaces[n.Name] = n
		_, given := in.Origins[snapshot.Object{Kind: "Namespace", Name: n.Name}]
		s.hasNamespaces = s.hasNamespaces || given
	}
	filter, err := identity.ParseFilter(strings.Fields(in.Settings["labels"]))
	if err != nil {
		s.add(Finding{Code: BadSetting, Field: "labels", Message: "the label filter is not valid, so that all labels are taken as kept: " + strings.ReplaceAll(err.Error(), "\n", "; ")})
	}
	s.filter = filter
	return s
}

// add keeps a finding, with the severity of its code unless it has one.
func (s *scene) add(f Finding) {
	f.Severity = cmp.Or(f.Severity, severityOf(f.Code))
	s.findings = append(s.findings, f)
}

// found is add for a policy.
func (s *scene) found(p *policyView, code, field, format string, args ...any) {
	s.add(Finding{Code: code, Object: p.object, Origin: p.origin, Field: field, Message: fmt.Sprintf(format, args...)})
}

// compile makes views of all policies.
func (s *scene) compile() {
	s.resolve()
	named := map[string]bool{namespaceName: true}
	prefixes := map[netip.Prefix]bool{}
	var ports []state.PolicyPort
	for _, p := range s.policies {
		p.terms = subjectTerms(&p.NetworkPolicy)
		keysOf(named, p.terms)
		for _, rules := range [][]state.PolicyRule{p.resolved.Ingress, p.resolved.Egress, p.resolved.IngressDeny, p.resolved.EgressDeny} {
			for _, r := range rules {
				ports = append(ports, r.Ports...)
				for i := range r.Peers {
					t, _ := peerTerms(p.Namespace, &r.Peers[i])
					keysOf(named, t)
					if b := r.Peers[i].Block; b != nil {
						for _, x := range append([]netip.Prefix{b.CIDR}, b.Except...) {
							if x.IsValid() {
								prefixes[plainPrefix(x)] = true
							}
						}
					}
				}
			}
		}
	}
	ports = append(ports, state.PolicyPort{Protocol: state.ProtocolUDP, Port: dnsPort}, state.PolicyPort{Protocol: state.ProtocolTCP, Port: dnsPort})
	s.index = newIndex(groupsOf(s.in, named), s.kept())
	s.peers = &peers{index: s.index, regions: newRegions(prefixes), how: strictly, blocksOutside: s.byIdentity}
	subjects := byLabels
	if s.byIdentity {
		s.peers.how, subjects = byIdentity, byIdentity
	}
	s.ports = newPortClasses(ports)
	for _, p := range s.policies {
		p.subjects = s.index.selected(p.terms, subjects)
		s.compileRules(p)
	}
}

// kept tells whether identities have a label, by its key there.
func (s *scene) kept() func(key string) bool {
	known := map[string]bool{}
	return func(key string) bool {
		keep, ok := known[key]
		if !ok {
			source, name, _ := strings.Cut(key, ":")
			keep = s.filter.Keep(source, name)
			known[key] = keep
		}
		return keep
	}
}

// resolve replaces what policies name in other objects.
func (s *scene) resolve() {
	in := resolve.Cluster{Policies: s.in.Policies, Services: s.in.PolicyServices, Slices: s.in.Slices, CIDRGroups: s.in.CIDRGroups}
	for _, n := range s.in.Nodes {
		in.Nodes = append(in.Nodes, state.Node{Name: n.Name, Labels: n.Labels, Addrs: n.Addrs})
	}
	changes := map[string]resolve.Change{}
	for _, c := range resolve.All(in) {
		changes[c.Key] = c
	}
	for _, p := range s.in.Policies {
		c := changes[p.Key()]
		object := snapshot.Object{Kind: p.Kind.String(), Namespace: p.Namespace, Name: p.Name}
		s.policies = append(s.policies, &policyView{
			NetworkPolicy: p, resolved: c.Policy, notes: c.Notes, key: c.Key, object: Object(object), origin: s.in.Origins[object],
		})
	}
	slices.SortFunc(s.policies, func(a, b *policyView) int { return strings.Compare(a.key, b.key) })
}

func (s *scene) compileRules(p *policyView) {
	refused := refusedRules(p)
	for _, l := range []struct {
		written, resolved []state.PolicyRule
		direction         int
		deny              bool
	}{
		{p.Ingress, p.resolved.Ingress, ingress, false},
		{p.IngressDeny, p.resolved.IngressDeny, ingress, true},
		{p.Egress, p.resolved.Egress, egress, false},
		{p.EgressDeny, p.resolved.EgressDeny, egress, true},
	} {
		if p.Kind == state.PolicyKubernetes && !p.isolates(l.direction) {
			continue // they do not count
		}
		for i := range l.written {
			r := &ruleView{
				policy: p, ref: policy.RuleRef{Policy: p.key, Index: i, Deny: l.deny}, egress: l.direction == egress,
				written: &l.written[i], rule: &l.resolved[i],
			}
			r.refused = refused[r.field()]
			r.peers = s.peers.of(p.Namespace, r.rule.Peers, l.deny)
			r.ports = s.ports.of(r.rule.Ports)
			p.rules[l.direction] = append(p.rules[l.direction], r)
		}
	}
}

// refusedRules are the fields of the rules that are not taken as they are written.
func refusedRules(p *policyView) map[string]bool {
	out := map[string]bool{}
	for _, sentence := range slices.Concat(p.Problems, p.Unsupported) {
		parts := strings.Split(sentence, ".")
		if len(parts) > 1 {
			rule, _, _ := strings.Cut(parts[1], "]")
			rule, _, _ = strings.Cut(rule, ":")
			if strings.Contains(rule, "[") {
				rule += "]"
			}
			out[parts[0]+"."+rule] = true
		}
	}
	return out
}

// rulesOf yields the rules of all policies that enforce, of a direction and an action.
func (s *scene) rulesOf(direction int, deny bool) iter.Seq[*ruleView] {
	return func(yield func(*ruleView) bool) {
		for _, p := range s.policies {
			for _, r := range p.rules[direction] {
				if r.ref.Deny == deny && !yield(r) {
					return
				}
			}
		}
	}
}

// isolates tells whether a policy isolates its pods in a direction.
func (p *policyView) isolates(direction int) bool {
	if direction == egress {
		return p.IsolatesEgress
	}
	return p.IsolatesIngress
}

// subjectField is the path of what selects a policy's pods.
func (p *policyView) subjectField() string {
	switch {
	case p.Kind == state.PolicyKubernetes:
		return "spec.podSelector"
	case p.Part > 0:
		return "specs[" + strconv.Itoa(p.Part-1) + "].endpointSelector"
	}
	return "spec.endpointSelector"
}

// peerField is the path of a peer of a rule as it is written; that of the rule where
// it cannot be told.
func (r *ruleView) peerField(i int) string {
	x := &r.written.Peers[i]
	list := "from"
	if r.egress {
		list = "to"
	}
	if r.policy.Kind == state.PolicyKubernetes {
		field := fmt.Sprintf("%s.%s[%d]", r.field(), list, i)
		switch {
		case x.Block != nil:
			return field + ".ipBlock"
		case x.Pods == nil:
			return field + ".namespaceSelector"
		case x.Namespaces == nil:
			return field + ".podSelector"
		}
		return field
	}
	alike := func(y *state.PolicyPeer) bool {
		return (x.Endpoints != nil) == (y.Endpoints != nil) && (x.Nodes != nil) == (y.Nodes != nil) && (x.Service != nil) == (y.Service != nil)
	}
	kind := map[bool]string{x.Endpoints != nil: "Endpoints", x.Nodes != nil: "Nodes", x.Service != nil: "Services"}[true]
	for j := range r.written.Peers {
		if kind == "" || !alike(&r.written.Peers[j]) {
			return r.field()
		}
	}
	return fmt.Sprintf("%s.%s%s[%d]", r.field(), list, kind, i)
}

// keysIn yields the keys of a map.
func keysIn[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }
