// Package capacitytest makes random clusters for tests of what a cluster needs.
// The same seed gives the same cluster.
package capacitytest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// IPv4 gives the n-th address behind a base.
func IPv4(base string, n int) netip.Addr {
	b := netip.MustParseAddr(base).As4()
	v := int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	v += n
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// IPv6 gives the address of a /112 that ends in n.
func IPv6(base string, n int) netip.Addr {
	b := netip.MustParseAddr(base).As16()
	b[14], b[15] = byte(n>>8), byte(n)
	return netip.AddrFrom16(b)
}

// gen makes random clusters, small enough that oracles can be slow.
type gen struct {
	*rand.Rand
	s    *snapshot.Snapshot
	dual bool
}

func newGen(seed uint64) *gen {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 7)), s: &snapshot.Snapshot{ClusterName: "default", Settings: map[string]string{}}}
	g.dual = g.IntN(3) == 0
	return g
}

func (g *gen) chance(percent int) bool { return g.IntN(100) < percent }

// Cluster makes a cluster of one to three nodes, with a few namespaces.
func Cluster(seed uint64) *snapshot.Snapshot {
	g := newGen(seed)
	g.nodes()
	for i := range 1 + g.IntN(3) {
		g.namespace(fmt.Sprintf("ns%d", i))
	}
	if g.chance(50) {
		g.namespace("kube-system")
	}
	slices.SortFunc(g.s.Services, func(a, b snapshot.Service) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
	return g.s
}

func (g *gen) nodes() {
	for i := range 1 + g.IntN(3) {
		n := snapshot.Node{
			Name: fmt.Sprintf("node%d", i), Zone: fmt.Sprintf("z%d", i%2), Memory: 16 << 30, MaxPods: 110,
			Addrs:    []netip.Addr{IPv4("192.168.0.1", i)},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(IPv4("10.0.0.0", i<<8), 24)},
		}
		if g.chance(30) {
			n.Addrs = append(n.Addrs, IPv4("203.0.113.1", i))
		}
		if g.dual {
			n.Addrs = append(n.Addrs, IPv6("fd01::", i+1))
		}
		g.s.Nodes = append(g.s.Nodes, n)
	}
}

func (g *gen) namespace(name string) {
	g.s.Namespaces = append(g.s.Namespaces, state.Namespace{
		Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name, "team": fmt.Sprintf("t%d", g.IntN(2))},
	})
	for i := range 1 + g.IntN(3) {
		app := fmt.Sprintf("app%d", i)
		g.workload(name, app)
		if g.chance(80) {
			g.service(name, app)
		}
		if g.chance(50) {
			g.policy(name, app)
		}
	}
}

// workload makes the pods of a Deployment or DaemonSet.
func (g *gen) workload(namespace, app string) {
	daemon, perPod := g.chance(20), g.chance(15)
	n := 1 + g.IntN(4)
	if daemon {
		n = len(g.s.Nodes)
	}
	for i := range n {
		at := len(g.s.Pods)
		node := &g.s.Nodes[i%len(g.s.Nodes)]
		p := snapshot.Pod{
			Pod: state.Pod{
				Ref:            state.PodRef{Namespace: namespace, Name: fmt.Sprintf("%s-%d", app, i)},
				Labels:         map[string]string{"app": app, "tier": fmt.Sprintf("l%d", g.IntN(2)*0)},
				ServiceAccount: "default",
			},
			Node: node.Name, Owner: "ReplicaSet/" + app, Addrs: []netip.Addr{IPv4("10.0.0.2", at)},
		}
		if g.dual {
			p.Addrs = append(p.Addrs, IPv6("fd00::", at+2))
		}
		if daemon {
			p.Owner = "DaemonSet/" + app
		} else if perPod && n > 1 { // of one pod nobody can tell
			p.Labels["ordinal"] = fmt.Sprint(i)
		}
		if daemon && g.chance(30) {
			p.HostPorts = []state.HostPort{{Protocol: state.ProtocolTCP, HostPort: uint16(9000 + at), ContainerPort: 80}}
		}
		g.s.Pods = append(g.s.Pods, p)
	}
}

// service makes a Service that leads to the pods of an app.
func (g *gen) service(namespace, app string) {
	at := len(g.s.Services)
	s := snapshot.Service{Type: "ClusterIP", Selector: map[string]string{"app": app}}
	s.Ref = state.ServiceRef{Namespace: namespace, Name: app}
	s.CreatedAt = time.Unix(int64(at), 0)
	s.ClusterIPs = []netip.Addr{IPv4("10.96.0.1", at)}
	if g.dual {
		s.ClusterIPs = append(s.ClusterIPs, IPv6("fd02::", at+1))
	}
	external := g.chance(60)
	for i := range 1 + g.IntN(2) {
		p := state.ServicePort{Name: fmt.Sprintf("p%d", i), Protocol: []state.Protocol{state.ProtocolTCP, state.ProtocolUDP}[g.IntN(2)], Port: uint16(80 + i)}
		if external {
			p.NodePort = uint16(30000 + 4*at + i)
		}
		s.Ports = append(s.Ports, p)
	}
	if external {
		s.Type = []string{"NodePort", "LoadBalancer"}[g.IntN(2)]
		s.ExternalLocal = g.chance(40)
	}
	if s.Type == "LoadBalancer" {
		s.LoadBalancers = []netip.Addr{IPv4("198.51.100.1", at)}
		if g.chance(30) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("192.0.2.0/24")}
		}
	}
	s.InternalLocal = g.chance(15)
	if g.chance(20) {
		s.ExternalIPs = []netip.Addr{IPv4("198.18.0.1", at)}
	}
	if g.chance(25) {
		s.Affinity = 3 * time.Hour
	}
	g.s.Services = append(g.s.Services, s)
	g.slices(&s, app)
}

func (g *gen) slices(s *snapshot.Service, app string) {
	for family := range s.ClusterIPs {
		slice := state.EndpointSlice{Namespace: s.Ref.Namespace, Name: fmt.Sprintf("%s-%d", s.Ref.Name, family), Service: s.Ref.Name}
		for _, p := range s.Ports {
			slice.Ports = append(slice.Ports, state.SlicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port + 8000})
		}
		for i := range g.s.Pods {
			p := &g.s.Pods[i]
			if p.Ref.Namespace != s.Ref.Namespace || p.Labels["app"] != app {
				continue
			}
			e := state.SliceEndpoint{Addr: p.Addrs[family], Node: p.Node, Ready: true, Serving: true}
			if g.chance(10) {
				e.Ready, e.Serving = false, g.chance(50)
				e.Terminating = e.Serving
			}
			slice.Backends = append(slice.Backends, e)
		}
		g.s.Slices = append(g.s.Slices, slice)
	}
}

// policy makes a policy of one of a few kinds.
func (g *gen) policy(namespace, app string) {
	p := state.NetworkPolicy{
		Namespace: namespace, Name: fmt.Sprintf("p%d", len(g.s.Policies)), IsolatesIngress: true,
		Subject: state.Selector{MatchLabels: map[string]string{"app": app}},
	}
	rule := state.PolicyRule{}
	switch g.IntN(4) {
	case 0:
		rule.Peers = []state.PolicyPeer{{Pods: &state.Selector{MatchLabels: map[string]string{"app": "app0"}}}}
	case 1:
		rule.Peers = []state.PolicyPeer{{Namespaces: &state.Selector{MatchLabels: map[string]string{"team": "t0"}}}}
	case 2:
		rule.Peers = []state.PolicyPeer{{Block: &state.IPBlock{CIDR: netip.MustParsePrefix("203.0.113.0/24")}}}
	}
	if g.chance(50) {
		rule.Ports = []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: 80, EndPort: uint16(80 + g.IntN(200))}}
	}
	if g.chance(40) {
		g.cilium(&p, &rule, namespace, app)
	}
	p.Ingress = []state.PolicyRule{rule}
	if g.chance(30) {
		p.IsolatesEgress = true
		p.Egress = []state.PolicyRule{rule}
	}
	g.s.Policies = append(g.s.Policies, p)
}

// NamespaceLabel is the label of identities that names their namespace.
const NamespaceLabel = "k8s:io.kubernetes.pod.namespace"

// cilium makes a CiliumNetworkPolicy of a policy, with a peer of its own namespace
// or of any.
func (g *gen) cilium(p *state.NetworkPolicy, rule *state.PolicyRule, namespace, app string) {
	p.Kind = state.PolicyCilium
	p.Subject = state.Selector{MatchLabels: map[string]string{"k8s:app": app, NamespaceLabel: namespace}}
	peer := map[string]string{"k8s:app": "app0"}
	if g.chance(50) {
		peer[NamespaceLabel] = namespace
	}
	rule.Peers = []state.PolicyPeer{{Endpoints: &state.Selector{MatchLabels: peer}}}
	if g.chance(30) {
		p.IngressDeny = []state.PolicyRule{{Peers: []state.PolicyPeer{{Endpoints: &state.Selector{MatchLabels: map[string]string{"k8s:app": "app1"}}}}}}
	}
}
