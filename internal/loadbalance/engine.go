package loadbalance

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// Engine holds Services, slices and host ports, and knows what follows from them.
// It is not safe for concurrent use.
//
// What it is given it keeps, and what it returns it keeps too: neither side may
// change it afterwards.
type Engine struct {
	cfg  Config
	node Node

	services, pods map[state.ServiceRef]*owner
	slices         map[state.ServiceRef][]*state.EndpointSlice // by Service, ordered by name
	sliceOf        map[state.ServiceRef]state.ServiceRef       // by the slice's namespace and name

	claims    claims
	dirty     map[*owner]struct{} // to be compiled
	ports     map[PortKey]*Port   // in force
	troubled  map[*owner]struct{} // with problems
	healthy   map[state.ServiceRef]HealthPort
	addresses addresses

	told map[PortKey]*Port // what ports that may have changed were at the last Take; nil: none
}

// New returns an engine that holds nothing and knows no address of the node. The
// error names the key of the configuration that is wrong.
func New(cfg Config) (*Engine, error) {
	if cfg.Algorithm == "" {
		cfg.Algorithm = AlgorithmRandom
	}
	switch {
	case !cfg.IPv4 && !cfg.IPv6:
		return nil, errors.New("enable-ipv4 and enable-ipv6 are both false: services need one")
	case cfg.Algorithm != AlgorithmRandom && cfg.Algorithm != AlgorithmMaglev:
		return nil, fmt.Errorf("bpf-lb-algorithm %q: want %s or %s", cfg.Algorithm, AlgorithmRandom, AlgorithmMaglev)
	case cfg.NodePortFirst == 0 || cfg.NodePortFirst > cfg.NodePortLast:
		return nil, fmt.Errorf("node-port-range %d-%d: want two ports, the smaller first", cfg.NodePortFirst, cfg.NodePortLast)
	}
	if cfg.Algorithm == AlgorithmMaglev || cfg.AlgorithmByAnnotation {
		if err := CheckMaglevSize(cfg.MaglevSize); err != nil {
			return nil, err
		}
	}
	return &Engine{
		cfg:      cfg,
		services: map[state.ServiceRef]*owner{}, pods: map[state.ServiceRef]*owner{},
		slices: map[state.ServiceRef][]*state.EndpointSlice{}, sliceOf: map[state.ServiceRef]state.ServiceRef{},
		claims: newClaims(), dirty: map[*owner]struct{}{}, ports: map[PortKey]*Port{}, told: map[PortKey]*Port{},
		troubled: map[*owner]struct{}{}, healthy: map[state.ServiceRef]HealthPort{}, addresses: newAddresses(),
	}, nil
}

// UpsertService adds a Service, or replaces the one with its name.
func (e *Engine) UpsertService(s *state.Service) {
	o := e.services[s.Ref]
	if o == nil {
		o = &owner{ref: s.Ref}
		e.services[s.Ref] = o
	}
	o.service = s
	e.age(o, s.CreatedAt)
	e.dirty[o] = struct{}{}
}

// DeleteService removes a Service. Removing what is not there is no error.
func (e *Engine) DeleteService(ref state.ServiceRef) {
	e.retire(e.services[ref])
	delete(e.services, ref)
	delete(e.healthy, ref)
}

// UpsertSlice adds a slice, or replaces the one with its name. Its Service need not
// be there.
func (e *Engine) UpsertSlice(s *state.EndpointSlice) {
	name, of := state.ServiceRef{Namespace: s.Namespace, Name: s.Name}, state.ServiceRef{Namespace: s.Namespace, Name: s.Service}
	if old, ok := e.sliceOf[name]; ok && old != of {
		e.DeleteSlice(s.Namespace, s.Name)
	}
	e.sliceOf[name] = of
	list := e.slices[of]
	i, found := slices.BinarySearchFunc(list, s, bySliceName)
	if found {
		list[i] = s
	} else {
		e.slices[of] = slices.Insert(list, i, s)
	}
	e.touch(of)
}

// DeleteSlice removes a slice. Removing what is not there is no error.
func (e *Engine) DeleteSlice(namespace, name string) {
	key := state.ServiceRef{Namespace: namespace, Name: name}
	of, ok := e.sliceOf[key]
	if !ok {
		return
	}
	delete(e.sliceOf, key)
	left := slices.DeleteFunc(e.slices[of], func(s *state.EndpointSlice) bool { return s.Name == name })
	if len(left) == 0 {
		delete(e.slices, of)
	} else {
		e.slices[of] = left
	}
	e.touch(of)
}

func (e *Engine) touch(ref state.ServiceRef) {
	if o := e.services[ref]; o != nil {
		e.dirty[o] = struct{}{}
	}
}

// SetNode says what the node is.
func (e *Engine) SetNode(n Node) {
	n.Addrs = slices.Compact(slices.SortedFunc(slices.Values(n.Addrs), netip.Addr.Compare))
	renamed := n.Name != e.node.Name || n.Zone != e.node.Zone
	moved := !slices.Equal(n.Addrs, e.node.Addrs)
	e.node = n
	e.addresses.setNodes(slices.Values(slices.Concat(n.Addrs, n.Nodes)))
	for _, owners := range []map[state.ServiceRef]*owner{e.services, e.pods} {
		for _, o := range owners {
			if renamed && o.pod == nil || moved && o.usesNode() {
				e.dirty[o] = struct{}{}
			}
		}
	}
}

// SetHostPorts says which ports of the node lead to a pod of it, instead of what
// was said of that pod before; addrs are the pod's.
func (e *Engine) SetHostPorts(pod state.ServiceRef, addrs []netip.Addr, createdAt time.Time, ports []state.HostPort) {
	o := e.pods[pod]
	if o == nil {
		o = &owner{ref: pod}
		e.pods[pod] = o
	}
	o.pod = &HostPorts{Pod: pod, Addrs: addrs, CreatedAt: createdAt, Ports: ports}
	e.age(o, createdAt)
	e.dirty[o] = struct{}{}
}

// DeleteHostPorts forgets the host ports of a pod. Removing what is not there is
// no error.
func (e *Engine) DeleteHostPorts(pod state.ServiceRef) {
	e.retire(e.pods[pod])
	delete(e.pods, pod)
}

// age gives an owner its age, and its claims the order that follows.
func (e *Engine) age(o *owner, createdAt time.Time) {
	if !o.createdAt.Equal(createdAt) {
		list := o.claims
		e.claims.set(o, nil)
		o.createdAt = createdAt
		e.claims.set(o, list)
	}
}

// retire removes an owner, if there is one, and what follows from it.
func (e *Engine) retire(o *owner) {
	if o == nil {
		return
	}
	e.claims.set(o, nil)
	for _, key := range o.ports {
		e.setPort(key, nil)
	}
	e.addresses.drop(o.compiled.Addresses)
	delete(e.claims.changed, o)
	delete(e.troubled, o)
	delete(e.dirty, o)
}

// settle makes everything follow from the objects. What it clears it makes anew:
// clearing a map costs as much as the most that it ever had.
func (e *Engine) settle() {
	if len(e.dirty) > 0 {
		for o := range e.dirty {
			e.compile(o)
		}
		e.dirty = map[*owner]struct{}{}
	}
	if len(e.claims.changed) > 0 {
		for o := range e.claims.changed {
			e.enforce(o)
		}
		e.claims.changed = map[*owner]struct{}{}
	}
}

func (e *Engine) compile(o *owner) {
	old := o.compiled.Addresses
	if o.pod != nil {
		o.compiled = CompileHostPorts(&e.cfg, &e.node, o.pod)
	} else {
		o.compiled = compileSorted(&e.cfg, &e.node, o.service, e.slices[o.ref])
		e.setHealth(o)
	}
	if !slices.Equal(old, o.compiled.Addresses) {
		e.addresses.add(o.compiled.Addresses)
		e.addresses.drop(old)
	}
	n := 0
	for i := range o.compiled.Ports {
		n += len(o.compiled.Ports[i].Frontends)
	}
	list := make([]claim, 0, n)
	for i := range o.compiled.Ports {
		p := &o.compiled.Ports[i]
		for _, f := range p.Frontends {
			list = append(list, claim{f.Addr, p.Key.Protocol})
		}
	}
	e.claims.set(o, list)
	e.claims.changed[o] = struct{}{}
}

func (e *Engine) setHealth(o *owner) {
	if s := o.service; s.ExternalLocal && s.HealthCheckPort != 0 {
		e.healthy[o.ref] = HealthPort{Service: o.ref, Port: s.HealthCheckPort, Local: o.compiled.LocalReady}
	} else {
		delete(e.healthy, o.ref)
	}
}

// enforce makes the ports in force those that an owner wants and has.
func (e *Engine) enforce(o *owner) {
	keys := make([]PortKey, 0, len(o.compiled.Ports))
	var lost []Problem
	for i := range o.compiled.Ports {
		port, losses := e.claims.keep(o, &o.compiled.Ports[i])
		lost = append(lost, losses...)
		if len(port.Frontends) > 0 {
			keys = append(keys, port.Key)
			e.setPort(port.Key, port)
		}
	}
	for _, key := range o.ports {
		if _, still := slices.BinarySearchFunc(keys, key, PortKey.compare); !still {
			e.setPort(key, nil)
		}
	}
	o.ports = keys
	o.problems = o.compiled.Problems
	if len(lost) > 0 {
		o.problems = slices.Concat(o.problems, lost)
		slices.SortFunc(o.problems, Problem.compare)
	}
	if len(o.problems) > 0 {
		e.troubled[o] = struct{}{}
	} else {
		delete(e.troubled, o)
	}
}

// setPort makes p the port in force, nil for none.
func (e *Engine) setPort(key PortKey, p *Port) {
	old := e.ports[key]
	if old == p || old != nil && p != nil && old.equal(p) {
		return
	}
	if _, known := e.told[key]; !known {
		e.told[key] = old
	}
	if p == nil {
		delete(e.ports, key)
	} else {
		e.ports[key] = p
	}
}

// Take returns what changed since the last Take, ordered by key and by address.
func (e *Engine) Take() Update {
	e.settle()
	var u Update
	for key, old := range e.told {
		switch now := e.ports[key]; {
		case now == nil && old != nil:
			u.Delete = append(u.Delete, key)
		case now != nil && (old == nil || !old.equal(now)):
			u.Upsert = append(u.Upsert, *now)
		}
	}
	e.told = map[PortKey]*Port{}
	slices.SortFunc(u.Upsert, func(a, b Port) int { return a.Key.compare(b.Key) })
	slices.SortFunc(u.Delete, PortKey.compare)
	u.Open, u.Gone = e.addresses.take()
	return u
}

// Ports returns every port as it should be served, ordered by key.
func (e *Engine) Ports() []Port {
	e.settle()
	out := make([]Port, 0, len(e.ports))
	for _, key := range slices.SortedFunc(maps.Keys(e.ports), PortKey.compare) {
		out = append(out, *e.ports[key])
	}
	return out
}

// Addresses returns every address of a Service that is no node's, sorted.
func (e *Engine) Addresses() []netip.Addr {
	e.settle()
	return e.addresses.list()
}

// Problems returns every problem that there is now, ordered by whose it is.
func (e *Engine) Problems() []Problem {
	e.settle()
	var out []Problem
	for o := range e.troubled {
		out = append(out, o.problems...)
	}
	slices.SortFunc(out, Problem.compare)
	return out
}

// Health returns the health check node ports, ordered by Service.
func (e *Engine) Health() []HealthPort {
	e.settle()
	return slices.SortedFunc(maps.Values(e.healthy), func(a, b HealthPort) int { return compareRefs(a.Service, b.Service) })
}

func compareRefs(a, b state.ServiceRef) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}
