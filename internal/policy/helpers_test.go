package policy

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

// eq is the selector of one label.
func eq(key, value string) state.Selector {
	return state.Selector{MatchLabels: map[string]string{key: value}}
}

// pods is the peer of pods of the policy's namespace with one label.
func pods(key, value string) state.PolicyPeer { return state.PolicyPeer{Pods: new(eq(key, value))} }

func cidr(p string, except ...string) state.PolicyPeer {
	b := state.IPBlock{CIDR: netip.MustParsePrefix(p)}
	for _, x := range except {
		b.Except = append(b.Except, netip.MustParsePrefix(x))
	}
	return state.PolicyPeer{Block: &b}
}

func tcp(first uint16, last ...uint16) state.PolicyPort {
	p := state.PolicyPort{Protocol: state.ProtocolTCP, Port: first}
	if len(last) > 0 {
		p.EndPort = last[0]
	}
	return p
}

func namedTCP(name string) state.PolicyPort {
	return state.PolicyPort{Protocol: state.ProtocolTCP, Name: name}
}

// rules of peers on ports.
func allow(peers []state.PolicyPeer, ports ...state.PolicyPort) state.PolicyRule {
	return state.PolicyRule{Peers: peers, Ports: ports}
}

func from(peers ...state.PolicyPeer) []state.PolicyPeer { return peers }

// in is a policy of namespace "ns" for pods app=web that isolates ingress.
func in(name string, rules ...state.PolicyRule) state.NetworkPolicy {
	return state.NetworkPolicy{Namespace: "ns", Name: name, Subject: eq("app", "web"), IsolatesIngress: true, Ingress: rules}
}

// out is the same for egress.
func out(name string, rules ...state.PolicyRule) state.NetworkPolicy {
	return state.NetworkPolicy{Namespace: "ns", Name: name, Subject: eq("app", "web"), IsolatesEgress: true, Egress: rules}
}

// web is a pod app=web of this node.
func web(endpoint uint32, named ...state.NamedPort) Subject {
	return Subject{
		Endpoint: endpoint, Pod: state.PodRef{Namespace: "ns", Name: "web"},
		Labels: map[string]string{"app": "web"}, NamedPorts: named,
	}
}

// ident is the identity of pods of namespace "ns" with one label.
func ident(id uint32, key, value string, named ...state.NamedPort) state.Identity {
	return state.Identity{ID: id, Labels: map[string]string{namespaceKey: "ns", podPrefix + key: value}, NamedPorts: named}
}

func http(port uint16) state.NamedPort {
	return state.NamedPort{Name: "http", Protocol: state.ProtocolTCP, Port: port}
}

// engine returns one that was told of all these things, and gave an Update.
func engine(t *testing.T, cfg Config, things ...any) *Engine {
	t.Helper()
	e := NewEngine(cfg)
	tell(t, e, things...)
	e.Take()
	return e
}

func tell(t *testing.T, e *Engine, things ...any) {
	t.Helper()
	for _, x := range things {
		switch x := x.(type) {
		case state.NetworkPolicy:
			e.SetPolicy(x)
		case state.Identity:
			e.SetIdentity(x)
		case Subject:
			e.SetSubject(x)
		case func(*Engine):
			x(e)
		default:
			t.Fatalf("do not know %T", x)
		}
	}
}

func under(t *testing.T, e *Engine, endpoint uint32) EndpointPolicy {
	t.Helper()
	p, ok := e.Subject(endpoint)
	if !ok {
		t.Fatalf("endpoint %d is not known", endpoint)
	}
	return p
}

// asks is a query of endpoint 1 about TCP.
func asks(egress bool, identity uint32, addr string, port uint16) Query {
	return Query{Endpoint: 1, Egress: egress, Identity: identity, Peer: netip.MustParseAddr(addr), Protocol: state.ProtocolTCP, Port: port}
}
