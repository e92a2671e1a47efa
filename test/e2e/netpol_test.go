package e2e

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// party is a pod or a host, as policy sees it.
type party struct {
	place
	node string            // the node that it is on or is; empty outside
	pod  *corev1.Pod       // nil for a host
	ns   *corev1.Namespace // the pod's
}

// isNodeOf tells whether p is the node that the pod q is on.
func (p party) isNodeOf(q party) bool { return p.pod == nil && q.pod != nil && p.node == q.node }

// allowed says in the plainest way what NetworkPolicies mean for a new flow.
// Nothing of the product is used.
func allowed(t *testing.T, policies []networkingv1.NetworkPolicy, p probe, from, to party) bool {
	t.Helper()
	if from.pod != nil && !direction(t, policies, networkingv1.PolicyTypeEgress, p, from, to) {
		return false
	}
	if to.pod == nil || from.isNodeOf(to) {
		return true // a node always reaches its own pods
	}
	return direction(t, policies, networkingv1.PolicyTypeIngress, p, from, to)
}

// direction judges one side: its subject is the client for egress and the server
// for ingress.
func direction(t *testing.T, policies []networkingv1.NetworkPolicy, kind networkingv1.PolicyType, p probe, client, server party) bool {
	t.Helper()
	subject, peer, isolated := client, server, false
	if kind == networkingv1.PolicyTypeIngress {
		subject, peer = server, client
	}
	for _, pol := range policies {
		if pol.Namespace != subject.ns.Name || !selects(t, &pol.Spec.PodSelector, subject.pod.Labels) || !slices.Contains(pol.Spec.PolicyTypes, kind) {
			continue
		}
		isolated = true
		if kind == networkingv1.PolicyTypeIngress {
			for _, rule := range pol.Spec.Ingress {
				if anyPeer(t, pol.Namespace, rule.From, peer, p.family) && anyPort(rule.Ports, p, server) {
					return true
				}
			}
			continue
		}
		for _, rule := range pol.Spec.Egress {
			if anyPeer(t, pol.Namespace, rule.To, peer, p.family) && anyPort(rule.Ports, p, server) {
				return true
			}
		}
	}
	return !isolated
}

func selects(t *testing.T, s *metav1.LabelSelector, l map[string]string) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(labels.Set(l))
}

func anyPeer(t *testing.T, namespace string, peers []networkingv1.NetworkPolicyPeer, other party, f family) bool {
	t.Helper()
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if inBlock(peer.IPBlock, other.addrs[f]) {
				return true
			}
			continue
		}
		if other.pod == nil {
			continue
		}
		inNamespace := other.ns.Name == namespace
		if peer.NamespaceSelector != nil {
			inNamespace = selects(t, peer.NamespaceSelector, other.ns.Labels)
		}
		if inNamespace && (peer.PodSelector == nil || selects(t, peer.PodSelector, other.pod.Labels)) {
			return true
		}
	}
	return len(peers) == 0
}

func inBlock(b *networkingv1.IPBlock, a netip.Addr) bool {
	return netip.MustParsePrefix(b.CIDR).Contains(a) &&
		!slices.ContainsFunc(b.Except, func(e string) bool { return netip.MustParsePrefix(e).Contains(a) })
}

func anyPort(ports []networkingv1.NetworkPolicyPort, p probe, server party) bool {
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		if protocol != p.protocol {
			continue
		}
		switch {
		case port.Port == nil:
			return true
		case port.Port.Type == intstr.String:
			if server.pod != nil && slices.ContainsFunc(server.pod.Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool {
				return c.Name == port.Port.StrVal && c.Protocol == protocol && int(c.ContainerPort) == p.port
			}) {
				return true
			}
		case port.EndPort != nil:
			if p.port >= port.Port.IntValue() && p.port <= int(*port.EndPort) {
				return true
			}
		case p.port == port.Port.IntValue():
			return true
		}
	}
	return len(ports) == 0
}

// Builders of policies, for tests that are read as a list.

type (
	ingressRule = networkingv1.NetworkPolicyIngressRule
	egressRule  = networkingv1.NetworkPolicyEgressRule
	policyPeer  = networkingv1.NetworkPolicyPeer
	policyPort  = networkingv1.NetworkPolicyPort
)

// policyLabel is on every policy that a test makes.
const policyLabel = "e2e.placid.io/policy"

// newPolicy isolates nothing yet.
func newPolicy(namespace, name string, subject *metav1.LabelSelector) networkingv1.NetworkPolicy {
	return networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{policyLabel: "yes"}},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: *subject},
	}
}

// ingressPolicy isolates the subject's ingress and allows the rules.
func ingressPolicy(namespace, name string, subject *metav1.LabelSelector, rules ...ingressRule) networkingv1.NetworkPolicy {
	p := newPolicy(namespace, name, subject)
	p.Spec.PolicyTypes, p.Spec.Ingress = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, rules
	return p
}

// egressPolicy isolates the subject's egress and allows the rules.
func egressPolicy(namespace, name string, subject *metav1.LabelSelector, rules ...egressRule) networkingv1.NetworkPolicy {
	p := newPolicy(namespace, name, subject)
	p.Spec.PolicyTypes, p.Spec.Egress = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, rules
	return p
}

// with selects by pairs of key and value; without any it selects everything.
func with(pairs ...string) *metav1.LabelSelector {
	s := &metav1.LabelSelector{}
	for i := 0; i < len(pairs); i += 2 {
		metav1.AddLabelToSelector(s, pairs[i], pairs[i+1])
	}
	return s
}

// where selects by one expression.
func where(key string, operator metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
}

func block(cidr string, except ...string) policyPeer {
	return policyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr, Except: except}}
}

// blocks are those of single addresses.
func blocks(addrs addresses) []policyPeer {
	out := make([]policyPeer, len(addrs))
	for i, a := range addrs {
		out[i] = block(netip.PrefixFrom(a, a.BitLen()).String())
	}
	return out
}

func number(protocol corev1.Protocol, port int) policyPort {
	return policyPort{Protocol: &protocol, Port: new(intstr.FromInt(port))}
}

func portRange(protocol corev1.Protocol, first, last int) policyPort {
	return policyPort{Protocol: &protocol, Port: new(intstr.FromInt(first)), EndPort: new(int32(last))}
}

func named(protocol corev1.Protocol, name string) policyPort {
	return policyPort{Protocol: &protocol, Port: new(intstr.FromString(name))}
}

func policyJSON(t *testing.T, p networkingv1.NetworkPolicy) string {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
