package capacity

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/planner/capacity/capacitytest"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// TestPortMasks compares with trying every prefix that lies in a range and in no
// larger one that does.
func TestPortMasks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint16().Draw(t, "first")
		last := rapid.Uint16Min(first).Draw(t, "last")
		want := 0
		for length := range 17 {
			size := 1 << length
			for at := int(first) / size * size; at <= int(last); at += size {
				inside := at >= int(first) && at+size-1 <= int(last)
				larger := at &^ (2*size - 1)
				part := length < 16 && larger >= int(first) && larger+2*size-1 <= int(last)
				if inside && !part {
					want++
				}
			}
		}
		if got := portMasks([]policy.PortRange{{Protocol: state.ProtocolTCP, First: first, Last: last}}); got != want {
			t.Errorf("%d-%d takes %d entries, want %d", first, last, got, want)
		}
	})
	for _, tc := range []struct {
		name   string
		ranges []policy.PortRange
		want   int
	}{
		{"the most", []policy.PortRange{{Protocol: 6, First: 1, Last: 65534}}, 30},
		{"all but port 0", []policy.PortRange{{Protocol: 6, First: 1, Last: 65535}}, 16},
		{"every port", []policy.PortRange{{Protocol: 6, First: 0, Last: 65535}}, 1},
		{"two protocols", []policy.PortRange{{Protocol: 6, First: 80, Last: 80}, {Protocol: 17, First: 80, Last: 80}}, 2},
		{"allowed and denied", []policy.PortRange{{Protocol: 6, First: 80, Last: 80}, {Protocol: 6, First: 80, Last: 81, Deny: true}}, 2},
	} {
		if got := portMasks(tc.ranges); got != tc.want {
			t.Errorf("%s: %d entries, want %d", tc.name, got, tc.want)
		}
	}
}

// TestPolicyEntriesOracle compares with an engine that has the pods of one node and
// nothing else, as the node's agent has.
func TestPolicyEntriesOracle(t *testing.T) {
	set := testSettings(t, snapshot.Placid, nil)
	for seed := range uint64(500) {
		s := capacitytest.Cluster(seed)
		p, err := newPlannerWith(s, Options{Rates: DefaultRates()}, set)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.census.nodes {
			engine := policy.NewEngine(policy.Config{})
			for _, i := range p.census.identities {
				engine.SetIdentity(state.Identity{ID: i.id, Labels: i.labels, NamedPorts: i.ports})
			}
			for _, pol := range s.Policies {
				engine.SetPolicy(pol)
			}
			for i, pod := range n.pods { // every one, also those that are alike
				derived := map[string]string{}
				for key, value := range pod.labels {
					if key != "k8s:app" && key != "k8s:tier" && key != "k8s:ordinal" {
						derived[key] = value
					}
				}
				engine.SetSubject(policy.Subject{Endpoint: uint32(i), Pod: pod.pod.Ref, Labels: pod.pod.Labels, Derived: derived})
			}
			tables, entries := engine.Tables(), 0
			for _, one := range tables.Sets {
				entries += len(one.Entries)
			}
			f := p.judge.on(n)
			for _, c := range []struct {
				what string
				form form
				want int
			}{{"entries", f.entries, entries}, {"lists", f.lists, len(tables.Ports)}, {"prefixes", f.prefixes, len(tables.CIDRs)}} {
				if got := int(c.form.at(asItIs())); got != c.want {
					t.Fatalf("seed %d, node %s: %d %s, want %d", seed, n.node.Name, got, c.what, c.want)
				}
			}
		}
	}
}

// TestPolicyOfPod pins how the entries of one pod in Cilium come about.
func TestPolicyOfPod(t *testing.T) {
	s := example()
	for i := range 3 { // pods of another namespace, of three identities
		p := snapshot.Pod{Node: "a", Owner: "ReplicaSet/x"}
		p.Ref = state.PodRef{Namespace: "other", Name: string(rune('a' + i))}
		p.Labels = map[string]string{"role": string(rune('a' + i))}
		s.Pods = append(s.Pods, p)
	}
	s.Policies = []state.NetworkPolicy{{
		Namespace: "shop", Name: "web", IsolatesIngress: true, Subject: state.Selector{MatchLabels: map[string]string{"app": "web"}},
		Ingress: []state.PolicyRule{{
			Peers: []state.PolicyPeer{{Namespaces: &state.Selector{}, Pods: &state.Selector{Expressions: []state.Requirement{{Key: "role", Operator: state.OperatorExists}}}}},
			Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: 8000, EndPort: 8003}, {Protocol: state.ProtocolUDP, Port: 53}},
		}},
	}}
	r, err := Plan(s, Options{For: snapshot.Cilium})
	if err != nil {
		t.Fatal(err)
	}
	// Three identities by two keys (8000/14 and 53), the node, and all of egress.
	if got := tableOf(t, r, "policy_v2 (a pod's)"); got.Now != 8 {
		t.Errorf("the pod's map has %d entries, want 8", got.Now)
	}
}
