package preflight

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// checkTwice tells of policies that are there twice, and of rules that another one
// contains, by what is written alone: whatever pods there are.
func (s *scene) checkTwice() {
	same := s.duplicates()
	byNamespace := map[string][]*policyView{}
	for _, p := range s.policies {
		namespace, _ := p.terms.single(namespaceName)
		byNamespace[namespace] = append(byNamespace[namespace], p)
	}
	for _, p := range s.policies {
		if same[p] != nil || refersToNothing(p.terms) {
			continue
		}
		namespace, one := p.terms.single(namespaceName)
		others := slices.Clone(byNamespace[""])
		if one {
			others = slices.Concat(byNamespace[namespace], others)
		}
		others = slices.DeleteFunc(others, func(q *policyView) bool {
			return same[q] != nil || q.Audit != p.Audit || !q.terms.covers(p.terms)
		})
		for d := range directions {
			for _, r := range p.rules[d] {
				s.checkContained(r, d, others)
			}
		}
	}
}

// duplicates tells of policies that say what one before them says, and returns them
// with that.
func (s *scene) duplicates() map[*policyView]*policyView {
	out := map[*policyView]*policyView{}
	first := map[string]*policyView{}
	for _, p := range s.policies {
		if len(p.Problems)+len(p.Unsupported) > 0 {
			continue
		}
		text := s.meaning(p)
		q := first[text]
		if q == nil {
			first[text] = p
			continue
		}
		out[p] = q
		s.found(p, Duplicate, "", "%s says the same; remove one of them", q.object)
	}
	return out
}

// meaning gives a text that is the same only for policies that mean the same.
func (s *scene) meaning(p *policyView) string {
	var b strings.Builder
	fmt.Fprint(&b, p.Kind == state.PolicyKubernetes, p.terms, p.IsolatesIngress, p.IsolatesEgress, p.Audit)
	for d := range directions {
		var rules []string
		for _, r := range p.rules[d] {
			var peers []string
			for i := range r.rule.Peers {
				peers = append(peers, peerText(p.Namespace, &r.rule.Peers[i]))
			}
			slices.Sort(peers)
			rules = append(rules, fmt.Sprint(r.ref.Deny, len(peers), slices.Compact(peers), r.ports))
		}
		slices.Sort(rules)
		fmt.Fprintf(&b, "\x00%d%q", d, slices.Compact(rules))
	}
	return b.String()
}

func peerText(namespace string, p *state.PolicyPeer) string {
	if t, ok := peerTerms(namespace, p); ok {
		return "pods " + t.String()
	}
	if p.Block != nil {
		b := *p.Block
		b.Except = slices.SortedFunc(slices.Values(b.Except), netip.Prefix.Compare)
		return fmt.Sprintf("block %v", b)
	}
	return fmt.Sprintf("other %s %+v %+v %+v", p.Entity, p.Nodes, p.Service, p.CIDRGroup)
}

// checkContained tells whether a rule of one of the policies contains r.
func (s *scene) checkContained(r *ruleView, direction int, policies []*policyView) {
	if r.refused || len(r.rule.Peers) == 1 && isNobody(&r.rule.Peers[0]) {
		return
	}
	for _, q := range policies {
		for _, other := range q.rules[direction] {
			if other == r || other.refused || other.ref.Deny != r.ref.Deny || !s.contains(other, r) {
				continue
			}
			// Of two that contain each other the later one is too much.
			if q.terms.String() == r.policy.terms.String() && s.contains(r, other) && before(r, other) {
				continue
			}
			s.found(r.policy, Contained, r.field(), "%s contains it; without this rule the verdicts are the same", other.name())
			return
		}
	}
}

// before tells whether a comes before b; they are of one direction.
func before(a, b *ruleView) bool {
	if a.policy != b.policy {
		return a.policy.key < b.policy.key
	}
	return a.ref.Index < b.ref.Index
}

// contains tells whether all peers and ports of b are also those of a, by what is
// written.
func (s *scene) contains(a, b *ruleView) bool {
	if !a.ports.covers(b.ports) {
		return false
	}
	if len(a.rule.Peers) == 0 {
		return true
	}
	if len(b.rule.Peers) == 0 {
		return false
	}
	for i := range b.rule.Peers {
		if !slices.ContainsFunc(a.rule.Peers, func(x state.PolicyPeer) bool {
			return s.containsPeer(a.policy.Namespace, &x, b.policy.Namespace, &b.rule.Peers[i], b.ref.Deny)
		}) {
			return false
		}
	}
	return true
}

func (s *scene) containsPeer(nsA string, a *state.PolicyPeer, nsB string, b *state.PolicyPeer, deny bool) bool {
	ta, podsA := peerTerms(nsA, a)
	tb, podsB := peerTerms(nsB, b)
	switch {
	case a.Entity == state.EntityAll:
		return true
	case podsA && podsB:
		return s.containsPods(ta, tb, deny)
	case podsB:
		return a.Entity == state.EntityCluster && !deny
	case a.Block != nil && b.Block != nil:
		return containsBlock(a.Block, b.Block)
	case a.Entity == state.EntityWorld && b.Block != nil:
		return b.Block.Outside || s.byIdentity
	case a.Entity != "":
		return a.Entity == b.Entity || a.Entity == state.EntityWorld && (b.Entity == state.EntityWorldIPv4 || b.Entity == state.EntityWorldIPv6)
	}
	return reflect.DeepEqual(a, b)
}

// containsPods tells it of selectors. One that asks for a label that identities lack
// is everybody where it denies, and nobody where it allows, but for Cilium.
func (s *scene) containsPods(a, b terms, deny bool) bool {
	switch {
	case !a.covers(b):
		return false
	case s.index.filtered(a)+s.index.filtered(b) == "" || a.String() == b.String():
		return true
	}
	return !s.byIdentity && !deny && s.index.filtered(a) == ""
}

// containsBlock tells whether a has all addresses of b.
func containsBlock(a, b *state.IPBlock) bool {
	if a.Outside && !b.Outside || !inside(plainPrefix(b.CIDR), plainPrefix(a.CIDR)) {
		return false
	}
	for _, hole := range a.Except {
		hole = plainPrefix(hole)
		if hole.Overlaps(plainPrefix(b.CIDR)) && !slices.ContainsFunc(b.Except, func(e netip.Prefix) bool { return inside(hole, plainPrefix(e)) }) {
			return false
		}
	}
	return true
}

// checkEffect tells of policies that change nothing because their pods are isolated
// by nobody.
func (s *scene) checkEffect() {
	if s.in.Settings["enable-policy"] == "always" {
		return
	}
	var isolated [directions]set
	for d := range directions {
		isolated[d] = newSet(len(s.index.groups))
		for _, p := range s.policies {
			if p.isolates(d) {
				isolated[d].addAll(p.subjects)
			}
		}
	}
	for _, p := range s.policies {
		if p.IsolatesIngress || p.IsolatesEgress || p.subjects.empty() || len(p.Problems)+len(p.Unsupported) > 0 || s.hasEffect(p, isolated) {
			continue
		}
		s.found(p, NoEffect, strings.TrimSuffix(p.subjectField(), ".endpointSelector")+".enableDefaultDeny",
			"the policy isolates no direction, and no other policy isolates the pods that it selects, so what it allows is allowed anyway; let it isolate, or remove it")
	}
}

func (s *scene) hasEffect(p *policyView, isolated [directions]set) bool {
	for d, rules := range p.rules {
		for _, r := range rules {
			if r.ref.Deny || isolated[d].meets(p.subjects) {
				return true
			}
		}
	}
	return false
}
