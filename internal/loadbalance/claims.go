package loadbalance

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// claim is what only one can have: an address, port and protocol.
type claim struct {
	addr     netip.AddrPort
	protocol state.Protocol
}

// String gives "ADDRESS:PORT/PROTOCOL".
func (c claim) String() string { return fmt.Sprintf("%s/%s", c.addr, c.protocol) }

// owner is a Service, or a pod with host ports, and what follows from it.
type owner struct {
	ref       state.ServiceRef
	service   *state.Service
	pod       *HostPorts // nil: a Service
	compiled  Compiled
	claims    []claim   // of all frontends, in their order
	ports     []PortKey // in force
	problems  []Problem
	createdAt time.Time
}

// before tells who keeps what both claim: a Service before a pod, then the older,
// then the first by name.
func (o *owner) before(p *owner) bool {
	return cmp.Or(
		cmp.Compare(order(o.pod != nil), order(p.pod != nil)),
		o.createdAt.Compare(p.createdAt),
		strings.Compare(o.ref.Namespace, p.ref.Namespace),
		strings.Compare(o.ref.Name, p.ref.Name),
	) < 0
}

func (o *owner) String() string {
	if o.pod != nil {
		return "Pod " + o.ref.String()
	}
	return "Service " + o.ref.String()
}

// usesNode tells whether what follows from an owner depends on the node's addresses.
func (o *owner) usesNode() bool {
	if o.pod != nil {
		return true
	}
	return slices.ContainsFunc(o.service.Ports, func(p state.ServicePort) bool { return p.NodePort != 0 })
}

// claims knows who wants what. Its answers depend on who claims, not on the order.
type claims struct {
	held    map[claim]*owner
	waiting map[claim][]*owner // in no order
	// changed are owners who won or lost something.
	changed map[*owner]struct{}
}

func newClaims() claims {
	return claims{held: map[claim]*owner{}, waiting: map[claim][]*owner{}, changed: map[*owner]struct{}{}}
}

// set makes list what an owner claims, instead of its claims.
func (c *claims) set(o *owner, list []claim) {
	if slices.Equal(o.claims, list) {
		return
	}
	wanted := make(map[claim]struct{}, len(list))
	for _, k := range list {
		wanted[k] = struct{}{}
	}
	for _, k := range o.claims {
		if _, ok := wanted[k]; ok {
			delete(wanted, k)
		} else {
			c.release(k, o)
		}
	}
	for k := range wanted {
		c.add(k, o)
	}
	o.claims = list
}

func (c *claims) add(k claim, o *owner) {
	holder := c.held[k]
	switch {
	case holder == nil:
		c.held[k] = o
	case o.before(holder):
		c.held[k] = o
		c.waiting[k] = append(c.waiting[k], holder)
		c.notify(k, o)
	default:
		c.waiting[k] = append(c.waiting[k], o)
	}
	c.changed[o] = struct{}{}
}

func (c *claims) release(k claim, o *owner) {
	c.changed[o] = struct{}{}
	others := c.waiting[k]
	if c.held[k] != o {
		c.wait(k, slices.DeleteFunc(others, func(p *owner) bool { return p == o }))
		return
	}
	if len(others) == 0 {
		delete(c.held, k)
		return
	}
	next := others[0]
	for _, p := range others[1:] {
		if p.before(next) {
			next = p
		}
	}
	c.held[k] = next
	c.wait(k, slices.DeleteFunc(others, func(p *owner) bool { return p == next }))
	c.notify(k, next)
}

func (c *claims) wait(k claim, owners []*owner) {
	if len(owners) == 0 {
		delete(c.waiting, k)
	} else {
		c.waiting[k] = owners
	}
}

// notify tells everybody who wants something that another has it now.
func (c *claims) notify(k claim, holder *owner) {
	c.changed[holder] = struct{}{}
	for _, o := range c.waiting[k] {
		c.changed[o] = struct{}{}
	}
}

// keep takes from a port of an owner the frontends that others have, and says so.
func (c *claims) keep(o *owner, port *Port) (*Port, []Problem) {
	lost := func(f Frontend) bool { return c.held[claim{f.Addr, port.Key.Protocol}] != o }
	if !slices.ContainsFunc(port.Frontends, lost) {
		return port, nil
	}
	kept := *port
	kept.Frontends = nil
	var problems []Problem
	type loss struct {
		kind   Kind
		holder *owner
	}
	var losses []loss // the node's addresses are one, and so are all to one holder
	for _, f := range port.Frontends {
		if !lost(f) {
			kept.Frontends = append(kept.Frontends, f)
			continue
		}
		k := claim{f.Addr, port.Key.Protocol}
		l := loss{f.Kind, c.held[k]}
		if slices.Contains(losses, l) {
			continue
		}
		losses = append(losses, l)
		problems = append(problems, Problem{
			Service: o.ref, HostPort: o.pod != nil,
			Message: fmt.Sprintf("%s: %s belongs to %s, which goes before: %s gets it when that goes", f.Kind.field(), k, l.holder, o),
		})
	}
	kept.trim()
	return &kept, problems
}

// trim takes from a port what only frontends needed that it does not get. It
// changes no list in place.
func (p *Port) trim() {
	if !slices.ContainsFunc(p.Frontends, func(f Frontend) bool { return f.SourceRanges }) {
		p.SourceRanges = nil
	}
	if p.reaches(ReachLocal) {
		return
	}
	draining := slices.Clone(p.Draining)
	for _, b := range p.Local {
		if !slices.Contains(p.All, b) {
			draining = append(draining, b)
		}
	}
	slices.SortFunc(draining, func(a, b Backend) int { return a.Addr.Compare(b.Addr) })
	p.Local, p.Draining = nil, draining
}

// field is where an object says that it wants such a frontend.
func (k Kind) field() string {
	switch k {
	case KindClusterIP:
		return "spec.clusterIPs"
	case KindLoadBalancer:
		return "status.loadBalancer.ingress"
	case KindExternalIP:
		return "spec.externalIPs"
	case KindNodePort:
		return "spec.ports.nodePort"
	default:
		return "hostPort"
	}
}
