package k8s

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// comparers let cmp look into netip's types.
func comparers() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

// policyOf reads a policy in the form that people write; fields of which the
// API server knows nothing are an error.
func policyOf(t *testing.T, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	p := networkPolicy("ns", "p")
	p.UID = "uid"
	d := json.NewDecoder(strings.NewReader(spec))
	d.DisallowUnknownFields()
	if err := d.Decode(&p.Spec); err != nil {
		t.Fatalf("decode %s: %v", spec, err)
	}
	return p
}

func sel(kv ...string) *state.Selector {
	s := &state.Selector{}
	for i := 0; i < len(kv); i += 2 {
		if s.MatchLabels == nil {
			s.MatchLabels = map[string]string{}
		}
		s.MatchLabels[kv[i]] = kv[i+1]
	}
	return s
}

func TestPolicyRow(t *testing.T) {
	pfx := netip.MustParsePrefix
	everything := []state.PolicyRule{{}}
	nothing := []state.PolicyRule{{Peers: []state.PolicyPeer{{}}}}
	ingress := func(rules ...state.PolicyRule) state.NetworkPolicy {
		return state.NetworkPolicy{IsolatesIngress: true, Ingress: rules}
	}
	ports := func(ports ...state.PolicyPort) state.NetworkPolicy { return ingress(state.PolicyRule{Ports: ports}) }
	from := func(peers ...state.PolicyPeer) state.NetworkPolicy { return ingress(state.PolicyRule{Peers: peers}) }
	block := func(cidr string, except ...string) state.PolicyPeer {
		b := &state.IPBlock{CIDR: pfx(cidr)}
		for _, e := range except {
			b.Except = append(b.Except, pfx(e))
		}
		return state.PolicyPeer{Block: b}
	}
	const tcp, udp, sctp = state.ProtocolTCP, state.ProtocolUDP, state.ProtocolSCTP
	tests := []struct {
		name, spec string
		want       state.NetworkPolicy // without its name
		problems   []string            // the beginning of each
	}{
		// Directions.
		{name: "empty", spec: `{}`, want: ingress()},
		{name: "ingress empty", spec: `{"ingress":[]}`, want: ingress()},
		{name: "ingress for all", spec: `{"ingress":[{}]}`, want: ingress(everything...)},
		{name: "egress empty is absent", spec: `{"egress":[]}`, want: ingress()},
		{
			name: "egress implies both", spec: `{"egress":[{}]}`,
			want: state.NetworkPolicy{IsolatesIngress: true, IsolatesEgress: true, Egress: everything},
		},
		{name: "egress only", spec: `{"policyTypes":["Egress"]}`, want: state.NetworkPolicy{IsolatesEgress: true}},
		{
			name: "both", spec: `{"policyTypes":["Ingress","Egress"],"egress":[{}]}`,
			want: state.NetworkPolicy{IsolatesIngress: true, IsolatesEgress: true, Egress: everything},
		},
		{
			name: "rules of a direction that is not listed", spec: `{"policyTypes":["Egress"],"ingress":[{}]}`,
			want: state.NetworkPolicy{IsolatesEgress: true},
		},
		{
			name: "egress rules, only ingress listed", spec: `{"policyTypes":["Ingress"],"egress":[{}]}`, want: ingress(),
		},
		{
			name: "unknown type", spec: `{"policyTypes":["ingress"],"ingress":[{}],"egress":[{}]}`,
			want:     state.NetworkPolicy{IsolatesIngress: true, IsolatesEgress: true},
			problems: []string{`spec.policyTypes[0]: "ingress" is neither`},
		},
		{
			name: "unknown type beside a known one", spec: `{"policyTypes":["Egress","X"],"ingress":[{}],"egress":[{}]}`,
			want:     state.NetworkPolicy{IsolatesIngress: true, IsolatesEgress: true, Egress: everything},
			problems: []string{`spec.policyTypes[1]: "X"`},
		},
		// Peers.
		{name: "from empty", spec: `{"ingress":[{"from":[]}]}`, want: ingress(everything...)},
		{name: "all pods of the namespace", spec: `{"ingress":[{"from":[{"podSelector":{}}]}]}`, want: from(state.PolicyPeer{Pods: sel()})},
		{name: "all namespaces", spec: `{"ingress":[{"from":[{"namespaceSelector":{}}]}]}`, want: from(state.PolicyPeer{Namespaces: sel()})},
		{
			name: "pods of namespaces", spec: `{"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"a":"b"}},"podSelector":{}}]}]}`,
			want: from(state.PolicyPeer{Pods: sel(), Namespaces: sel("a", "b")}),
		},
		{
			name: "pods and, or, namespaces", spec: `{"ingress":[{"from":[{"namespaceSelector":{}},{"podSelector":{"matchLabels":{"a":"b"}}}]}]}`,
			want: from(state.PolicyPeer{Namespaces: sel()}, state.PolicyPeer{Pods: sel("a", "b")}),
		},
		{
			name: "expressions", spec: `{"podSelector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In","values":["x","y"]},
				{"key":"k","operator":"NotIn","values":["z"]},{"key":"l","operator":"Exists"},{"key":"m","operator":"DoesNotExist"}]}}`,
			want: state.NetworkPolicy{IsolatesIngress: true, Subject: state.Selector{
				MatchLabels: map[string]string{"a": "b"},
				Expressions: []state.Requirement{
					{Key: "k", Operator: "In", Values: []string{"x", "y"}},
					{Key: "k", Operator: "NotIn", Values: []string{"z"}},
					{Key: "l", Operator: "Exists"},
					{Key: "m", Operator: "DoesNotExist"},
				},
			}},
		},
		{
			name: "blocks", spec: `{"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16","10.2.3.4/32"]}},{"ipBlock":{"cidr":"::/0"}}]}]}`,
			want: from(block("10.0.0.0/8", "10.1.0.0/16", "10.2.3.4/32"), block("::/0")),
		},
		{
			name: "blocks that are not in canonical form", spec: `{"ingress":[{"from":[{"ipBlock":{"cidr":"010.1.2.3/08","except":["::ffff:10.1.0.0/112"]}}]}]}`,
			want: from(block("10.0.0.0/8", "10.1.0.0/16")),
		},
		{
			name: "bad block among others", spec: `{"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0"}},{"podSelector":{}}]}]}`,
			want:     from(state.PolicyPeer{}, state.PolicyPeer{Pods: sel()}),
			problems: []string{`spec.ingress[0].from[0].ipBlock.cidr: "10.0.0.0" is not a CIDR; the peer selects nothing`},
		},
		{
			name: "bad block alone", spec: `{"egress":[{"to":[{"ipBlock":{"cidr":""}}]}]}`,
			want:     state.NetworkPolicy{IsolatesIngress: true, IsolatesEgress: true, Egress: nothing},
			problems: []string{`spec.egress[0].to[0].ipBlock.cidr: "" is not a CIDR`},
		},
		{
			name: "bad exception", spec: `{"ingress":[{"from":[{"ipBlock":{"cidr":"0.0.0.0/0","except":["10.0.0.0/8","10.0.0.0/33"]}}]}]}`,
			want: ingress(nothing...), problems: []string{`spec.ingress[0].from[0].ipBlock.except[1]: "10.0.0.0/33" is not a CIDR`},
		},
		{
			name: "mapped block beyond IPv4", spec: `{"ingress":[{"from":[{"ipBlock":{"cidr":"::ffff:0.0.0.0/90"}}]}]}`,
			want: ingress(nothing...), problems: []string{`spec.ingress[0].from[0].ipBlock.cidr: "::ffff:0.0.0.0/90": an IPv4 address in IPv6 form`},
		},
		{
			name: "empty peer", spec: `{"ingress":[{"from":[{}]}]}`, want: ingress(nothing...),
			problems: []string{"spec.ingress[0].from[0]: it has none of podSelector"},
		},
		{
			name: "block and selector", spec: `{"ingress":[{"from":[{"podSelector":{},"ipBlock":{"cidr":"10.0.0.0/8"}}]}]}`, want: ingress(nothing...),
			problems: []string{"spec.ingress[0].from[0]: an ipBlock and a selector"},
		},
		{
			name: "unknown operators", spec: `{"ingress":[{"from":[{"podSelector":{"matchExpressions":[{"key":"a","operator":"Gt","values":["1"]}]},
				"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"in","values":["1"]}]}}]}]}`,
			want: ingress(nothing...),
			problems: []string{
				`spec.ingress[0].from[0].podSelector.matchExpressions[0].operator: "Gt" is not known; the peer selects nothing`,
				`spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].operator: "in"`,
			},
		},
		{
			name: "NotIn nothing", spec: `{"ingress":[{"from":[{"podSelector":{"matchExpressions":[{"key":"a","operator":"NotIn"}]}}]}]}`,
			want: ingress(nothing...), problems: []string{"spec.ingress[0].from[0].podSelector.matchExpressions[0].values: NotIn wants at least one"},
		},
		{
			name: "Exists with values", spec: `{"ingress":[{"from":[{"podSelector":{"matchExpressions":[{"key":"a","operator":"Exists","values":["x"]}]}}]}]}`,
			want: ingress(nothing...), problems: []string{"spec.ingress[0].from[0].podSelector.matchExpressions[0].values: Exists wants none"},
		},
		{
			name: "no key", spec: `{"ingress":[{"from":[{"podSelector":{"matchExpressions":[{"operator":"DoesNotExist"}]}}]}]}`,
			want: ingress(nothing...), problems: []string{"spec.ingress[0].from[0].podSelector.matchExpressions[0].key: it is empty"},
		},
		{
			name: "subject that is not understood", spec: `{"podSelector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"Is"}]},"ingress":[{}]}`,
			want:     state.NetworkPolicy{IsolatesIngress: true, Subject: *sel("a", "b")},
			problems: []string{`spec.podSelector.matchExpressions[0].operator: "Is" is not known; the policy isolates without rules`},
		},
		// Ports.
		{name: "ports empty", spec: `{"ingress":[{"ports":[]}]}`, want: ingress(everything...)},
		{name: "number", spec: `{"ingress":[{"ports":[{"port":80}]}]}`, want: ports(state.PolicyPort{Protocol: tcp, Port: 80})},
		{name: "name", spec: `{"ingress":[{"ports":[{"port":"dns","protocol":"UDP"}]}]}`, want: ports(state.PolicyPort{Protocol: udp, Name: "dns"})},
		{name: "protocol alone", spec: `{"ingress":[{"ports":[{"protocol":"SCTP"}]}]}`, want: ports(state.PolicyPort{Protocol: sctp})},
		{name: "empty port is all of TCP", spec: `{"ingress":[{"ports":[{}]}]}`, want: ports(state.PolicyPort{Protocol: tcp})},
		{
			name: "ranges", spec: `{"ingress":[{"ports":[{"port":1,"endPort":65535},{"port":8,"endPort":8}]}]}`,
			want: ports(state.PolicyPort{Protocol: tcp, Port: 1, EndPort: 65535}, state.PolicyPort{Protocol: tcp, Port: 8, EndPort: 8}),
		},
		{
			name: "bad ports among others", spec: `{"ingress":[{"ports":[{"port":0},{"port":80},{"port":65536},{"port":"","protocol":"UDP"}]}]}`,
			want: ports(state.PolicyPort{Protocol: tcp, Port: 80}),
			problems: []string{
				"spec.ingress[0].ports[0].port: 0 is not a port from 1 to 65535; the port is left out",
				"spec.ingress[0].ports[2].port: 65536", "spec.ingress[0].ports[3].port: its name is empty",
			},
		},
		{
			name: "bad port alone keeps the place of its rule", spec: `{"ingress":[{"ports":[{"protocol":"ICMP"}]},{}]}`,
			want:     ingress(nothing[0], everything[0]),
			problems: []string{`spec.ingress[0].ports[0].protocol: "ICMP" is none of`},
		},
		{
			name: "empty protocol", spec: `{"ingress":[{"ports":[{"protocol":""}]}]}`, want: ingress(nothing...),
			problems: []string{`spec.ingress[0].ports[0].protocol: "" is none of`},
		},
		{
			name: "bad ranges", spec: `{"ingress":[{"ports":[{"port":80,"endPort":79},{"port":80,"endPort":65536},{"endPort":80},{"port":"http","endPort":80}]}]}`,
			want: ingress(nothing...),
			problems: []string{
				"spec.ingress[0].ports[0].endPort: 79 is not a port from 80 to 65535", "spec.ingress[0].ports[1].endPort: 65536",
				"spec.ingress[0].ports[2].endPort: it wants a port;", "spec.ingress[0].ports[3].endPort: it wants a port that is a number",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Namespace, tt.want.Name, tt.want.UID = "ns", "p", "uid"
			obj := policyOf(t, tt.spec)
			got := PolicyRow(obj)
			if diff := cmp.Diff(got, PolicyRow(trimPolicy(obj)), comparers()); diff != "" {
				t.Errorf("trimmed, the object is another row (-whole +trimmed):\n%s", diff)
			}
			problems := got.Problems
			got.Problems = nil
			if diff := cmp.Diff(tt.want, got, comparers()); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
			if len(problems) != len(tt.problems) {
				t.Fatalf("problems %q, want %q", problems, tt.problems)
			}
			for i, p := range problems {
				if !strings.HasPrefix(p, tt.problems[i]) {
					t.Errorf("problem %q, want one that begins with %q", p, tt.problems[i])
				}
			}
		})
	}
}

func TestPolicyAudit(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "false": false, "": false, "True": false, "yes": false} {
		obj := networkPolicy("ns", "p")
		obj.Annotations = map[string]string{"placid.io/policy-audit": value}
		got := PolicyRow(trimPolicy(obj))
		if got.Audit != want || !got.IsolatesIngress {
			t.Errorf("policy-audit %q: audit is %t, isolates %t", value, got.Audit, got.IsolatesIngress)
		}
		if wrong := value == "True" || value == "yes"; (len(got.Problems) == 1) != wrong {
			t.Errorf("policy-audit %q: problems %q", value, got.Problems)
		}
	}
}

func TestTrimPolicyKeepsOnlyWhatIsRead(t *testing.T) {
	obj := networkPolicy("ns", "p")
	obj.ResourceVersion, obj.Annotations = "7", map[string]string{"big": "x"}
	obj.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
	got := trimPolicy(obj)
	if got.ResourceVersion != "7" || got.Annotations != nil || got.ManagedFields != nil {
		t.Errorf("trimmed policy %+v", got)
	}
}

// FuzzParseBlock checks that every CIDR that the API server accepts is read, as
// the same addresses.
func FuzzParseBlock(f *testing.F) {
	for _, s := range []string{
		"10.0.0.0/8", "010.000.0.00/08", "10.1.2.3/8", "::/0", "0.0.0.0/0", "fe80:0abc::/64", "::ffff:10.0.0.0/104", "::ffff:10.0.0.0/20",
		"10.0.0.0", "/8", "10.0.0.0/", "10.0.0.0/33", "::1%eth0/64", "2001:db8::010.1.2.3/128", "1.2.3/8", "1.2.3.4.5/8", "a/b/c", "0/0", ".../0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseBlock(s)
		accepted := len(validation.IsValidCIDRForLegacyField(field.NewPath("cidr"), s, false, nil)) == 0
		if err == nil && (!got.IsValid() || got != got.Masked() || got.Addr().Is4In6()) {
			t.Errorf("%q is read as %s, which is not in the form of the tables", s, got)
		}
		wide := err != nil && strings.Contains(err.Error(), "less than 96 bits")
		if accepted != (err == nil) && !wide {
			t.Errorf("%q: %v, but the API server accepts it: %t", s, err, accepted)
		}
		canonical, canonicalErr := netip.ParsePrefix(s)
		if canonicalErr == nil && err == nil && !canonical.Addr().Is4In6() && canonical.Masked() != got {
			t.Errorf("%q is read as %s", s, got)
		}
	})
}

// FuzzPolicyRow checks that no object widens by being converted: a list that is
// not empty never becomes one that stands for all.
func FuzzPolicyRow(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["x"]}}],"ports":[{"port":1,"endPort":2}]}]}`))
	f.Add([]byte(`{"podSelector":{"matchExpressions":[{"key":"a","operator":"?"}]},"ingress":[{"from":[{}],"ports":[{"port":""}]}]}`))
	f.Fuzz(func(t *testing.T, spec []byte) {
		obj := networkPolicy("ns", "p")
		if json.Unmarshal(spec, &obj.Spec) != nil {
			return
		}
		row := PolicyRow(obj)
		if !row.IsolatesIngress && !row.IsolatesEgress {
			t.Fatalf("it isolates nothing: %s", spec)
		}
		for i, r := range row.Ingress {
			checkRule(t, r, len(obj.Spec.Ingress[i].From), len(obj.Spec.Ingress[i].Ports))
		}
		for i, r := range row.Egress {
			checkRule(t, r, len(obj.Spec.Egress[i].To), len(obj.Spec.Egress[i].Ports))
		}
	})
}

func checkRule(t *testing.T, r state.PolicyRule, peers, ports int) {
	t.Helper()
	closed := len(r.Peers) == 1 && r.Peers[0] == state.PolicyPeer{}
	if peers > 0 && len(r.Peers) == 0 || ports > 0 && len(r.Ports) == 0 && !closed {
		t.Errorf("rule %+v of %d peers and %d ports", r, peers, ports)
	}
	for _, p := range r.Ports {
		if p.Protocol == state.ProtocolAny || p.EndPort != 0 && (p.EndPort < p.Port || p.Port == 0) || p.Name != "" && p.Port != 0 {
			t.Errorf("port %+v", p)
		}
	}
	for _, p := range r.Peers {
		if p.Block != nil && (p.Pods != nil || p.Namespaces != nil || p.Block.CIDR != p.Block.CIDR.Masked()) {
			t.Errorf("peer %+v", p)
		}
	}
}

func TestPodRow(t *testing.T) {
	port := func(name string, protocol corev1.Protocol, n int32) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, Protocol: protocol, ContainerPort: n, HostPort: 7}
	}
	p := pod("p", "uid", "me")
	p.Labels = map[string]string{"app": "web"}
	p.CreationTimestamp = metav1.Unix(1767323045, 0)
	p.Spec.ServiceAccountName = "sa"
	p.Spec.Containers = []corev1.Container{
		{Name: "a", Image: "big", Ports: []corev1.ContainerPort{port("http", "TCP", 80), port("", "TCP", 81), port("dns", "UDP", 53)}},
		{Name: "b", Ports: []corev1.ContainerPort{port("dns", "", 5353), port("dns", "TCP", 53), port("http", "TCP", 80), port("bad", "ICMP", 1), port("bad", "TCP", 0)}},
	}
	p.Spec.InitContainers = []corev1.Container{
		{Name: "i", Ports: []corev1.ContainerPort{port("setup", "TCP", 1000)}},
		{Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{port("mesh", "SCTP", 15000)}},
		{Name: "n", RestartPolicy: new(corev1.ContainerRestartPolicy("Never")), Ports: []corev1.ContainerPort{port("once", "TCP", 1001)}},
	}
	want := state.Pod{
		Ref: state.PodRef{Namespace: "default", Name: "p", UID: "uid"}, Labels: p.Labels, ServiceAccount: "sa",
		CreatedAt: p.CreationTimestamp.UTC(),
		NamedPorts: []state.NamedPort{
			{Name: "dns", Protocol: state.ProtocolTCP, Port: 53},
			{Name: "dns", Protocol: state.ProtocolTCP, Port: 5353},
			{Name: "dns", Protocol: state.ProtocolUDP, Port: 53},
			{Name: "http", Protocol: state.ProtocolTCP, Port: 80},
			{Name: "mesh", Protocol: state.ProtocolSCTP, Port: 15000},
		},
	}
	if diff := cmp.Diff(want, PodRow(p)); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	trimmed := trimPod(p)
	if diff := cmp.Diff(want, PodRow(trimmed)); diff != "" {
		t.Errorf("row of the trimmed pod (-want +got):\n%s", diff)
	}
	if c := trimmed.Spec.Containers; len(c) != 1 || c[0].Image != "" || c[0].Ports[0].HostPort != 0 || trimmed.Spec.InitContainers != nil {
		t.Errorf("the trimmed pod keeps what is not needed: %+v", trimmed.Spec)
	}
	if c := trimPod(pod("q", "", "me")).Spec.Containers; c != nil {
		t.Errorf("a pod without ports keeps containers %v", c)
	}
}

func TestIdentityRow(t *testing.T) {
	labels := map[string]string{"k8s:app": "web"}
	good := identityObject("16777215", labels)
	good.NamedPorts = []v1alpha1.NamedPort{{Name: "b", Protocol: "UDP", Port: 2}, {Name: "a", Protocol: "TCP", Port: 65535}}
	got, err := IdentityRow(good)
	want := state.Identity{ID: 1<<24 - 1, Labels: labels, NamedPorts: []state.NamedPort{
		{Name: "a", Protocol: state.ProtocolTCP, Port: 65535}, {Name: "b", Protocol: state.ProtocolUDP, Port: 2},
	}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("row (-want +got), error %v:\n%s", err, diff)
	}
	for _, name := range []string{"", "0", "255", "16777216", "4294967552", "0300", "+300", "-300", "300x", "web"} {
		if row, err := IdentityRow(identityObject(name, labels)); err == nil || !strings.Contains(err.Error(), "metadata.name: ") {
			t.Errorf("name %q: %+v, %v", name, row, err)
		}
	}
	for want, p := range map[string]v1alpha1.NamedPort{
		"namedPorts[0].name":     {Protocol: "TCP", Port: 1},
		"namedPorts[0].protocol": {Name: "a", Protocol: "tcp", Port: 1},
		"namedPorts[0].port":     {Name: "a", Protocol: "TCP", Port: 65536},
	} {
		bad := identityObject("300", labels)
		bad.NamedPorts = []v1alpha1.NamedPort{p}
		if _, err := IdentityRow(bad); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("port %+v: %v, want an error about %s", p, err, want)
		}
	}
}
