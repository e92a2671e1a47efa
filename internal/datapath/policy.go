package datapath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// ErrNoRoom is returned for policy that does not fit into its tables.
var ErrNoRoom = errors.New("no room")

// PolicyProblem is a policy set that is not in force as it should be.
type PolicyProblem struct {
	Set   policy.SetID
	Names []string // policies that isolate with it, "namespace/name"
	// Endpoints should be under the set and are not: under their last one, or
	// closed when they had none. Empty when the set is in force and lacks entries;
	// Names is empty then too.
	Endpoints []uint32
	Err       error

	refused bool // the set is not in force
	closed  bool // it lacks a deny, so nobody is under it
}

// policyWriter keeps the tables of policy sets. Its order of writes lets no
// packet see half of a change: what is new is complete before anything refers
// to it, and what is old goes when no program can have it in hand any more.
type policyWriter struct {
	entries    rowTable[policy.EntryKey, policy.PortsID]
	maxEntries func() int
	cidrs      rowTable[netip.Prefix, policy.PeerID]
	ports      rowTable[uint64, abi.CPortList]
	maxRecords func() int
	wait       func() error // returns when every program that runs now has ended

	mu sync.Mutex
	// installed are the sets that are in the kernel, and their peers; lists the
	// port lists by their records there; prefixes the rows of the cidr map.
	installed map[policy.SetID]map[policy.PeerID]policy.PortsID
	count     int // entries of all installed sets
	lists     map[policy.PortsID][]uint64
	denying   map[policy.PortsID]bool // lists that have a range that denies, there or on their way
	prefixes  map[netip.Prefix]policy.PeerID
	problems  map[policy.SetID]*PolicyProblem
	// keptSets and keptPorts should be gone, but endpoints are under the sets: what
	// they should be under did not fit.
	keptSets  map[policy.SetID]bool
	keptPorts map[policy.PortsID]bool
}

// rowTable is a table of the kernel.
type rowTable[K comparable, V any] interface {
	writer[K, V]
	list() (map[K]V, error)
}

func (d *Datapath) openPolicy() error {
	entries, ports := d.loader.Map(PolicyMap).Table, d.loader.Map(PortMap).Table
	w := &policyWriter{
		entries: tableOps[policy.EntryKey, policy.PortsID, abi.CPolicyKey, abi.CPolicyEntry]{
			PolicyMap, entries, policyCodec(),
		},
		maxEntries: func() int { return int(entries.MaxEntries()) },
		cidrs: tableOps[netip.Prefix, policy.PeerID, abi.CCidrKey, abi.CCidrEntry]{
			CIDRMap, d.loader.Map(CIDRMap).Table, cidrCodec(),
		},
		ports:      tableOps[uint64, abi.CPortList, uint64, abi.CPortList]{PortMap, ports, portCodec()},
		maxRecords: func() int { return int(ports.MaxEntries()) },
		wait:       waitForPrograms,
		problems:   map[policy.SetID]*PolicyProblem{},
		keptSets:   map[policy.SetID]bool{}, keptPorts: map[policy.PortsID]bool{},
	}
	d.policy = w
	if !d.loader.Adopted(EndpointMap) {
		_, err := w.read()
		return err
	}
	rows, err := d.endpointTable().list()
	if err != nil {
		return err
	}
	d.securities.adopt(rows)
	_, err = w.read()
	return err
}

// read takes over what is in the kernel, and returns the records of port lists.
func (w *policyWriter) read() (records map[uint64]abi.CPortList, err error) {
	entries, err := w.entries.list()
	if err != nil {
		return nil, err
	}
	if w.prefixes, err = w.cidrs.list(); err != nil {
		return nil, err
	}
	if records, err = w.ports.list(); err != nil {
		return nil, err
	}
	w.lists, w.denying = portLists(records), map[policy.PortsID]bool{}
	for id, keys := range w.lists {
		if denies(records[keys[0]]) {
			w.denying[id] = true
		}
	}
	w.installed, w.count = map[policy.SetID]map[policy.PeerID]policy.PortsID{}, len(entries)
	for key, ports := range entries {
		if w.installed[key.Set] == nil {
			w.installed[key.Set] = map[policy.PeerID]policy.PortsID{}
		}
		w.installed[key.Set][key.Peer] = ports
	}
	return records, nil
}

// ApplyPolicy writes one update in the order that policy.Update describes: first
// what allows more, then the endpoints' sets, then the removal of what allowed
// too much, the epoch, and the removal of what nobody uses any more. A set that
// does not fit is not begun, and its endpoints stay under what they had, less the
// prefixes that no other set speaks of; see PolicyProblems. The error is one of
// the kernel's: what is in force then is no less strict, and SyncPolicy mends it.
func (d *Datapath) ApplyPolicy(ctx context.Context, u policy.Update) error {
	d.policy.mu.Lock()
	defer d.policy.mu.Unlock()
	return d.applyPolicyLocked(ctx, u)
}

func (d *Datapath) applyPolicyLocked(ctx context.Context, u policy.Update) error {
	w := d.policy
	if err := d.expectDenies(u.Ports); err != nil {
		return err
	}
	errs := []error{w.addPorts(ctx, u.Ports)}
	under := setsInForce(d.securities.all())
	for _, id := range slices.Sorted(maps.Keys(u.Sets)) {
		errs = append(errs, w.install(ctx, u.Sets[id], under[id]))
	}
	errs = append(errs, w.grow(ctx, u.Grown), d.closeEndpoints(ctx))
	if err := d.addCIDRs(ctx, u.CIDRs); err != nil {
		w.refuseWithCIDRs(u.Sets, under, err)
		errs = append(errs, err)
	}
	for _, id := range u.DroppedEndpoints {
		w.settle(id)
	}
	d.additive.Store(!u.Revokes)
	for _, id := range slices.Sorted(maps.Keys(u.Endpoints)) {
		errs = append(errs, d.assign(ctx, id, u.Endpoints[id]))
	}
	d.additive.Store(false)
	dropped, droppedPorts := w.unused(setsInForce(d.securities.all()), u)
	if len(u.Shrunk)+len(dropped)+len(u.DroppedCIDRs)+len(droppedPorts) > 0 {
		// A program that runs now may hold the name of a set: wait for it.
		errs = append(errs, w.wait())
	}
	errs = append(errs, d.dropCIDRs(ctx, u.DroppedCIDRs), d.closeEndpoints(ctx))
	if len(u.DroppedCIDRs) > 0 && len(u.Shrunk) > 0 {
		errs = append(errs, w.wait()) // or that of a prefix
	}
	for _, key := range u.Shrunk {
		errs = append(errs, w.remove(ctx, key))
	}
	if u.Revokes {
		errs = append(errs, d.settings.bump())
	}
	for _, id := range dropped {
		errs = append(errs, w.drop(ctx, id))
	}
	for _, id := range droppedPorts {
		errs = append(errs, w.removePorts(ctx, id))
	}
	return errors.Join(append(errs, d.settings.setHasDenies(len(w.denying) > 0))...)
}

// dropCIDRs removes prefixes. One whose addresses fall under a wider prefix then
// is not to open a set that is kept: nobody else looks after those.
func (d *Datapath) dropCIDRs(ctx context.Context, prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil
	}
	var errs []error
	widestFirst := func(a, b netip.Prefix) int { return cmp.Compare(prefixBits(a), prefixBits(b)) }
	for _, p := range slices.SortedFunc(slices.Values(prefixes), widestFirst) {
		if err := d.policy.uncover(ctx, p); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.policy.cidrs.Delete(ctx, p))
		delete(d.policy.prefixes, p)
	}
	return errors.Join(append(errs, d.settings.setHasCIDRs(len(d.policy.prefixes) > 0))...)
}

// uncover takes from the sets that are kept what they would allow to addresses of
// p beyond what they do, if p were gone. Where that is a deny, it closes them.
func (w *policyWriter) uncover(ctx context.Context, p netip.Prefix) error {
	wider, ok := w.wider(p)
	var errs []error
	for id := range w.keptSets {
		now, has := w.installed[id][w.prefixes[p]]
		then, gains := w.installed[id][w.prefixes[wider]]
		switch gains = gains && ok; {
		case has && w.denying[now] && (!gains || now != then), gains && w.denying[then] && now != then:
			w.problems[id] = &PolicyProblem{
				Set: id, closed: true,
				Err: fmt.Errorf("%w for what takes its place, and what it denies to addresses of %s cannot stay", ErrNoRoom, p),
			}
		case gains && (!has || now != then):
			errs = append(errs, w.remove(ctx, policy.EntryKey{Set: id, Peer: w.prefixes[wider]}))
		}
	}
	return errors.Join(errs...)
}

// wider finds the longest prefix in the table that p is a part of.
func (w *policyWriter) wider(p netip.Prefix) (found netip.Prefix, ok bool) {
	if len(w.keptSets) == 0 {
		return found, false // nobody asks
	}
	for q := range w.prefixes {
		whole := netip.PrefixFrom(netip.AddrFrom16(q.Addr().As16()), int(prefixBits(q)))
		if prefixBits(q) >= prefixBits(p) || !whole.Contains(netip.AddrFrom16(p.Addr().As16())) {
			continue
		}
		if !ok || prefixBits(q) > prefixBits(found) {
			found, ok = q, true
		}
	}
	return found, ok
}

// drop removes a whole set.
func (w *policyWriter) drop(ctx context.Context, id policy.SetID) error {
	var errs []error
	for peer := range w.installed[id] {
		errs = append(errs, w.remove(ctx, policy.EntryKey{Set: id, Peer: peer}))
	}
	delete(w.installed, id)
	delete(w.problems, id)
	delete(w.keptSets, id)
	return errors.Join(errs...)
}

// setsInForce are those that any endpoint is under.
func setsInForce(security map[uint32]Security) map[policy.SetID]bool {
	under := map[policy.SetID]bool{}
	for _, s := range security {
		under[s.Policy.Ingress], under[s.Policy.Egress] = true, true
	}
	return under
}

// unused returns what of the sets and lists of ports that should go no endpoint
// is under, and remembers the rest: an endpoint whose new set did not fit is
// still under its last one.
func (w *policyWriter) unused(under map[policy.SetID]bool, u policy.Update) (sets []policy.SetID, lists []policy.PortsID) {
	for _, id := range u.DroppedSets {
		w.keptSets[id] = true
	}
	for _, id := range u.DroppedPorts {
		w.keptPorts[id] = true
	}
	inUse := map[policy.PortsID]bool{}
	for id := range w.keptSets {
		if _, back := u.Sets[id]; back {
			delete(w.keptSets, id)
			continue
		}
		if !under[id] {
			sets = append(sets, id)
			continue
		}
		for _, ports := range w.installed[id] {
			inUse[ports] = true
		}
	}
	for id := range w.keptPorts {
		_, back := u.Ports[id]
		if !back && inUse[id] {
			continue
		}
		delete(w.keptPorts, id)
		if !back {
			lists = append(lists, id)
		}
	}
	return sets, lists
}

// waitForPrograms returns when every program that runs now has ended.
func waitForPrograms() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL: the kernel's synchronize_rcu()
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		return fmt.Errorf("wait for running programs: %w", errno)
	}
	return nil
}

// install writes a whole set, or refuses it: before the first write, when the
// table has no room for it. One that endpoints are under gets what there is room for.
func (w *policyWriter) install(ctx context.Context, set *policy.Set, inForce bool) error {
	delete(w.problems, set.ID)
	lack := w.fits(set)
	if lack != nil && !inForce {
		w.refuse(set, lack)
		return nil
	}
	if w.installed[set.ID] == nil {
		w.installed[set.ID] = map[policy.PeerID]policy.PortsID{}
	}
	failed := w.complete(ctx, set, lack != nil)
	switch {
	case lack == nil && failed == nil:
	case inForce:
		w.lacks(set, cmp.Or(failed, lack))
	default:
		w.refuse(set, failed)
	}
	return failed
}

// complete writes what a set lacks, or if partly what of it has room.
func (w *policyWriter) complete(ctx context.Context, set *policy.Set, partly bool) error {
	for peer, e := range set.Entries {
		ports, had := w.installed[set.ID][peer]
		switch {
		case had && ports == e.Ports:
		case partly && !had && (w.count >= w.maxEntries() || w.listInstalled(e.Ports) != nil):
		default:
			if err := w.put(ctx, policy.EntryKey{Set: set.ID, Peer: peer}, e.Ports); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits tells why there is no room for all of a set.
func (w *policyWriter) fits(set *policy.Set) error {
	missing := len(missing(set.Entries, w.installed[set.ID]))
	if w.count+missing > w.maxEntries() {
		return fmt.Errorf("%w in %s: the set takes %d entries and %d of %d are free; raise bpf-policy-map-max or select fewer pods",
			ErrNoRoom, PolicyMap, missing, w.maxEntries()-w.count, w.maxEntries())
	}
	for _, e := range set.Entries {
		if err := w.listInstalled(e.Ports); err != nil {
			return err
		}
	}
	return nil
}

// refuse leaves a set as it is. What the kernel took of it before it had no room
// is used by nobody, and completed or removed by the next SyncPolicy.
func (w *policyWriter) refuse(set *policy.Set, err error) {
	w.problems[set.ID] = &PolicyProblem{Set: set.ID, Names: slices.Clone(set.Names), Err: err, refused: true}
}

// refuseWithCIDRs refuses the new sets that speak of prefixes, when not all of
// these could be written: one that is missing may be what narrows another.
func (w *policyWriter) refuseWithCIDRs(sets map[policy.SetID]*policy.Set, under map[policy.SetID]bool, err error) {
	for id, set := range sets {
		speaks := slices.ContainsFunc(slices.Collect(maps.Keys(set.Entries)), isPrefix)
		if speaks && !under[id] {
			w.refuse(set, err)
		}
	}
}

// isPrefix tells a prefix from an identity and from any.
func isPrefix(id policy.PeerID) bool { return id > policy.PeerID(state.IdentityMax) }

// listInstalled tells why a list of ports is not in the kernel.
func (w *policyWriter) listInstalled(id policy.PortsID) error {
	if _, ok := w.lists[id]; !ok && id != policy.PortsAll {
		return fmt.Errorf("%w in %s for the set's ports (%d entries at most)", ErrNoRoom, PortMap, w.maxRecords())
	}
	return nil
}

// grow adds entries to sets in force. One that does not fit leaves its peer out.
func (w *policyWriter) grow(ctx context.Context, grown map[policy.EntryKey]policy.Entry) error {
	var errs []error
	for key, e := range grown {
		p := w.problems[key.Set]
		if p != nil && p.refused {
			continue // it is written when there is room for all of it
		}
		if w.installed[key.Set] == nil {
			w.installed[key.Set] = map[policy.PeerID]policy.PortsID{}
		}
		err := w.listInstalled(e.Ports)
		if err == nil {
			err = w.put(ctx, key, e.Ports)
		}
		if err != nil {
			w.lacks(&policy.Set{ID: key.Set, Entries: map[policy.PeerID]policy.Entry{key.Peer: e}}, err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (w *policyWriter) put(ctx context.Context, key policy.EntryKey, ports policy.PortsID) error {
	if err := w.entries.Update(ctx, key, ports); err != nil {
		if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOMEM) {
			err = fmt.Errorf("%w: %w", ErrNoRoom, err)
		}
		return err
	}
	if _, had := w.installed[key.Set][key.Peer]; !had {
		w.count++
	}
	w.installed[key.Set][key.Peer] = ports
	return nil
}

func (w *policyWriter) remove(ctx context.Context, key policy.EntryKey) error {
	if err := w.entries.Delete(ctx, key); err != nil {
		return err
	}
	if _, had := w.installed[key.Set][key.Peer]; had {
		w.count--
		delete(w.installed[key.Set], key.Peer)
	}
	return nil
}

func (d *Datapath) addCIDRs(ctx context.Context, cidrs map[netip.Prefix]policy.PeerID) error {
	if len(cidrs) == 0 {
		return nil
	}
	errs := []error{d.settings.setHasCIDRs(true)}
	for p, id := range cidrs {
		if err := d.policy.cidrs.Update(ctx, p, id); err != nil {
			errs = append(errs, err)
			continue
		}
		d.policy.prefixes[p] = id
	}
	return errors.Join(errs...)
}

// assign puts an endpoint under its sets, as far as they are in the kernel.
func (d *Datapath) assign(ctx context.Context, endpoint uint32, want policy.EndpointPolicy) error {
	d.policy.settle(endpoint)
	d.securities.edit(endpoint, func(s *Security) {
		s.Policy = policy.EndpointPolicy{
			Ingress: d.policy.inForce(endpoint, want.Ingress, s.Policy.Ingress), AuditIngress: want.AuditIngress,
			Egress: d.policy.inForce(endpoint, want.Egress, s.Policy.Egress), AuditEgress: want.AuditEgress,
		}
	})
	return d.applySecurity(ctx, endpoint)
}

// settle forgets what an endpoint should have been under.
func (w *policyWriter) settle(endpoint uint32) {
	for _, p := range w.problems {
		p.Endpoints = slices.DeleteFunc(p.Endpoints, func(id uint32) bool { return id == endpoint })
	}
}

// inForce returns the set that an endpoint is under: the one it should be, or
// its last one where that does not fit, and none but the closed one if it had none.
func (w *policyWriter) inForce(endpoint uint32, want, last policy.SetID) policy.SetID {
	p := w.problems[want]
	if p == nil || !p.refused {
		return want
	}
	if !slices.Contains(p.Endpoints, endpoint) {
		p.Endpoints = append(p.Endpoints, endpoint)
	}
	if last == policy.SetOpen {
		return policy.SetClosed
	}
	return last
}

func (w *policyWriter) prefixCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.prefixes)
}

// PolicyProblems tells what is not in force as it should be, ordered by set.
func (d *Datapath) PolicyProblems() []PolicyProblem {
	w := d.policy
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []PolicyProblem
	for _, id := range slices.Sorted(maps.Keys(w.problems)) {
		p := *w.problems[id]
		p.Endpoints = slices.Sorted(slices.Values(p.Endpoints))
		out = append(out, p)
	}
	return out
}
