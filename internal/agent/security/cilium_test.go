package security

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// cilium writes a policy of the namespace about what the subject's keys select,
// with one ingress rule for the peers.
func (n *node) cilium(name, subject string, peers ...state.PolicyPeer) {
	n.Helper()
	n.Must(n.tables.UpsertNetworkPolicy(state.NetworkPolicy{
		Kind: state.PolicyCilium, Namespace: ns, Name: name, UID: "uid-" + name, IsolatesIngress: true,
		Subject: state.Selector{MatchLabels: parseLabels([]string{subject})}, Ingress: []state.PolicyRule{{Peers: peers}},
	}))
	synctest.Wait()
}

// admits tells whether web takes a flow from an address.
func (n *node) admits(from string) bool {
	n.Helper()
	got, err := n.agent.Trace(agentapi.TraceRequest{From: from, To: "shop/web", Port: 80, Protocol: state.ProtocolTCP})
	n.Must(err)
	return got.Allowed
}

func TestCiliumSubjects(t *testing.T) {
	const team = "k8s:io.cilium.k8s.namespace.labels.team=x"
	story(t, "labels of the namespace, service account and cluster select pods", func(n *node) {
		web, db := n.enforced()
		n.removePolicy("web")
		n.cilium("p", team)
		if !n.open(web) || !n.open(db) {
			n.Fatalf("isolated without the label: web open %t, db open %t", n.open(web), n.open(db))
		}
		n.namespace(ns, map[string]string{"team": "x"})
		n.Pass(time.Second)
		if n.open(web) || n.open(db) {
			n.Errorf("the namespace has the label: web open %t, db open %t", n.open(web), n.open(db))
		}
		n.namespace(ns, nil)
		n.Pass(time.Second)
		for _, subject := range []string{"k8s:io.cilium.k8s.policy.serviceaccount=default", "k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=shop", "k8s:app=web"} {
			n.cilium("p", subject)
			n.Pass(time.Second)
			if n.open(web) {
				n.Errorf("%s does not select web", subject)
			}
			n.cilium("p", subject+"-not")
			n.Pass(time.Second)
			if !n.open(web) {
				n.Errorf("%s-not selects web", subject)
			}
		}
	})
	story(t, "a new pod waits for the labels of its namespace", func(n *node) {
		n.start()
		n.sync()
		n.cilium("p", team)
		n.Must(n.tables.DeleteNamespace(ns))
		n.pod("late", "app=late")
		began := time.Now()
		id, wait, done := n.adding("late")
		n.Pass(time.Second)
		if done() {
			n.Fatal("the pod was admitted before its namespace was known")
		}
		n.namespace(ns, map[string]string{"team": "x"})
		n.Must(wait())
		if took := time.Since(began); n.open(id) || took > 4*time.Second {
			n.Errorf("open %t, after %s", n.open(id), took)
		}
	})
}

func TestCiliumReferences(t *testing.T) {
	addr, group := netip.MustParseAddr("192.0.2.7"), netip.MustParsePrefix("192.0.2.0/28")
	role := map[string]string{"role": "db"}
	for _, tc := range []struct {
		name        string
		peer        state.PolicyPeer
		come, leave func(n *node) error
	}{
		{
			"nodes",
			state.PolicyPeer{Nodes: &state.Selector{MatchLabels: role}},
			func(n *node) error {
				return n.tables.UpsertNode(state.Node{Name: there, MTU: 1500, Labels: role, Addrs: []netip.Addr{addr}})
			},
			func(n *node) error {
				return n.tables.UpsertNode(state.Node{Name: there, MTU: 1500, Addrs: []netip.Addr{addr}})
			},
		}, {
			"groups of CIDRs",
			state.PolicyPeer{CIDRGroup: &state.GroupPeer{Name: "g"}},
			func(n *node) error {
				return n.tables.UpsertCIDRGroup(state.CIDRGroup{Name: "g", CIDRs: []netip.Prefix{group}})
			},
			func(n *node) error { return n.tables.DeleteCIDRGroup("g") },
		}, {
			"Services",
			state.PolicyPeer{Service: &state.ServicePeer{Namespace: ns, Name: "s"}},
			func(n *node) error {
				n.Must(n.tables.UpsertPolicySlice(state.EndpointSlice{Namespace: ns, Name: "s-1", Service: "s", Backends: []state.SliceEndpoint{{Addr: addr}}}))
				return n.tables.UpsertPolicyService(state.PolicyService{Ref: state.ServiceRef{Namespace: ns, Name: "s"}})
			},
			func(n *node) error { return n.tables.DeletePolicySlice(ns, "s-1") },
		}, {
			"the API server",
			state.PolicyPeer{Entity: state.EntityKubeAPIServer},
			func(n *node) error {
				return n.tables.UpsertPolicySlice(state.EndpointSlice{Namespace: "default", Name: "k", Service: "kubernetes", Backends: []state.SliceEndpoint{{Addr: addr}}})
			},
			func(n *node) error { return n.tables.DeletePolicySlice("default", "k") },
		},
	} {
		story(t, tc.name, func(n *node) {
			n.enforced()
			n.removePolicy("web")
			n.cilium("p", "k8s:app=web", tc.peer)
			n.Pass(time.Second)
			if n.admits(addr.String()) {
				n.Error("what is named is not there, and the address is let in")
			}
			n.Must(tc.come(n))
			n.Pass(time.Second)
			if !n.admits(addr.String()) || n.admits("192.0.2.77") {
				n.Errorf("it is there: %t, another address %t", n.admits(addr.String()), n.admits("192.0.2.77"))
			}
			n.Must(tc.leave(n))
			n.Pass(time.Second)
			if n.admits(addr.String()) {
				n.Error("it went, and the address is let in")
			}
		})
	}
}

func TestIgnoredNetworkPolicies(t *testing.T) {
	story(t, "only those of Kubernetes", func(n *node) {
		n.ignore = true
		n.otherNode()
		n.pod("web", "app=web")
		n.start()
		n.sync()
		web := n.mustAdd("web")
		n.publishes(there)
		n.allow("web", "app=web", "app=client")
		n.Pass(time.Minute)
		if !n.open(web) || n.agent.Status().Policies != 0 {
			n.Errorf("an ignored policy: open %t, %d policies", n.open(web), n.agent.Status().Policies)
		}
		n.cilium("p", "k8s:app=web")
		n.Pass(time.Minute)
		if n.open(web) || n.agent.Status().Policies != 1 {
			n.Errorf("another kind: open %t, %d policies", n.open(web), n.agent.Status().Policies)
		}
	})
}

// TestCiliumShown: people see what denies, and where it says so.
func TestCiliumShown(t *testing.T) {
	story(t, "rules that deny", func(n *node) {
		n.enforced()
		n.Must(n.tables.UpsertNetworkPolicy(state.NetworkPolicy{
			Kind: state.PolicyCilium, Namespace: ns, Name: "p", Part: 1, Subject: state.Selector{MatchLabels: map[string]string{"k8s:app": "web"}},
			IngressDeny: []state.PolicyRule{{}, {
				Peers: []state.PolicyPeer{{Endpoints: &state.Selector{MatchLabels: map[string]string{"k8s:app": "client"}}}},
				Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: 80}},
			}},
		}))
		synctest.Wait()
		n.Pass(time.Second)
		got, err := n.agent.Trace(agentapi.TraceRequest{From: "shop/client", To: "shop/web", Port: 80, Protocol: state.ProtocolTCP})
		n.Must(err)
		last := got.Steps[len(got.Steps)-1]
		if got.Allowed || !strings.HasPrefix(strings.Join(last.Rules, ","), "cnp/shop/p#1 specs[0].ingressDeny[0],cnp/shop/p#1 specs[0].ingressDeny[1]") {
			n.Errorf("%+v", got)
		}
		var shown []string
		for _, p := range n.agent.Policies("shop/web") {
			for _, line := range p.Ingress.Entries {
				shown = append(shown, strings.Join(line.Ports, " "))
			}
		}
		if text := strings.Join(shown, "; "); !strings.Contains(text, "deny all") {
			n.Errorf("shown are %s", text)
		}
	})
}
