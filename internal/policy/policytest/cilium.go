package policytest

import (
	"fmt"
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// cilium makes a policy of one of Cilium's kinds.
func (r random) cilium(i int) state.NetworkPolicy {
	np := state.NetworkPolicy{
		Kind: state.PolicyCilium, Namespace: pick(r, r.cluster.Namespaces).Name, Name: fmt.Sprintf("policy%d", i),
		Part: r.IntN(2), Audit: r.chance(8),
	}
	if r.chance(3) {
		np.Kind, np.Namespace = state.PolicyCiliumClusterwide, ""
	}
	np.Subject = r.endpoints(np.Namespace)
	for range r.IntN(3) {
		np.Ingress = append(np.Ingress, r.ciliumRule(np.Namespace))
	}
	for range r.IntN(3) {
		np.Egress = append(np.Egress, r.ciliumRule(np.Namespace))
	}
	if r.chance(2) {
		np.IngressDeny = append(np.IngressDeny, r.ciliumRule(np.Namespace))
	}
	if r.chance(2) {
		np.EgressDeny = append(np.EgressDeny, r.ciliumRule(np.Namespace))
	}
	np.IsolatesIngress = len(np.Ingress)+len(np.IngressDeny) > 0
	np.IsolatesEgress = len(np.Egress)+len(np.EgressDeny) > 0
	if r.chance(2) { // enableDefaultDeny
		np.IsolatesIngress, np.IsolatesEgress = r.chance(4), r.chance(4)
	}
	return np
}

// endpoints makes a selector by the keys of identities, most often of pods of a
// namespace, when there is one.
func (r random) endpoints(namespace string) state.Selector {
	s := state.Selector{MatchLabels: map[string]string{}}
	if namespace != "" && !r.chance(8) {
		s.MatchLabels["k8s:"+namespaceKey] = namespace
	}
	for range r.IntN(2) {
		key, value := r.identityLabel()
		s.MatchLabels[key] = value
	}
	for range r.IntN(2) {
		key, value := r.identityLabel()
		x := state.Requirement{
			Key:      key,
			Operator: pick(r, []state.Operator{state.OperatorIn, state.OperatorNotIn, state.OperatorExists, state.OperatorDoesNotExist}),
		}
		if x.Operator == state.OperatorIn || x.Operator == state.OperatorNotIn {
			x.Values = []string{value, pick(r, labelValues)}
		}
		if r.chance(40) {
			x.Operator, x.Values = state.OperatorIn, nil // not valid
		}
		s.Expressions = append(s.Expressions, x)
	}
	return s
}

// identityLabel gives a key of identities, and a value that it may have. Some
// identities lack the key, some all.
func (r random) identityLabel() (key, value string) {
	switch r.IntN(12) {
	case 0, 1:
		return "k8s:" + namespaceLabelKey + pick(r, namespaceKeys[:2]), pick(r, labelValues)
	case 2:
		return "k8s:" + namespaceKey, pick(r, r.cluster.Namespaces).Name
	case 3:
		return "k8s:" + accountKey, pick(r, accounts)
	case 4:
		return "k8s:" + clusterKey, Name
	case 5:
		return pick(r, []string{"k8s:" + hiddenPods[0], "k8s:" + namespaceLabelKey + hiddenNames[0], "other:app"}), pick(r, labelValues)
	}
	return "k8s:" + pick(r, podKeys[:3]), pick(r, labelValues)
}

func (r random) ciliumRule(namespace string) state.PolicyRule {
	var out state.PolicyRule
	if !r.chance(6) {
		for range 1 + r.IntN(2) {
			out.Peers = append(out.Peers, r.ciliumPeer(namespace))
		}
	}
	if !r.chance(3) {
		for range 1 + r.IntN(3) {
			out.Ports = append(out.Ports, r.ciliumPort())
		}
	}
	return out
}

func (r random) ciliumPeer(namespace string) state.PolicyPeer {
	switch r.IntN(24) {
	case 0:
		return r.oddPeer()
	case 1, 2, 3, 4, 5, 6:
		return state.PolicyPeer{Entity: pick(r, []state.Entity{
			state.EntityAll, state.EntityWorld, state.EntityWorld, state.EntityWorldIPv4, state.EntityWorldIPv6, state.EntityCluster,
			state.EntityHost, state.EntityRemoteNode, state.EntityInit, state.EntityHealth, state.EntityNone,
		})}
	case 7, 8, 9, 10, 11, 12:
		b := r.block()
		b.Outside = !r.chance(4) // the addresses of nodes and services are not
		return state.PolicyPeer{Block: &b}
	}
	switch r.IntN(16) {
	case 0:
		return state.PolicyPeer{Pods: new(r.selector(podKeys))}
	case 1, 2, 3, 4:
		namespace = "" // of all namespaces
	}
	return state.PolicyPeer{Endpoints: new(r.endpoints(namespace))}
}

// oddPeer makes a peer that is nobody, or of which it cannot be told who it is.
func (r random) oddPeer() state.PolicyPeer {
	return pick(r, []state.PolicyPeer{
		{},
		{Entity: state.EntityKubeAPIServer},
		{Entity: "no such entity"},
		{Nodes: &state.Selector{}},
		{Service: &state.ServicePeer{Name: "a"}},
		{CIDRGroup: &state.GroupPeer{Name: "a"}},
		{Block: &state.IPBlock{}},
		{Block: &state.IPBlock{CIDR: r.prefix(), Except: []netip.Prefix{{}}}},
		{Endpoints: &state.Selector{}, Entity: state.EntityWorld},
	})
}

func (r random) ciliumPort() state.PolicyPort {
	switch r.IntN(12) {
	case 0:
		return state.PolicyPort{Protocol: state.ProtocolAny}
	case 1:
		return state.PolicyPort{Protocol: pick(r, []state.Protocol{state.ProtocolICMP, state.ProtocolICMPv6})}
	case 2, 3:
		return pick(r, []state.PolicyPort{
			{Protocol: state.ProtocolICMP, ICMPType: new(uint8(echo4))},
			{Protocol: state.ProtocolICMPv6, ICMPType: new(uint8(echo6))},
			{Protocol: state.ProtocolICMP, ICMPType: new(uint8(echo4 + 1))},
			{Protocol: state.ProtocolICMPv6, ICMPType: new(uint8(echo6 + 1))},
		})
	case 4:
		return pick(r, []state.PolicyPort{
			{Protocol: oddProtocol},
			{Protocol: oddProtocol, Port: 80},                                    // not valid, as all that follow
			{Protocol: state.ProtocolAny, Port: 80},                              //
			{Protocol: state.ProtocolTCP, Port: 80, EndPort: 79},                 //
			{Protocol: state.ProtocolTCP, ICMPType: new(uint8(echo4))},           //
			{Protocol: state.ProtocolICMP, Name: "http"},                         //
			{Protocol: state.ProtocolICMP, Port: 8, ICMPType: new(uint8(echo4))}, //
		})
	}
	return r.port()
}

// oddProtocol is a protocol without ports: GRE.
const oddProtocol state.Protocol = 47
