package datapath

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
)

// oracle says from the desired ports alone, in the slowest way, what the tables
// must hold. It knows nothing of how they came to hold it.
type oracle struct {
	k       *fakeKernel
	maglevM uint32
	seed    loadbalance.MaglevSeed

	desired   map[loadbalance.PortKey]loadbalance.Port
	addresses map[netip.Addr]bool
	// inForce are the versions of ports that the kernel has.
	inForce map[loadbalance.PortKey]loadbalance.Port
	// rough tells that an agent was started, a write failed, or rows were damaged,
	// since a port was written: while it is refused the kernel may have a part of it, a mixture, or
	// what another port left at its addresses.
	rough map[loadbalance.PortKey]bool
}

// doubt makes all ports rough.
func (o *oracle) doubt() {
	for key := range o.desired {
		o.rough[key] = true
	}
}

// note follows what the writer says after a change.
func (o *oracle) note(refusals []loadbalance.Refusal) {
	refused := map[loadbalance.PortKey]bool{}
	for _, r := range refusals {
		refused[r.Key] = true
	}
	maps.DeleteFunc(o.inForce, func(k loadbalance.PortKey, _ loadbalance.Port) bool { _, ok := o.desired[k]; return !ok })
	taken := map[abi.CFrontendKey]bool{}
	for key, p := range o.desired {
		if refused[key] {
			continue
		}
		o.inForce[key] = p
		delete(o.rough, key)
		for _, f := range p.Frontends {
			taken[frontendKey(f.Addr, key.Protocol)] = true
		}
	}
	for key := range refused {
		p := o.inForce[key]
		p.Frontends = slices.DeleteFunc(slices.Clone(p.Frontends), func(f loadbalance.Frontend) bool {
			return taken[frontendKey(f.Addr, key.Protocol)]
		})
		if _, ok := o.inForce[key]; ok {
			o.inForce[key] = p
		}
	}
}

// verify compares every row with the desired ports. Those that the writer refuses
// may lag behind; of their rows the writer w must know.
func (o *oracle) verify(w *serviceWriter) error {
	seen := &accounted{
		frontends: map[abi.CFrontendKey]bool{}, backends: map[abi.CBackendKey]bool{}, maglev: map[uint32]bool{lastingList: true},
		ranges: map[abi.CSourceRangeKey]bool{}, ids: map[backendKey]uint32{}, services: map[uint32]loadbalance.PortKey{},
	}
	var lagging []loadbalance.PortKey
	for key, p := range o.desired {
		if w.refused[key] != nil {
			lagging = append(lagging, key)
		} else if err := o.verifyPort(p, seen); err != nil {
			return fmt.Errorf("%v: %w", key, err)
		}
	}
	for _, key := range lagging {
		if err := o.verifyLagging(w, key, seen); err != nil {
			return fmt.Errorf("refused %v: %w", key, err)
		}
	}
	for a := range o.addresses {
		v, ok := o.k.frontends.rows[addressKey(a)]
		if !ok && len(o.k.frontends.rows) < o.k.frontends.limit || ok && v != closedFrontend() {
			return fmt.Errorf("the row of address %s is %v, %t", a, v, ok)
		}
		if ok {
			seen.frontends[addressKey(a)] = true
		}
	}
	return o.verifyRest(seen)
}

type accounted struct {
	frontends map[abi.CFrontendKey]bool
	backends  map[abi.CBackendKey]bool
	maglev    map[uint32]bool
	ranges    map[abi.CSourceRangeKey]bool
	ids       map[backendKey]uint32
	services  map[uint32]loadbalance.PortKey
}

func (a *accounted) id(key backendKey, id uint32) error {
	if id == 0 {
		return fmt.Errorf("backend %v has id 0", key)
	}
	if have, ok := a.ids[key]; ok && have != id {
		return fmt.Errorf("backend %v has the ids %d and %d", key, have, id)
	}
	for k, have := range a.ids {
		if have == id && k != key {
			return fmt.Errorf("backends %v and %v have the id %d", k, key, id)
		}
	}
	a.ids[key] = id
	return nil
}

func (o *oracle) verifyPort(p loadbalance.Port, seen *accounted) error {
	service := uint32(0)
	lists := map[string]uint32{} // by content
	for _, f := range p.Frontends {
		key := frontendKey(f.Addr, p.Key.Protocol)
		v, ok := o.k.frontends.rows[key]
		if !ok {
			return fmt.Errorf("frontend %s is missing", f.Addr)
		}
		seen.frontends[key] = true
		if service == 0 {
			service = v.Service
		}
		if v.Service != service || service == 0 {
			return fmt.Errorf("frontends have the services %d and %d", service, v.Service)
		}
		if err := o.verifyFrontend(p, f, v, lists, seen); err != nil {
			return fmt.Errorf("frontend %s: %w", f.Addr, err)
		}
	}
	if owner, ok := seen.services[service]; ok && service != 0 {
		return fmt.Errorf("service id %d is also that of %v", service, owner)
	}
	seen.services[service] = p.Key
	ranges := slices.ContainsFunc(p.Frontends, func(f loadbalance.Frontend) bool { return f.SourceRanges })
	for _, r := range p.SourceRanges {
		key := sourceRangeKey(service, r)
		if v := o.k.ranges.rows[key]; v != 1 && ranges {
			return fmt.Errorf("source range %s is missing", r)
		}
		if ranges {
			seen.ranges[key] = true
		}
	}
	for _, b := range p.Draining {
		if err := o.verifyLasting(backendKey{b.Addr, p.Key.Protocol}, seen); err != nil {
			return err
		}
	}
	return nil
}

func (o *oracle) verifyLasting(key backendKey, seen *accounted) error {
	for k, v := range o.k.backends.rows {
		if k.List == lastingList && lastingBackend(v) == key {
			seen.backends[k] = true
			if k.Slot != v.Id {
				return fmt.Errorf("the lasting row of %v has slot %d and id %d", key, k.Slot, v.Id)
			}
			return seen.id(key, v.Id)
		}
	}
	return fmt.Errorf("draining backend %v is not known to the kernel", key)
}

// verifyFrontend compares what a frontend leads to. Lists are those met so far.
func (o *oracle) verifyFrontend(p loadbalance.Port, f loadbalance.Frontend, v abi.CFrontend, lists map[string]uint32, seen *accounted) error {
	flags := uint32(0)
	if p.Affinity > 0 {
		flags |= uint32(abi.CFrontendFlagsFRONTEND_AFFINITY)
	}
	if f.SourceRanges {
		flags |= uint32(abi.CFrontendFlagsFRONTEND_SOURCE_RANGES)
	}
	if f.Maglev && len(p.Backends(f.Outside)) > 0 {
		flags |= uint32(abi.CFrontendFlagsFRONTEND_MAGLEV)
	}
	if f.Outside == loadbalance.ReachNone {
		flags |= uint32(abi.CFrontendFlagsFRONTEND_CLUSTER_ONLY)
	}
	if len(p.Local) == 0 && len(p.All) > 0 {
		if f.Outside == loadbalance.ReachLocal {
			flags |= uint32(abi.CFrontendFlagsFRONTEND_SILENT_OUTSIDE)
		}
		if f.Cluster == loadbalance.ReachLocal {
			flags |= uint32(abi.CFrontendFlagsFRONTEND_SILENT_CLUSTER)
		}
	}
	if v.Flags != flags || v.Affinity != p.Affinity {
		return fmt.Errorf("flags %#x and affinity %d, want %#x and %d", v.Flags, v.Affinity, flags, p.Affinity)
	}
	for scope, reach := range []loadbalance.Reach{f.Outside, f.Cluster} {
		maglev := scope == 0 && f.Maglev
		if err := o.verifyList(p, p.Backends(reach), v.List[scope], maglev, lists, seen); err != nil {
			return fmt.Errorf("scope %d: %w", scope, err)
		}
	}
	return nil
}

func (o *oracle) verifyList(p loadbalance.Port, want []loadbalance.Backend, list abi.CBackendList, maglev bool, lists map[string]uint32, seen *accounted) error {
	if int(list.Count) != len(want) || (list.Id == 0) != (len(want) == 0) {
		return fmt.Errorf("list %d of %d backends, want %d", list.Id, list.Count, len(want))
	}
	content := fmt.Sprint(want)
	if have, ok := lists[content]; ok && have != list.Id {
		return fmt.Errorf("equal lists have the ids %d and %d", have, list.Id)
	}
	lists[content] = list.Id
	for i, b := range want {
		key := abi.CBackendKey{List: list.Id, Slot: uint32(i)}
		v := o.k.backends.rows[key]
		seen.backends[key] = true
		if addrOf(v) != b.Addr || v.Pad != 0 {
			return fmt.Errorf("slot %d of list %d is %v, want %s", i, list.Id, v, b.Addr)
		}
		if err := seen.id(backendKey{b.Addr, p.Key.Protocol}, v.Id); err != nil {
			return err
		}
		if p.Affinity > 0 {
			if o.k.backends.rows[byIDKey(list.Id, v.Id)] != v {
				return fmt.Errorf("list %d has not backend %d by its id", list.Id, v.Id)
			}
			seen.backends[byIDKey(list.Id, v.Id)] = true
		}
	}
	if maglev && len(want) > 0 {
		if !slices.Equal(o.k.maglev.rows[list.Id], loadbalance.Maglev(want, p.Key.Protocol, o.maglevM, o.seed)) {
			return fmt.Errorf("the Maglev table of list %d is wrong", list.Id)
		}
		seen.maglev[list.Id] = true
	}
	return nil
}

// verifyLagging checks what there is of a refused port: what was in force before,
// as far as other ports have not taken its frontends.
func (o *oracle) verifyLagging(w *serviceWriter, key loadbalance.PortKey, seen *accounted) error {
	served := w.ports[key]
	last, was := o.inForce[key]
	if o.rough[key] || !was {
		if served != nil && !o.rough[key] {
			return fmt.Errorf("it was never in force, but the kernel has something of it: %+v", served)
		}
		return o.account(served, seen)
	}
	desired := o.desired[key]
	wanted := keysOf(&desired)
	last.Frontends = slices.DeleteFunc(slices.Clone(last.Frontends), func(f loadbalance.Frontend) bool {
		k := frontendKey(f.Addr, key.Protocol)
		_, ok := o.k.frontends.rows[k]
		return !ok && !slices.Contains(wanted, k) // an agent that starts removes those
	})
	last.Draining = nil // an agent that starts lets those drain that should now
	if err := o.verifyPort(last, seen); err != nil {
		return fmt.Errorf("it is not as it was before: %w", err)
	}
	return o.account(served, seen)
}

// account counts in what a refused port keeps, whether or not a frontend leads
// there: its lists stay whole while other ports take its frontends.
func (o *oracle) account(s *servedPort, seen *accounted) error {
	if s == nil {
		return nil
	}
	for _, key := range s.keys {
		if v := o.k.frontends.rows[key]; v.Service != s.service {
			return fmt.Errorf("frontend %v has service %d, want %d", key, v.Service, s.service)
		}
		seen.frontends[key] = true
	}
	for _, l := range s.lists {
		for i, slot := range l.slots {
			seen.backends[abi.CBackendKey{List: l.id, Slot: uint32(i)}] = true
			if l.byID {
				seen.backends[byIDKey(l.id, slot.id)] = true
			}
		}
		if l.maglev {
			seen.maglev[l.id] = true
		}
	}
	for _, p := range s.ranges {
		seen.ranges[sourceRangeKey(s.service, p)] = true
	}
	for _, key := range s.draining {
		if err := o.verifyLasting(key, seen); err != nil {
			return err
		}
	}
	return nil
}

// verifyRest looks for rows that nobody has.
func (o *oracle) verifyRest(seen *accounted) error {
	for key := range o.k.frontends.rows {
		if !seen.frontends[key] {
			return fmt.Errorf("frontend %v is nobody's", key)
		}
	}
	for key, v := range o.k.backends.rows {
		if !seen.backends[key] {
			return fmt.Errorf("backend %d (%s) in row %v is nobody's", v.Id, addrOf(v), key)
		}
	}
	for list := range o.k.maglev.rows {
		if !seen.maglev[list] {
			return fmt.Errorf("the Maglev table of list %d is nobody's", list)
		}
	}
	for key := range o.k.ranges.rows {
		if !seen.ranges[key] {
			return fmt.Errorf("source range %v is nobody's", key)
		}
	}
	return nil
}
