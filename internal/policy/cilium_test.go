package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

// cnp is a CiliumNetworkPolicy of namespace "ns" for pods app=web.
func cnp(name string, change func(*state.NetworkPolicy)) state.NetworkPolicy {
	p := state.NetworkPolicy{
		Kind: state.PolicyCilium, Namespace: "ns", Name: name,
		Subject: state.Selector{MatchLabels: map[string]string{podPrefix + "app": "web", namespaceKey: "ns"}},
	}
	change(&p)
	return p
}

// lets isolates ingress and allows these rules, denies only denies these.
func lets(name string, rules ...state.PolicyRule) state.NetworkPolicy {
	return cnp(name, func(p *state.NetworkPolicy) { p.Ingress, p.IsolatesIngress = rules, true })
}

func denies(name string, rules ...state.PolicyRule) state.NetworkPolicy {
	return cnp(name, func(p *state.NetworkPolicy) { p.IngressDeny = rules })
}

// endpoints is the peer of pods with one label, by the keys of identities.
func endpoints(key, value string) state.PolicyPeer {
	return state.PolicyPeer{Endpoints: new(eq(key, value))}
}

func entity(x state.Entity) state.PolicyPeer { return state.PolicyPeer{Entity: x} }

func outside(p string, except ...string) state.PolicyPeer {
	x := cidr(p, except...)
	x.Block.Outside = true
	return x
}

func icmpType(p state.Protocol, of uint8) state.PolicyPort {
	return state.PolicyPort{Protocol: p, ICMPType: &of}
}

// ciliumWeb is the pod app=web of this node, with all that it has besides.
func ciliumWeb(endpoint uint32, named ...state.NamedPort) Subject {
	s := web(endpoint, named...)
	s.Derived = map[string]string{
		namespaceKey: "ns", namespaceLabelsPrefix + "team": "a",
		derivedPrefix + "policy.serviceaccount": "runner", derivedPrefix + "policy.cluster": "here",
	}
	return s
}

// TestCiliumVerdicts asks about endpoint 1 (app=web) and a peer of identity 300
// (app=client, team=a, port http=8080) at 10.0.2.1.
func TestCiliumVerdicts(t *testing.T) {
	const addr = "10.0.2.1"
	hidden := Config{
		PodLabelKnown:       func(k string) bool { return k != "hash" },
		NamespaceLabelKnown: func(k string) bool { return k != "owner" },
		DerivedLabelKnown:   func(k string) bool { return k != "io.cilium.k8s.policy.serviceaccount" },
	}
	nameless := Config{DerivedLabelKnown: func(k string) bool { return k != "io.kubernetes.pod.namespace" }}
	notHash := state.PolicyPeer{Endpoints: &state.Selector{Expressions: []state.Requirement{{Key: "k8s:hash", Operator: state.OperatorDoesNotExist}}}}
	bad := state.PolicyPeer{Endpoints: &state.Selector{Expressions: []state.Requirement{{Key: "k8s:app", Operator: state.OperatorIn}}}}
	inbound, outbound := asks(false, client, addr, 80), asks(true, client, addr, 80)
	by := func(id uint32, a string) Query { return asks(false, id, a, 80) }
	ping := inbound
	ping.Protocol, ping.Port = state.ProtocolICMP, 8
	gre := inbound
	gre.Protocol, gre.Port = 47, 0
	open := lets("open", state.PolicyRule{})
	subject := func(key, value string) state.NetworkPolicy {
		p := lets("p")
		p.Subject = eq(key, value)
		return p
	}
	clusterwide := func(p state.NetworkPolicy) state.NetworkPolicy {
		p.Kind, p.Namespace = state.PolicyCiliumClusterwide, ""
		return p
	}
	all := []state.NetworkPolicy{}
	with := func(list ...state.NetworkPolicy) []state.NetworkPolicy { return append(all, list...) }

	for _, tc := range []struct {
		name     string
		cfg      Config
		policies []state.NetworkPolicy
		query    Query
		want     bool
		denied   bool
	}{
		// Who is selected.
		{name: "subject by namespace's label", policies: with(subject(namespaceLabelsPrefix+"team", "a")), query: inbound},
		{name: "subject by service account", policies: with(subject(derivedPrefix+"policy.serviceaccount", "runner")), query: inbound},
		{name: "subject by cluster, another", policies: with(subject(derivedPrefix+"policy.cluster", "there")), query: inbound, want: true},
		{name: "subject by a filtered label", cfg: hidden, policies: with(subject(derivedPrefix+"policy.serviceaccount", "runner")), query: inbound},
		{name: "of another namespace", policies: with(func() state.NetworkPolicy { p := subject("k8s:app", "web"); p.Namespace = "ns2"; return p }()), query: inbound, want: true},
		{name: "clusterwide", policies: with(clusterwide(subject("k8s:app", "web"))), query: inbound},
		{name: "a pod's own label is not what it stands for", policies: with(subject("k8s:io.cilium.k8s.policy.fake", "x")), query: inbound, want: true},
		{name: "own label for Kubernetes' policies", policies: with(func() state.NetworkPolicy { p := in("p"); p.Subject = eq("io.cilium.k8s.policy.fake", "x"); return p }()), query: inbound},

		// What isolates.
		{name: "rules alone isolate nothing", policies: with(cnp("p", func(p *state.NetworkPolicy) { p.Ingress = []state.PolicyRule{allow(from(entity(state.EntityNone)))} })), query: inbound, want: true},
		{name: "rules that do not isolate help those that do", policies: with(lets("p"), cnp("q", func(p *state.NetworkPolicy) { p.Ingress = []state.PolicyRule{{}} })), query: inbound, want: true},
		{name: "Kubernetes' do not", policies: with(lets("p"), func() state.NetworkPolicy { p := out("q"); p.Ingress = []state.PolicyRule{{}}; return p }()), query: inbound},
		{name: "a deny alone leaves the rest open", policies: with(denies("p", allow(nil, tcp(81)))), query: inbound, want: true},
		{name: "and the other direction", policies: with(denies("p", state.PolicyRule{})), query: outbound, want: true},
		{name: "a deny in mode always opens nothing", cfg: Config{Mode: ModeAlways}, policies: with(denies("p", allow(nil, tcp(81)))), query: inbound},

		// Denies.
		{name: "deny of a port", policies: with(open, denies("p", allow(nil, tcp(80)))), query: inbound, denied: true},
		{name: "deny of another port", policies: with(open, denies("p", allow(nil, tcp(81)))), query: inbound, want: true},
		{name: "deny of a pod, allowed by a block", policies: with(lets("q", allow(from(cidr("10.0.0.0/8")))), denies("p", allow(from(endpoints("k8s:app", "client"))))), query: inbound, denied: true},
		{name: "deny by a block, allowed as a pod", policies: with(lets("q", allow(from(endpoints("k8s:app", "client")))), denies("p", allow(from(cidr("10.0.0.0/8"))))), query: inbound, denied: true},
		{name: "deny of everybody, allowed as a pod", policies: with(lets("q", allow(from(endpoints("k8s:app", "client")))), denies("p", allow(nil, tcp(80)))), query: inbound, denied: true},
		{name: "deny by a wider block than what allows", policies: with(lets("q", allow(from(outside("10.0.2.0/24")))), denies("p", allow(from(outside("10.0.0.0/8"))))), query: by(state.IdentityWorld, addr), denied: true},
		{name: "deny outweighs Kubernetes' policy", policies: with(in("q", state.PolicyRule{}), denies("p", allow(from(endpoints("k8s:app", "client"))))), query: inbound, denied: true},
		{name: "except of what is denied", policies: with(denies("p", allow(from(outside("10.0.0.0/8", "10.0.2.0/24"))))), query: by(state.IdentityWorld, addr), want: true},
		{name: "own node always reaches its pods", policies: with(denies("p", allow(from(entity(state.EntityHost))))), query: by(state.IdentityHost, "192.168.0.1"), want: true},
		{name: "deny of a named port", policies: with(denies("p", allow(nil, namedTCP("http")))), query: asks(false, client, addr, 9090), denied: true},

		// What cannot be judged allows nothing, and denies everything.
		{name: "hidden label", cfg: hidden, policies: with(lets("p", allow(from(notHash)))), query: inbound},
		{name: "hidden label in a deny", cfg: hidden, policies: with(open, denies("p", allow(from(endpoints("k8s:hash", "none"))))), query: by(state.IdentityWorld, "8.8.8.8"), denied: true},
		{name: "hidden label of namespaces in a deny", cfg: hidden, policies: with(open, denies("p", allow(from(endpoints(namespaceLabelsPrefix+"owner", "x"))))), query: inbound, denied: true},
		{name: "hidden service account in a deny", cfg: hidden, policies: with(open, denies("p", allow(from(endpoints(derivedPrefix+"policy.serviceaccount", "x"))))), query: inbound, denied: true},
		{name: "hidden namespace in a deny", cfg: nameless, policies: with(open, denies("p", allow(from(pods("app", "x"))))), query: inbound, denied: true},
		{name: "another source in a deny", policies: with(open, denies("p", allow(from(endpoints("container:app", "x"))))), query: inbound, denied: true},
		{name: "requirement that is not valid", policies: with(lets("p", allow(from(bad)))), query: inbound},
		{name: "requirement that is not valid in a deny", policies: with(open, denies("p", allow(from(bad)))), query: inbound, denied: true},
		{name: "reference that was not replaced", policies: with(lets("p", allow(from(state.PolicyPeer{Nodes: &state.Selector{}})))), query: inbound},
		{name: "reference in a deny", policies: with(open, denies("p", allow(from(state.PolicyPeer{Service: &state.ServicePeer{}})))), query: inbound, denied: true},
		{name: "kube-apiserver in a deny", policies: with(open, denies("p", allow(from(entity(state.EntityKubeAPIServer))))), query: inbound, denied: true},
		{name: "entity that is not known", policies: with(lets("p", allow(from(entity("moon"))))), query: inbound},
		{name: "two kinds of peer in a deny", policies: with(open, denies("p", allow(from(state.PolicyPeer{Entity: state.EntityNone, Block: cidr("11.0.0.0/8").Block})))), query: inbound, denied: true},
		{name: "block that is not valid in a deny", policies: with(open, denies("p", allow(from(state.PolicyPeer{Block: &state.IPBlock{}})))), query: inbound, denied: true},
		{name: "block without addresses in a deny", policies: with(open, denies("p", allow(from(cidr("10.0.0.0/8", "10.0.0.0/8"))))), query: inbound, want: true},
		{name: "no peer at all in a deny", policies: with(open, denies("p", allow(from(state.PolicyPeer{})))), query: inbound, want: true},
		{name: "port that is not valid", policies: with(lets("p", allow(nil, state.PolicyPort{Port: 80}))), query: inbound},
		{name: "port that is not valid in a deny", policies: with(open, denies("p", allow(nil, state.PolicyPort{Port: 443}))), query: inbound, denied: true},

		// Entities.
		{name: "all", policies: with(lets("p", allow(from(entity(state.EntityAll))))), query: by(state.IdentityWorld, "8.8.8.8"), want: true},
		{name: "world", policies: with(lets("p", allow(from(entity(state.EntityWorld))))), query: by(state.IdentityWorld, "8.8.8.8"), want: true},
		{name: "a pod is not the world", policies: with(lets("p", allow(from(entity(state.EntityWorld))))), query: inbound},
		{name: "nor a node", policies: with(lets("p", allow(from(entity(state.EntityWorld))))), query: by(state.IdentityRemoteNode, "192.168.0.2")},
		{name: "the world by IPv4", policies: with(lets("p", allow(from(entity(state.EntityWorldIPv4))))), query: by(state.IdentityWorld, "8.8.8.8"), want: true},
		{name: "is not that by IPv6", policies: with(lets("p", allow(from(entity(state.EntityWorldIPv6))))), query: by(state.IdentityWorld, "8.8.8.8")},
		{name: "the world by IPv6", policies: with(lets("p", allow(from(entity(state.EntityWorldIPv6))))), query: by(state.IdentityWorld, "2001:db8::1"), want: true},
		{name: "IPv4 of a pod is not the world's", policies: with(lets("p", allow(from(entity(state.EntityWorldIPv4))))), query: inbound},
		{name: "cluster: pods", policies: with(lets("p", allow(from(entity(state.EntityCluster))))), query: inbound, want: true},
		{name: "cluster: nodes", policies: with(lets("p", allow(from(entity(state.EntityCluster))))), query: by(state.IdentityRemoteNode, "192.168.0.2"), want: true},
		{name: "cluster: pods without identity", policies: with(lets("p", allow(from(entity(state.EntityCluster))))), query: by(state.IdentityInit, addr), want: true},
		{name: "cluster: not the world", policies: with(lets("p", allow(from(entity(state.EntityCluster))))), query: by(state.IdentityWorld, "8.8.8.8")},
		{name: "init", policies: with(lets("p", allow(from(entity(state.EntityInit))))), query: by(state.IdentityInit, addr), want: true},
		{name: "remote-node", policies: with(lets("p", allow(from(entity(state.EntityRemoteNode))))), query: by(state.IdentityRemoteNode, "192.168.0.2"), want: true},
		{name: "host for egress", policies: with(cnp("p", func(p *state.NetworkPolicy) {
			p.IsolatesEgress, p.Egress = true, []state.PolicyRule{allow(from(entity(state.EntityHost)))}
		})), query: asks(true, state.IdentityHost, "192.168.0.1", 1), want: true},
		{name: "health is nobody", policies: with(lets("p", allow(from(entity(state.EntityHealth))))), query: inbound},
		{name: "health is nobody to deny", policies: with(open, denies("p", allow(from(entity(state.EntityHealth))))), query: inbound, want: true},

		// Endpoints and blocks.
		{name: "endpoints", policies: with(lets("p", allow(from(endpoints("k8s:app", "client"))))), query: inbound, want: true},
		{name: "endpoints by namespace", policies: with(lets("p", allow(from(endpoints(namespaceKey, "ns2"))))), query: inbound},
		{name: "outside is not a pod", policies: with(lets("p", allow(from(outside("10.0.0.0/8"))))), query: inbound},
		{name: "nor a node's address", policies: with(lets("p", allow(from(outside("192.168.0.0/16"))))), query: by(state.IdentityRemoteNode, "192.168.0.2")},
		{name: "outside", policies: with(lets("p", allow(from(outside("10.0.0.0/8"))))), query: by(state.IdentityWorld, addr), want: true},
		{name: "outside beside a block", policies: with(lets("p", allow(from(outside("10.0.0.0/8"))), allow(from(cidr("10.0.2.0/24")), tcp(80)))), query: inbound, want: true},
		{name: "deny outside is not about pods", policies: with(open, denies("p", allow(from(outside("10.0.0.0/8"))))), query: inbound, want: true},

		// Protocols.
		{name: "every protocol", policies: with(lets("p", allow(nil, state.PolicyPort{}))), query: gre, want: true},
		{name: "a protocol without ports", policies: with(lets("p", allow(nil, state.PolicyPort{Protocol: 47}))), query: gre, want: true},
		{name: "ICMP type", policies: with(lets("p", allow(nil, icmpType(state.ProtocolICMP, 8)))), query: ping, want: true},
		{name: "another ICMP type", policies: with(lets("p", allow(nil, icmpType(state.ProtocolICMP, 13)))), query: ping},
		{name: "ICMP type of the other family", policies: with(lets("p", allow(nil, icmpType(state.ProtocolICMPv6, 8)))), query: ping},
		{name: "all of ICMP", policies: with(lets("p", allow(nil, state.PolicyPort{Protocol: state.ProtocolICMP}))), query: ping, want: true},
		{name: "deny of an ICMP type", policies: with(open, denies("p", allow(nil, icmpType(state.ProtocolICMP, 8)))), query: ping, denied: true},
		{name: "deny of every protocol", policies: with(open, denies("p", allow(nil, state.PolicyPort{}))), query: gre, denied: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			peer := ident(client, "app", "client", http(8080))
			peer.Labels[namespaceLabelsPrefix+"team"] = "a"
			s := ciliumWeb(1, http(9090))
			s.Labels = map[string]string{"app": "web", "io.cilium.k8s.policy.fake": "x"}
			delete(s.Derived, derivedPrefix+"policy.fake")
			e := engine(t, tc.cfg, peer, ident(other, "app", "other"), s)
			for _, p := range tc.policies {
				e.SetPolicy(p)
			}
			if got := e.Tables().Judge(tc.query); got.Allowed != tc.want || got.Denied != tc.denied {
				t.Errorf("Judge(%+v) = %+v, want allowed %v, denied %v", tc.query, got, tc.want, tc.denied)
			}
			trace, err := e.Trace(TraceQuery{Query: tc.query})
			if err != nil || trace.Allowed != tc.want || len(trace.Denied) > 0 != tc.denied || trace.Reason == "" {
				t.Errorf("Trace = %+v, %v", trace, err)
			}
		})
	}
}

// TestVerdictNamesThePeer has the peer whose entry denies, or allows.
func TestVerdictNamesThePeer(t *testing.T) {
	e := engine(t, Config{}, ciliumWeb(1), ident(client, "app", "client"),
		lets("a", allow(from(endpoints("k8s:app", "client"))), allow(from(entity(state.EntityWorld)))),
		denies("b", allow(from(outside("10.0.0.0/8")), tcp(80)), allow(from(endpoints("k8s:app", "client")), tcp(81))))
	tables := e.Tables()
	block := tables.CIDRs[netip.MustParsePrefix("10.0.0.0/8")]
	for _, tc := range []struct {
		q    Query
		want Verdict
	}{
		{asks(false, client, "10.0.2.1", 80), Verdict{Allowed: true, Peer: client}},
		{asks(false, client, "10.0.2.1", 81), Verdict{Denied: true, Peer: client}},
		{asks(false, state.IdentityWorld, "10.0.2.1", 80), Verdict{Denied: true, Peer: block}},
		{asks(false, state.IdentityWorld, "11.0.2.1", 80), Verdict{Allowed: true, Peer: PeerID(state.IdentityWorld)}},
		{asks(false, other, "11.0.2.1", 80), Verdict{}},
	} {
		tc.want.Set = under(t, e, 1).Ingress
		if got := tables.Judge(tc.q); got != tc.want {
			t.Errorf("Judge(%+v) = %+v, want %+v", tc.q, got, tc.want)
		}
	}
}

// TestAuditWithDenies only counts what a deny of an audited policy would drop.
func TestAuditWithDenies(t *testing.T) {
	audited := denies("p", allow(nil, tcp(80)))
	audited.Audit = true
	helper := cnp("q", func(p *state.NetworkPolicy) { p.Ingress = []state.PolicyRule{allow(nil, tcp(80))} })
	closing := lets("p")
	closing.Audit = true
	for _, tc := range []struct {
		name     string
		policies []any
		want     Verdict
	}{
		{"a deny", []any{audited}, Verdict{Allowed: true, Audited: true, Denied: true}},
		{"beside one that enforces it does not count", []any{audited, lets("q", state.PolicyRule{})}, Verdict{Allowed: true}},
		{"nor beside a deny that enforces", []any{audited, denies("q", allow(nil, tcp(81)))}, Verdict{Allowed: true}},
		{"rules that isolate nothing count with it", []any{closing, helper}, Verdict{Allowed: true}},
		{"without them", []any{closing}, Verdict{Allowed: true, Audited: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := engine(t, Config{}, append(tc.policies, ciliumWeb(1))...)
			got := e.Tables().Judge(asks(false, client, "10.0.2.1", 80))
			got.Set, got.Peer = 0, 0
			if got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestTraceOfDenies(t *testing.T) {
	part := lets("a", allow(nil, tcp(80)), allow(from(endpoints("k8s:app", "client"))))
	part.Part = 2
	e := engine(t, Config{}, ciliumWeb(1), ident(client, "app", "client"), part,
		denies("b", allow(nil, tcp(1)), allow(from(endpoints("k8s:app", "client")), tcp(80))))
	got, err := e.Trace(TraceQuery{Query: asks(false, client, "10.0.2.1", 80)})
	rules, denied := []RuleRef{{"cnp/ns/a#2", 0, false}, {"cnp/ns/a#2", 1, false}}, []RuleRef{{"cnp/ns/b", 1, true}}
	if err != nil || got.Allowed || !slices.Equal(got.Rules, rules) || !slices.Equal(got.Denied, denied) ||
		!slices.Equal(got.Isolated, []string{"cnp/ns/a#2"}) || !strings.Contains(got.Reason, "rules deny this") {
		t.Errorf("Trace = %+v, %v", got, err)
	}
	e.RemovePolicy(part.Key())
	got, err = e.Trace(TraceQuery{Query: asks(false, client, "10.0.2.1", 81)})
	if err != nil || !got.Allowed || len(got.Isolated) > 0 || !strings.Contains(got.Reason, "no rule denies") {
		t.Errorf("Trace = %+v, %v", got, err)
	}
	for _, tc := range []struct {
		ref    RuleRef
		egress bool
		want   string
	}{
		{rules[1], false, "specs[1].ingress[1]"},
		{denied[0], false, "spec.ingressDeny[1]"},
		{RuleRef{"ccnp/x#1", 0, true}, true, "specs[0].egressDeny[0]"},
		{RuleRef{"ns/x", 3, false}, true, "spec.egress[3]"},
	} {
		if field := tc.ref.Field(tc.egress); field != tc.want {
			t.Errorf("Field of %+v is %s, want %s", tc.ref, field, tc.want)
		}
	}
}

// TestTraceOfAnotherNode has policies that select by labels which identities have,
// and one that selects by one which they lack.
func TestTraceOfAnotherNode(t *testing.T) {
	by := func(name, key, value string) state.NetworkPolicy {
		p := lets(name)
		p.Subject = eq(key, value)
		return p
	}
	id := ident(other, "app", "web")
	id.Labels[namespaceLabelsPrefix+"team"] = "a"
	e := engine(t, Config{DerivedLabelKnown: func(k string) bool { return k != "io.cilium.k8s.policy.serviceaccount" }}, id,
		by("a", namespaceLabelsPrefix+"team", "a"), by("b", namespaceLabelsPrefix+"team", "b"), by("c", derivedPrefix+"policy.serviceaccount", "x"))
	q := asks(false, client, "10.0.2.1", 80)
	q.Endpoint = 0
	got, err := e.Trace(TraceQuery{Query: q, Subject: other})
	if err != nil || got.Allowed || !slices.Equal(got.Isolated, []string{"cnp/ns/a"}) || !slices.Equal(got.Unsure, []string{"cnp/ns/c"}) {
		t.Errorf("Trace = %+v, %v", got, err)
	}
	delete(id.Labels, namespaceKey)
	e = engine(t, Config{DerivedLabelKnown: func(string) bool { return false }}, id, in("a"))
	got, err = e.Trace(TraceQuery{Query: q, Subject: other})
	if err != nil || !slices.Equal(got.Unsure, []string{"ns/a"}) {
		t.Errorf("without namespaces, Trace = %+v, %v", got, err)
	}
}
