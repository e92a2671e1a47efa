package preflight

import (
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// dnsPort is where DNS servers listen (RFC 1035, section 4.2).
const dnsPort = 53

// checkDNS tells of policies that isolate pods for egress which nobody lets ask the
// DNS.
func (s *scene) checkDNS() {
	if !s.hasPods {
		return
	}
	asks := s.mayAskDNS()
	told := newSet(len(s.index.groups))
	for _, p := range s.policies {
		if !p.IsolatesEgress || p.Audit || s.mayBeRefused(p) || s.onlyDenies[p] {
			continue
		}
		cut := p.subjects.minus(asks).minus(told)
		told.addAll(cut)
		pods, example := s.count(cut)
		if pods > 0 {
			s.found(p, NoDNS, p.subjectField(), "%s (e.g. %s) %s isolated for egress, and no policy lets them ask the DNS: allow port 53 of UDP and TCP to it, unless they need no names",
				plural(pods, "pod"), example, isAre(pods))
		}
	}
}

// mayAskDNS gives the groups that a rule lets ask the DNS, and those that are it.
func (s *scene) mayAskDNS() set {
	asks := newSet(len(s.index.groups))
	for r := range s.rulesOf(egress, false) {
		if s.ports.has(r.ports, state.ProtocolUDP, dnsPort) && s.reachesDNS(r) {
			asks.addAll(r.policy.subjects)
		}
	}
	for i, g := range s.index.groups {
		if g.dns {
			asks.add(i)
		}
	}
	return asks
}

// count counts the pods of groups, and names the first of them.
func (s *scene) count(groups set) (pods int, example string) {
	for i := range groups.all() {
		if pods == 0 {
			example = s.index.groups[i].example.String()
		}
		pods += s.index.groups[i].pods
	}
	return pods, example
}

// checkOnlyDenies tells of policies that isolate their pods because they deny
// something, where nobody allows these pods anything.
func (s *scene) checkOnlyDenies() {
	if !s.hasPods {
		return
	}
	for d := range directions {
		allowed := newSet(len(s.index.groups))
		for r := range s.rulesOf(d, false) {
			if r.refused || !r.peers.empty() {
				allowed.addAll(r.policy.subjects)
			}
		}
		for _, p := range s.policies {
			if !p.isolates(d) || p.Audit || !slices.ContainsFunc(p.rules[d], func(r *ruleView) bool { return r.ref.Deny && !r.refused }) {
				continue
			}
			pods, example := s.count(p.subjects.minus(allowed))
			if pods > 0 {
				s.onlyDenies[p] = s.onlyDenies[p] || d == egress
				s.found(p, OnlyDenies, strings.TrimSuffix(p.subjectField(), ".endpointSelector"), "the policy denies some %s and isolates its pods for all of it, and nothing allows %s (e.g. %s) any: set enableDefaultDeny.%s to false, or allow what they need",
					directionText(d), plural(pods, "pod"), example, directionText(d))
			}
		}
	}
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// mayBeRefused tells whether a rule of egress is not followed here, and might be
// about the DNS.
func (s *scene) mayBeRefused(p *policyView) bool {
	for _, r := range p.rules[egress] {
		if r.refused && !r.ref.Deny {
			return true
		}
	}
	return false
}

// reachesDNS tells whether the rule is about one of the servers: a pod that is one,
// or, where there is none, about anybody.
func (s *scene) reachesDNS(r *ruleView) bool {
	if r.refused || !s.peers.onlyGroups(r.peers) {
		return true
	}
	known := false
	for i, g := range s.index.groups {
		if g.dns && r.peers.has(s.peers.groupsAt()+i) {
			return true
		}
		known = known || g.dns
	}
	return !known && !r.peers.empty()
}
