package policytest

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

func TestSameRandomnessSameCluster(t *testing.T) {
	for seed := range uint64(200) {
		draw := func() (Cluster, []Packet, state.NetworkPolicy) {
			rng := rand.New(rand.NewPCG(seed, 0))
			c := Random(rng)
			return c, c.Packets(rng, 20), c.RandomPolicy(rng, 99)
		}
		c1, p1, n1 := draw()
		c2, p2, n2 := draw()
		if !reflect.DeepEqual(c1, c2) || !reflect.DeepEqual(p1, p2) || !reflect.DeepEqual(n1, n2) {
			t.Fatalf("seed %d gives two clusters:\n%+v %+v\n%+v %+v", seed, c1, p1, c2, p2)
		}
	}
}

// TestOracle holds the reference itself to a cluster that can be followed by hand:
// web is isolated for ingress, and lets in pods app=client of namespaces team=a on
// port http, and 203.0.113.0/24 without .7 on all ports.
func TestOracle(t *testing.T) {
	pod := func(namespace, app, addr string, endpoint uint32) Pod {
		return Pod{
			Ref: state.PodRef{Namespace: namespace, Name: app}, Labels: map[string]string{"app": app},
			Addrs: addrs(addr), Endpoint: endpoint, NamedPorts: []state.NamedPort{{Name: "http", Protocol: state.ProtocolTCP, Port: 8080}},
		}
	}
	block := state.IPBlock{CIDR: netip.MustParsePrefix("203.0.113.0/24"), Except: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}
	c := Cluster{
		Namespaces: []state.Namespace{{Name: "a", Labels: map[string]string{"team": "a"}}, {Name: "b", Labels: map[string]string{"team": "b"}}},
		Pods:       []Pod{pod("b", "web", "10.0.0.1", 1), pod("a", "client", "10.0.0.2", 0), pod("b", "client", "10.0.0.3", 0), pod("a", "db", "10.0.0.4", 0)},
		Node:       addrs("192.168.0.1"), Nodes: addrs("192.168.0.2"),
		Policies: []state.NetworkPolicy{{
			Namespace: "b", Name: "p", Subject: state.Selector{MatchLabels: map[string]string{"app": "web"}}, IsolatesIngress: true,
			Ingress: []state.PolicyRule{
				{
					Peers: []state.PolicyPeer{{
						Pods:       &state.Selector{Expressions: []state.Requirement{{Key: "app", Operator: state.OperatorIn, Values: []string{"client"}}}},
						Namespaces: &state.Selector{MatchLabels: map[string]string{"team": "a"}},
					}},
					Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Name: "http"}},
				},
				{Peers: []state.PolicyPeer{{Block: &block}}},
			},
		}},
	}
	c.Number()
	for _, tc := range []struct {
		from, to string
		port     uint16
		want     bool
	}{
		{"10.0.0.2", "10.0.0.1", 8080, true},
		{"10.0.0.2", "10.0.0.1", 8081, false},
		{"10.0.0.3", "10.0.0.1", 8080, false},
		{"10.0.0.4", "10.0.0.1", 8080, false},
		{"203.0.113.6", "10.0.0.1", 1, true},
		{"203.0.113.7", "10.0.0.1", 1, false},
		{"192.168.0.1", "10.0.0.1", 1, true},
		{"192.168.0.2", "10.0.0.1", 1, false},
		{"10.0.0.1", "10.0.0.2", 1, true}, // egress is open
	} {
		p := Packet{From: netip.MustParseAddr(tc.from), To: netip.MustParseAddr(tc.to), Protocol: state.ProtocolTCP, Port: tc.port}
		if got := c.Allowed(p); got != tc.want {
			t.Errorf("%+v: allowed is %v", p, got)
		}
	}
}

// TestOracleOfCilium is the same for Cilium's kinds. Pod web of namespace b lets
// in pods app=client by name of their namespace, pings, and the world but for
// 203.0.113.0/24 (where .7 is not meant); nobody gets to port 22; pod db is closed
// for one port by a clusterwide policy and open otherwise.
func TestOracleOfCilium(t *testing.T) {
	pod := func(namespace, app, addr string, endpoint uint32) Pod {
		return Pod{Ref: state.PodRef{Namespace: namespace, Name: app}, Labels: map[string]string{"app": app}, Addrs: addrs(addr), Endpoint: endpoint}
	}
	by := func(labels ...string) *state.Selector {
		s := state.Selector{MatchLabels: map[string]string{}}
		for i := 0; i < len(labels); i += 2 {
			s.MatchLabels["k8s:"+labels[i]] = labels[i+1]
		}
		return &s
	}
	rule := func(peer state.PolicyPeer, ports ...state.PolicyPort) state.PolicyRule {
		return state.PolicyRule{Peers: []state.PolicyPeer{peer}, Ports: ports}
	}
	block := state.IPBlock{CIDR: netip.MustParsePrefix("203.0.113.0/24"), Except: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}, Outside: true}
	ping := state.PolicyPort{Protocol: state.ProtocolICMP, ICMPType: new(uint8(8))}
	ssh := state.PolicyPort{Protocol: state.ProtocolTCP, Port: 22}
	unnumbered := pod("a", "client", "10.0.0.6", 0)
	unnumbered.Init = true
	c := Cluster{
		Namespaces: []state.Namespace{{Name: "a"}, {Name: "b"}},
		Pods: []Pod{
			pod("b", "web", "10.0.0.1", 1), pod("a", "client", "10.0.0.2", 0), pod("b", "client", "10.0.0.3", 0), pod("a", "db", "10.0.0.4", 4), unnumbered,
		},
		Node: addrs("192.168.0.1"), Nodes: addrs("192.168.0.2"), World: addrs("8.8.8.8"),
		Policies: []state.NetworkPolicy{
			{
				Kind: state.PolicyCilium, Namespace: "b", Name: "p", Subject: *by("app", "web"), IsolatesIngress: true,
				Ingress: []state.PolicyRule{
					rule(state.PolicyPeer{Endpoints: by("app", "client", namespaceKey, "a")}),
					rule(state.PolicyPeer{Entity: state.EntityWorld}),
					rule(state.PolicyPeer{Entity: state.EntityAll}, ping),
				},
				IngressDeny: []state.PolicyRule{rule(state.PolicyPeer{Block: &block}), {Ports: []state.PolicyPort{ssh}}},
			},
			{
				Kind: state.PolicyCiliumClusterwide, Name: "q", Subject: *by("app", "db"),
				IngressDeny: []state.PolicyRule{rule(state.PolicyPeer{Entity: state.EntityCluster}, ssh)},
			},
		},
	}
	c.Number()
	const tcp, icmp = state.ProtocolTCP, state.ProtocolICMP
	for _, tc := range []struct {
		from, to string
		protocol state.Protocol
		port     uint16
		want     bool
	}{
		{"10.0.0.2", "10.0.0.1", tcp, 80, true},
		{"10.0.0.2", "10.0.0.1", tcp, 22, false}, // denied, though its rule allows it
		{"10.0.0.3", "10.0.0.1", tcp, 80, false}, // of another namespace
		{"10.0.0.6", "10.0.0.1", tcp, 80, false}, // its labels are not known yet
		{"10.0.0.3", "10.0.0.1", icmp, 8, true},
		{"10.0.0.3", "10.0.0.1", icmp, 13, false},
		{"8.8.8.8", "10.0.0.1", tcp, 80, true},
		{"203.0.113.6", "10.0.0.1", tcp, 80, false},
		{"203.0.113.7", "10.0.0.1", tcp, 80, true},
		{"192.168.0.2", "10.0.0.1", tcp, 80, false}, // a node is not the world
		{"10.0.0.2", "10.0.0.4", tcp, 80, true},
		{"10.0.0.2", "10.0.0.4", tcp, 22, false},
		{"10.0.0.6", "10.0.0.4", tcp, 22, false},
		{"192.168.0.2", "10.0.0.4", tcp, 22, false},
		{"8.8.8.8", "10.0.0.4", tcp, 22, true},
		{"10.0.0.4", "10.0.0.2", tcp, 22, true}, // egress is open
	} {
		p := Packet{From: netip.MustParseAddr(tc.from), To: netip.MustParseAddr(tc.to), Protocol: tc.protocol, Port: tc.port}
		if got := c.Allowed(p); got != tc.want {
			t.Errorf("%+v: allowed is %v", p, got)
		}
	}
}
