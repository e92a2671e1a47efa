package resolve

import (
	"cmp"
	"fmt"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

func byKey(a, b Change) int { return cmp.Compare(a.Key, b.Key) }

// needsOf tells what kinds of things the policy names.
func needsOf(p *state.NetworkPolicy) needs {
	var out needs
	for _, list := range [][]state.PolicyRule{p.Ingress, p.Egress, p.IngressDeny, p.EgressDeny} {
		for _, rule := range list {
			for i := range rule.Peers {
				out |= needOf(&rule.Peers[i])
			}
		}
	}
	return out
}

func needOf(p *state.PolicyPeer) needs {
	switch {
	case p.Nodes != nil:
		return needNodes
	case p.Service != nil:
		return needServices
	case p.CIDRGroup != nil:
		return needGroups
	case p.Entity == state.EntityKubeAPIServer:
		return needAPIServer
	}
	return 0
}

// resolve returns the policy with everything that it names replaced.
func (c *cluster) resolve(key string, p *state.NetworkPolicy, needs needs) Change {
	out := *p
	ch := Change{Key: key, Policy: &out}
	if needs == 0 {
		return ch
	}
	for _, l := range []struct {
		rules        *[]state.PolicyRule
		egress, deny bool
	}{{&out.Ingress, false, false}, {&out.IngressDeny, false, true}, {&out.Egress, true, false}, {&out.EgressDeny, true, true}} {
		t := translation{cluster: c, egress: l.egress, deny: l.deny, notes: &ch.Notes}
		*l.rules = t.rules(key, *l.rules)
	}
	return ch
}

// translation replaces what the rules of one list name.
type translation struct {
	cluster      *cluster
	egress, deny bool
	notes        *[]string
}

func (t translation) rules(key string, in []state.PolicyRule) []state.PolicyRule {
	if in == nil {
		return nil
	}
	out := make([]state.PolicyRule, 0, len(in))
	for i, rule := range in {
		field := policy.RuleRef{Policy: key, Index: i, Deny: t.deny}.Field(t.egress)
		var peers []state.PolicyPeer
		for j := range rule.Peers {
			peers = append(peers, t.peer(field, j, &rule.Peers[j])...)
		}
		// No peers at all would be all of them.
		if len(rule.Peers) > 0 && len(peers) == 0 {
			peers = []state.PolicyPeer{{}}
		}
		out = append(out, state.PolicyRule{Peers: peers, Ports: rule.Ports})
	}
	return out
}

// peer replaces one peer.
func (t translation) peer(rule string, i int, p *state.PolicyPeer) []state.PolicyPeer {
	note := func(list, why string) {
		direction := "from"
		if t.egress {
			direction = "to"
		}
		*t.notes = append(*t.notes, fmt.Sprintf("%s.%s%s[%d]: %s", rule, direction, list, i, why))
	}
	switch needOf(p) {
	case needNodes:
		peers := t.cluster.nodePeers(p.Nodes)
		if len(peers) == 0 {
			note("Nodes", "there is no such node; it selects nothing")
		}
		return peers
	case needAPIServer:
		peers := addrPeers(t.cluster.addrsOf(apiServer()))
		if len(peers) == 0 {
			note("Entities", "the Service "+apiServer().String()+" has no addresses; it selects nothing")
		}
		return peers
	case needServices:
		peers, found := t.cluster.servicePeers(p.Service)
		switch {
		case !found:
			note("Services", "there is no such Service; it selects nothing")
		case len(peers) == 0:
			note("Services", "the Service selects no pods and has no addresses; it selects nothing")
		}
		return peers
	case needGroups:
		return t.group(p, func(why string) { note("CIDRSet", why) })
	}
	return []state.PolicyPeer{*p}
}

// group replaces a reference to groups of CIDRs.
func (t translation) group(p *state.PolicyPeer, note func(why string)) []state.PolicyPeer {
	peers, found, whole := t.cluster.groupPeers(p.CIDRGroup)
	switch {
	case !whole && t.deny:
		note("the CiliumCIDRGroup has CIDRs that are not understood; it selects everybody")
		return []state.PolicyPeer{*p}
	case !found:
		note("there is no such CiliumCIDRGroup; it selects nothing")
	case !whole:
		note("the CiliumCIDRGroup has CIDRs that are not understood; they select nothing")
	case len(peers) == 0:
		note("the CiliumCIDRGroup leaves no CIDR; it selects nothing")
	}
	return peers
}
