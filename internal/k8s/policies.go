package k8s

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/placid-net/placid/internal/state"
)

// AnnotationAudit marks a NetworkPolicy that only counts what it would drop,
// with the value "true".
const AnnotationAudit = "placid.io/policy-audit"

// maxPort is the largest port number; the smallest is 1.
const maxPort = 65535

// PolicyRow converts a NetworkPolicy, with the API's defaults filled in. What
// the API server should not have let through (an unknown operator or protocol,
// a CIDR that is none) allows nothing and is named in Problems:
//   - a peer that is not understood stays in its place and selects nothing;
//   - a port that is not understood is left out; a rule that loses its last one
//     gets a peer that selects nothing, and keeps its place;
//   - of a subject selector that is not understood the rest selects, which is
//     more pods, and they get no rules;
//   - beside an unknown policy type both directions are isolated, and those that
//     are named have rules.
func PolicyRow(obj *networkingv1.NetworkPolicy) state.NetworkPolicy {
	c := policyConverter{}
	p := state.NetworkPolicy{
		Namespace: obj.Namespace, Name: obj.Name, UID: string(obj.UID), Audit: c.audit(obj.Annotations[AnnotationAudit]),
	}
	ingress, egress := c.directions(&p, &obj.Spec)
	subject, ok := c.selector("spec.podSelector", "the policy isolates without rules what the rest selects", &obj.Spec.PodSelector)
	p.Subject = *subject
	if ok && ingress {
		for i, r := range obj.Spec.Ingress {
			p.Ingress = append(p.Ingress, c.rule(fmt.Sprintf("spec.ingress[%d]", i), "from", r.From, r.Ports))
		}
	}
	if ok && egress {
		for i, r := range obj.Spec.Egress {
			p.Egress = append(p.Egress, c.rule(fmt.Sprintf("spec.egress[%d]", i), "to", r.To, r.Ports))
		}
	}
	p.Problems = c.problems
	return p
}

// policyConverter collects what it does not understand.
type policyConverter struct{ problems []string }

// problem notes that a field is not understood, why, and what follows.
func (c *policyConverter) problem(field, why, then string) {
	c.problems = append(c.problems, fmt.Sprintf("%s: %s; %s", field, why, then))
}

func (c *policyConverter) audit(value string) bool {
	switch value {
	case "true":
		return true
	case "", "false":
		return false
	}
	c.problem("metadata.annotations["+AnnotationAudit+"]", fmt.Sprintf("%q is neither true nor false", value), "the policy is enforced")
	return false
}

// directions fills in what the policy isolates, and tells whose rules count.
func (c *policyConverter) directions(p *state.NetworkPolicy, spec *networkingv1.NetworkPolicySpec) (ingress, egress bool) {
	unknown := false
	for i, t := range spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			ingress = true
		case networkingv1.PolicyTypeEgress:
			egress = true
		default:
			c.problem(fmt.Sprintf("spec.policyTypes[%d]", i), fmt.Sprintf("%q is neither Ingress nor Egress", t),
				"both directions are isolated")
			unknown = true
		}
	}
	if len(spec.PolicyTypes) == 0 {
		ingress, egress = true, len(spec.Egress) > 0
	}
	p.IsolatesIngress, p.IsolatesEgress = ingress || unknown, egress || unknown
	return ingress, egress
}

// rule converts one rule; peers is the name of its list of peers.
func (c *policyConverter) rule(field, peers string, from []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) state.PolicyRule {
	var r state.PolicyRule
	for i := range from {
		r.Peers = append(r.Peers, c.peer(fmt.Sprintf("%s.%s[%d]", field, peers, i), &from[i]))
	}
	for i := range ports {
		f := fmt.Sprintf("%s.ports[%d]", field, i)
		port, err := policyPort(&ports[i])
		if err != nil {
			c.problem(f+err.Field, err.Error(), "the port is left out")
			continue
		}
		r.Ports = append(r.Ports, port)
	}
	if len(ports) > 0 && len(r.Ports) == 0 {
		// No ports at all would be all ports.
		return state.PolicyRule{Peers: []state.PolicyPeer{{}}}
	}
	return r
}

const nobody = "the peer selects nothing"

// peer converts one peer; what is not understood selects nothing.
func (c *policyConverter) peer(field string, p *networkingv1.NetworkPolicyPeer) state.PolicyPeer {
	if p.IPBlock != nil {
		if p.PodSelector != nil || p.NamespaceSelector != nil {
			c.problem(field, "an ipBlock and a selector exclude each other", nobody)
			return state.PolicyPeer{}
		}
		return state.PolicyPeer{Block: c.block(field+".ipBlock", p.IPBlock)}
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		c.problem(field, "it has none of podSelector, namespaceSelector and ipBlock", nobody)
		return state.PolicyPeer{}
	}
	pods, podsOK := c.selector(field+".podSelector", nobody, p.PodSelector)
	namespaces, namespacesOK := c.selector(field+".namespaceSelector", nobody, p.NamespaceSelector)
	if !podsOK || !namespacesOK {
		return state.PolicyPeer{}
	}
	return state.PolicyPeer{Pods: pods, Namespaces: namespaces}
}

// block converts an IP block; nil when any part of it is not understood, as one
// exception less would be more addresses.
func (c *policyConverter) block(field string, b *networkingv1.IPBlock) *state.IPBlock {
	out := &state.IPBlock{}
	var err error
	if out.CIDR, err = parseBlock(b.CIDR); err != nil {
		c.problem(field+".cidr", err.Error(), nobody)
		return nil
	}
	for i, s := range b.Except {
		except, err := parseBlock(s)
		if err != nil {
			c.problem(fmt.Sprintf("%s.except[%d]", field, i), err.Error(), nobody)
			return nil
		}
		out.Except = append(out.Except, except)
	}
	return out
}

// selector converts a label selector; nil stays nil. Requirements that are not
// understood are left out, and then ok is false.
func (c *policyConverter) selector(field, then string, s *metav1.LabelSelector) (out *state.Selector, ok bool) {
	if s == nil {
		return nil, true
	}
	out, ok = &state.Selector{MatchLabels: s.MatchLabels}, true
	for i, e := range s.MatchExpressions {
		f := fmt.Sprintf("%s.matchExpressions[%d]", field, i)
		if err := checkRequirement(e); err != nil {
			c.problem(f+err.Field, err.Error(), then)
			ok = false
			continue
		}
		out.Expressions = append(out.Expressions, state.Requirement{Key: e.Key, Operator: state.Operator(e.Operator), Values: e.Values})
	}
	return out, ok
}

// fieldError says what is wrong with a part of an object; Field is its name
// below the part, with a leading dot.
type fieldError struct {
	Field string
	error
}

func wrong(field, format string, args ...any) *fieldError {
	return &fieldError{field, fmt.Errorf(format, args...)}
}

func checkRequirement(r metav1.LabelSelectorRequirement) *fieldError {
	if r.Key == "" {
		return wrong(".key", "it is empty")
	}
	switch state.Operator(r.Operator) {
	case state.OperatorIn, state.OperatorNotIn:
		if len(r.Values) == 0 {
			return wrong(".values", "%s wants at least one", r.Operator)
		}
	case state.OperatorExists, state.OperatorDoesNotExist:
		if len(r.Values) > 0 {
			return wrong(".values", "%s wants none", r.Operator)
		}
	default:
		return wrong(".operator", "%q is not known", r.Operator)
	}
	return nil
}

// policyPort converts one port.
func policyPort(p *networkingv1.NetworkPolicyPort) (state.PolicyPort, *fieldError) {
	name := corev1.ProtocolTCP // where none is given
	if p.Protocol != nil {
		name = *p.Protocol
	}
	protocol, known := parseProtocol(name)
	if !known {
		return state.PolicyPort{}, wrong(".protocol", "%q is none of TCP, UDP and SCTP", name)
	}
	out := state.PolicyPort{Protocol: protocol}
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			return out, wrong(".endPort", "it wants a port")
		}
	case p.Port.Type == intstr.String:
		if p.Port.StrVal == "" {
			return out, wrong(".port", "its name is empty")
		}
		if p.EndPort != nil {
			return out, wrong(".endPort", "it wants a port that is a number")
		}
		out.Name = p.Port.StrVal
	case p.Port.Type != intstr.Int || p.Port.IntVal < 1 || p.Port.IntVal > maxPort:
		return out, wrong(".port", "%d is not a port from 1 to %d", p.Port.IntVal, maxPort)
	default:
		out.Port = uint16(p.Port.IntVal)
		if p.EndPort == nil {
			break
		}
		if *p.EndPort < p.Port.IntVal || *p.EndPort > maxPort {
			return out, wrong(".endPort", "%d is not a port from %d to %d", *p.EndPort, out.Port, maxPort)
		}
		out.EndPort = uint16(*p.EndPort)
	}
	return out, nil
}

// parseProtocol knows the protocols that ports of the API can have.
func parseProtocol(p corev1.Protocol) (state.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP:
		return state.ProtocolTCP, true
	case corev1.ProtocolUDP:
		return state.ProtocolUDP, true
	case corev1.ProtocolSCTP:
		return state.ProtocolSCTP, true
	}
	return 0, false
}

// parseBlock reads a CIDR of a policy as the API server does, which takes some
// that are not in canonical form: with leading zeros, with bits beyond the
// prefix, and an IPv4 prefix in IPv6 form.
func parseBlock(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		p, err = netip.ParsePrefix(trimZeros(s))
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR", s)
	}
	if !p.Addr().Is4In6() {
		return p.Masked(), nil
	}
	const mapped = 128 - 32 // bits before the IPv4 address
	if p.Bits() < mapped {
		return netip.Prefix{}, fmt.Errorf("%q: %w", s, errors.New("an IPv4 address in IPv6 form with a prefix of less than 96 bits"))
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped).Masked(), nil
}

// trimZeros removes leading zeros from the decimal numbers of a CIDR.
func trimZeros(s string) string {
	addr, bits, _ := strings.Cut(s, "/")
	v6 := addr[:strings.LastIndexByte(addr, ':')+1]
	octets := strings.Split(addr[len(v6):], ".")
	if len(octets) > 1 {
		for i, o := range octets {
			octets[i] = trimNumber(o)
		}
	}
	return v6 + strings.Join(octets, ".") + "/" + trimNumber(bits)
}

func trimNumber(s string) string {
	if s == "" {
		return ""
	}
	return cmp.Or(strings.TrimLeft(s, "0"), "0")
}

// trimPolicy returns the parts of a NetworkPolicy that PolicyRow reads.
func trimPolicy(p *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: trimPolicyMeta(&p.ObjectMeta), Spec: p.Spec}
}
