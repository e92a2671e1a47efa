package loadbalance

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// standing orders endpoints by how fit they are.
type standing uint8

const (
	standingOut         standing = iota // neither takes nor keeps flows, but is there
	standingServing                     // only what it has
	standingTerminating                 // serving and terminating: new flows if nobody else is left
	standingReady
)

func standingOf(e *state.SliceEndpoint) standing {
	switch {
	case e.Ready:
		return standingReady
	case e.Serving && e.Terminating:
		return standingTerminating
	case e.Serving:
		return standingServing
	default:
		return standingOut
	}
}

// candidate is an endpoint that may be a backend of a port.
type candidate struct {
	addr     netip.AddrPort
	endpoint *state.SliceEndpoint
	standing standing
	local    bool
}

// checkEndpoints names endpoints that no port can have as backends.
func (c *compiler) checkEndpoints() {
	var bad, foreign, portless tally
	clusterIP := [families]bool{}
	for _, a := range c.svc.ClusterIPs {
		clusterIP[order(a.Is6())] = true
	}
	for _, s := range c.slices {
		for i := range s.Backends {
			a := s.Backends[i].Addr
			switch {
			case !usable(a):
				bad.add(s.Name, a)
			case !clusterIP[order(a.Is6())]:
				foreign.add(s.Name, a)
			}
		}
		for i := range s.Ports {
			if s.Ports[i].Port == 0 {
				portless.add(s.Name, netip.Addr{})
			}
		}
	}
	if portless.n > 0 {
		c.problem("endpoints: EndpointSlice %q has a port without a number: %d such are not used", portless.slice, portless.n)
	}
	if bad.n > 0 {
		c.problem("endpoints: %s in EndpointSlice %q is not an address that a backend can have: %d such are not used", bad.addr, bad.slice, bad.n)
	}
	if foreign.n > 0 {
		c.problem("endpoints: %s in EndpointSlice %q is %s, and the Service has no such cluster IP: %d such are not used",
			foreign.addr, foreign.slice, familyName(foreign.addr.Is6()), foreign.n)
	}
}

// tally counts endpoints and keeps the first as an example.
type tally struct {
	n     int
	slice string
	addr  netip.Addr
}

func (t *tally) add(slice string, addr netip.Addr) {
	if t.n == 0 {
		t.slice, t.addr = slice, addr
	}
	t.n++
}

// chooseBackends fills in the backends of a port whose frontends are known.
func (c *compiler) chooseBackends(i int, port *Port) {
	found, immutable := c.candidates(port.Key)
	if immutable.n > 0 {
		c.problem("spec.ports[%d]: %s in EndpointSlice %q listens on another port than %d, and ports of SCTP packets cannot be changed: %d such are not used, targetPort must be the same as port",
			i, immutable.addr, immutable.slice, port.Key.Port, immutable.n)
	}
	if len(found) == 0 {
		return
	}
	all, local := c.everywhere(found), nobody
	if port.reaches(ReachLocal) {
		local = here(found)
	}
	port.All = make([]Backend, 0, len(found))
	for k := range found {
		f := &found[k]
		b, inAll, inLocal := Backend{Addr: f.addr}, all(f), local(f)
		if inAll {
			port.All = append(port.All, b)
		}
		if inLocal {
			port.Local = append(port.Local, b)
		}
		if !inAll && !inLocal && (f.standing != standingOut || port.Key.Protocol != state.ProtocolUDP) {
			port.Draining = append(port.Draining, b)
		}
	}
}

// rule tells which candidates are backends for new flows.
type rule func(*candidate) bool

func nobody(*candidate) bool { return false }

// everywhere is the rule for Port.All.
func (c *compiler) everywhere(found []candidate) rule {
	near := c.proximity(found)
	for i := range found {
		if found[i].standing == standingReady {
			return func(f *candidate) bool { return f.standing == standingReady && near(f) }
		}
	}
	return func(f *candidate) bool { return f.standing == standingTerminating }
}

// here is the rule for Port.Local. What is near has no say in it.
func here(found []candidate) rule {
	best := standingOut
	for i := range found {
		if found[i].local {
			best = max(best, found[i].standing)
		}
	}
	if best < standingTerminating {
		return nobody
	}
	return func(f *candidate) bool { return f.local && f.standing == best }
}

// candidates are the endpoints of a port, ordered by address, each once, and
// those whose port is another but may not be.
func (c *compiler) candidates(key PortKey) (found []candidate, immutable tally) {
	for _, s := range c.slices {
		for i := range s.Ports {
			p := &s.Ports[i]
			if p.Name != key.Name || p.Protocol != key.Protocol || p.Port == 0 {
				continue
			}
			found = slices.Grow(found, len(s.Backends))
			for k := range s.Backends {
				e := &s.Backends[k]
				switch {
				case !usable(e.Addr) || e.Addr.Is6() != key.IPv6:
				case p.Protocol == state.ProtocolSCTP && p.Port != key.Port:
					immutable.add(s.Name, e.Addr)
				default:
					found = append(found, candidate{netip.AddrPortFrom(e.Addr, p.Port), e, standingOf(e), c.isLocal(e)})
				}
			}
		}
	}
	// An endpoint that moves from one slice to another is in both for a while.
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(b.standing, a.standing), cmp.Compare(order(b.local), order(a.local)))
	})
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.addr == b.addr }), immutable
}

func (c *compiler) isLocal(e *state.SliceEndpoint) bool {
	return e.Node != "" && e.Node == c.node.Name
}

// proximity tells which ready endpoints are near enough. Hints for nodes go before
// hints for zones, and count only when every ready endpoint has some and one is
// for us.
func (c *compiler) proximity(found []candidate) rule {
	anywhere := func(*candidate) bool { return true }
	if !c.cfg.TopologyHints {
		return anywhere
	}
	everyNode, everyZone, ourNode, ourZone := true, true, false, false
	for i := range found {
		if found[i].standing != standingReady {
			continue
		}
		nodes, zones := found[i].endpoint.HintNodes, found[i].endpoint.HintZones
		everyNode = everyNode && len(nodes) > 0
		everyZone = everyZone && len(zones) > 0
		ourNode = ourNode || slices.Contains(nodes, c.node.Name)
		ourZone = ourZone || slices.Contains(zones, c.node.Zone)
	}
	switch {
	case everyNode && ourNode:
		return func(f *candidate) bool { return slices.Contains(f.endpoint.HintNodes, c.node.Name) }
	case everyZone && ourZone:
		return func(f *candidate) bool { return slices.Contains(f.endpoint.HintZones, c.node.Zone) }
	default:
		return anywhere
	}
}

// localReady counts the ready addresses of this node, for the health check.
func (c *compiler) localReady() int {
	if c.svc.HealthCheckPort == 0 {
		return 0
	}
	var ready [families]map[netip.Addr]struct{}
	for _, s := range c.slices {
		for i := range s.Backends {
			e := &s.Backends[i]
			if !e.Ready || !c.isLocal(e) || !usable(e.Addr) {
				continue
			}
			of := &ready[order(e.Addr.Is6())]
			if *of == nil {
				*of = map[netip.Addr]struct{}{}
			}
			(*of)[e.Addr] = struct{}{}
		}
	}
	return max(len(ready[0]), len(ready[1]))
}

// reaches tells whether clients of a frontend get such backends.
func (p *Port) reaches(r Reach) bool {
	return slices.ContainsFunc(p.Frontends, func(f Frontend) bool { return f.Outside == r || f.Cluster == r })
}
