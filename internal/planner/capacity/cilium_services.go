package capacity

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// Cilium (1.18 to 1.20, pkg/loadbalancer) stores for every frontend a master entry
// and one for each of its backends. A frontend is an address, port, protocol and
// scope; a node port is one at the unspecified address (the surrogate) and one at
// each address of the node. Where one of the traffic policies is Local, frontends
// for clients outside exist twice: a scope for those, and one for clients inside.

// ciliumFrontend is one frontend as Cilium stores it.
type ciliumFrontend struct {
	addr     netip.Addr
	port     uint16
	protocol state.Protocol
	internal bool // the scope of clients inside the cluster
}

// String gives e.g. "10.96.0.1:80/TCP" or "0.0.0.0:30080/TCP, internal scope".
func (f ciliumFrontend) String() string {
	text := fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.addr, f.port), f.protocol)
	if f.internal {
		text += ", internal scope"
	}
	return text
}

// served is a frontend with its backends.
type served struct {
	ciliumFrontend
	kind     string // e.g. "ClusterIP"
	local    bool   // only backends of this node
	backends []ciliumBackend
	maglev   bool
	ranges   int
}

// ciliumBackend is one backend.
type ciliumBackend struct {
	addr     netip.AddrPort
	protocol state.Protocol
	active   bool
}

// ciliumForms are what all Services take on a node, by family where Cilium has a
// map for each.
type ciliumForms struct {
	services, backends, reverse, ranges, maglev [2]form
	affinity                                    form
}

func newCiliumForms() *ciliumForms {
	f := &ciliumForms{affinity: form{}}
	for i := range 2 {
		f.services[i], f.backends[i], f.reverse[i], f.ranges[i], f.maglev[i] = form{}, form{}, form{}, form{}, form{}
	}
	return f
}

// ciliumBalancer counts Services as Cilium stores them.
type ciliumBalancer struct {
	*balancer
	byClass map[string]*ciliumForms
	proxy   bool // node ports and external addresses are served
}

func newCiliumBalancer(b *balancer) *ciliumBalancer {
	return &ciliumBalancer{balancer: b, byClass: map[string]*ciliumForms{}, proxy: b.census.settings.replacesProxy()}
}

// on gives what the Services take on a node.
func (b *ciliumBalancer) on(n *nodeCensus) *ciliumForms {
	key := b.class(n)
	if f := b.byClass[key]; f != nil {
		return f
	}
	f, taken := newCiliumForms(), map[ciliumFrontend]bool{}
	unique := map[ciliumBackend][]dim{}
	wildcards := map[netip.Addr]bool{}
	for i := range b.census.snap.Services {
		s := &b.census.snap.Services[i]
		for _, fe := range b.frontends(s, n) {
			if taken[fe.ciliumFrontend] { // the first Service keeps it
				continue
			}
			taken[fe.ciliumFrontend] = true
			b.add(f, s, fe, unique)
			if b.census.settings.on("bpf-lb-enable-wildcard-entries", false) && (fe.kind == "ClusterIP" || fe.kind == "LoadBalancer") && !wildcards[fe.addr] {
				wildcards[fe.addr] = true
				f.services[index(fe.addr)].add(1, serviceDims(s.Ref)...)
			}
		}
	}
	for _, p := range b.hostPortPods(n) {
		b.addHostPorts(f, p, n, taken, unique)
	}
	for backend, grow := range unique {
		f.backends[index(backend.addr.Addr())].add(1, grow...)
	}
	b.byClass[key] = f
	return f
}

// add adds one frontend: its master and slots, its reverse entry, and what else is
// kept by its number.
func (b *ciliumBalancer) add(f *ciliumForms, s *snapshot.Service, fe served, unique map[ciliumBackend][]dim) {
	family, grow := index(fe.addr), serviceDims(s.Ref)
	f.services[family].add(1, grow...)
	f.reverse[family].add(1, grow...)
	f.ranges[family].add(float64(fe.ranges), grow...)
	active := false
	for _, backend := range fe.backends {
		each := b.backendDims(backend.addr.Addr(), s.Ref, fe.local)
		f.services[family].add(1, each...)
		if s.Affinity > 0 && backend.active {
			f.affinity.add(1, each...)
		}
		active = active || backend.active
		backend.active = true
		if _, there := unique[backend]; !there || !fe.local { // the list of all of them says how many there will be
			// Copies of a Service lead to the same backends.
			unique[backend] = slices.DeleteFunc(slices.Clone(each), func(d dim) bool { return d == byServices })
		}
	}
	if fe.maglev && active {
		f.maglev[family].add(1, grow...)
	}
}

// addHostPorts adds the ports of a node that lead to a pod.
func (b *ciliumBalancer) addHostPorts(f *ciliumForms, p *snapshot.Pod, n *nodeCensus, taken map[ciliumFrontend]bool, unique map[ciliumBackend][]dim) {
	if !b.proxy {
		return
	}
	for _, h := range p.HostPorts {
		for _, pod := range p.Addrs {
			at := []netip.Addr{h.HostIP}
			if !h.HostIP.IsValid() || h.HostIP.IsUnspecified() {
				at = append([]netip.Addr{unspecified(pod.Is6())}, b.nodePortAddrs(n)...)
			}
			for _, a := range at {
				fe := ciliumFrontend{addr: a, port: h.HostPort, protocol: h.Protocol}
				if a.Is6() != pod.Is6() || taken[fe] {
					continue
				}
				taken[fe] = true
				f.services[index(a)].add(2)
				f.reverse[index(a)].add(1)
				unique[ciliumBackend{netip.AddrPortFrom(pod, h.ContainerPort), h.Protocol, true}] = nil
			}
		}
	}
}

func unspecified(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// frontends gives the frontends of a Service on a node, in Cilium's order.
func (b *ciliumBalancer) frontends(s *snapshot.Service, n *nodeCensus) []served {
	var out []served
	for _, a := range s.ClusterIPs {
		out = b.at(out, s, n, "ClusterIP", a, false)
	}
	if !b.proxy {
		return out
	}
	scopes := []bool{false}
	if s.ExternalLocal != s.InternalLocal {
		scopes = append(scopes, true)
	}
	for _, internal := range scopes {
		for _, a := range s.ClusterIPs { // for their families
			out = b.at(out, s, n, "NodePort", unspecified(a.Is6()), internal)
			for _, own := range b.nodePortAddrs(n) {
				if own.Is6() == a.Is6() {
					out = b.at(out, s, n, "NodePort", own, internal)
				}
			}
		}
	}
	for _, a := range s.LoadBalancers {
		for _, internal := range scopes {
			out = b.at(out, s, n, "LoadBalancer", a, internal)
		}
	}
	for _, a := range s.ExternalIPs {
		out = b.at(out, s, n, "ExternalIP", a, false)
	}
	return out
}

// at adds the frontends of all ports of a Service at one address.
func (b *ciliumBalancer) at(out []served, s *snapshot.Service, n *nodeCensus, kind string, a netip.Addr, internal bool) []served {
	ipv4, ipv6 := b.census.settings.families()
	if !a.IsValid() || a.Is6() && !ipv6 || a.Is4() && !ipv4 {
		return out
	}
	local := s.ExternalLocal
	if kind == "ClusterIP" || internal {
		local = s.InternalLocal
	}
	for _, p := range s.Ports {
		fe := served{
			ciliumFrontend: ciliumFrontend{a, p.Port, p.Protocol, internal}, kind: kind, local: local,
			maglev: b.hasMaglev(kind, a), ranges: b.rangesAt(s, kind, a),
		}
		if kind == "NodePort" {
			fe.port = p.NodePort
		}
		if fe.port > 0 {
			fe.backends = b.backendsOf(s, p, a.Is6(), local, n.node.Name)
			out = append(out, fe)
		}
	}
	return out
}

// hasMaglev tells whether frontends at an address have a Maglev table: those that
// clients outside reach, but not the surrogate.
func (b *ciliumBalancer) hasMaglev(kind string, a netip.Addr) bool {
	return b.config.Algorithm == loadbalance.AlgorithmMaglev && !a.IsUnspecified() && (kind != "ClusterIP" || b.config.ExternalClusterIP)
}

// rangesAt counts the source ranges that are kept for a frontend.
func (b *ciliumBalancer) rangesAt(s *snapshot.Service, kind string, a netip.Addr) int {
	n := 0
	if kind == "LoadBalancer" || kind != "ClusterIP" && b.config.SourceRangeAllTypes {
		for _, r := range s.SourceRanges {
			if r.Addr().Is6() == a.Is6() {
				n++
			}
		}
	}
	return n
}

// backendsOf are the backends of a port: those that are ready, and those that end
// and serve still, each once, ordered by address.
func (b *ciliumBalancer) backendsOf(s *snapshot.Service, p state.ServicePort, ipv6, local bool, node string) []ciliumBackend {
	var out []ciliumBackend
	for _, slice := range b.slices[s.Ref] {
		for _, sp := range slice.Ports {
			if sp.Name != p.Name || sp.Protocol != p.Protocol || sp.Port == 0 {
				continue
			}
			for i := range slice.Backends {
				e := &slice.Backends[i]
				if !e.Ready && !e.Serving || e.Addr.Is6() != ipv6 || local && e.Node != node {
					continue
				}
				out = append(out, ciliumBackend{netip.AddrPortFrom(e.Addr, sp.Port), p.Protocol, !e.Terminating})
			}
		}
	}
	slices.SortFunc(out, func(x, y ciliumBackend) int { return x.addr.Compare(y.addr) })
	return slices.CompactFunc(out, func(x, y ciliumBackend) bool { return x.addr == y.addr })
}
