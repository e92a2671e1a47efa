package resolve

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/state"
)

func comparers() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func selector(labels ...string) *state.Selector {
	s := &state.Selector{MatchLabels: map[string]string{}}
	for i := 0; i < len(labels); i += 2 {
		s.MatchLabels[labels[i]] = labels[i+1]
	}
	return s
}

func block(cidr string, outside bool, except ...string) state.PolicyPeer {
	b := &state.IPBlock{CIDR: netip.MustParsePrefix(cidr), Outside: outside}
	for _, e := range except {
		b.Except = append(b.Except, netip.MustParsePrefix(e))
	}
	return state.PolicyPeer{Block: b}
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func slice(namespace, name, service string, ips ...string) state.EndpointSlice {
	s := state.EndpointSlice{Namespace: namespace, Name: name, Service: service}
	for _, a := range addrs(ips...) {
		s.Backends = append(s.Backends, state.SliceEndpoint{Addr: a})
	}
	return s
}

// sample is a small cluster.
func sample() Cluster {
	ref := func(namespace, name string) state.ServiceRef {
		return state.ServiceRef{Namespace: namespace, Name: name}
	}
	return Cluster{
		Nodes: []state.Node{
			{Name: "b", Labels: map[string]string{"role": "db"}, Addrs: addrs("192.0.2.2", "2001:db8::2")},
			{Name: "a", Labels: map[string]string{"role": "db"}, Addrs: addrs("192.0.2.1")},
			{Name: "c", Addrs: addrs("192.0.2.3")},
		},
		Services: []state.PolicyService{
			{Ref: ref("shop", "pods"), Labels: map[string]string{"team": "x"}, Selector: map[string]string{"app": "web"}},
			{Ref: ref("shop", "outside"), Labels: map[string]string{"team": "x"}},
			{Ref: ref("other", "pods"), Labels: map[string]string{"team": "x"}, Selector: map[string]string{"app": "db"}},
			{Ref: ref("other", "none")},
			{Ref: ref("default", "kubernetes")},
		},
		Slices: []state.EndpointSlice{
			slice("shop", "s2", "outside", "203.0.113.2", "203.0.113.1"), slice("shop", "s1", "outside", "203.0.113.1", "2001:db8:1::1"),
			slice("shop", "s3", "pods", "10.0.0.1"), slice("default", "k", "kubernetes", "192.0.2.9", "192.0.2.8"),
		},
		CIDRGroups: []state.CIDRGroup{
			{Name: "g", Labels: map[string]string{"k": "v"}, CIDRs: prefixes("10.0.0.0/8", "203.0.113.0/24")},
			{Name: "h", Labels: map[string]string{"k": "v"}, CIDRs: prefixes("203.0.113.0/24", "2001:db8::/32")},
			{Name: "broken", CIDRs: prefixes("198.51.100.0/24"), Problems: []string{"x"}},
			{Name: "empty"},
		},
	}
}

func TestReferences(t *testing.T) {
	nobody := []state.PolicyPeer{{}}
	broken := state.PolicyPeer{CIDRGroup: &state.GroupPeer{Name: "broken"}}
	outside := []state.PolicyPeer{block("203.0.113.1/32", false), block("203.0.113.2/32", false), block("2001:db8:1::1/128", false)}
	pods := func(namespace, app string) state.PolicyPeer {
		return state.PolicyPeer{Endpoints: selector("k8s:io.kubernetes.pod.namespace", namespace, "k8s:app", app)}
	}
	for _, tc := range []struct {
		name string
		peer state.PolicyPeer
		deny bool
		want []state.PolicyPeer
		note string
	}{
		{
			"nodes",
			state.PolicyPeer{Nodes: selector("role", "db")},
			false,
			[]state.PolicyPeer{block("192.0.2.1/32", false), block("192.0.2.2/32", false), block("2001:db8::2/128", false)},
			"",
		},
		{"no node", state.PolicyPeer{Nodes: selector("role", "x")}, true, nobody, "spec.egressDeny[0].toNodes[0]: there is no such node; it selects nothing"},
		{"the API server", state.PolicyPeer{Entity: state.EntityKubeAPIServer}, false, []state.PolicyPeer{block("192.0.2.8/32", false), block("192.0.2.9/32", false)}, ""},
		{"another entity", state.PolicyPeer{Entity: state.EntityWorld}, false, []state.PolicyPeer{{Entity: state.EntityWorld}}, ""},
		{"a service of pods", state.PolicyPeer{Service: &state.ServicePeer{Namespace: "shop", Name: "pods"}}, false, []state.PolicyPeer{pods("shop", "web")}, ""},
		{"a service of addresses", state.PolicyPeer{Service: &state.ServicePeer{Namespace: "shop", Name: "outside"}}, false, outside, ""},
		{
			"services by labels",
			state.PolicyPeer{Service: &state.ServicePeer{Selector: selector("team", "x")}},
			true,
			append([]state.PolicyPeer{pods("other", "db"), pods("shop", "web")}, outside...), "",
		},
		{"services of a namespace", state.PolicyPeer{Service: &state.ServicePeer{Namespace: "other", Selector: selector("team", "x")}}, false, []state.PolicyPeer{pods("other", "db")}, ""},
		{"a service of any namespace", state.PolicyPeer{Service: &state.ServicePeer{Name: "pods"}}, true, []state.PolicyPeer{pods("other", "db"), pods("shop", "web")}, ""},
		{
			"no service",
			state.PolicyPeer{Service: &state.ServicePeer{Namespace: "other", Name: "outside"}},
			true, nobody,
			"spec.egressDeny[0].toServices[0]: there is no such Service; it selects nothing",
		},
		{
			"a service of nothing",
			state.PolicyPeer{Service: &state.ServicePeer{Namespace: "other", Name: "none"}},
			false, nobody,
			"spec.egress[0].toServices[0]: the Service selects no pods and has no addresses; it selects nothing",
		},
		{
			"a group",
			state.PolicyPeer{CIDRGroup: &state.GroupPeer{Name: "g", Except: prefixes("10.1.0.0/16", "203.0.0.0/16", "192.0.2.0/24")}},
			false,
			[]state.PolicyPeer{block("10.0.0.0/8", true, "10.1.0.0/16")},
			"",
		},
		{
			"groups by labels",
			state.PolicyPeer{CIDRGroup: &state.GroupPeer{Selector: selector("k", "v")}},
			true,
			[]state.PolicyPeer{block("10.0.0.0/8", true), block("203.0.113.0/24", true), block("2001:db8::/32", true)},
			"",
		},
		{"no group", state.PolicyPeer{CIDRGroup: &state.GroupPeer{Name: "x"}}, false, nobody, "spec.egress[0].toCIDRSet[0]: there is no such CiliumCIDRGroup; it selects nothing"},
		{"an empty group", state.PolicyPeer{CIDRGroup: &state.GroupPeer{Name: "empty"}}, true, nobody, "spec.egressDeny[0].toCIDRSet[0]: the CiliumCIDRGroup leaves no CIDR; it selects nothing"},
		{
			"a group not understood", broken, false,
			[]state.PolicyPeer{block("198.51.100.0/24", true)},
			"spec.egress[0].toCIDRSet[0]: the CiliumCIDRGroup has CIDRs that are not understood; they select nothing",
		},
		{
			"a group not understood, denied", broken, true,
			[]state.PolicyPeer{broken},
			"spec.egressDeny[0].toCIDRSet[0]: the CiliumCIDRGroup has CIDRs that are not understood; it selects everybody",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ports := []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: 80}}
			given := []state.PolicyRule{{Peers: []state.PolicyPeer{tc.peer}, Ports: ports}, {}}
			want := []state.PolicyRule{{Peers: tc.want, Ports: ports}, {}}
			p := state.NetworkPolicy{Kind: state.PolicyCilium, Namespace: "shop", Name: "p", Egress: given}
			if tc.deny {
				p.Egress, p.EgressDeny = nil, given
			}
			c := sample()
			c.Policies = []state.NetworkPolicy{p}
			got := All(c)
			rules := got[0].Policy.Egress
			if tc.deny {
				rules = got[0].Policy.EgressDeny
			}
			if diff := cmp.Diff(want, rules, comparers()); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			if notes := strings.Join(got[0].Notes, "\n"); notes != tc.note {
				t.Errorf("notes %q, want %q", notes, tc.note)
			}
			if diff := cmp.Diff(tc.peer, given[0].Peers[0], comparers()); diff != "" {
				t.Errorf("the policy that was given changed:\n%s", diff)
			}
		})
	}
}

// TestTake checks when policies are given.
func TestTake(t *testing.T) {
	r := New()
	keys := func() string {
		var out []string
		for _, c := range r.Take() {
			key := c.Key
			if c.Policy == nil {
				key += " gone"
			}
			out = append(out, key)
		}
		return strings.Join(out, ", ")
	}
	step := func(what, want string) {
		t.Helper()
		if got := keys(); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	plain := state.NetworkPolicy{Namespace: "n", Name: "plain"}
	nodes := state.NetworkPolicy{Kind: state.PolicyCiliumClusterwide, Name: "nodes", Ingress: []state.PolicyRule{{Peers: []state.PolicyPeer{{Nodes: selector("a", "b")}}}}}
	step("nothing", "")
	r.SetPolicy(plain)
	r.SetPolicy(nodes)
	step("both", "ccnp/nodes, n/plain")
	r.SetPolicy(plain)
	step("the same again", "")
	r.SetNode(state.Node{Name: "x", Addrs: addrs("192.0.2.1")})
	step("a node that is not meant", "")
	r.SetNode(state.Node{Name: "x", Labels: map[string]string{"a": "b"}, Addrs: addrs("192.0.2.1")})
	step("a node that is", "ccnp/nodes")
	r.SetNode(state.Node{Name: "x", Labels: map[string]string{"a": "b"}, Addrs: addrs("192.0.2.1"), MTU: 1500})
	step("another MTU", "")
	r.RemoveNode("x")
	r.SetNode(state.Node{Name: "x", Labels: map[string]string{"a": "b"}, Addrs: addrs("192.0.2.1")})
	step("there and back", "")
	r.RemovePolicy("n/plain")
	r.RemovePolicy("n/never")
	step("a policy goes", "n/plain gone")
	r.RemovePolicy("ccnp/nodes")
	r.SetPolicy(nodes)
	step("made anew", "ccnp/nodes")
	r.SetPolicy(plain)
	r.RemovePolicy("n/plain")
	step("come and gone", "n/plain gone")
}

// world is what a random sequence made, kept in the simplest way.
type world struct {
	policies map[string]state.NetworkPolicy
	nodes    map[string]state.Node
	services map[state.ServiceRef]state.PolicyService
	slices   map[string]state.EndpointSlice
	groups   map[string]state.CIDRGroup
}

func (w *world) cluster(rng *rand.Rand) Cluster {
	return Cluster{
		Policies: shuffled(rng, w.policies), Nodes: shuffled(rng, w.nodes), Services: shuffled(rng, w.services),
		Slices: shuffled(rng, w.slices), CIDRGroups: shuffled(rng, w.groups),
	}
}

func shuffled[K comparable, V any](rng *rand.Rand, m map[K]V) []V {
	out := slices.Collect(maps.Values(m))
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func randomLabels(rng *rand.Rand) map[string]string {
	out := map[string]string{}
	for _, k := range []string{"a", "b"} {
		if rng.IntN(2) == 0 {
			out[k] = pick(rng, "1", "2")
		}
	}
	return out
}

func randomSelector(rng *rand.Rand) *state.Selector {
	s := &state.Selector{}
	if rng.IntN(2) == 0 {
		s.MatchLabels = randomLabels(rng)
	}
	for range rng.IntN(2) {
		r := state.Requirement{Key: pick(rng, "a", "b"), Operator: pick(rng, state.OperatorIn, state.OperatorNotIn, state.OperatorExists, state.OperatorDoesNotExist)}
		if r.Operator == state.OperatorIn || r.Operator == state.OperatorNotIn {
			r.Values = []string{pick(rng, "1", "2")}
		}
		s.Expressions = append(s.Expressions, r)
	}
	return s
}

func randomPeer(rng *rand.Rand) state.PolicyPeer {
	switch rng.IntN(7) {
	case 0:
		return state.PolicyPeer{Nodes: randomSelector(rng)}
	case 1:
		return state.PolicyPeer{Service: &state.ServicePeer{Namespace: pick(rng, "", "default", "n"), Name: pick(rng, "kubernetes", "s", "t")}}
	case 2:
		return state.PolicyPeer{Service: &state.ServicePeer{Namespace: pick(rng, "", "default", "n"), Selector: randomSelector(rng)}}
	case 3:
		return state.PolicyPeer{CIDRGroup: &state.GroupPeer{Name: pick(rng, "g", "h"), Except: prefixes("10.0.1.0/24")[:rng.IntN(2)]}}
	case 4:
		return state.PolicyPeer{CIDRGroup: &state.GroupPeer{Selector: randomSelector(rng)}}
	case 5:
		return state.PolicyPeer{Entity: pick(rng, state.EntityKubeAPIServer, state.EntityWorld)}
	}
	return state.PolicyPeer{Endpoints: selector("k8s:a", "1")}
}

func randomPolicy(rng *rand.Rand) state.NetworkPolicy {
	p := state.NetworkPolicy{Kind: state.PolicyCilium, Namespace: "n", Name: pick(rng, "p", "q", "r"), Part: rng.IntN(2)}
	for _, list := range []*[]state.PolicyRule{&p.Ingress, &p.Egress, &p.IngressDeny, &p.EgressDeny} {
		for range rng.IntN(2) {
			var r state.PolicyRule
			for range rng.IntN(3) {
				r.Peers = append(r.Peers, randomPeer(rng))
			}
			*list = append(*list, r)
		}
	}
	return p
}

// step changes one thing in both.
func (w *world) step(rng *rand.Rand, r *Resolver) {
	ip := func() string { return fmt.Sprintf("192.0.2.%d", rng.IntN(6)) }
	remove := rng.IntN(3) == 0
	switch rng.IntN(5) {
	case 0:
		p := randomPolicy(rng)
		if delete(w.policies, p.Key()); remove {
			r.RemovePolicy(p.Key())
			return
		}
		w.policies[p.Key()] = p
		r.SetPolicy(p)
	case 1:
		n := state.Node{Name: pick(rng, "x", "y"), Labels: randomLabels(rng), Addrs: addrs(ip(), ip())}
		if delete(w.nodes, n.Name); remove {
			r.RemoveNode(n.Name)
			return
		}
		w.nodes[n.Name] = n
		r.SetNode(n)
	case 2:
		s := state.PolicyService{Ref: state.ServiceRef{Namespace: pick(rng, "default", "n"), Name: pick(rng, "kubernetes", "s", "t")}, Labels: randomLabels(rng)}
		if rng.IntN(2) == 0 {
			s.Selector = map[string]string{"app": pick(rng, "1", "2")}
		}
		if delete(w.services, s.Ref); remove {
			r.RemoveService(s.Ref)
			return
		}
		w.services[s.Ref] = s
		r.SetService(s)
	case 3:
		s := slice(pick(rng, "default", "n"), pick(rng, "s1", "s2"), pick(rng, "kubernetes", "s", "t"), ip(), ip())
		if delete(w.slices, s.Namespace+"/"+s.Name); remove {
			r.RemoveSlice(s.Namespace, s.Name)
			return
		}
		w.slices[s.Namespace+"/"+s.Name] = s
		r.SetSlice(s)
	case 4:
		g := state.CIDRGroup{Name: pick(rng, "g", "h"), Labels: randomLabels(rng), CIDRs: prefixes("10.0.0.0/16", "10.0.1.0/24", "2001:db8::/32")[rng.IntN(4):]}
		if rng.IntN(4) == 0 {
			g.Problems = []string{"x"}
		}
		if delete(w.groups, g.Name); remove {
			r.RemoveCIDRGroup(g.Name)
			return
		}
		w.groups[g.Name] = g
		r.SetCIDRGroup(g)
	}
}

// TestIncremental compares what a Resolver said in the course of random changes
// with what one says that is told of the outcome alone, in another order.
func TestIncremental(t *testing.T) {
	const sequences, steps = 3000, 25
	resolved := 0
	for seed := range uint64(sequences) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := &world{
			map[string]state.NetworkPolicy{},
			map[string]state.Node{},
			map[state.ServiceRef]state.PolicyService{},
			map[string]state.EndpointSlice{},
			map[string]state.CIDRGroup{},
		}
		r, have := New(), map[string]Change{}
		for range steps {
			for range 1 + rng.IntN(4) {
				w.step(rng, r)
			}
			for _, c := range r.Take() {
				if c.Policy == nil {
					delete(have, c.Key)
					continue
				}
				have[c.Key] = c
				resolved++
			}
		}
		got := slices.SortedFunc(maps.Values(have), func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
		if diff := cmp.Diff(All(w.cluster(rng)), got, comparers(), cmp.Transformer("empty", func(c []Change) []Change { return append([]Change{}, c...) })); diff != "" {
			t.Fatalf("seed %d: in steps (+), at once (-):\n%s", seed, diff)
		}
	}
	if resolved < sequences*steps/2 {
		t.Errorf("only %d policies were resolved", resolved)
	}
}
