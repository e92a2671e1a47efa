package datapath

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
)

func (w *serviceWriter) sync(all []loadbalance.Port, addresses []netip.Addr) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	begun := w.writes
	changes := w.want(all, addresses)
	if !w.synced || w.stale {
		w.synced = true
		for _, a := range changes.Gone {
			w.addresses.remove(a)
		}
		err := w.rebuild()
		return w.writes - begun, err
	}
	err := w.audit(changes)
	return w.writes - begun, w.mended(err)
}

// audit carries out what is new, and compares the kernel with the mirror.
func (w *serviceWriter) audit(changes loadbalance.Update) error {
	if err := w.change(changes); err != nil {
		return err
	}
	w.freed, w.retryAll = true, true
	if err := w.retry(); err != nil {
		return err
	}
	if err := w.reapNow(true); err != nil {
		return err
	}
	differs, err := w.differs()
	if err == nil && differs {
		return w.rebuild()
	}
	return err
}

// want makes all ports and addresses the desired ones, and returns what that
// changes.
func (w *serviceWriter) want(all []loadbalance.Port, addresses []netip.Addr) loadbalance.Update {
	var u loadbalance.Update
	keys := make(map[loadbalance.PortKey]bool, len(all))
	for i := range all {
		p := &all[i]
		keys[p.Key] = true
		if have := w.desired[p.Key]; have == nil || !samePort(have, p) {
			u.Upsert = append(u.Upsert, *p)
		}
	}
	for i := range u.Upsert {
		w.desired[u.Upsert[i].Key] = &u.Upsert[i]
	}
	for key := range w.desired {
		if !keys[key] {
			u.Delete = append(u.Delete, key)
			delete(w.desired, key)
			delete(w.refused, key)
		}
	}
	wanted := make(map[netip.Addr]bool, len(addresses))
	for _, a := range addresses {
		wanted[a] = true
		if w.addresses.add(a) {
			u.Open = append(u.Open, a)
		}
	}
	for a := range w.addresses.all() {
		if !wanted[a] {
			u.Gone = append(u.Gone, a)
		}
	}
	return u
}

// rebuild reads the kernel and makes it equal to what is desired. When the kernel
// refuses a row that should fit, it finds out of which ports, and does the rest.
func (w *serviceWriter) rebuild() error {
	w.stale = true
	err := w.rebuildWith(nil, false)
	if noRoom(err) {
		refused := map[loadbalance.PortKey]*refusedPort{}
		if one := w.rebuildWith(refused, true); one != nil && len(refused) == 0 {
			return one
		}
		err = w.rebuildWith(refused, false)
	}
	if err != nil {
		w.stale = true
		wakeUp(w.wake)
		return err
	}
	w.stale = false
	select {
	case <-w.whole:
	default:
		close(w.whole)
	}
	w.ask()
	return nil
}

// rebuildWith is one attempt. It leaves out the ports that the kernel has no room
// for; with single it writes port by port and adds those to them.
func (w *serviceWriter) rebuildWith(noRoomFor map[loadbalance.PortKey]*refusedPort, single bool) error {
	f, err := w.read()
	if err != nil {
		return err
	}
	a := adoption{w: w, found: f, order: w.inOrder(), given: w.forget(f)}
	a.adopt()
	if err = a.removeStrays(); err != nil {
		return err
	}
	if err = a.mendSeed(); err != nil {
		return err
	}
	if err = w.rebuildAddresses(); err != nil {
		return err
	}
	for _, p := range w.inOrder() {
		err = errors.Join(err, w.rebuildPort(p, noRoomFor, single))
		if err != nil && !single {
			return err
		}
	}
	if single {
		return err
	}
	w.settleAll()
	w.dropBroken()
	if err = w.flush(); err != nil {
		return err
	}
	if err = a.removeRest(); err != nil {
		return err
	}
	w.freed = true
	err = w.retry()
	return errors.Join(err, w.flush())
}

func (w *serviceWriter) rebuildAddresses() error {
	for _, addr := range slices.Collect(w.addresses.all()) {
		if _, ok := w.rows[addressKey(addr)]; ok {
			w.addresses.wrote(addr)
			w.putFrontend(addressKey(addr), closedFrontend(), nil)
		} else {
			w.addresses.lost(addr)
		}
	}
	return w.openAddresses(w.addresses.withoutRow())
}

func (w *serviceWriter) rebuildPort(p *loadbalance.Port, noRoomFor map[loadbalance.PortKey]*refusedPort, single bool) error {
	if r := noRoomFor[p.Key]; r != nil && !single {
		w.refuse(p.Key, r.table, r.Needs, r.Free)
		w.refused[p.Key].kernel = true
		return nil
	}
	var needs rowCount
	if single {
		needs = w.plan(p).adds
	}
	err := w.realise(p)
	if err == nil && single {
		err = w.flush()
	}
	if err == nil {
		return nil
	}
	if full, ok := errors.AsType[*tableError](err); ok && single && noRoom(err) {
		noRoomFor[p.Key] = &refusedPort{table: full.table, Refusal: loadbalance.Refusal{Needs: max(1, needs[full.table])}}
	}
	return errService(p.Key, err)
}

// inOrder are the desired ports in the order in which they get room: first those
// that have it already, then those that wait, the longest first, then new ones.
func (w *serviceWriter) inOrder() []*loadbalance.Port {
	turn := func(p *loadbalance.Port) uint64 {
		r := w.refused[p.Key]
		switch {
		case r != nil:
			return r.age
		case w.ports[p.Key] != nil:
			return 0
		}
		return ^uint64(0)
	}
	return slices.SortedFunc(maps.Values(w.desired), func(a, b *loadbalance.Port) int {
		return cmp.Or(cmp.Compare(turn(a), turn(b)), comparePortKeys(a.Key, b.Key))
	})
}

func comparePortKeys(a, b loadbalance.PortKey) int {
	flag := func(v bool) int {
		if v {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(flag(a.HostPort), flag(b.HostPort)), cmp.Compare(a.Service.Namespace, b.Service.Namespace),
		cmp.Compare(a.Service.Name, b.Service.Name), cmp.Compare(flag(a.IPv6), flag(b.IPv6)),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Name, b.Name),
	)
}

// forget begins a new mirror with the rows that were found. Backends whose flows
// are being ended stay known, and so do the ids that ports had.
func (w *serviceWriter) forget(f *found) map[loadbalance.PortKey]uint32 {
	taken, given := w.gone, make(map[loadbalance.PortKey]uint32, len(w.ports))
	for key, s := range w.ports {
		given[key] = s.service
	}
	w.reaped += uint64(len(w.retired))
	w.retired, w.pending, w.mirror = nil, newPendingRows(), newMirror()
	for id, b := range taken {
		if b.taken {
			b.row = false // unless it is found
			w.ids[id], w.gone[id] = b, b
		}
	}
	for key, value := range f.rows {
		w.rows[key] = frontendRow{value: value}
	}
	w.used = rowCount{len(f.rows), len(f.lasting), len(f.maglev), len(f.ranges)}
	for _, l := range f.lists {
		w.used[inBackends] += len(l)
	}
	return given
}

// dropBroken removes the frontends of refused ports that lead to what is not
// whole: those that are served have been mended.
func (w *serviceWriter) dropBroken() {
	for key := range w.refused {
		s := w.ports[key]
		if s == nil {
			continue
		}
		for _, k := range slices.Clone(s.keys) {
			if !w.isWhole(s, w.rows[k].value) {
				w.dropFrontend(k)
				s.keys = slices.DeleteFunc(s.keys, func(o abi.CFrontendKey) bool { return o == k })
			}
		}
	}
}

// isWhole tells whether all that a frontend leads to is there.
func (w *serviceWriter) isWhole(s *servedPort, v abi.CFrontend) bool {
	if v.Service != s.service {
		return false
	}
	for scope, ref := range v.List {
		if ref.Count == 0 {
			continue
		}
		i := slices.IndexFunc(s.lists, func(l *backendList) bool { return l.id == ref.Id })
		if i < 0 || int(ref.Count) > len(s.lists[i].slots) {
			return false
		}
		l := s.lists[i]
		outside := scope == int(abi.CFrontendScopeSCOPE_OUTSIDE)
		if v.Flags&uint32(abi.CFrontendFlagsFRONTEND_AFFINITY) != 0 && !l.byID ||
			outside && v.Flags&uint32(abi.CFrontendFlagsFRONTEND_MAGLEV) != 0 && !l.maglev {
			return false
		}
	}
	return v.Flags&uint32(abi.CFrontendFlagsFRONTEND_SOURCE_RANGES) == 0 || len(s.ranges) > 0
}
