package security

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// ReservedIdentities returns the identities that are facts of an address, ordered
// by number; "reserved:NAME" is their label.
func ReservedIdentities() []state.Identity {
	var out []state.Identity
	for id := range state.IdentityMin {
		if name, ok := identity.Reserved(id); ok && id != state.IdentityUnknown {
			out = append(out, state.Identity{ID: id, Labels: map[string]string{"reserved:" + name: ""}})
		}
	}
	return out
}

// Identities returns the identities that the node knows, the reserved ones
// included, ordered by number, each with how many addresses have it.
func (e *Enforcer) Identities() ([]agentapi.IdentityInfo, error) {
	published, _, err := e.cfg.Tables.NodeEndpoints()
	if err != nil {
		return nil, err
	}
	nodes, _, err := e.cfg.Tables.Nodes()
	if err != nil {
		return nil, err
	}
	addrs := map[uint32]int{}
	for _, n := range nodes {
		if n.Name == e.cfg.NodeName {
			addrs[state.IdentityHost] += len(n.Addrs)
		} else {
			addrs[state.IdentityRemoteNode] += len(n.Addrs)
		}
	}
	for _, n := range published {
		if n.Node == e.cfg.NodeName {
			continue
		}
		for _, ep := range n.Endpoints {
			addrs[ep.Identity] += len(ep.Addrs)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.members {
		addrs[m.identity] += len(m.ep.Addrs())
	}
	var out []agentapi.IdentityInfo
	for _, id := range slices.Concat(ReservedIdentities(), e.identities.All()) {
		out = append(out, agentapi.IdentityInfo{Identity: id, Addrs: addrs[id.ID]})
	}
	return out, nil
}

// Policies returns what the pod "namespace/name" is under, or all pods of the
// node when pod is empty, ordered by endpoint.
func (e *Enforcer) Policies(pod string) []agentapi.EndpointPolicy {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := view{Enforcer: e, tables: e.engine.Tables(), prefixes: map[policy.PeerID]netip.Prefix{}}
	for p, id := range v.tables.CIDRs {
		v.prefixes[id] = p
	}
	var out []agentapi.EndpointPolicy
	for _, id := range slices.Sorted(maps.Keys(e.members)) {
		m := e.members[id]
		if pod != "" && m.ep.Pod.String() != pod {
			continue
		}
		want, _ := e.engine.Subject(id)
		have, _ := e.cfg.Datapath.SecurityOf(id)
		out = append(out, agentapi.EndpointPolicy{
			Endpoint: id, Pod: m.ep.Pod, Identity: m.identity,
			Ingress: v.direction(id, false, want.Ingress, have.Policy),
			Egress:  v.direction(id, true, want.Egress, have.Policy),
		})
	}
	return out
}

// view is the engine's tables as people are shown them. The lock is held while it
// is used.
type view struct {
	*Enforcer
	tables   policy.Tables
	prefixes map[policy.PeerID]netip.Prefix
}

// direction describes one direction of an endpoint, which should be under want.
func (v view) direction(endpoint uint32, egress bool, want policy.SetID, inForce policy.EndpointPolicy) agentapi.PolicySet {
	have, audit := inForce.Ingress, inForce.AuditIngress
	if egress {
		have, audit = inForce.Egress, inForce.AuditEgress
	}
	out := agentapi.PolicySet{ID: hex(have), Enforcement: agentapi.EnforcementEnforced}
	switch {
	case have == policy.SetOpen:
		out.Enforcement = agentapi.EnforcementOpen
	case audit:
		out.Enforcement = agentapi.EnforcementAudited
	}
	if set := v.tables.Sets[have]; set != nil {
		out.Policies, out.Entries = slices.Clone(set.Names), v.lines(set)
	}
	if v.stage.holds(endpoint) && want != have {
		out.Problem = "not enforced yet: " + cmp.Or(v.stage.why, "it begins now")
		return out
	}
	for _, p := range v.problems.now {
		if p.Set == want || slices.Contains(p.Endpoints, endpoint) && v.about(p, egress) {
			out.Enforcement, out.Problem = agentapi.EnforcementRefused, p.String()
		}
	}
	return out
}

func hex(id policy.SetID) string { return strconv.FormatUint(uint64(id), 16) }

// about tells whether a problem is about that direction, when its set is not in
// use: whether its policies isolate it.
func (v view) about(p Problem, egress bool) bool {
	if v.tables.Sets[p.Set] != nil {
		return false
	}
	for _, name := range p.Policies {
		if of := v.policies[name]; of.egress && egress || of.ingress && !egress {
			return true
		}
	}
	return false
}

// lines are the entries of a set: every peer, identities, prefixes.
func (v view) lines(set *policy.Set) []agentapi.PolicyLine {
	var out []agentapi.PolicyLine
	for _, peer := range slices.Sorted(maps.Keys(set.Entries)) {
		entry := set.Entries[peer]
		line := agentapi.PolicyLine{Peer: v.peer(peer), Ports: v.ports(entry.Ports)}
		for _, i := range entry.Rules {
			line.Rules = append(line.Rules, ruleText(set.Rules[i], set.Egress))
		}
		out = append(out, line)
	}
	return out
}

// ruleText names a rule, without the "spec." of its field.
func ruleText(r policy.RuleRef, egress bool) string {
	return r.Policy + " " + strings.TrimPrefix(r.Field(egress), "spec.")
}

func (v view) peer(peer policy.PeerID) string {
	if peer == policy.PeerAny {
		return "any"
	}
	if p, ok := v.prefixes[peer]; ok {
		return p.String()
	}
	id, ok := v.identities.ByID(uint32(peer))
	if !ok {
		id.ID = uint32(peer)
	}
	return identity.Format(id)
}

func (v view) ports(list policy.PortsID) []string {
	if list == policy.PortsAll {
		return []string{"all"}
	}
	var out []string
	for _, r := range v.tables.Ports[list] {
		out = append(out, portsText(r))
	}
	return out
}

// portsText gives a range for people, e.g. "80/TCP", "ICMP type 8", "deny 8000-8080/UDP".
func portsText(r policy.PortRange) string {
	protocol := r.Protocol.String()
	text := fmt.Sprintf("%d-%d/%s", r.First, r.Last, protocol)
	icmp := r.Protocol == state.ProtocolICMP || r.Protocol == state.ProtocolICMPv6
	switch {
	case r.Protocol == state.ProtocolAny:
		text = "all"
	case r.First == 0 && (r.Last == 1<<16-1 || icmp && r.Last >= 1<<8-1):
		text = protocol
	case icmp && r.First == r.Last:
		text = fmt.Sprintf("%s type %d", protocol, r.First)
	case icmp:
		text = fmt.Sprintf("%s types %d-%d", protocol, r.First, r.Last)
	case r.First == r.Last:
		text = fmt.Sprintf("%d/%s", r.First, protocol)
	}
	if r.Deny {
		text = "deny " + text
	}
	if r.Outside {
		text += " (outside of pods and nodes)"
	}
	return text
}
