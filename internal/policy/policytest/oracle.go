package policytest

import (
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// Packet is the first packet of a flow. Port is the destination port; 0 for
// protocols that have none.
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
	return c.judge(*c.PodAt(p.From), true, p)
}

// AllowedIngress tells whether the pod at To may receive the packet, and whether
// only because nothing is enforced (audited).
func (c Cluster) AllowedIngress(p Packet) (allowed, audited bool) {
	if slices.Contains(c.Node, p.From) {
		return true, false // a node always reaches its own pods
	}
	return c.judge(*c.PodAt(p.To), false, p)
}

func (c Cluster) judge(subject Pod, egress bool, p Packet) (allowed, audited bool) {
	if c.Mode == ModeNever {
		return true, false
	}
	var enforcing, auditing []state.NetworkPolicy
	for _, np := range c.Policies {
		isolates := np.IsolatesIngress
		if egress {
			isolates = np.IsolatesEgress
		}
		if !isolates || np.Namespace != subject.Ref.Namespace || !selects(np.Subject, subject.Labels) {
			continue
		}
		if np.Audit {
			auditing = append(auditing, np)
		} else {
			enforcing = append(enforcing, np)
		}
	}
	audit := c.AuditAll
	if len(enforcing) == 0 && c.Mode != ModeAlways {
		if len(auditing) == 0 {
			return true, false
		}
		enforcing, audit = auditing, true
	}
	for _, np := range enforcing {
		rules := np.Ingress
		if egress {
			rules = np.Egress
		}
		for _, r := range rules {
			if c.ruleAllows(np, r, subject, egress, p) {
				return true, false
			}
		}
	}
	return audit, audit
}

func (c Cluster) ruleAllows(np state.NetworkPolicy, r state.PolicyRule, subject Pod, egress bool, p Packet) bool {
	addr := p.From
	named := subject.NamedPorts
	if egress {
		addr, named = p.To, nil
		if peer := c.PodAt(addr); peer != nil {
			named = peer.NamedPorts
		}
	}
	if len(r.Peers) == 0 {
		return portsAllow(r.Ports, named, p)
	}
	for _, peer := range r.Peers {
		if !c.peerMatches(np.Namespace, peer, addr) {
			continue
		}
		names := named
		if egress && peer.Block != nil {
			names = nil // a block has no pods that could name ports
		}
		if portsAllow(r.Ports, names, p) {
			return true
		}
	}
	return false
}

func (c Cluster) peerMatches(namespace string, peer state.PolicyPeer, addr netip.Addr) bool {
	if peer.Block != nil {
		for _, x := range peer.Block.Except {
			if x.Contains(addr) {
				return false
			}
		}
		return peer.Block.CIDR.Contains(addr)
	}
	pod := c.PodAt(addr)
	if pod == nil || peer.Pods == nil && peer.Namespaces == nil {
		return false
	}
	if peer.Namespaces == nil {
		if pod.Ref.Namespace != namespace {
			return false
		}
	} else if speaksOf(*peer.Namespaces, c.HiddenNamespaceLabels) || !selects(*peer.Namespaces, c.namespace(pod.Ref.Namespace).Labels) {
		return false
	}
	return peer.Pods == nil || !speaksOf(*peer.Pods, c.HiddenPodLabels) && selects(*peer.Pods, pod.Labels)
}

// speaksOf tells whether a selector has one of the keys.
func speaksOf(s state.Selector, keys []string) bool {
	for key := range s.MatchLabels {
		if slices.Contains(keys, key) {
			return true
		}
	}
	for _, x := range s.Expressions {
		if slices.Contains(keys, x.Key) {
			return true
		}
	}
	return false
}

func selects(s state.Selector, labels map[string]string) bool {
	for key, want := range s.MatchLabels {
		if have, ok := labels[key]; !ok || have != want {
			return false
		}
	}
	for _, x := range s.Expressions {
		have, ok := labels[x.Key]
		switch x.Operator {
		case state.OperatorIn:
			if !ok || !slices.Contains(x.Values, have) {
				return false
			}
		case state.OperatorNotIn:
			if ok && slices.Contains(x.Values, have) {
				return false
			}
		case state.OperatorExists:
			if !ok {
				return false
			}
		case state.OperatorDoesNotExist:
			if ok {
				return false
			}
		}
	}
	return true
}

func portsAllow(ports []state.PolicyPort, named []state.NamedPort, p Packet) bool {
	if len(ports) == 0 {
		return true
	}
	for _, x := range ports {
		if x.Protocol != p.Protocol {
			continue
		}
		switch {
		case x.Name != "":
			if slices.Contains(named, state.NamedPort{Name: x.Name, Protocol: x.Protocol, Port: p.Port}) {
				return true
			}
		case x.Port == 0:
			return true
		case p.Port == x.Port || x.Port <= p.Port && p.Port <= x.EndPort:
			return true
		}
	}
	return false
}
