package resolve

import (
	"fmt"

	"github.com/placid-net/placid/internal/state"
)

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
		rules       *[]state.PolicyRule
		field, from string
		deny        bool
	}{
		{&out.Ingress, ".ingress", "from", false},
		{&out.IngressDeny, ".ingressDeny", "from", true},
		{&out.Egress, ".egress", "to", false},
		{&out.EgressDeny, ".egressDeny", "to", true},
	} {
		t := translation{cluster: c, field: p.Field() + l.field, from: l.from, deny: l.deny, notes: &ch.Notes}
		*l.rules = t.rules(*l.rules)
	}
	return ch
}

// translation replaces what the rules of one list name.
type translation struct {
	cluster *cluster
	field   string // the list, e.g. "spec.ingress"
	from    string // "from" or "to"
	deny    bool
	notes   *[]string
}

func (t translation) rules(in []state.PolicyRule) []state.PolicyRule {
	if in == nil {
		return nil
	}
	out := make([]state.PolicyRule, 0, len(in))
	for i, rule := range in {
		var peers []state.PolicyPeer
		for j := range rule.Peers {
			peers = append(peers, t.peer(fmt.Sprintf("%s[%d].%s", t.field, i, t.from), j, &rule.Peers[j])...)
		}
		// No peers at all would be all of them.
		if len(rule.Peers) > 0 && len(peers) == 0 {
			peers = []state.PolicyPeer{{}}
		}
		out = append(out, state.PolicyRule{Peers: peers, Ports: rule.Ports})
	}
	return out
}

// peer replaces one peer; prefix is what the fields of the rule's peers begin with.
func (t translation) peer(prefix string, i int, p *state.PolicyPeer) []state.PolicyPeer {
	note := func(list, why string) {
		*t.notes = append(*t.notes, fmt.Sprintf("%s%s[%d]: %s", prefix, list, i, why))
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
