package loadbalance

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// Compiled is what follows from one Service, or one pod with host ports, before
// others claim what it wants.
type Compiled struct {
	Ports     []Port       // ordered by key; two never have a frontend in common
	Addresses []netip.Addr // of the Service, sorted
	Problems  []Problem    // ordered by message
	// LocalReady is how many addresses of pods of this node are ready; of two
	// families the larger number.
	LocalReady int
}

// compiler compiles one Service.
type compiler struct {
	cfg    *Config
	node   *Node
	svc    *state.Service
	slices []*state.EndpointSlice
	out    Compiled

	algorithm Algorithm
	deny      bool           // source ranges are those of clients to refuse
	families  [families]bool // that are served
	targets   []target       // ordered by address
	taken     map[claim]int  // frontends to indexes of ports
	ranges    [families][]netip.Prefix
	limited   [families]bool // only clients in ranges are served
}

// families counts IPv4 and IPv6, whose indexes are order(false) and order(true).
const families = 2

func order(later bool) int {
	if later {
		return 1
	}
	return 0
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// target is an address of the Service itself.
type target struct {
	addr netip.Addr
	kind Kind
}

// Compile gives what a Service is to be served as on a node. The slices are those
// of the Service; their order does not matter. The arguments are kept, and must
// not change afterwards.
func Compile(cfg *Config, node *Node, svc *state.Service, endpoints []*state.EndpointSlice) Compiled {
	endpoints = slices.Clone(endpoints)
	slices.SortFunc(endpoints, bySliceName)
	return compileSorted(cfg, node, svc, endpoints)
}

func bySliceName(a, b *state.EndpointSlice) int { return strings.Compare(a.Name, b.Name) }

func compileSorted(cfg *Config, node *Node, svc *state.Service, endpoints []*state.EndpointSlice) Compiled {
	c := compiler{cfg: cfg, node: node, svc: svc, slices: endpoints, algorithm: cmp.Or(cfg.Algorithm, AlgorithmRandom)}
	c.readAnnotations()
	c.readDistribution()
	c.readAddresses()
	c.readSourceRanges()
	c.checkEndpoints()
	for i := range svc.Ports {
		if !c.portIsValid(i) {
			continue
		}
		for f, served := range c.families {
			if served {
				c.compilePort(i, f == 1)
			}
		}
	}
	c.out.LocalReady = c.localReady()
	slices.SortFunc(c.out.Ports, func(a, b Port) int { return a.Key.compare(b.Key) })
	c.out.Problems = ordered(c.out.Problems)
	return c.out
}

// ordered sorts problems and leaves out what is said twice.
func ordered(problems []Problem) []Problem {
	slices.SortFunc(problems, Problem.compare)
	return slices.Compact(problems)
}

func (c *compiler) problem(format string, args ...any) {
	c.out.Problems = append(c.out.Problems, Problem{Service: c.svc.Ref, Message: fmt.Sprintf(format, args...)})
}

// readAddresses finds the families and addresses where the Service is served.
func (c *compiler) readAddresses() {
	for _, a := range c.svc.ClusterIPs {
		if a.IsValid() && c.cfg.serves(a.Is6()) {
			c.families[order(a.Is6())] = true
		}
	}
	c.readTargets(KindClusterIP, "spec.clusterIPs", c.svc.ClusterIPs)
	c.readTargets(KindLoadBalancer, "status.loadBalancer.ingress", c.svc.LoadBalancers)
	c.readTargets(KindExternalIP, "spec.externalIPs", c.svc.ExternalIPs)
	slices.SortStableFunc(c.targets, func(a, b target) int { return a.addr.Compare(b.addr) })
	// The same address twice is its first kind: the strictest.
	c.targets = slices.CompactFunc(c.targets, func(a, b target) bool { return a.addr == b.addr })
	for _, t := range c.targets {
		c.out.Addresses = append(c.out.Addresses, t.addr)
	}
}

func (c *compiler) readTargets(kind Kind, field string, addrs []netip.Addr) {
	for _, a := range addrs {
		ipv6 := a.Is6()
		switch {
		case !usable(a):
			c.problem("%s: %s is not an address that a Service can have", field, a)
		case !c.cfg.serves(ipv6):
			c.problem("%s: %s is not served, because enable-%s is false", field, a, strings.ToLower(familyName(ipv6)))
		case !c.families[order(ipv6)]:
			c.problem("%s: %s is not served, because the Service has no %s cluster IP", field, a, familyName(ipv6))
		default:
			c.targets = append(c.targets, target{addr: a, kind: kind})
		}
	}
}

func (cfg *Config) serves(ipv6 bool) bool {
	if ipv6 {
		return cfg.IPv6
	}
	return cfg.IPv4
}

// usable tells whether packets for one machine can have the address.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		!a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// portIsValid tells whether a port can be served at all, and why not.
func (c *compiler) portIsValid(i int) bool {
	p := &c.svc.Ports[i]
	if p.Port == 0 {
		c.problem("spec.ports[%d].port: 0 is no port", i)
		return false
	}
	if !known(p.Protocol) {
		c.problem("spec.ports[%d].protocol: %s is not served, only TCP, UDP and SCTP are", i, p.Protocol)
		return false
	}
	for j := range i {
		if q := c.svc.Ports[j]; q.Name == p.Name && q.Protocol == p.Protocol && q.Port == p.Port {
			c.problem("spec.ports[%d]: the same name, protocol and port as spec.ports[%d]", i, j)
			return false
		}
	}
	switch n := p.NodePort; {
	case n == 0:
	case n < c.cfg.NodePortFirst || n > c.cfg.NodePortLast:
		c.problem("spec.ports[%d].nodePort: %d is not served, because node-port-range is %d-%d", i, n, c.cfg.NodePortFirst, c.cfg.NodePortLast)
	case p.Protocol == state.ProtocolSCTP && n != p.Port:
		c.problem("spec.ports[%d].nodePort: %d is not served, because ports of SCTP packets cannot be changed: it must be %d, as port is", i, n, p.Port)
	}
	return true
}

func known(p state.Protocol) bool {
	return p == state.ProtocolTCP || p == state.ProtocolUDP || p == state.ProtocolSCTP
}

// nodePort is what a port is served as at addresses of the node; 0: not at all.
func (c *compiler) nodePort(p *state.ServicePort) uint16 {
	if p.NodePort < c.cfg.NodePortFirst || p.NodePort > c.cfg.NodePortLast || p.Protocol == state.ProtocolSCTP && p.NodePort != p.Port {
		return 0
	}
	return p.NodePort
}

// compilePort makes the Port of a port in one family, if it has a frontend.
func (c *compiler) compilePort(i int, ipv6 bool) {
	p := &c.svc.Ports[i]
	port := Port{
		Key:      PortKey{Service: c.svc.Ref, Name: p.Name, Protocol: p.Protocol, Port: p.Port, IPv6: ipv6},
		Affinity: seconds(c.svc.Affinity),
	}
	port.Frontends = c.frontends(i, ipv6)
	if len(port.Frontends) == 0 {
		return
	}
	if slices.ContainsFunc(port.Frontends, func(f Frontend) bool { return f.SourceRanges }) {
		port.SourceRanges = c.ranges[order(ipv6)]
	}
	c.chooseBackends(i, &port)
	if n := port.maglevBackends(); n > int(c.cfg.MaglevSize) {
		c.problem("spec.ports[%d]: of %d backends only %d get connections from outside, because bpf-lb-maglev-table-size is %d: it should be 100 times the backends",
			i, n, c.cfg.MaglevSize, c.cfg.MaglevSize)
	}
	c.out.Ports = append(c.out.Ports, port)
}

// frontends are where a port is served, sorted, without those of earlier ports.
func (c *compiler) frontends(i int, ipv6 bool) []Frontend {
	p := &c.svc.Ports[i]
	nodePort := c.nodePort(p)
	room := len(c.targets)
	if nodePort != 0 {
		room += len(c.node.Addrs)
	}
	out := make([]Frontend, 0, room)
	for _, t := range c.targets {
		if t.addr.Is6() == ipv6 {
			out = append(out, c.frontend(t.kind, netip.AddrPortFrom(t.addr, p.Port)))
		}
	}
	if nodePort != 0 {
		for _, a := range c.node.Addrs {
			if a.Is6() == ipv6 {
				out = append(out, c.frontend(KindNodePort, netip.AddrPortFrom(a, nodePort)))
			}
		}
		slices.SortStableFunc(out, Frontend.compare)
		out = slices.CompactFunc(out, func(a, b Frontend) bool { return a.Addr == b.Addr })
	}
	if len(c.svc.Ports) == 1 {
		return out
	}
	return slices.DeleteFunc(out, func(f Frontend) bool { return !c.take(i, f) })
}

// take gives a frontend to a port, unless an earlier one has it.
func (c *compiler) take(i int, f Frontend) bool {
	if c.taken == nil {
		c.taken = map[claim]int{}
	}
	key := claim{f.Addr, c.svc.Ports[i].Protocol}
	if j, ok := c.taken[key]; ok {
		c.problem("spec.ports[%d]: %s is served as spec.ports[%d] already", i, key, j)
		return false
	}
	c.taken[key] = i
	return true
}

// frontend says who gets which backends at an address of some kind. Traffic from
// this node to an address for those outside gets every backend even when
// externalTrafficPolicy is Local: it did not come in anywhere.
func (c *compiler) frontend(kind Kind, addr netip.AddrPort) Frontend {
	f := Frontend{Addr: addr, Kind: kind, Outside: ReachAll, Cluster: ReachAll}
	if kind == KindClusterIP {
		if c.svc.InternalLocal {
			f.Cluster = ReachLocal
		}
		f.Outside = ReachNone
		if c.cfg.ExternalClusterIP {
			f.Outside = f.Cluster
		}
	} else if c.svc.ExternalLocal {
		f.Outside = ReachLocal
	}
	if f.Outside != ReachNone {
		f.Maglev = c.algorithm == AlgorithmMaglev
		f.SourceRanges = c.limited[order(addr.Addr().Is6())] && (kind == KindLoadBalancer || c.cfg.SourceRangeAllTypes)
	}
	return f
}

// seconds rounds up; what does not fit is as long as it can be.
func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(min((int64(d)-1)/int64(time.Second)+1, math.MaxUint32))
}

func (f Frontend) compare(o Frontend) int { return f.Addr.Compare(o.Addr) }

func (k PortKey) compare(o PortKey) int {
	return cmp.Or(
		strings.Compare(k.Service.Namespace, o.Service.Namespace),
		strings.Compare(k.Service.Name, o.Service.Name),
		cmp.Compare(order(k.HostPort), order(o.HostPort)),
		cmp.Compare(k.Port, o.Port),
		cmp.Compare(k.Protocol, o.Protocol),
		strings.Compare(k.Name, o.Name),
		cmp.Compare(order(k.IPv6), order(o.IPv6)),
	)
}

func (p Problem) compare(o Problem) int {
	return cmp.Or(
		strings.Compare(p.Service.Namespace, o.Service.Namespace),
		strings.Compare(p.Service.Name, o.Service.Name),
		cmp.Compare(order(p.HostPort), order(o.HostPort)),
		strings.Compare(p.Message, o.Message),
	)
}

// equal tells whether two ports with one key are the same.
func (p *Port) equal(o *Port) bool {
	return p.Affinity == o.Affinity && slices.Equal(p.Frontends, o.Frontends) && slices.Equal(p.All, o.All) &&
		slices.Equal(p.Local, o.Local) && slices.Equal(p.Draining, o.Draining) && slices.Equal(p.SourceRanges, o.SourceRanges)
}
