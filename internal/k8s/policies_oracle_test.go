package k8s

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/placid-net/placid/internal/state"
)

// question is one new connection, as a policy sees it.
type question struct {
	egress    bool
	subject   map[string]string
	sameNS    bool // the peer is a pod of the policy's namespace
	nsLabels  map[string]string
	pod       map[string]string // nil: the peer is not a pod
	addr      netip.Addr
	protocol  corev1.Protocol
	port      int32
	portNames []string // what the number is called
}

// upstream answers from the object, in the words of the API's documentation.
type upstream struct{ *networkingv1.NetworkPolicy }

func (u upstream) isolates(q question) bool {
	if !u.matches(&u.Spec.PodSelector, q.subject) {
		return false
	}
	types := u.Spec.PolicyTypes
	if len(types) == 0 {
		types = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(u.Spec.Egress) != 0 {
			types = append(types, networkingv1.PolicyTypeEgress)
		}
	}
	want := networkingv1.PolicyTypeIngress
	if q.egress {
		want = networkingv1.PolicyTypeEgress
	}
	return slices.Contains(types, want)
}

func (u upstream) allows(q question) bool {
	if !u.isolates(q) {
		return false
	}
	if q.egress {
		return slices.ContainsFunc(u.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
			return u.peers(r.To, q) && u.ports(r.Ports, q)
		})
	}
	return slices.ContainsFunc(u.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
		return u.peers(r.From, q) && u.ports(r.Ports, q)
	})
}

func (u upstream) matches(s *metav1.LabelSelector, l map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(l))
}

func (u upstream) peers(peers []networkingv1.NetworkPolicyPeer, q question) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			contains := func(s string) bool {
				_, n, err := net.ParseCIDR(s)
				return err == nil && n.Contains(q.addr.AsSlice())
			}
			return contains(p.IPBlock.CIDR) && !slices.ContainsFunc(p.IPBlock.Except, contains)
		}
		switch {
		case q.pod == nil:
			return false
		case p.NamespaceSelector == nil:
			return q.sameNS && u.matches(p.PodSelector, q.pod)
		case p.PodSelector == nil:
			return u.matches(p.NamespaceSelector, q.nsLabels)
		}
		return u.matches(p.NamespaceSelector, q.nsLabels) && u.matches(p.PodSelector, q.pod)
	})
}

func (u upstream) ports(ports []networkingv1.NetworkPolicyPort, q question) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		switch {
		case protocol != q.protocol:
			return false
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			return slices.Contains(q.portNames, p.Port.StrVal)
		case p.EndPort != nil:
			return q.port >= p.Port.IntVal && q.port <= *p.EndPort
		}
		return q.port == p.Port.IntVal
	})
}

// rowJudge answers from the row, in the words of package state.
type rowJudge struct{ state.NetworkPolicy }

func (r rowJudge) isolates(q question) bool {
	return r.selects(&r.Subject, q.subject) && (!q.egress && r.IsolatesIngress || q.egress && r.IsolatesEgress)
}

func (r rowJudge) allows(q question) bool {
	rules := r.Ingress
	if q.egress {
		rules = r.Egress
	}
	return r.isolates(q) && slices.ContainsFunc(rules, func(rule state.PolicyRule) bool {
		return (len(rule.Peers) == 0 || slices.ContainsFunc(rule.Peers, func(p state.PolicyPeer) bool { return r.peer(p, q) })) &&
			(len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(p state.PolicyPort) bool { return r.port(p, q) }))
	})
}

func (r rowJudge) selects(s *state.Selector, l map[string]string) bool {
	for k, v := range s.MatchLabels {
		if got, ok := l[k]; !ok || got != v {
			return false
		}
	}
	for _, e := range s.Expressions {
		v, ok := l[e.Key]
		matches := map[state.Operator]bool{
			state.OperatorIn: ok && slices.Contains(e.Values, v), state.OperatorNotIn: !ok || !slices.Contains(e.Values, v),
			state.OperatorExists: ok, state.OperatorDoesNotExist: !ok,
		}
		if !matches[e.Operator] {
			return false
		}
	}
	return true
}

func (r rowJudge) peer(p state.PolicyPeer, q question) bool {
	if p.Block != nil {
		return p.Block.CIDR.Contains(q.addr) && !slices.ContainsFunc(p.Block.Except, func(x netip.Prefix) bool { return x.Contains(q.addr) })
	}
	if p.Pods == nil && p.Namespaces == nil || q.pod == nil {
		return false
	}
	inNS := q.sameNS
	if p.Namespaces != nil {
		inNS = r.selects(p.Namespaces, q.nsLabels)
	}
	return inNS && (p.Pods == nil || r.selects(p.Pods, q.pod))
}

func (r rowJudge) port(p state.PolicyPort, q question) bool {
	known, _ := parseProtocol(q.protocol)
	switch {
	case known != p.Protocol:
		return false
	case p.Name != "":
		return slices.Contains(q.portNames, p.Name)
	case p.Port == 0:
		return true
	}
	return q.port >= int32(p.Port) && q.port <= int32(max(p.Port, p.EndPort))
}

// generator makes small random policies, and questions that they differ on.
type generator struct{ *rand.Rand }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) labels() map[string]string {
	out := map[string]string{}
	for _, k := range []string{"a", "b", "c"} {
		if g.IntN(2) == 0 {
			out[k] = pick(g, "x", "y")
		}
	}
	return out
}

func (g generator) selector() metav1.LabelSelector {
	var s metav1.LabelSelector
	if g.IntN(2) == 0 {
		s.MatchLabels = map[string]string{pick(g, "a", "b", "c"): pick(g, "x", "y")}
	}
	for range g.IntN(3) {
		e := metav1.LabelSelectorRequirement{Key: pick(g, "a", "b", "c"), Operator: pick(g,
			metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = pick(g, []string{"x"}, []string{"y"}, []string{"x", "y"})
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func (g generator) peers() (out []networkingv1.NetworkPolicyPeer) {
	for range g.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		switch g.IntN(4) {
		case 0:
			p.PodSelector = new(g.selector())
		case 1:
			p.NamespaceSelector = new(g.selector())
		case 2:
			p.PodSelector, p.NamespaceSelector = new(g.selector()), new(g.selector())
		case 3:
			p.IPBlock = &networkingv1.IPBlock{CIDR: pick(g, "10.0.0.0/8", "0.0.0.0/0", "10.1.7.7/16", "fd00::/8", "::/0")}
			for range g.IntN(3) {
				p.IPBlock.Except = append(p.IPBlock.Except, pick(g, "10.1.0.0/16", "10.1.2.0/24", "fd00:1::/32"))
			}
		}
		out = append(out, p)
	}
	return out
}

func (g generator) ports() (out []networkingv1.NetworkPolicyPort) {
	for range g.IntN(3) {
		var p networkingv1.NetworkPolicyPort
		if g.IntN(2) == 0 {
			p.Protocol = new(pick(g, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP))
		}
		switch g.IntN(4) {
		case 0:
			p.Port = new(intstr.FromInt32(pick[int32](g, 80, 81, 443)))
		case 1:
			p.Port = new(intstr.FromString(pick(g, "http", "https")))
		case 2:
			p.Port, p.EndPort = new(intstr.FromInt32(80)), new(pick[int32](g, 80, 81, 443))
		}
		out = append(out, p)
	}
	return out
}

func (g generator) policy() *networkingv1.NetworkPolicy {
	p := networkPolicy("ns", "p")
	p.Spec.PodSelector = g.selector()
	for range g.IntN(3) {
		p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: g.peers(), Ports: g.ports()})
	}
	for range g.IntN(3) {
		p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: g.peers(), Ports: g.ports()})
	}
	const in, out = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	p.Spec.PolicyTypes = pick(g, nil, []networkingv1.PolicyType{}, []networkingv1.PolicyType{in}, []networkingv1.PolicyType{out},
		[]networkingv1.PolicyType{in, out})
	return p
}

func (g generator) question() question {
	q := question{
		egress: g.IntN(2) == 0, subject: g.labels(), sameNS: g.IntN(2) == 0, nsLabels: g.labels(), pod: g.labels(),
		addr:     netip.MustParseAddr(pick(g, "10.1.2.3", "10.1.7.7", "10.9.9.9", "192.0.2.1", "fd00:1::1", "fd00:2::1", "2001:db8::1")),
		protocol: pick(g, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP), port: pick[int32](g, 79, 80, 81, 443),
		portNames: pick(g, nil, []string{"http"}, []string{"https", "other"}),
	}
	if g.IntN(4) == 0 {
		q.pod = nil
	}
	return q
}

// breakIt makes one part of a policy into something that validation refuses.
func (g generator) breakIt(p *networkingv1.NetworkPolicy) {
	var breaks []func()
	add := func(f func()) { breaks = append(breaks, f) }
	selector := func(s *metav1.LabelSelector) {
		if s == nil {
			return
		}
		for i := range s.MatchExpressions {
			e := &s.MatchExpressions[i]
			add(func() { e.Operator = "Gt" })
			add(func() { e.Key = "" })
			if e.Operator == metav1.LabelSelectorOpExists || e.Operator == metav1.LabelSelectorOpDoesNotExist {
				add(func() { e.Values = []string{"x"} })
			} else {
				add(func() { e.Values = nil })
			}
		}
	}
	rule := func(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
		for i := range peers {
			peer := &peers[i]
			selector(peer.PodSelector)
			selector(peer.NamespaceSelector)
			add(func() { *peer = networkingv1.NetworkPolicyPeer{} })
			if b := peer.IPBlock; b != nil {
				add(func() { b.CIDR = pick(g, "", "10.0.0.0", "x", "::ffff:0.0.0.0/8") })
				add(func() { peer.PodSelector = &metav1.LabelSelector{} })
				for j := range b.Except {
					add(func() { b.Except[j] = pick(g, "", "10.0.0.0", "10.1.0.0/99") })
				}
			}
		}
		for i := range ports {
			port := &ports[i]
			add(func() { port.Protocol = new(pick[corev1.Protocol](g, "", "ICMP", "tcp")) })
			add(func() {
				port.Port = new(pick(g, intstr.FromInt32(0), intstr.FromInt32(-80), intstr.FromInt32(65536+80), intstr.FromString("")))
			})
			add(func() {
				if port.EndPort != nil {
					port.EndPort = new(pick[int32](g, 1, 70000, 65536+443))
				} else {
					port.Port, port.EndPort = nil, new(int32(80))
				}
			})
		}
	}
	selector(&p.Spec.PodSelector)
	for _, r := range p.Spec.Ingress {
		rule(r.From, r.Ports)
	}
	for _, r := range p.Spec.Egress {
		rule(r.To, r.Ports)
	}
	for i := range p.Spec.PolicyTypes {
		add(func() { p.Spec.PolicyTypes[i] = "X" })
	}
	if len(breaks) > 0 {
		breaks[g.IntN(len(breaks))]()
	}
}

// TestPolicyRowMeansWhatTheObjectMeans compares rows with the API's semantics.
func TestPolicyRowMeansWhatTheObjectMeans(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	var isolated, allowed int
	for range 1000 {
		obj := g.policy()
		row := rowJudge{PolicyRow(obj)}
		if len(row.Problems) > 0 {
			t.Fatalf("a valid policy has problems %q: %+v", row.Problems, obj.Spec)
		}
		for range 25 {
			q := g.question()
			want, got := fmt.Sprint(upstream{obj}.isolates(q), upstream{obj}.allows(q)), fmt.Sprint(row.isolates(q), row.allows(q))
			if got != want {
				t.Fatalf("isolates and allows: %s, want %s\nobject %+v\nrow %+v\nquestion %+v", got, want, obj.Spec, row, q)
			}
			if row.isolates(q) {
				isolated++
			}
			if row.allows(q) {
				allowed++
			}
		}
	}
	if isolated < 2000 || allowed < 500 {
		t.Errorf("of the questions %d are isolated and %d allowed: too few to tell", isolated, allowed)
	}
}

// TestWhatIsNotUnderstoodNeverWidens breaks valid policies: what the row allows
// then, and leaves alone, the valid policy did too.
func TestWhatIsNotUnderstoodNeverWidens(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 6))}
	var broken int
	for range 3000 {
		valid := g.policy()
		bad := valid.DeepCopy()
		for range 1 + g.IntN(2) {
			g.breakIt(bad)
		}
		was, is := rowJudge{PolicyRow(valid)}, rowJudge{PolicyRow(bad)}
		if len(is.Problems) > 0 {
			broken++
		}
		for range 25 {
			q := g.question()
			if was.isolates(q) && !is.isolates(q) || is.allows(q) && !was.allows(q) {
				t.Fatalf("it isolates %t, was %t; allows %t, was %t\nvalid %+v\nbroken %+v\nproblems %q\nquestion %+v",
					is.isolates(q), was.isolates(q), is.allows(q), was.allows(q), valid.Spec, bad.Spec, is.Problems, q)
			}
		}
	}
	if broken < 1500 {
		t.Errorf("only %d policies were broken", broken)
	}
}
