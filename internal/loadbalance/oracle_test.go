package loadbalance_test

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// pod is a pod with host ports.
type pod struct {
	addrs   []netip.Addr
	created time.Time
	ports   []state.HostPort
}

// cluster is every object that there is.
type cluster struct {
	cfg      loadbalance.Config
	node     loadbalance.Node
	services map[state.ServiceRef]*state.Service
	slices   map[state.ServiceRef]*state.EndpointSlice // by their own names
	pods     map[state.ServiceRef]pod
}

// want is one frontend that somebody wants, with all that decides who gets it.
type want struct {
	addr     netip.AddrPort
	key      loadbalance.PortKey
	kind     loadbalance.Kind
	pod      bool
	created  time.Time
	priority int // among those of one owner
}

func (w want) compare(o want) int {
	number := func(b bool) int { return map[bool]int{true: 1}[b] }
	return cmp.Or(
		number(w.pod)-number(o.pod), w.created.Compare(o.created),
		strings.Compare(w.key.Service.Namespace, o.key.Service.Namespace), strings.Compare(w.key.Service.Name, o.key.Service.Name),
		w.priority-o.priority,
	)
}

// tables is everything that should be in force.
type tables struct {
	ports     map[loadbalance.PortKey]loadbalance.Port
	addresses map[netip.Addr]bool
	health    map[state.ServiceRef]loadbalance.HealthPort
	losers    map[loadbalance.PortKey]bool // Service and HostPort only: who lost something to another
}

// fresh computes everything from the objects: slow, and without a trace of how the
// engine does it.
func (c *cluster) fresh() tables {
	t := tables{
		ports: map[loadbalance.PortKey]loadbalance.Port{}, addresses: map[netip.Addr]bool{},
		health: map[state.ServiceRef]loadbalance.HealthPort{}, losers: map[loadbalance.PortKey]bool{},
	}
	var wants []want
	for _, s := range c.services {
		wants = append(wants, c.serviceWants(s)...)
		for _, a := range slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancers) {
			if c.has(s, a) && !slices.Contains(c.node.Addrs, a) && !slices.Contains(c.node.Nodes, a) {
				t.addresses[a] = true
			}
		}
		if s.ExternalLocal && s.HealthCheckPort > 0 {
			t.health[s.Ref] = loadbalance.HealthPort{Service: s.Ref, Port: s.HealthCheckPort, Local: c.ready(s)}
		}
	}
	for name, p := range c.pods {
		wants = append(wants, c.podWants(name, p)...)
	}
	slices.SortStableFunc(wants, want.compare)
	type point struct {
		addr     netip.AddrPort
		protocol state.Protocol
	}
	holders := map[point]loadbalance.PortKey{}
	for _, w := range wants {
		at := point{w.addr, w.key.Protocol}
		if holder, taken := holders[at]; taken {
			if holder.Service != w.key.Service || holder.HostPort != w.key.HostPort {
				t.losers[loadbalance.PortKey{Service: w.key.Service, HostPort: w.key.HostPort}] = true
			}
			continue
		}
		holders[at] = w.key
		p := t.ports[w.key]
		p.Key = w.key
		p.Frontends = append(p.Frontends, c.frontendOf(w))
		t.ports[w.key] = p
	}
	for key, p := range t.ports {
		slices.SortFunc(p.Frontends, func(a, b loadbalance.Frontend) int { return a.Addr.Compare(b.Addr) })
		if key.HostPort {
			t.ports[key] = c.podBackends(p)
		} else {
			t.ports[key] = c.serviceBackends(p)
		}
	}
	return t
}

func normal(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a.String() != "255.255.255.255"
}

// has tells whether an address of a Service is served.
func (c *cluster) has(s *state.Service, a netip.Addr) bool {
	on := c.cfg.IPv4
	if a.Is6() {
		on = c.cfg.IPv6
	}
	return normal(a) && on && slices.ContainsFunc(s.ClusterIPs, func(ip netip.Addr) bool { return ip.Is6() == a.Is6() })
}

func knownProtocol(p state.Protocol) bool {
	return p.String() == "TCP" || p.String() == "UDP" || p.String() == "SCTP"
}

func (c *cluster) serviceWants(s *state.Service) []want {
	var out []want
	for i, p := range s.Ports {
		again := slices.ContainsFunc(s.Ports[:i], func(q state.ServicePort) bool {
			return q.Name == p.Name && q.Protocol == p.Protocol && q.Port == p.Port
		})
		if p.Port == 0 || !knownProtocol(p.Protocol) || again {
			continue
		}
		add := func(addr netip.Addr, port uint16, kind loadbalance.Kind, rank int) {
			if c.has(s, addr) || kind == loadbalance.KindNodePort && c.has(s, map[bool]netip.Addr{
				false: netip.MustParseAddr("192.0.2.1"), true: netip.MustParseAddr("2001:db8::1"),
			}[addr.Is6()]) {
				out = append(out, want{
					addr: netip.AddrPortFrom(addr, port), kind: kind, created: s.CreatedAt, priority: 10*i + rank,
					key: loadbalance.PortKey{Service: s.Ref, Name: p.Name, Protocol: p.Protocol, Port: p.Port, IPv6: addr.Is6()},
				})
			}
		}
		for _, a := range s.ClusterIPs {
			add(a, p.Port, loadbalance.KindClusterIP, 0)
		}
		for _, a := range s.LoadBalancers {
			add(a, p.Port, loadbalance.KindLoadBalancer, 1)
		}
		for _, a := range s.ExternalIPs {
			add(a, p.Port, loadbalance.KindExternalIP, 2)
		}
		if p.NodePort >= c.cfg.NodePortFirst && p.NodePort <= c.cfg.NodePortLast && (p.Protocol != state.ProtocolSCTP || p.NodePort == p.Port) {
			for _, a := range c.node.Addrs {
				add(a, p.NodePort, loadbalance.KindNodePort, 3)
			}
		}
	}
	return out
}

func (c *cluster) podWants(name state.ServiceRef, p pod) []want {
	var out []want
	for i, h := range p.ports {
		if h.HostPort == 0 || h.ContainerPort == 0 || !knownProtocol(h.Protocol) ||
			h.Protocol == state.ProtocolSCTP && h.HostPort != h.ContainerPort {
			continue
		}
		at, text, priority := []netip.Addr{h.HostIP}, h.HostIP.String(), i
		if !h.HostIP.IsValid() || h.HostIP.IsUnspecified() {
			at, text, priority = c.node.Addrs, "", i+1000
		}
		for _, a := range at {
			if _, ok := podAddr(p, a.Is6()); ok && (a.Is6() && c.cfg.IPv6 || a.Is4() && c.cfg.IPv4) {
				out = append(out, want{
					addr: netip.AddrPortFrom(a, h.HostPort), kind: loadbalance.KindHostPort, pod: true, created: p.created, priority: priority,
					key: loadbalance.PortKey{Service: name, HostPort: true, Name: text, Protocol: h.Protocol, Port: h.HostPort, IPv6: a.Is6()},
				})
			}
		}
	}
	return out
}

func podAddr(p pod, ipv6 bool) (netip.Addr, bool) {
	for _, a := range p.addrs {
		if a.Is6() == ipv6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// podBackends leads a host port to the first container port that the pod has for it.
func (c *cluster) podBackends(p loadbalance.Port) loadbalance.Port {
	it := c.pods[p.Key.Service]
	addr, _ := podAddr(it, p.Key.IPv6)
	for _, h := range it.ports {
		text := ""
		if h.HostIP.IsValid() && !h.HostIP.IsUnspecified() {
			text = h.HostIP.String()
		}
		if h.HostPort == p.Key.Port && h.Protocol == p.Key.Protocol && text == p.Key.Name && h.ContainerPort > 0 &&
			(h.Protocol != state.ProtocolSCTP || h.ContainerPort == h.HostPort) {
			p.All = []loadbalance.Backend{{Addr: netip.AddrPortFrom(addr, h.ContainerPort)}}
			break
		}
	}
	return p
}

func (c *cluster) maglev(s *state.Service) bool {
	chosen := c.cfg.Algorithm
	if a := s.Annotations["service.cilium.io/lb-algorithm"]; c.cfg.AlgorithmByAnnotation && (a == "random" || a == "maglev") {
		chosen = loadbalance.Algorithm(a)
	}
	return chosen == loadbalance.AlgorithmMaglev
}

func (c *cluster) frontendOf(w want) loadbalance.Frontend {
	f := loadbalance.Frontend{Addr: w.addr, Kind: w.kind, Outside: loadbalance.ReachAll, Cluster: loadbalance.ReachAll}
	if w.pod {
		return f
	}
	s := c.services[w.key.Service]
	if w.kind == loadbalance.KindClusterIP && s.InternalLocal {
		f.Outside, f.Cluster = loadbalance.ReachLocal, loadbalance.ReachLocal
	}
	if w.kind == loadbalance.KindClusterIP && !c.cfg.ExternalClusterIP {
		f.Outside = loadbalance.ReachNone
		return f
	}
	if w.kind != loadbalance.KindClusterIP && s.ExternalLocal {
		f.Outside = loadbalance.ReachLocal
	}
	f.Maglev = c.maglev(s)
	f.SourceRanges = len(s.SourceRanges) > 0 && (w.kind == loadbalance.KindLoadBalancer || c.cfg.SourceRangeAllTypes)
	return f
}

// endpointsOf are the endpoints of a port by address, each as it is at its best.
func (c *cluster) endpointsOf(key loadbalance.PortKey) map[netip.AddrPort]state.SliceEndpoint {
	fitness := func(e state.SliceEndpoint) int {
		n := 0
		switch {
		case e.Ready:
			n = 6
		case e.Serving && e.Terminating:
			n = 4
		case e.Serving:
			n = 2
		}
		if e.Node != "" && e.Node == c.node.Name {
			n++
		}
		return n
	}
	out := map[netip.AddrPort]state.SliceEndpoint{}
	for _, name := range slices.SortedFunc(maps.Keys(c.slices), func(a, b state.ServiceRef) int { return strings.Compare(a.String(), b.String()) }) {
		s := c.slices[name]
		if s.Namespace != key.Service.Namespace || s.Service != key.Service.Name {
			continue
		}
		for _, p := range s.Ports {
			for _, e := range s.Backends {
				at := netip.AddrPortFrom(e.Addr, p.Port)
				usable := p.Port > 0 && normal(e.Addr) && e.Addr.Is6() == key.IPv6 && (p.Protocol != state.ProtocolSCTP || p.Port == key.Port)
				if p.Name != key.Name || p.Protocol != key.Protocol || !usable {
					continue
				}
				if old, ok := out[at]; !ok || fitness(e) > fitness(old) {
					out[at] = e
				}
			}
		}
	}
	return out
}

// serviceBackends fills in the rest of a port.
func (c *cluster) serviceBackends(p loadbalance.Port) loadbalance.Port {
	s := c.services[p.Key.Service]
	p.Affinity = uint32(s.Affinity / time.Second)
	local, ranged := false, false
	for _, f := range p.Frontends {
		local = local || f.Outside == loadbalance.ReachLocal || f.Cluster == loadbalance.ReachLocal
		ranged = ranged || f.SourceRanges
	}
	if ranged {
		for _, r := range s.SourceRanges {
			if r.Addr().Is6() == p.Key.IPv6 {
				p.SourceRanges = append(p.SourceRanges, r)
			}
		}
	}
	found := c.endpointsOf(p.Key)
	filter := func(test func(state.SliceEndpoint) bool) []loadbalance.Backend {
		var out []loadbalance.Backend
		for at, e := range found {
			if test(e) {
				out = append(out, loadbalance.Backend{Addr: at})
			}
		}
		slices.SortFunc(out, func(a, b loadbalance.Backend) int { return a.Addr.Compare(b.Addr) })
		return out
	}
	here := func(e state.SliceEndpoint) bool { return e.Node != "" && e.Node == c.node.Name }
	lastResort := func(e state.SliceEndpoint) bool { return !e.Ready && e.Serving && e.Terminating }
	p.All = c.near(found, filter)
	if len(p.All) == 0 {
		p.All = filter(lastResort)
	}
	if local {
		p.Local = filter(func(e state.SliceEndpoint) bool { return here(e) && e.Ready })
		if len(p.Local) == 0 {
			p.Local = filter(func(e state.SliceEndpoint) bool { return here(e) && lastResort(e) })
		}
	}
	for _, b := range filter(func(e state.SliceEndpoint) bool {
		return e.Ready || e.Serving || p.Key.Protocol != state.ProtocolUDP
	}) {
		if !slices.Contains(p.All, b) && !slices.Contains(p.Local, b) {
			p.Draining = append(p.Draining, b)
		}
	}
	return p
}

// near are the ready endpoints that hints leave.
func (c *cluster) near(found map[netip.AddrPort]state.SliceEndpoint, filter func(func(state.SliceEndpoint) bool) []loadbalance.Backend) []loadbalance.Backend {
	ready := func(e state.SliceEndpoint) bool { return e.Ready }
	if !c.cfg.TopologyHints {
		return filter(ready)
	}
	for _, by := range []struct {
		hints func(state.SliceEndpoint) []string
		us    string
	}{
		{func(e state.SliceEndpoint) []string { return e.HintNodes }, c.node.Name},
		{func(e state.SliceEndpoint) []string { return e.HintZones }, c.node.Zone},
	} {
		silent := filter(func(e state.SliceEndpoint) bool { return e.Ready && len(by.hints(e)) == 0 })
		ours := filter(func(e state.SliceEndpoint) bool { return e.Ready && slices.Contains(by.hints(e), by.us) })
		if len(silent) == 0 && len(ours) > 0 {
			return ours
		}
	}
	return filter(ready)
}

// ready counts the ready addresses of this node.
func (c *cluster) ready(s *state.Service) int {
	count := map[bool]map[netip.Addr]bool{false: {}, true: {}}
	for _, x := range c.slices {
		for _, e := range x.Backends {
			if x.Namespace == s.Ref.Namespace && x.Service == s.Ref.Name && e.Ready && e.Node != "" && e.Node == c.node.Name && normal(e.Addr) {
				count[e.Addr.Is6()][e.Addr] = true
			}
		}
	}
	return max(len(count[false]), len(count[true]))
}
