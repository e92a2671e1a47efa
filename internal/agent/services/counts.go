package services

import (
	"slices"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// owner is what ports belong to: a Service, or a pod with host ports.
type owner struct {
	ref      state.ServiceRef
	hostPort bool
}

func ownerOf(k loadbalance.PortKey) owner { return owner{k.Service, k.HostPort} }

// size is how much one port has.
type size struct{ frontends, backends int }

// counts follow what should be served, so that telling how much it is costs
// nothing.
type counts struct {
	ports  map[loadbalance.PortKey]size
	owners map[owner]int // ports
	pods   int           // owners with host ports
	total  size
}

func newCounts() counts {
	return counts{ports: map[loadbalance.PortKey]size{}, owners: map[owner]int{}}
}

// apply follows an update.
func (c *counts) apply(u loadbalance.Update) {
	for _, k := range u.Delete {
		c.remove(k)
	}
	for _, p := range u.Upsert {
		c.remove(p.Key)
		s := size{len(p.Frontends), countBackends(p)}
		c.ports[p.Key] = s
		c.total.frontends += s.frontends
		c.total.backends += s.backends
		o := ownerOf(p.Key)
		if c.owners[o]++; c.owners[o] == 1 && o.hostPort {
			c.pods++
		}
	}
}

func (c *counts) remove(k loadbalance.PortKey) {
	s, ok := c.ports[k]
	if !ok {
		return
	}
	delete(c.ports, k)
	c.total.frontends -= s.frontends
	c.total.backends -= s.backends
	o := ownerOf(k)
	if c.owners[o]--; c.owners[o] == 0 {
		delete(c.owners, o)
		if o.hostPort {
			c.pods--
		}
	}
}

// countBackends counts the backends of a port, each once.
func countBackends(p loadbalance.Port) int {
	n := len(p.All) + len(p.Draining)
	for _, b := range p.Local {
		if _, found := slices.BinarySearchFunc(p.All, b, compareBackends); !found {
			n++
		}
	}
	return n
}

func compareBackends(a, b loadbalance.Backend) int { return a.Addr.Compare(b.Addr) }
