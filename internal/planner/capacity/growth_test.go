package capacity

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/planner/capacity/capacitytest"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

func TestParseGrowth(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Growth
		err  string
	}{
		{"pods=2x", Growth{Pods: Amount{Factor: 2}}, ""},
		{"pods=1.5x, services=+500,policies=+20%", Growth{Pods: Amount{Factor: 1.5}, Services: Amount{Plus: 500}, Policies: Amount{Factor: 1.2}}, ""},
		{"nodes=3x,namespaces=+4", Growth{Nodes: Amount{Factor: 3}, Namespaces: Amount{Plus: 4}}, ""},
		{"", Growth{}, "want WHAT=AMOUNT"},
		{"pods", Growth{}, `"pods": want WHAT=AMOUNT`},
		{"pods=2", Growth{}, "pods=2: want a factor such as 2x"},
		{"pods=0.5x", Growth{}, "want a factor from 1"},
		{"pods=NaNx", Growth{}, "want a factor"},
		{"pods=1e9x", Growth{}, "want a factor from 1"},
		{"pods=+-1", Growth{}, "want a factor"},
		{"pods=2x,pods=3x", Growth{}, "pods is given twice"},
		{"ponds=2x", Growth{}, `nothing called "ponds"`},
	} {
		got, err := ParseGrowth(tc.text)
		if tc.err == "" && (err != nil || got != tc.want) {
			t.Errorf("%q gives %+v, %v, want %+v", tc.text, got, err, tc.want)
		}
		if tc.err != "" && (!errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q gives the error %v, want %q", tc.text, err, tc.err)
		}
	}
}

func FuzzParseGrowth(f *testing.F) {
	f.Add("pods=2x,services=+500,nodes=3x,policies=+20%")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGrowth(text)
		if err != nil {
			return
		}
		if again, err := ParseGrowth(g.String()); g != (Growth{}) && (err != nil || again != g) {
			t.Errorf("%q is written as %q, which gives %+v, %v", text, g, again, err)
		}
	})
}

func TestParseRates(t *testing.T) {
	got, err := ParseRates("tcp=500/s,dns=2000/s/node,tcp-out=0.5/s/pod:2m")
	want := []Rate{
		{Kind: FlowTCP, Second: 500, Open: defaultOpen},
		{Kind: FlowDNS, Second: 2000},
		{Kind: FlowTCPOut, Second: 0.5, PerPod: true, Open: 2 * time.Minute},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for text, problem := range map[string]string{
		"": "want KIND=NUMBER/s", "tcp": "want KIND=NUMBER/s", "tcq=1/s": `called "tcq"`, "tcp=5": "want NUMBER/s", "tcp=5/m": "want NUMBER/s",
		"tcp=5/s/rack": "want NUMBER/s", "tcp=-5/s": "from 0", "tcp=1/s,tcp=2/s": "twice", "dns=1/s:5s": "not open", "tcp=1/s:x": "how long",
		"tcp=NaN/s": "from 0", "tcp=1/s:-5s": "how long",
	} {
		if _, err := ParseRates(text); !errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), problem) {
			t.Errorf("%q gives the error %v, want %q", text, err, problem)
		}
	}
}

func TestParseInstances(t *testing.T) {
	known, otherwise, err := ParseInstances("m5.large, ecs.g7.2xlarge=4x15")
	if err != nil || otherwise != "m5.large" || known["ecs.g7.2xlarge"] != (Instance{4, 15}) {
		t.Errorf("%v, %q, %v", known, otherwise, err)
	}
	for _, text := range []string{"", "nobody.knows", "a=b", "a=4x", "a=0x15", "m5.large,m5.xlarge"} {
		if _, _, err := ParseInstances(text); !errors.Is(err, ErrArgument) {
			t.Errorf("%q gives the error %v", text, err)
		}
	}
}

// copies makes the objects that a growth of whole factors stands for, one by one.
type copies struct{ pods, nodes, services, namespaces int }

func (c copies) scale() scale {
	return newScale(float64(c.pods), float64(c.nodes), float64(c.services), 1, float64(c.namespaces))
}

// of names the k-th copy of something; the 0-th is itself.
func of(name string, k int) string {
	if k == 0 {
		return name
	}
	return fmt.Sprintf("%s-copy%d", name, k)
}

// grown makes the cluster that it describes, with every object.
func (c copies) grown(s *snapshot.Snapshot) *snapshot.Snapshot {
	out := *s
	out.Nodes, out.Namespaces, out.Pods, out.Services, out.Slices, out.Policies = nil, nil, nil, nil, nil, nil
	fresh := 0
	next := func(a netip.Addr) netip.Addr { // an address that nobody has
		fresh++
		if a.Is6() {
			return capacitytest.IPv6("fd77::", fresh)
		}
		return capacitytest.IPv4("172.16.0.0", fresh)
	}
	for _, n := range s.Nodes {
		for k := range c.nodes {
			node := n
			node.Name = of(n.Name, k)
			if k > 0 {
				node.Addrs = slices.Clone(n.Addrs)
				for i := range node.Addrs {
					node.Addrs[i] = next(n.Addrs[i])
				}
			}
			out.Nodes = append(out.Nodes, node)
		}
	}
	for _, ns := range s.Namespaces {
		for k := range c.spaces(ns.Name) {
			labels := map[string]string{}
			for key, v := range ns.Labels {
				labels[key] = strings.Replace(v, ns.Name, of(ns.Name, k), 1)
			}
			out.Namespaces = append(out.Namespaces, state.Namespace{Name: of(ns.Name, k), Labels: labels})
		}
	}
	for _, p := range s.Policies {
		for k := range c.spaces(p.Namespace) {
			out.Policies = append(out.Policies, inCopy(p, k))
		}
	}
	c.workloads(s, &out, next)
	return &out
}

// inCopy gives a policy of the k-th copy of its namespace.
func inCopy(p state.NetworkPolicy, k int) state.NetworkPolicy {
	from, to := p.Namespace, of(p.Namespace, k)
	p.Namespace = to
	relabel := func(s state.Selector) state.Selector {
		labels := maps.Clone(s.MatchLabels)
		if labels[capacitytest.NamespaceLabel] == from {
			labels[capacitytest.NamespaceLabel] = to
		}
		return state.Selector{MatchLabels: labels}
	}
	if p.Kind == state.PolicyKubernetes {
		return p
	}
	p.Subject = relabel(p.Subject)
	rules := func(in []state.PolicyRule) []state.PolicyRule {
		out := slices.Clone(in)
		for i := range out {
			out[i].Peers = []state.PolicyPeer{{Endpoints: new(relabel(*in[i].Peers[0].Endpoints))}}
		}
		return out
	}
	p.Ingress, p.Egress, p.IngressDeny = rules(p.Ingress), rules(p.Egress), rules(p.IngressDeny)
	return p
}

// spaces is how many copies there are of a namespace.
func (c copies) spaces(name string) int {
	if isSystem(name) {
		return 1
	}
	return c.namespaces
}

// workloads makes the pods, and the Services with their slices.
func (c copies) workloads(s, out *snapshot.Snapshot, next func(netip.Addr) netip.Addr) {
	type place struct {
		addr netip.Addr
		node string
	}
	moved := map[string]map[netip.Addr][]place{} // by namespace copy, where a pod's address is found again
	for i := range s.Pods {
		p := &s.Pods[i]
		daemon := onEveryNode(p)
		for k := range c.spaces(p.Ref.Namespace) {
			space := of(p.Ref.Namespace, k)
			if moved[space] == nil {
				moved[space] = map[netip.Addr][]place{}
			}
			n := c.pods
			if daemon {
				n = c.nodes
			}
			for m := range n {
				clone := *p
				clone.Ref.Namespace, clone.Ref.Name = space, of(p.Ref.Name, m)
				clone.Addrs = slices.Clone(p.Addrs)
				if daemon {
					clone.Node = of(p.Node, m)
				}
				if k+m > 0 {
					for a := range clone.Addrs {
						clone.Addrs[a] = next(p.Addrs[a])
					}
					clone.HostPorts = nil // a node has the port once
					if ordinal, ok := p.Labels["ordinal"]; ok && m > 0 {
						clone.Labels = map[string]string{"app": p.Labels["app"], "tier": p.Labels["tier"], "ordinal": of(ordinal, m)}
					}
				}
				if daemon && m > 0 {
					clone.HostPorts = p.HostPorts
				}
				for a := range clone.Addrs {
					moved[space][p.Addrs[a]] = append(moved[space][p.Addrs[a]], place{clone.Addrs[a], clone.Node})
				}
				out.Pods = append(out.Pods, clone)
			}
		}
	}
	for i := range s.Services {
		svc := &s.Services[i]
		for k := range c.spaces(svc.Ref.Namespace) {
			for m := range c.services {
				clone := *svc
				clone.Ref = state.ServiceRef{Namespace: of(svc.Ref.Namespace, k), Name: of(svc.Ref.Name, m)}
				if k+m > 0 {
					for _, list := range []*[]netip.Addr{&clone.ClusterIPs, &clone.LoadBalancers, &clone.ExternalIPs} {
						*list = slices.Clone(*list)
						for a := range *list {
							(*list)[a] = next((*list)[a])
						}
					}
					clone.Ports = slices.Clone(svc.Ports)
					for p := range clone.Ports {
						if clone.Ports[p].NodePort > 0 {
							clone.Ports[p].NodePort += uint16(100 * (k*c.services + m))
						}
					}
				}
				out.Services = append(out.Services, clone)
				for _, slice := range s.Slices {
					if slice.Service != svc.Ref.Name || slice.Namespace != svc.Ref.Namespace {
						continue
					}
					endpoints := slice.Backends
					slice.Namespace, slice.Service, slice.Name = clone.Ref.Namespace, clone.Ref.Name, of(slice.Name, m)
					slice.Backends = nil
					for _, e := range endpoints {
						for _, at := range moved[slice.Namespace][e.Addr] {
							e.Addr, e.Node = at.addr, at.node
							slice.Backends = append(slice.Backends, e)
						}
					}
					out.Slices = append(out.Slices, slice)
				}
			}
		}
	}
}

// counted gives what is exact of a plan, by node and table.
func counted(t *testing.T, s *snapshot.Snapshot, set *settings, at scale) map[string]int {
	t.Helper()
	p, err := newPlannerWith(s, Options{Rates: DefaultRates()}, set)
	if err != nil {
		t.Fatal(err)
	}
	gauges, _, err := p.gauges(Options{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, g := range gauges {
		if g.exact {
			out[g.node+" "+g.name] = int(g.need(at))
		}
	}
	return out
}

// TestGrowthOracle compares what is predicted of a cluster that grows with the count
// of one that has all the objects.
func TestGrowthOracle(t *testing.T) {
	seeds := uint64(40)
	for _, platform := range []snapshot.Platform{snapshot.Placid, snapshot.Cilium} {
		set := testSettings(t, platform, map[string]string{"kube-proxy-replacement": "true", "enable-ipv6": "true"})
		for _, c := range []copies{
			{pods: 3, nodes: 1, services: 1, namespaces: 1},
			{pods: 1, nodes: 3, services: 1, namespaces: 1},
			{pods: 1, nodes: 1, services: 2, namespaces: 1},
			{pods: 1, nodes: 1, services: 1, namespaces: 3},
			{pods: 2, nodes: 1, services: 2, namespaces: 2},
		} {
			for seed := range seeds {
				s := capacitytest.Cluster(seed)
				for i := range s.Slices { // that do not grow, as they are there for a moment only
					for k := range s.Slices[i].Backends {
						s.Slices[i].Backends[k] = state.SliceEndpoint{
							Addr: s.Slices[i].Backends[k].Addr, Node: s.Slices[i].Backends[k].Node, Ready: true, Serving: true,
						}
					}
				}
				dropEmpty(s, c)
				want := counted(t, c.grown(s), set, asItIs())
				got := counted(t, s, set, c.scale())
				for name := range want {
					if _, ok := got[name]; !ok {
						delete(want, name) // a node that is new
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s, seed %d, %+v: -objects +predicted:\n%s", platform, seed, c, diff)
				}
			}
		}
	}
}

// dropEmpty takes away host ports where pods of their kind get several on a node.
func dropEmpty(s *snapshot.Snapshot, c copies) {
	if c.namespaces > 1 {
		for i := range s.Pods {
			s.Pods[i].HostPorts = nil
		}
	}
}

// TestLimitAt compares with trying every step.
func TestLimitAt(t *testing.T) {
	d := direction{pods: 3, nodes: 1, services: 2, policies: 1, namespaces: 1}
	for limit := range 400 {
		f := form{}
		f.add(7)
		f.add(11, byPods)
		f.add(2, byPods, byServices)
		g := &gauge{need: f.at, limit: limit}
		got := limitAt(g, d)
		if limit == 0 {
			if !math.IsInf(got, 1) {
				t.Errorf("no limit is met at %g", got)
			}
			continue
		}
		if f.at(asItIs()) > float64(limit) {
			if got != 0 {
				t.Errorf("limit %d is met at %g, want at once", limit, got)
			}
			continue
		}
		if f.at(d.at(got)) > float64(limit) || f.at(d.at(got+1e-3)) <= float64(limit) && f.at(d.at(got+1)) <= float64(limit) {
			t.Errorf("limit %d is met at %g, where the need is %g", limit, got, f.at(d.at(got)))
		}
	}
}
