package security

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

func TestTrace(t *testing.T) {
	story(t, "who may reach whom", func(n *node) {
		n.enforced()
		n.Must(n.tables.UpsertNode(state.Node{Name: here, MTU: 1500, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}))
		n.publishes(there, "client", 301, "other", 302, "new", int(state.IdentityInit))
		for _, tc := range []struct {
			from, to string
			allowed  bool
			steps    int
			rules    string // of the last step
			reason   string // part of the last step's
		}{
			{"shop/client", "shop/web", true, 2, "shop/web ingress[0]", "isolated for ingress by shop/web"},
			{"shop/db", "shop/web", false, 2, "", "no rule of them allows this"},
			{"shop/web", "shop/db", true, 2, "", "no policy isolates"},
			{"10.0.1.1", "10.0.0.1", true, 2, "shop/web ingress[0]", "isolated for ingress by shop/web"},
			{"203.0.113.9", "shop/web", false, 1, "", "no rule of them allows this"},
			{"192.0.2.1", "shop/web", true, 1, "", "a node always reaches its own pods"},
			{"shop/web", "203.0.113.9", true, 1, "", "no policy isolates"},
			{"shop/web", "shop/other", true, 2, "", "judged by node node-2"},
		} {
			got, err := n.agent.Trace(agentapi.TraceRequest{From: tc.from, To: tc.to, Port: 80, Protocol: state.ProtocolTCP})
			n.Must(err)
			last := got.Steps[len(got.Steps)-1]
			if got.Allowed != tc.allowed || len(got.Steps) != tc.steps || strings.Join(last.Rules, ",") != tc.rules || !strings.Contains(last.Reason, tc.reason) {
				n.Errorf("%s to %s: %+v", tc.from, tc.to, got)
			}
			if !tc.allowed && !cmp.Equal(last.Isolated, []string{"shop/web"}) {
				n.Errorf("%s to %s: isolated by %v", tc.from, tc.to, last.Isolated)
			}
		}
		for _, tc := range []struct {
			from, to string
			want     error
		}{
			{"shop/none", "shop/web", ErrUnknownPod},
			{"shop/client", "shop/other", ErrElsewhere},
			{"203.0.113.9", "192.0.2.1", ErrElsewhere},
			{"shop/new", "shop/web", ErrElsewhere},
		} {
			if _, err := n.agent.Trace(agentapi.TraceRequest{From: tc.from, To: tc.to, Port: 80, Protocol: state.ProtocolTCP}); !errors.Is(err, tc.want) {
				n.Errorf("%s to %s: %v, want %v", tc.from, tc.to, err, tc.want)
			}
		}
	})
	story(t, "staged", func(n *node) {
		n.otherNode()
		n.pod("web", "app=web")
		n.start()
		n.sync()
		n.mustAdd("web")
		n.allow("web", "app=web", "app=client")
		got, err := n.agent.Trace(agentapi.TraceRequest{From: "203.0.113.9", To: "shop/web", Port: 80, Protocol: state.ProtocolTCP})
		n.Must(err)
		if !got.Allowed || !strings.HasPrefix(got.Steps[0].Reason, "not enforced yet (pod shop/web") {
			n.Errorf("%+v", got)
		}
		if p := n.agent.Policies("shop/web"); p[0].Ingress.Enforcement != agentapi.EnforcementOpen || !strings.HasPrefix(p[0].Ingress.Problem, "not enforced yet: pod shop/web") {
			n.Errorf("%+v", p)
		}
	})
}

func TestPolicies(t *testing.T) {
	story(t, "what a pod is under", func(n *node) {
		web, _ := n.enforced()
		n.Must(n.tables.UpsertNetworkPolicy(state.NetworkPolicy{
			Namespace: ns, Name: "out", IsolatesEgress: true, Subject: state.Selector{MatchLabels: parseLabels([]string{"app=web"})},
			Egress: []state.PolicyRule{
				{
					Peers: []state.PolicyPeer{{Block: &state.IPBlock{CIDR: netip.MustParsePrefix("198.51.100.0/24")}}},
					Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: 443}, {Protocol: state.ProtocolUDP, Port: 8000, EndPort: 8100}, {Protocol: state.ProtocolSCTP}},
				},
				{Ports: []state.PolicyPort{{Protocol: state.ProtocolUDP, Port: 53}}},
			},
		}))
		n.Pass(0)
		got := n.agent.Policies("shop/web")
		if len(got) != 1 || got[0].Endpoint != web || got[0].Identity != 300 {
			n.Fatalf("%+v", got)
		}
		s, _ := n.kernel.SecurityOf(web)
		want := agentapi.PolicySet{
			ID: hex(s.Policy.Ingress), Enforcement: agentapi.EnforcementEnforced, Policies: []string{"shop/web"},
			Entries: []agentapi.PolicyLine{{
				Peer: "301 (namespace shop, app=client, service account default)", Ports: []string{"all"}, Rules: []string{"shop/web ingress[0]"},
			}},
		}
		if diff := cmp.Diff(want, got[0].Ingress); diff != "" {
			n.Error(diff)
		}
		lines := []agentapi.PolicyLine{
			{Peer: "any", Ports: []string{"53/UDP"}, Rules: []string{"shop/out egress[1]"}},
			{Peer: "198.51.100.0/24", Ports: []string{"443/TCP", "8000-8100/UDP", "SCTP"}, Rules: []string{"shop/out egress[0]"}},
		}
		if diff := cmp.Diff(lines, got[0].Egress.Entries); diff != "" {
			n.Error(diff)
		}
		if all := n.agent.Policies(""); len(all) != 2 || all[1].Ingress.Enforcement != agentapi.EnforcementOpen || all[1].Ingress.ID != "0" {
			n.Errorf("%+v", all)
		}
		n.kernel.set(func(k *fakeKernel) {
			k.problems = []datapath.PolicyProblem{{Set: s.Policy.Egress, Endpoints: []uint32{web}, Err: errFake}}
		})
		n.identify(330, "app=z")
		got = n.agent.Policies("shop/web")
		if got[0].Ingress.Enforcement != agentapi.EnforcementEnforced || got[0].Egress.Enforcement != agentapi.EnforcementRefused || !strings.Contains(got[0].Egress.Problem, "shop/out") {
			n.Errorf("%+v", got)
		}
		if got := n.agent.Policies("shop/none"); len(got) != 0 {
			n.Errorf("%+v", got)
		}
		if got := n.agent.Selectors(); len(got) != 1 || !cmp.Equal(got[0].Identities, []uint32{301}) || !cmp.Equal(got[0].Policies, []string{"shop/web"}) {
			n.Errorf("selectors %+v", got)
		}
	})
}

func TestIdentities(t *testing.T) {
	story(t, "with how many addresses have them", func(n *node) {
		n.enforced()
		got, err := n.agent.Identities()
		n.Must(err)
		addrs := map[uint32]int{}
		last := uint32(0)
		for _, id := range got {
			addrs[id.ID] = id.Addrs
			if id.ID <= last {
				n.Errorf("%d comes after %d", id.ID, last)
			}
			last = id.ID
		}
		if addrs[300] != 1 || addrs[301] != 1 || addrs[302] != 1 || len(got) != 3+len(ReservedIdentities()) {
			n.Errorf("%+v", got)
		}
	})
}

func TestStatus(t *testing.T) {
	story(t, "counts", func(n *node) {
		n.enforced()
		s := n.agent.Status()
		if s.Policies != 1 || s.Identities != 3 || s.Sets != 1 || s.Members != 2 || s.Isolated() != 1 || s.Enforcement["ingress"] != 1 || s.Enforcement["none"] != 1 || s.Init != 0 {
			n.Errorf("%+v", s)
		}
	})
	for _, tc := range []struct {
		policy policy.EndpointPolicy
		want   string
	}{
		{policy.EndpointPolicy{}, "none"},
		{policy.EndpointPolicy{Ingress: 5}, "ingress"},
		{policy.EndpointPolicy{Egress: 5}, "egress"},
		{policy.EndpointPolicy{Ingress: 5, Egress: policy.SetClosed}, "both"},
		{policy.EndpointPolicy{Ingress: 5, AuditIngress: true}, "audit-ingress"},
		{policy.EndpointPolicy{Egress: 5, AuditEgress: true}, "audit-egress"},
		{policy.EndpointPolicy{Ingress: 5, Egress: 6, AuditIngress: true}, "both"},
		{policy.EndpointPolicy{Ingress: 5, Egress: 6, AuditIngress: true, AuditEgress: true}, "audit-both"},
	} {
		if got := enforcement(tc.policy); got != tc.want {
			t.Errorf("%+v is %s, want %s", tc.policy, got, tc.want)
		}
	}
}
