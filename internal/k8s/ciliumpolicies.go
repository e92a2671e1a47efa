package k8s

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// What follows from a rule of a Cilium policy that is not taken as it is.
const (
	allowsNothing    = "the rule allows nothing"
	deniesEverything = "the rule denies everything"
)

// CiliumRows converts a CiliumNetworkPolicy: a row for spec and one for each item
// of specs, with Cilium's defaults filled in. A rule that has a part that is not
// understood (named in Problems) or not enforced by Placid (named in Unsupported)
// keeps its place; among those that allow it allows nothing, among those that deny
// it denies everything. A subject selector that is not understood is taken as in
// PolicyRow; where there is none, or a nodeSelector, the row selects no pods.
func CiliumRows(obj *v2.CiliumNetworkPolicy) []state.NetworkPolicy {
	return ciliumRows(state.PolicyCilium, &obj.ObjectMeta, obj.Spec, obj.Specs)
}

// CiliumClusterwideRows is CiliumRows for a CiliumClusterwideNetworkPolicy.
func CiliumClusterwideRows(obj *v2.CiliumClusterwideNetworkPolicy) []state.NetworkPolicy {
	return ciliumRows(state.PolicyCiliumClusterwide, &obj.ObjectMeta, obj.Spec, obj.Specs)
}

func ciliumRows(kind state.PolicyKind, meta *metav1.ObjectMeta, spec *v2.Rule, specs []*v2.Rule) []state.NetworkPolicy {
	row := state.NetworkPolicy{Kind: kind, Name: meta.Name, UID: string(meta.UID)}
	if kind == state.PolicyCilium {
		row.Namespace = meta.Namespace
	}
	var out []state.NetworkPolicy
	if spec != nil || len(specs) == 0 {
		out = append(out, ciliumRow(row, meta.Annotations[AnnotationAudit], spec))
	}
	for i, rule := range specs {
		row.Part = i + 1
		out = append(out, ciliumRow(row, meta.Annotations[AnnotationAudit], rule))
	}
	return out
}

// ciliumConverter converts one rule of a Cilium policy, and collects what it does
// not understand or support.
type ciliumConverter struct {
	policyConverter
	namespace   string // empty for a clusterwide policy
	unsupported []string
	deny        bool // it converts a rule that denies
	refused     bool // the rule at hand is not taken as it is
}

// ciliumRow fills in a row.
func ciliumRow(p state.NetworkPolicy, audit string, rule *v2.Rule) state.NetworkPolicy {
	c, field := ciliumConverter{namespace: p.Namespace}, p.Field()
	p.Audit = c.audit(audit)
	if rule == nil {
		c.problem(field, "it is missing", selectsNoPods)
		p.Subject, p.Problems = noPods(), c.problems
		return p
	}
	rules := rulesOf(field, rule)
	p.IsolatesIngress = isolates(rule.EnableDefaultDeny.Ingress, len(rule.Ingress)+len(rule.IngressDeny))
	p.IsolatesEgress = isolates(rule.EnableDefaultDeny.Egress, len(rule.Egress)+len(rule.EgressDeny))
	if len(slices.Concat(rules[:]...)) == 0 {
		c.problem(field, "it has none of ingress, ingressDeny, egress and egressDeny", "it allows and denies nothing")
	}
	subject, understood := c.subject(field, rule)
	p.Subject = subject
	if understood {
		p.Ingress, p.IngressDeny = c.rules(rules[0], false), c.rules(rules[1], true)
		p.Egress, p.EgressDeny = c.rules(rules[2], false), c.rules(rules[3], true)
	} else {
		// More pods than were meant: nobody may reach them because of it, and what
		// it denies them nobody knows.
		p.IngressDeny, p.EgressDeny = denyAll(rules[1]), denyAll(rules[3])
	}
	p.Problems, p.Unsupported = c.problems, c.unsupported
	return p
}

// isolates is the default deny of a direction that has so many rules.
func isolates(enable *bool, rules int) bool {
	if enable != nil {
		return *enable
	}
	return rules > 0
}

func denyAll(rules []ciliumRule) []state.PolicyRule {
	if len(rules) == 0 {
		return nil
	}
	return make([]state.PolicyRule, len(rules))
}

// notSupported notes a part that is well formed and not enforced.
func (c *ciliumConverter) notSupported(field, why string) {
	c.refused = true
	c.unsupported = append(c.unsupported, fmt.Sprintf("%s: %s; %s", field, why, c.follows()))
}

// refuse notes a part of a rule that is not understood.
func (c *ciliumConverter) refuse(field, format string, args ...any) {
	c.refused = true
	c.problem(field, fmt.Sprintf(format, args...), c.follows())
}

// follows says what becomes of the rule at hand.
func (c *ciliumConverter) follows() string {
	if c.deny {
		return deniesEverything
	}
	return allowsNothing
}

func (c *ciliumConverter) rules(in []ciliumRule, deny bool) []state.PolicyRule {
	var out []state.PolicyRule
	c.deny = deny
	for i := range in {
		out = append(out, c.rule(&in[i]))
	}
	return out
}

// rule converts one rule.
func (c *ciliumConverter) rule(r *ciliumRule) state.PolicyRule {
	c.refused = false
	c.check(r)
	peers := c.peers(r)
	ports := slices.Concat(c.ports(r), c.icmps(r))
	switch {
	case c.refused && c.deny:
		return state.PolicyRule{}
	case c.refused, r.nobody(c.deny):
		return state.PolicyRule{Peers: []state.PolicyPeer{{}}}
	}
	return state.PolicyRule{Peers: peers, Ports: ports}
}

// check refuses what no rule may have.
func (c *ciliumConverter) check(r *ciliumRule) {
	var kinds []string
	for _, l := range r.lists() {
		if l.items > 0 {
			kinds = append(kinds, l.name)
		}
	}
	if len(kinds) > 1 {
		c.refuse(r.field, "%s and %s exclude each other", kinds[0], kinds[1])
	}
	if len(r.icmps) > 0 && len(r.toPorts) > 0 {
		c.refuse(r.field, "icmps and toPorts exclude each other")
	}
	if r.requires > 0 {
		c.notSupported(r.peer("Requires"), "requirements are no longer part of Cilium's policies")
	}
	if a := r.authentication; a != nil && a.Mode != "" && a.Mode != "disabled" {
		c.notSupported(r.field+".authentication.mode", fmt.Sprintf("%q: peers are not authenticated", a.Mode))
	}
}
