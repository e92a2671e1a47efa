package policy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

const client, other = 300, 301

// TestVerdicts asks about endpoint 1 (app=web) and a peer of identity 300
// (app=client, port http=8080) at 10.0.2.1.
func TestVerdicts(t *testing.T) {
	const addr = "10.0.2.1"
	hidden := Config{
		PodLabelKnown:       func(k string) bool { return k != "hash" },
		NamespaceLabelKnown: func(k string) bool { return k != "owner" },
	}
	notHash := state.PolicyPeer{Pods: &state.Selector{Expressions: []state.Requirement{{Key: "hash", Operator: state.OperatorDoesNotExist}}}}
	notOwner := state.PolicyPeer{Namespaces: &state.Selector{Expressions: []state.Requirement{{Key: "owner", Operator: state.OperatorNotIn, Values: []string{"x"}}}}}
	everyNamespace := state.PolicyPeer{Namespaces: &state.Selector{}}
	inbound, outbound := asks(false, client, addr, 80), asks(true, client, addr, 80)
	with := func(q Query, change func(*Query)) Query { change(&q); return q }
	audit := in("audit", allow(from(pods("app", "none"))))
	audit.Audit = true

	for _, tc := range []struct {
		name     string
		cfg      Config
		policies []state.NetworkPolicy
		query    Query
		want     bool
		audited  bool
	}{
		{name: "no policy", query: inbound, want: true},
		{name: "default deny", policies: []state.NetworkPolicy{in("p")}, query: inbound},
		{name: "the other direction stays open", policies: []state.NetworkPolicy{in("p")}, query: outbound, want: true},
		{name: "rule without anything allows all", policies: []state.NetworkPolicy{in("p", state.PolicyRule{})}, query: inbound, want: true},
		{name: "selected", policies: []state.NetworkPolicy{in("p", allow(from(pods("app", "client"))))}, query: inbound, want: true},
		{name: "not selected", policies: []state.NetworkPolicy{in("p", allow(from(pods("app", "x"))))}, query: inbound},
		{name: "own namespace only", policies: []state.NetworkPolicy{in("p", allow(from(state.PolicyPeer{Pods: &state.Selector{}})))}, query: with(inbound, func(q *Query) { q.Identity = 302 })},
		{name: "all namespaces", policies: []state.NetworkPolicy{in("p", allow(from(everyNamespace)))}, query: with(inbound, func(q *Query) { q.Identity = 302 }), want: true},
		{name: "all namespaces are not the world", policies: []state.NetworkPolicy{in("p", allow(from(everyNamespace)))}, query: with(inbound, func(q *Query) { q.Identity = state.IdentityWorld })},
		{name: "nor a pod without identity", policies: []state.NetworkPolicy{in("p", allow(from(everyNamespace)))}, query: with(inbound, func(q *Query) { q.Identity = state.IdentityInit })},
		{name: "neither selector nor block", policies: []state.NetworkPolicy{in("p", allow(from(state.PolicyPeer{})))}, query: inbound},
		{name: "rules of a direction that is not isolated do not count", policies: []state.NetworkPolicy{in("p"), func() state.NetworkPolicy { p := out("q"); p.Ingress = []state.PolicyRule{{}}; return p }()}, query: inbound},
		{name: "another namespace's policy", policies: []state.NetworkPolicy{func() state.NetworkPolicy { p := in("p"); p.Namespace = "ns2"; return p }()}, query: inbound, want: true},
		{name: "block has pods too", policies: []state.NetworkPolicy{in("p", allow(from(cidr("10.0.0.0/8"))))}, query: inbound, want: true},
		{name: "except has pods too", policies: []state.NetworkPolicy{in("p", allow(from(cidr("10.0.0.0/8", "10.0.2.0/24"))))}, query: inbound},
		{name: "except of one block, inside of another", policies: []state.NetworkPolicy{in("p", allow(from(cidr("10.0.0.0/8", "10.0.2.0/24"), cidr("10.0.0.0/16"))))}, query: inbound, want: true},
		{name: "IPv6 everything is not IPv4", policies: []state.NetworkPolicy{in("p", allow(from(cidr("::/0"))))}, query: inbound},
		{name: "own node always reaches its pods", policies: []state.NetworkPolicy{in("p")}, query: with(inbound, func(q *Query) { q.Identity = state.IdentityHost }), want: true},
		{name: "own node as egress peer", policies: []state.NetworkPolicy{out("p", allow(from(everyNamespace)))}, query: with(outbound, func(q *Query) { q.Identity = state.IdentityHost })},
		{name: "own node by a block", policies: []state.NetworkPolicy{out("p", allow(from(cidr("10.0.2.1/32"))))}, query: with(outbound, func(q *Query) { q.Identity = state.IdentityHost }), want: true},
		{name: "egress to a named port", policies: []state.NetworkPolicy{out("p", allow(nil, namedTCP("http")))}, query: with(outbound, func(q *Query) { q.Port = 8080 }), want: true},
		{name: "egress to a named port of another number", policies: []state.NetworkPolicy{out("p", allow(nil, namedTCP("http")))}, query: with(outbound, func(q *Query) { q.Port = 9090 })},
		{name: "ingress to a named port is the subject's", policies: []state.NetworkPolicy{in("p", allow(nil, namedTCP("http")))}, query: with(inbound, func(q *Query) { q.Port = 9090 }), want: true},
		{name: "ingress to the peer's number", policies: []state.NetworkPolicy{in("p", allow(nil, namedTCP("http")))}, query: with(inbound, func(q *Query) { q.Port = 8080 })},
		{name: "egress block with a named port", policies: []state.NetworkPolicy{out("p", allow(from(cidr("10.0.0.0/8")), namedTCP("http")))}, query: with(outbound, func(q *Query) { q.Port = 8080 })},
		{name: "named port that nobody has", policies: []state.NetworkPolicy{in("p", allow(nil, namedTCP("nobody")))}, query: inbound},
		{name: "ICMP is in no list", policies: []state.NetworkPolicy{in("p", allow(nil, state.PolicyPort{Protocol: protoTCP}))}, query: with(inbound, func(q *Query) { q.Protocol, q.Port = 1, 0 })},
		{name: "hidden pod label, whatever the operator", cfg: hidden, policies: []state.NetworkPolicy{in("p", allow(from(notHash)))}, query: inbound},
		{name: "hidden namespace label", cfg: hidden, policies: []state.NetworkPolicy{in("p", allow(from(notOwner)))}, query: inbound},
		{name: "not hidden", policies: []state.NetworkPolicy{in("p", allow(from(notHash)))}, query: inbound, want: true},
		{name: "a label that stands for the namespace", policies: []state.NetworkPolicy{in("p", allow(from(pods("io.kubernetes.pod.namespace", "ns"))))}, query: inbound},
		{name: "audit alone", policies: []state.NetworkPolicy{audit}, query: inbound, want: true, audited: true},
		{name: "audit beside an enforcing one counts nothing", policies: []state.NetworkPolicy{audit, in("p")}, query: inbound},
		{name: "audit's rules do not help", policies: []state.NetworkPolicy{func() state.NetworkPolicy { p := audit; p.Ingress = []state.PolicyRule{{}}; return p }(), in("p")}, query: inbound},
		{name: "audit all", cfg: Config{AuditAll: true}, policies: []state.NetworkPolicy{in("p")}, query: inbound, want: true, audited: true},
		{name: "always", cfg: Config{Mode: ModeAlways}, query: outbound},
		{name: "always with a policy", cfg: Config{Mode: ModeAlways}, policies: []state.NetworkPolicy{in("p", state.PolicyRule{})}, query: inbound, want: true},
		{name: "never", cfg: Config{Mode: ModeNever}, policies: []state.NetworkPolicy{in("p")}, query: inbound, want: true},
		{name: "unknown endpoint", query: with(inbound, func(q *Query) { q.Endpoint = 9 })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := engine(t, tc.cfg, ident(client, "app", "client", http(8080)), ident(other, "app", "other"),
				state.Identity{ID: 302, Labels: map[string]string{namespaceKey: "ns2"}}, web(1, http(9090)))
			for _, p := range tc.policies {
				e.SetPolicy(p)
			}
			if got := e.Tables().Judge(tc.query); got.Allowed != tc.want || got.Audited != tc.audited {
				t.Errorf("Judge(%+v) = %+v, want allowed %v, audited %v", tc.query, got, tc.want, tc.audited)
			}
			if tc.query.Endpoint != 1 {
				return
			}
			trace, err := e.Trace(TraceQuery{Query: tc.query})
			if err != nil || trace.Allowed != tc.want || trace.Audited != tc.audited || trace.Reason == "" {
				t.Errorf("Trace = %+v, %v", trace, err)
			}
		})
	}
}

// TestSharing has subjects under the same rules by different policies.
func TestSharing(t *testing.T) {
	split := []any{in("a", allow(from(pods("app", "client")), tcp(80))), in("b", allow(from(pods("app", "client")), tcp(81)))}
	whole := in("c", allow(from(pods("app", "client")), tcp(80, 81)))
	whole.Subject = eq("app", "db")
	db := Subject{Endpoint: 2, Pod: state.PodRef{Namespace: "ns", Name: "db"}, Labels: map[string]string{"app": "db"}}
	e := engine(t, Config{}, ident(client, "app", "client"), web(1), split[0], split[1])

	tell(t, e, whole, db)
	u := e.Take()
	if under(t, e, 1) != under(t, e, 2) {
		t.Fatalf("subjects with the same rules are under %+v and %+v", under(t, e, 1), under(t, e, 2))
	}
	id := under(t, e, 1).Ingress
	if len(u.Sets)+len(u.Grown)+len(u.Ports) != 0 || u.Revokes || u.Renamed[id] == nil {
		t.Errorf("a subject that joins a set gives %+v", u)
	}
	s, ok := e.Set(id)
	want := []RuleRef{{"ns/a", 0, false}, {"ns/b", 0, false}, {"ns/c", 0, false}}
	if !ok || !slices.Equal(s.Names, []string{"ns/a", "ns/b", "ns/c"}) || !slices.Equal(s.Rules, want) || !slices.Equal(s.Entries[client].Rules, []int{0, 1, 2}) {
		t.Errorf("set of both is %+v", s)
	}
	if out := engine(t, Config{}, web(1), out("p", allow(from(pods("app", "client")), tcp(80, 81)))); under(t, out, 1).Egress == id {
		t.Error("ingress and egress share a set")
	}
	e.RemoveSubject(2)
	if u := e.Take(); len(u.Sets)+len(u.DroppedSets) != 0 || !slices.Equal(u.DroppedEndpoints, []uint32{2}) || len(u.Renamed[id].Names) != 2 {
		t.Errorf("a subject that leaves a shared set gives %+v", u)
	}
}

func TestNamedPortsOfSubjects(t *testing.T) {
	p := in("p", allow(nil, namedTCP("http")))
	e := engine(t, Config{}, p, web(1, http(80)), web(2, http(8080)), web(3, http(80)))
	if under(t, e, 1) == under(t, e, 2) || under(t, e, 1) != under(t, e, 3) {
		t.Errorf("sets are %+v, %+v, %+v", under(t, e, 1), under(t, e, 2), under(t, e, 3))
	}
}

// TestNumbers holds the numbers that other nodes and earlier agents gave.
func TestNumbers(t *testing.T) {
	e := engine(t, Config{}, web(1), in("p", allow(from(cidr("10.0.0.0/8")), tcp(80))))
	tables := e.Tables()
	if got := under(t, e, 1).Ingress; got != 0x208f4e444e451c72 {
		t.Errorf("the set is %#x", got)
	}
	if got := tables.CIDRs[netip.MustParsePrefix("10.0.0.0/8")]; got != 0xc9ccbff454090842 {
		t.Errorf("the prefix is %#x", got)
	}
	for id := range tables.Ports {
		if id != 0x21851cd6f0d89342 {
			t.Errorf("the list of ports is %#x", id)
		}
	}
}
