package loadbalance

import (
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// Add returns the sum.
func (e Entries) Add(o Entries) Entries {
	return Entries{
		Frontends: e.Frontends + o.Frontends, Backends: e.Backends + o.Backends,
		Maglev: e.Maglev + o.Maglev, SourceRanges: e.SourceRanges + o.SourceRanges,
	}
}

// lists are the lists of backends that the datapath stores for a port: those that
// a frontend reaches, without empty ones, equal ones once.
func (p *Port) lists(reached func(Frontend, Reach) bool) [][]Backend {
	var out [][]Backend
	for _, l := range []struct {
		reach    Reach
		backends []Backend
	}{{ReachAll, p.All}, {ReachLocal, p.Local}} {
		hit := slices.ContainsFunc(p.Frontends, func(f Frontend) bool { return reached(f, l.reach) })
		if hit && len(l.backends) > 0 && (len(out) == 0 || !slices.Equal(out[0], l.backends)) {
			out = append(out, l.backends)
		}
	}
	return out
}

func reachedByAny(f Frontend, r Reach) bool    { return f.Outside == r || f.Cluster == r }
func reachedByMaglev(f Frontend, r Reach) bool { return f.Maglev && f.Outside == r }

// maglevBackends is the length of the longest list with a Maglev table.
func (p *Port) maglevBackends() int {
	n := 0
	for _, l := range p.lists(reachedByMaglev) {
		n = max(n, len(l))
	}
	return n
}

// Cost is exactly what a port takes in each table, without the entries of
// addresses alone. A backend that drains takes one entry whatever the affinity;
// ports that let the same one drain share it, and each counts it here.
func Cost(p Port) Entries {
	e := Entries{Frontends: len(p.Frontends), Maglev: len(p.lists(reachedByMaglev)), SourceRanges: len(p.SourceRanges)}
	for _, l := range p.lists(reachedByAny) {
		e.Backends += len(l)
	}
	if p.Affinity > 0 {
		e.Backends *= 2 // each also by its id
	}
	e.Backends += len(p.Draining)
	return e
}

// ServiceCost is what all ports of one Service take, with the entries of the
// addresses alone that they are served at. Summary.Entries also knows which
// addresses nodes have, and which are there without a port.
func ServiceCost(ports []Port) Entries {
	addresses := map[netip.Addr]struct{}{}
	for _, p := range ports {
		for _, f := range p.Frontends {
			if f.Kind != KindNodePort && f.Kind != KindHostPort {
				addresses[f.Addr.Addr()] = struct{}{}
			}
		}
	}
	return serviceCost(ports, len(addresses))
}

// serviceCost is what ports take, and addresses alone beside them. An address that
// two Services share takes one entry, which counts for each of them here.
func serviceCost(ports []Port, addresses int) Entries {
	sum := Entries{Frontends: addresses}
	for _, p := range ports {
		sum = sum.Add(Cost(p))
	}
	return sum
}

// DocumentedEstimate is what the usual rule says that ports of one Service take:
// backends times ports, of two families the larger number. It leaves out
// frontends, addresses of nodes, affinity and all but one table.
func DocumentedEstimate(ports ...Port) int {
	type portProtocol struct {
		port     uint16
		protocol state.Protocol
	}
	var backends [families]map[netip.Addr]struct{}
	var numbers [families]map[portProtocol]struct{}
	for f := range families {
		backends[f], numbers[f] = map[netip.Addr]struct{}{}, map[portProtocol]struct{}{}
	}
	for _, p := range ports {
		f := order(p.Key.IPv6)
		numbers[f][portProtocol{p.Key.Port, p.Key.Protocol}] = struct{}{}
		for _, list := range [][]Backend{p.All, p.Local} {
			for _, b := range list {
				backends[f][b.Addr.Addr()] = struct{}{}
			}
		}
	}
	return max(len(backends[0])*len(numbers[0]), len(backends[1])*len(numbers[1]))
}

// Summary is a Service, or a pod with host ports, as it should be served.
type Summary struct {
	Service   state.ServiceRef
	HostPort  bool         // Service is a pod
	Ports     []Port       // ordered by key
	Addresses []netip.Addr // that have an entry of their own, sorted
	Problems  []Problem
	Entries   Entries // of Ports and Addresses
	Estimate  int     // DocumentedEstimate
}

// Service returns one Service, or one pod with host ports; false when it is not
// known.
func (e *Engine) Service(ref state.ServiceRef, hostPort bool) (Summary, bool) {
	e.settle()
	owners := e.services
	if hostPort {
		owners = e.pods
	}
	o := owners[ref]
	if o == nil {
		return Summary{}, false
	}
	return e.summary(o), true
}

// Services returns all Services and all pods with host ports, ordered by name.
func (e *Engine) Services() []Summary {
	e.settle()
	out := make([]Summary, 0, len(e.services)+len(e.pods))
	for _, owners := range []map[state.ServiceRef]*owner{e.services, e.pods} {
		for _, o := range owners {
			out = append(out, e.summary(o))
		}
	}
	slices.SortFunc(out, func(a, b Summary) int {
		if c := compareRefs(a.Service, b.Service); c != 0 {
			return c
		}
		return order(a.HostPort) - order(b.HostPort)
	})
	return out
}

func (e *Engine) summary(o *owner) Summary {
	s := Summary{Service: o.ref, HostPort: o.pod != nil, Problems: slices.Clone(o.problems)}
	for _, key := range o.ports {
		s.Ports = append(s.Ports, *e.ports[key])
	}
	for _, a := range o.compiled.Addresses {
		if e.addresses.open(a) {
			s.Addresses = append(s.Addresses, a)
		}
	}
	s.Entries = serviceCost(s.Ports, len(s.Addresses))
	s.Estimate = DocumentedEstimate(s.Ports...)
	return s
}
