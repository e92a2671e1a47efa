package whatif

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy/policytest"
	"github.com/placid-net/placid/internal/state"
)

// filters are those that random clusters run and try.
func filters() []string {
	return []string{
		"", "!pod-hash$", "k8s:app$ k8s:tier$", "k8s:a", "app$ !env", "k8s:tier$ k8s:env$ k8s:pod-hash$",
		`!io\.cilium\.k8s\.policy\.serviceaccount`, `!io\.cilium\.k8s\.namespace\.labels\.team`, noLabels,
	}
}

// randomSnapshot makes a cluster that runs a random filter.
func randomSnapshot(rng *rand.Rand) *snapshot.Snapshot {
	c := policytest.Random(rng)
	s := &snapshot.Snapshot{
		ClusterName: policytest.Name, Namespaces: c.Namespaces, Policies: c.Policies,
		Nodes:    []snapshot.Node{{Name: "a", Addrs: c.Node}, {Name: "b", Addrs: c.Nodes}},
		Settings: map[string]string{"labels": filters()[rng.IntN(len(filters()))]},
	}
	for i, p := range c.Pods {
		s.Pods = append(s.Pods, snapshot.Pod{
			Pod:  state.Pod{Ref: p.Ref, Labels: p.Labels, ServiceAccount: p.ServiceAccount, NamedPorts: p.NamedPorts},
			Node: s.Nodes[i%2].Name, Addrs: p.Addrs, HostNetwork: rng.IntN(12) == 0,
		})
	}
	return s
}

func parse(t *testing.T, items []string) identity.Filter {
	t.Helper()
	f, err := identity.ParseFilter(items)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// eq is the selector of labels, given as key, value, key, value.
func eq(kv ...string) *state.Selector {
	s := &state.Selector{MatchLabels: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		s.MatchLabels[kv[i]] = kv[i+1]
	}
	return s
}

// shop is a namespace with two pods of each of three apps, of which policies let
// the second in to the third.
func shop() *snapshot.Snapshot {
	s := &snapshot.Snapshot{
		Namespaces: []state.Namespace{{Name: "shop", Labels: map[string]string{"team": "a"}}},
		Nodes:      []snapshot.Node{{Name: "n0"}, {Name: "n1"}},
		Policies: []state.NetworkPolicy{{
			Namespace: "shop", Name: "db", Subject: *eq("app", "db"), IsolatesIngress: true,
			Ingress: []state.PolicyRule{{Peers: []state.PolicyPeer{{Pods: eq("app", "api")}}}},
		}},
	}
	for i, app := range []string{"web", "web", "api", "api", "db", "db"} {
		name := app + "-" + string('0'+rune(i%2))
		s.Pods = append(s.Pods, snapshot.Pod{
			Pod: state.Pod{
				Ref:    state.PodRef{Namespace: "shop", Name: name},
				Labels: map[string]string{"app": app, "build": name, "pod-template-hash": app}, ServiceAccount: "default",
			},
			Node: s.Nodes[i/4].Name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})},
		})
	}
	return s
}
