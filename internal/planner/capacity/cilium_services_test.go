package capacity

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/planner/capacity/capacitytest"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// example is a Service of type LoadBalancer with one port and three backends, in a
// cluster of one node with one address.
func example() *snapshot.Snapshot {
	s := &snapshot.Snapshot{
		Nodes:      []snapshot.Node{{Name: "a", Addrs: []netip.Addr{addr("192.168.0.1")}, Memory: 16 << 30}},
		Namespaces: []state.Namespace{{Name: "shop"}},
	}
	svc := snapshot.Service{Type: "LoadBalancer"}
	svc.Ref = state.ServiceRef{Namespace: "shop", Name: "web"}
	svc.ClusterIPs = []netip.Addr{addr("10.96.0.10")}
	svc.LoadBalancers = []netip.Addr{addr("198.51.100.7")}
	svc.Ports = []state.ServicePort{{Protocol: state.ProtocolTCP, Port: 80, NodePort: 30080}}
	slice := state.EndpointSlice{Namespace: "shop", Name: "web-x", Service: "web", Ports: []state.SlicePort{{Protocol: state.ProtocolTCP, Port: 8080}}}
	for i := range 3 {
		p := snapshot.Pod{Node: "a", Owner: "ReplicaSet/web", Addrs: []netip.Addr{capacitytest.IPv4("10.0.0.2", i)}}
		p.Ref = state.PodRef{Namespace: "shop", Name: fmt.Sprintf("web-%d", i)}
		p.Labels = map[string]string{"app": "web"}
		s.Pods = append(s.Pods, p)
		slice.Backends = append(slice.Backends, state.SliceEndpoint{Addr: p.Addrs[0], Node: "a", Ready: true, Serving: true})
	}
	s.Services, s.Slices = []snapshot.Service{svc}, []state.EndpointSlice{slice}
	return s
}

// TestExampleService pins what the documented rule leaves out: it says three, and
// Cilium stores sixteen.
func TestExampleService(t *testing.T) {
	got, err := Explain(example(), Options{For: snapshot.Cilium}, state.ServiceRef{Namespace: "shop", Name: "web"}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := ServiceCost{
		Service: state.ServiceRef{Namespace: "shop", Name: "web"}, Type: "LoadBalancer", Node: "a", Documented: 3, Exact: 16,
		Tables: []ServiceTable{{"lb4_services_v2", 16}, {"lb4_backends_v3", 3}, {"lb4_reverse_nat", 4}},
		Steps: []ServiceStep{
			{"ClusterIP 10.96.0.10:80/TCP", "1 master + 3 slots", 4},
			{"NodePort 0.0.0.0:30080/TCP (surrogate)", "1 master + 3 slots", 4},
			{"NodePort 192.168.0.1:30080/TCP", "1 master + 3 slots", 4},
			{"LoadBalancer 198.51.100.7:80/TCP", "1 master + 3 slots", 4},
		},
		Why: []string{
			"Each of 4 frontends has a master entry, and its own copy of the backends' slots.",
			"Node ports are 2 frontends: one at the unspecified address (the surrogate), and one at each address of the node.",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	ours, err := Explain(example(), Options{}, state.ServiceRef{Namespace: "shop", Name: "web"}, "a")
	if err != nil {
		t.Fatal(err)
	}
	// Three addresses and ports, two of the addresses alone, three backends once.
	if ours.Documented != 3 || ours.Exact != 8 {
		t.Errorf("Placid's tables take %d, documented %d, want 8 and 3", ours.Exact, ours.Documented)
	}
}

// rows are the keys of Cilium's maps, as text.
type rows map[string]map[string]bool

func (r rows) put(table, key string) {
	if r[table] == nil {
		r[table] = map[string]bool{}
	}
	r[table][key] = true
}

// slowCilium writes every row of Cilium's service maps of a node, from the objects
// alone.
func slowCilium(s *snapshot.Snapshot, node *snapshot.Node) rows {
	r := rows{}
	family := func(a netip.Addr) string {
		if a.Is6() {
			return "6"
		}
		return "4"
	}
	frontend := func(svc *snapshot.Service, a netip.Addr, scope string, port state.ServicePort, number uint16, local, ranges bool) {
		f := family(a)
		id := a.String() + " " + strconv.Itoa(int(number)) + port.Protocol.String() + scope
		r.put("services"+f, id+" master")
		r.put("reverse"+f, id)
		if ranges {
			for _, p := range svc.SourceRanges {
				if p.Addr().Is6() == a.Is6() {
					r.put("ranges"+f, id+p.String())
				}
			}
		}
		for _, slice := range s.Slices {
			if slice.Namespace != svc.Ref.Namespace || slice.Service != svc.Ref.Name {
				continue
			}
			for _, sp := range slice.Ports {
				if sp.Name != port.Name || sp.Protocol != port.Protocol {
					continue
				}
				for _, e := range slice.Backends {
					if e.Addr.Is6() != a.Is6() || !e.Ready && !e.Serving || local && e.Node != node.Name {
						continue
					}
					backend := e.Addr.String() + " " + strconv.Itoa(int(sp.Port)) + sp.Protocol.String()
					r.put("services"+f, id+" slot of "+backend)
					r.put("backends"+f, backend)
					if svc.Affinity > 0 && !e.Terminating {
						r.put("affinity", id+backend)
					}
				}
			}
		}
	}
	for i := range s.Services {
		svc := &s.Services[i]
		scopes := map[string]bool{"external": svc.ExternalLocal}
		if svc.ExternalLocal != svc.InternalLocal {
			scopes["internal"] = svc.InternalLocal
		}
		for _, p := range svc.Ports {
			for _, a := range svc.ClusterIPs {
				frontend(svc, a, "external", p, p.Port, svc.InternalLocal, false)
				for scope, local := range scopes {
					if p.NodePort == 0 {
						continue
					}
					nodeAddrs := append([]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, node.Addrs...)
					for _, own := range nodeAddrs {
						if own.Is6() == a.Is6() {
							frontend(svc, own, scope, p, p.NodePort, local, false)
						}
					}
				}
			}
			for scope, local := range scopes {
				for _, a := range svc.LoadBalancers {
					frontend(svc, a, scope, p, p.Port, local, true)
				}
			}
			for _, a := range svc.ExternalIPs {
				frontend(svc, a, "external", p, p.Port, svc.ExternalLocal, false)
			}
		}
	}
	for _, p := range s.Pods {
		for _, h := range p.HostPorts {
			if p.Node != node.Name {
				continue
			}
			for _, pod := range p.Addrs {
				for _, own := range append([]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, node.Addrs...) {
					if own.Is6() == pod.Is6() {
						id := own.String() + " " + strconv.Itoa(int(h.HostPort)) + " of the node"
						r.put("services"+family(pod), id+" master")
						r.put("services"+family(pod), id+" slot")
						r.put("reverse"+family(pod), id)
						r.put("backends"+family(pod), pod.String()+" "+strconv.Itoa(int(h.ContainerPort))+h.Protocol.String())
					}
				}
			}
		}
	}
	return r
}

// TestCiliumServicesOracle compares with maps of rows, over thousands of clusters.
func TestCiliumServicesOracle(t *testing.T) {
	set := testSettings(t, snapshot.Cilium, map[string]string{"kube-proxy-replacement": "true", "enable-ipv6": "true"})
	for seed := range uint64(4000) {
		s := capacitytest.Cluster(seed)
		b, err := newBalancer(newCensus(s, set))
		if err != nil {
			t.Fatal(err)
		}
		cilium := newCiliumBalancer(b)
		for _, n := range b.census.nodes {
			f, want := cilium.on(n), slowCilium(s, n.node)
			for _, c := range []struct {
				table string
				form  form
			}{
				{"services4", f.services[0]},
				{"services6", f.services[1]},
				{"backends4", f.backends[0]},
				{"backends6", f.backends[1]},
				{"reverse4", f.reverse[0]},
				{"reverse6", f.reverse[1]},
				{"ranges4", f.ranges[0]},
				{"affinity", f.affinity},
			} {
				if got := int(c.form.at(asItIs())); got != len(want[c.table]) {
					t.Fatalf("seed %d, node %s: %s has %d entries, want %d", seed, n.node.Name, c.table, got, len(want[c.table]))
				}
			}
		}
	}
}
