package preflight

import (
	"github.com/placid-net/placid/internal/state"
)

// checkRules tells of rules that are about everybody or nobody.
func (s *scene) checkRules() {
	for _, p := range s.policies {
		if p.Kind == state.PolicyCiliumClusterwide && len(p.Subject.MatchLabels)+len(p.Subject.Expressions) == 0 {
			for d := range directions {
				if p.isolates(d) {
					s.found(p, IsolatesAll, p.subjectField(), "the policy isolates all pods of the cluster for %s, those of kube-system too; see that what they need is allowed", directionText(d))
				}
			}
		}
		for d, rules := range p.rules {
			for _, r := range rules {
				if !r.refused {
					s.checkRule(r, directionText(d), len(rules))
				}
			}
		}
	}
}

func (s *scene) checkRule(r *ruleView, direction string, rules int) {
	peers, ports := r.written.Peers, r.written.Ports
	switch {
	case len(peers) == 0 && r.ref.Deny: // denies everybody, which is plain to see
	case len(peers) == 0 && len(ports) == 0:
		s.found(r.policy, OpenToAll, r.field(), "the rule has neither peers nor ports, so all %s is allowed, of addresses outside the cluster too", direction)
	case len(peers) == 0:
		s.found(r.policy, OpenToAll, r.field(), "the rule has no peers, so everybody may use the ports, addresses outside the cluster too; an empty list means the same as none")
	case len(peers) == 1 && isNobody(&peers[0]):
		f := Finding{Code: NobodySelected, Object: r.policy.object, Origin: r.policy.origin, Field: r.field()}
		f.Message = "the rule selects nobody; the policy isolates its pods for " + direction + ", and this rule allows nothing"
		if rules > 1 {
			f.Severity = Warning
			f.Message = "the rule selects nobody, so beside the others it does nothing; write peers or ports, or remove it"
		}
		s.add(f)
		return
	}
	s.checkWidePeers(r)
}

// checkWidePeers tells of peers that are everybody, or every pod.
func (s *scene) checkWidePeers(r *ruleView) {
	for i := range r.written.Peers {
		x := &r.written.Peers[i]
		if x.Entity == state.EntityAll && !r.ref.Deny {
			s.found(r.policy, OpenToAll, r.field(), "the entity all is everybody, addresses outside the cluster too")
		}
		if x.Namespaces != nil && isEmpty(x.Namespaces) && (x.Pods == nil || isEmpty(x.Pods)) {
			s.found(r.policy, AllNamespaces, r.peerField(i), "an empty namespaceSelector is every pod of every namespace")
		}
	}
}

func isEmpty(s *state.Selector) bool { return len(s.MatchLabels)+len(s.Expressions) == 0 }

// isNobody tells whether a peer is nothing at all.
func isNobody(p *state.PolicyPeer) bool {
	return p.Pods == nil && p.Namespaces == nil && p.Endpoints == nil && p.Block == nil && p.Entity == "" &&
		p.Nodes == nil && p.Service == nil && p.CIDRGroup == nil
}
