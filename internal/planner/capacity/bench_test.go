package capacity

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// large makes a cluster of that many pods: fifty a node, twenty of an app, twenty-five
// apps a namespace, with a Service and one or two policies for most apps.
func large(pods, policies int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{ClusterName: "default"}
	const perNode, perApp, appsPerNamespace = 50, 20, 25
	nodes := pods / perNode
	for i := range nodes {
		s.Nodes = append(s.Nodes, snapshot.Node{
			Name: fmt.Sprintf("node%05d", i), Memory: 64 << 30, MaxPods: 110, Zone: fmt.Sprint(i % 3),
			Addrs:    []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
		})
	}
	for app := range pods / perApp {
		namespace, name := fmt.Sprintf("ns%04d", app/appsPerNamespace), fmt.Sprintf("app%d", app%appsPerNamespace)
		if app%appsPerNamespace == 0 {
			s.Namespaces = append(s.Namespaces, state.Namespace{Name: namespace, Labels: map[string]string{"team": fmt.Sprint(app % 7)}})
		}
		svc := snapshot.Service{Type: "ClusterIP"}
		svc.Ref = state.ServiceRef{Namespace: namespace, Name: name}
		svc.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{172, 20, byte(app >> 8), byte(app)})}
		svc.Ports = []state.ServicePort{{Protocol: state.ProtocolTCP, Port: 80}}
		if app%10 == 0 {
			svc.Type, svc.Ports[0].NodePort, svc.ExternalLocal = "LoadBalancer", uint16(30000+app/10), app%50 == 0
		}
		slice := state.EndpointSlice{Namespace: namespace, Name: name, Service: name, Ports: []state.SlicePort{{Protocol: state.ProtocolTCP, Port: 8080}}}
		for i := range perApp {
			node := (app*7 + i*13) % nodes
			p := snapshot.Pod{Node: s.Nodes[node].Name, Owner: "ReplicaSet/" + name}
			p.Ref = state.PodRef{Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, i)}
			p.Labels = map[string]string{"app": name, "version": fmt.Sprint(app % 5), "pod-template-hash": "x"}
			at := app*perApp + i
			p.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, byte(at >> 16), byte(at >> 8), byte(at)})}
			s.Pods = append(s.Pods, p)
			slice.Backends = append(slice.Backends, state.SliceEndpoint{Addr: p.Addrs[0], Node: p.Node, Ready: true, Serving: true})
		}
		s.Services, s.Slices = append(s.Services, svc), append(s.Slices, slice)
	}
	for i := range policies {
		app := i % (pods / perApp)
		p := state.NetworkPolicy{
			Namespace: fmt.Sprintf("ns%04d", app/appsPerNamespace), Name: fmt.Sprintf("p%d", i), IsolatesIngress: true,
			Subject: state.Selector{MatchLabels: map[string]string{"app": fmt.Sprintf("app%d", app%appsPerNamespace)}},
		}
		peer := state.PolicyPeer{Pods: &state.Selector{}}
		if i%4 == 0 {
			peer.Namespaces = &state.Selector{MatchLabels: map[string]string{"team": fmt.Sprint(i % 7)}}
		}
		p.Ingress = []state.PolicyRule{{Peers: []state.PolicyPeer{peer}, Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: 8080}}}}
		s.Policies = append(s.Policies, p)
	}
	return s
}

// BenchmarkPlan plans for 50,000 pods on 1,000 nodes with 2,500 Services and 2,000
// policies.
func BenchmarkPlan(b *testing.B) {
	s := large(50_000, 2_000)
	for _, platform := range []snapshot.Platform{snapshot.Placid, snapshot.Cilium} {
		b.Run(string(platform), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Plan(s, Options{For: platform}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
