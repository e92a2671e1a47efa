package policytest

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// Packet is the first packet of a flow. Port is the destination port, of ICMP and
// ICMPv6 the type; 0 for protocols that have neither.
type Packet struct {
	From, To netip.Addr
	Protocol state.Protocol
	Port     uint16
}

// Allowed tells whether the pods of this node may exchange the packet. What
// policies only audit is allowed.
func (c Cluster) Allowed(p Packet) bool {
	egress, ingress := true, true
	if from := c.PodAt(p.From); from != nil && from.Endpoint != 0 {
		egress, _ = c.AllowedEgress(p)
	}
	if to := c.PodAt(p.To); to != nil && to.Endpoint != 0 {
		ingress, _ = c.AllowedIngress(p)
	}
	return egress && ingress
}

// AllowedEgress tells whether the pod at From may send the packet, and whether
// only because nothing is enforced (audited).
func (c Cluster) AllowedEgress(p Packet) (allowed, audited bool) {
	o := c.Egress(p)
	return o.Allowed, o.Audited
}

// AllowedIngress tells whether the pod at To may receive the packet, and whether
// only because nothing is enforced (audited).
func (c Cluster) AllowedIngress(p Packet) (allowed, audited bool) {
	o := c.Ingress(p)
	return o.Allowed, o.Audited
}

// Opinion is what policies make of a packet.
type Opinion struct {
	Allowed bool
	// Audited is true when it is allowed only because nothing is enforced.
	Audited bool
	// Allow and Deny are the rules about it that allow it and that deny it, of the
	// policies that are asked: each its policy's key and its index.
	Allow, Deny []string
}

// Egress tells what the policies of the pod at From make of the packet.
func (c Cluster) Egress(p Packet) Opinion { return c.judge(*c.PodAt(p.From), true, p) }

// Ingress tells what the policies of the pod at To make of the packet.
func (c Cluster) Ingress(p Packet) Opinion {
	if slices.Contains(c.Node, p.From) {
		return Opinion{Allowed: true} // a node always reaches its own pods
	}
	return c.judge(*c.PodAt(p.To), false, p)
}

func (c Cluster) judge(subject Pod, egress bool, p Packet) Opinion {
	policies, audit := c.asked(subject, egress)
	if c.Mode == ModeNever || c.leavesOpen(policies, egress) {
		return Opinion{Allowed: true}
	}
	var o Opinion
	closed := c.Mode == ModeAlways
	for _, np := range policies {
		closed = closed || isolates(np, egress)
		o.Allow = append(o.Allow, c.matching(np, false, subject, egress, p)...)
		o.Deny = append(o.Deny, c.matching(np, true, subject, egress, p)...)
	}
	ok := len(o.Deny) == 0 && (len(o.Allow) > 0 || !closed)
	o.Allowed, o.Audited = ok || audit, !ok && audit
	return o
}

// asked gives the policies that say what becomes of a pod's packets, and whether
// what they deny is only counted.
func (c Cluster) asked(subject Pod, egress bool) (policies []state.NetworkPolicy, audit bool) {
	var auditing []state.NetworkPolicy
	for _, np := range c.Policies {
		switch {
		case !counts(np, egress) || !c.isAbout(np, subject):
		case np.Audit:
			auditing = append(auditing, np)
		default:
			policies = append(policies, np)
		}
	}
	if c.leavesOpen(policies, egress) && len(auditing) > 0 {
		return append(policies, auditing...), true
	}
	return policies, c.AuditAll
}

// matching names the rules of a policy that are about a packet.
func (c Cluster) matching(np state.NetworkPolicy, deny bool, subject Pod, egress bool, p Packet) []string {
	var out []string
	for i, r := range rulesOf(np, egress, deny) {
		if c.matches(np, r, deny, subject, egress, p) {
			out = append(out, fmt.Sprint(np.Key(), " ", i))
		}
	}
	return out
}

func isolates(np state.NetworkPolicy, egress bool) bool {
	if egress {
		return np.IsolatesEgress
	}
	return np.IsolatesIngress
}

func rulesOf(np state.NetworkPolicy, egress, deny bool) []state.PolicyRule {
	switch {
	case egress && deny:
		return np.EgressDeny
	case egress:
		return np.Egress
	case deny:
		return np.IngressDeny
	}
	return np.Ingress
}

// counts tells whether a policy has anything to say of a direction.
func counts(np state.NetworkPolicy, egress bool) bool {
	rules := len(rulesOf(np, egress, false)) + len(rulesOf(np, egress, true))
	return isolates(np, egress) || np.Kind != state.PolicyKubernetes && rules > 0
}

// leavesOpen tells whether these policies leave a direction as if there were none.
func (c Cluster) leavesOpen(policies []state.NetworkPolicy, egress bool) bool {
	for _, np := range policies {
		if isolates(np, egress) || len(rulesOf(np, egress, true)) > 0 {
			return false
		}
	}
	return c.Mode != ModeAlways
}

// isAbout tells whether a policy selects a pod.
func (c Cluster) isAbout(np state.NetworkPolicy, pod Pod) bool {
	if np.Kind == state.PolicyKubernetes {
		return np.Namespace == pod.Ref.Namespace && selects(np.Subject, pod.Labels)
	}
	return (np.Kind == state.PolicyCiliumClusterwide || np.Namespace == pod.Ref.Namespace) && selects(np.Subject, c.allLabels(pod))
}

// matches tells whether a rule is about a packet.
func (c Cluster) matches(np state.NetworkPolicy, r state.PolicyRule, deny bool, subject Pod, egress bool, p Packet) bool {
	addr := p.From
	named := subject.NamedPorts
	if egress {
		addr, named = p.To, nil
		if peer := c.PodAt(addr); peer != nil && !peer.Init {
			named = peer.NamedPorts
		}
	}
	if len(r.Peers) == 0 {
		return portsMatch(r.Ports, named, deny, p)
	}
	for _, peer := range r.Peers {
		said, clear := c.peerMatches(np.Namespace, peer, addr)
		if !clear {
			said = deny // nobody in a rule that allows, everybody in one that denies
		}
		names := named
		if egress && clear && peer.Block != nil {
			names = nil // a block has no pods that could name ports
		}
		if said && portsMatch(r.Ports, names, deny, p) {
			return true
		}
	}
	return false
}

// peerMatches tells whether whoever has an address is meant by a peer; clear is
// false when that cannot be told.
func (c Cluster) peerMatches(namespace string, peer state.PolicyPeer, addr netip.Addr) (matches, clear bool) {
	own := peer.Pods != nil || peer.Namespaces != nil
	reference := peer.Nodes != nil || peer.Service != nil || peer.CIDRGroup != nil
	switch kinds := count(own, peer.Block != nil, peer.Entity != "", peer.Endpoints != nil); {
	case reference || kinds > 1:
		return false, false
	case peer.Block != nil:
		return c.blockHas(*peer.Block, addr)
	case peer.Entity != "":
		return c.isEntity(peer.Entity, addr)
	case peer.Endpoints != nil:
		clear = valid(*peer.Endpoints) && !speaksOf(*peer.Endpoints, c.hidden)
		pod := c.PodAt(addr)
		return clear && pod != nil && !pod.Init && selects(*peer.Endpoints, c.allLabels(*pod)), clear
	case own:
		return c.selectsPod(namespace, peer, addr)
	}
	return false, true
}

func count(all ...bool) int {
	n := 0
	for _, is := range all {
		if is {
			n++
		}
	}
	return n
}

func (c Cluster) blockHas(b state.IPBlock, addr netip.Addr) (has, clear bool) {
	if !b.CIDR.IsValid() {
		return false, false
	}
	for _, x := range b.Except {
		if !x.IsValid() {
			return false, false
		}
	}
	for _, x := range b.Except {
		if x.Contains(addr) {
			return false, true
		}
	}
	return b.CIDR.Contains(addr) && (!b.Outside || c.isOutside(addr)), true
}

// isOutside tells whether an address is neither a pod's nor a node's.
func (c Cluster) isOutside(a netip.Addr) bool {
	return c.PodAt(a) == nil && !slices.Contains(c.Node, a) && !slices.Contains(c.Nodes, a)
}

func (c Cluster) isEntity(x state.Entity, a netip.Addr) (is, clear bool) {
	switch x {
	case state.EntityAll:
		return true, true
	case state.EntityWorld:
		return c.isOutside(a), true
	case state.EntityWorldIPv4:
		return c.isOutside(a) && a.Is4(), true
	case state.EntityWorldIPv6:
		return c.isOutside(a) && a.Is6(), true
	case state.EntityCluster:
		return !c.isOutside(a), true
	case state.EntityHost:
		return slices.Contains(c.Node, a), true
	case state.EntityRemoteNode:
		return slices.Contains(c.Nodes, a), true
	case state.EntityInit:
		pod := c.PodAt(a)
		return pod != nil && pod.Init, true
	case state.EntityHealth, state.EntityIngress, state.EntityUnmanaged, state.EntityNone:
		return false, true
	case state.EntityKubeAPIServer:
	}
	return false, false
}

// selectsPod is about a peer of pods and namespaces.
func (c Cluster) selectsPod(namespace string, peer state.PolicyPeer, addr netip.Addr) (selected, clear bool) {
	spaces := state.Selector{MatchLabels: map[string]string{}}
	clear = !c.hidden("k8s:" + namespaceKey)
	if peer.Namespaces != nil {
		spaces = *peer.Namespaces
		clear = valid(spaces) && !speaksOf(spaces, func(key string) bool { return slices.Contains(c.HiddenNamespaceLabels, key) })
	}
	labels := state.Selector{}
	if peer.Pods != nil {
		labels = *peer.Pods
		clear = clear && valid(labels) && !speaksOf(labels, func(key string) bool { return slices.Contains(c.HiddenPodLabels, key) })
	}
	pod := c.PodAt(addr)
	if pod == nil || pod.Init || !clear {
		return false, clear
	}
	if peer.Namespaces == nil {
		return pod.Ref.Namespace == namespace && selects(labels, pod.Labels), true
	}
	return selects(spaces, c.namespace(pod.Ref.Namespace).Labels) && selects(labels, pod.Labels), true
}
