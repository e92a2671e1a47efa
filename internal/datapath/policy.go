package datapath

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
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
}

// policyWriter keeps the tables of policy sets. Its order of writes lets no
// packet see half of a change: what is new is complete before anything refers
// to it, and what is old goes when no program can have it in hand any more.
type policyWriter struct {
	entries tableOps[policy.EntryKey, policy.PortsID, abi.CPolicyKey, abi.CPolicyEntry]
	cidrs   tableOps[netip.Prefix, policy.PeerID, abi.CCidrKey, abi.CCidrEntry]
	ports   *ebpf.Map

	mu sync.Mutex
	// installed are the sets that are in the kernel, and their peers; lists the
	// port lists by their records there; prefixes the rows of the cidr map.
	installed map[policy.SetID]map[policy.PeerID]policy.PortsID
	count     int // entries of all installed sets
	lists     map[policy.PortsID][]uint64
	prefixes  map[netip.Prefix]policy.PeerID
	problems  map[policy.SetID]*PolicyProblem
}

func (d *Datapath) openPolicy() error {
	w := &policyWriter{
		entries: tableOps[policy.EntryKey, policy.PortsID, abi.CPolicyKey, abi.CPolicyEntry]{
			PolicyMap, d.loader.Map(PolicyMap).Table, policyCodec(),
		},
		cidrs: tableOps[netip.Prefix, policy.PeerID, abi.CCidrKey, abi.CCidrEntry]{
			CIDRMap, d.loader.Map(CIDRMap).Table, cidrCodec(),
		},
		ports:    d.loader.Map(PortMap).Table,
		problems: map[policy.SetID]*PolicyProblem{},
	}
	d.policy = w
	if !d.loader.Adopted(EndpointMap) {
		return w.read()
	}
	rows, err := d.endpointTable().list()
	if err != nil {
		return err
	}
	d.securities.adopt(rows)
	return w.read()
}

// read takes over what is in the kernel.
func (w *policyWriter) read() error {
	entries, err := w.entries.list()
	if err != nil {
		return err
	}
	if w.prefixes, err = w.cidrs.list(); err != nil {
		return err
	}
	if w.lists, err = readPortLists(w.ports); err != nil {
		return err
	}
	w.installed, w.count = map[policy.SetID]map[policy.PeerID]policy.PortsID{}, len(entries)
	for key, ports := range entries {
		if w.installed[key.Set] == nil {
			w.installed[key.Set] = map[policy.PeerID]policy.PortsID{}
		}
		w.installed[key.Set][key.Peer] = ports
	}
	return nil
}

// ApplyPolicy writes one update in the order that policy.Update describes: first
// what allows more, then the endpoints' sets, then the removal of what allowed
// too much, the epoch, and the removal of what nobody uses any more. A set that
// does not fit is not begun, and its endpoints stay under what they had; see
// PolicyProblems. The error is one of the kernel's: what is in force then is no
// less strict, and SyncPolicy mends it.
func (d *Datapath) ApplyPolicy(ctx context.Context, u policy.Update) error {
	w := d.policy
	w.mu.Lock()
	defer w.mu.Unlock()
	errs := []error{w.addPorts(u.Ports)}
	for _, id := range slices.Sorted(maps.Keys(u.Sets)) {
		errs = append(errs, w.install(ctx, u.Sets[id]))
	}
	errs = append(errs, w.grow(ctx, u.Grown), d.addCIDRs(ctx, u.CIDRs))
	d.additive.Store(!u.Revokes)
	for _, id := range slices.Sorted(maps.Keys(u.Endpoints)) {
		errs = append(errs, d.assign(ctx, id, u.Endpoints[id]))
	}
	d.additive.Store(false)
	dropped := w.unused(d.securities.all(), u.DroppedSets)
	if len(u.Shrunk)+len(dropped)+len(u.DroppedCIDRs)+len(u.DroppedPorts) > 0 {
		// A program that runs now may hold the name of a set: wait for it.
		errs = append(errs, waitForPrograms())
	}
	errs = append(errs, d.dropCIDRs(ctx, u.DroppedCIDRs))
	for _, key := range u.Shrunk {
		errs = append(errs, w.remove(ctx, key))
	}
	if u.Revokes {
		errs = append(errs, d.settings.bump())
	}
	for _, id := range dropped {
		errs = append(errs, w.drop(ctx, id))
	}
	for _, id := range u.DroppedPorts {
		errs = append(errs, w.removePorts(id))
	}
	return errors.Join(errs...)
}

func (d *Datapath) dropCIDRs(ctx context.Context, prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil
	}
	var errs []error
	for _, p := range prefixes {
		errs = append(errs, d.policy.cidrs.Delete(ctx, p))
		delete(d.policy.prefixes, p)
	}
	return errors.Join(append(errs, d.settings.setHasCIDRs(len(d.policy.prefixes) > 0))...)
}

// drop removes a whole set.
func (w *policyWriter) drop(ctx context.Context, id policy.SetID) error {
	var errs []error
	for peer := range w.installed[id] {
		errs = append(errs, w.remove(ctx, policy.EntryKey{Set: id, Peer: peer}))
	}
	delete(w.installed, id)
	delete(w.problems, id)
	return errors.Join(errs...)
}

// unused returns the sets that no endpoint is under. An endpoint whose new set
// did not fit is still under its last one.
func (w *policyWriter) unused(security map[uint32]Security, sets []policy.SetID) []policy.SetID {
	inForce := map[policy.SetID]bool{}
	for _, s := range security {
		inForce[s.Policy.Ingress], inForce[s.Policy.Egress] = true, true
	}
	return slices.DeleteFunc(slices.Clone(sets), func(id policy.SetID) bool { return inForce[id] })
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
// table has no room for it.
func (w *policyWriter) install(ctx context.Context, set *policy.Set) error {
	delete(w.problems, set.ID)
	have := w.installed[set.ID]
	if have == nil {
		have = map[policy.PeerID]policy.PortsID{}
	}
	missing := 0
	for peer := range set.Entries {
		if _, ok := have[peer]; !ok {
			missing++
		}
	}
	limit := int(w.entries.table.MaxEntries())
	if w.count+missing > limit {
		w.refuse(set, fmt.Errorf("%w in %s: the set takes %d entries and %d of %d are free; raise bpf-policy-map-max or select fewer pods",
			ErrNoRoom, PolicyMap, missing, limit-w.count, limit))
		return nil
	}
	if err := w.listsInstalled(set); err != nil {
		w.refuse(set, err)
		return nil
	}
	w.installed[set.ID] = have
	for peer, e := range set.Entries {
		if ports, ok := have[peer]; ok && ports == e.Ports {
			continue
		}
		if err := w.put(ctx, policy.EntryKey{Set: set.ID, Peer: peer}, e.Ports); err != nil {
			w.refuse(set, err)
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

// listsInstalled tells why a set's lists of ports are not all in the kernel.
func (w *policyWriter) listsInstalled(set *policy.Set) error {
	for _, e := range set.Entries {
		if _, ok := w.lists[e.Ports]; !ok && e.Ports != policy.PortsAll {
			return fmt.Errorf("%w in %s for the set's ports (%d entries at most)", ErrNoRoom, PortMap, w.ports.MaxEntries())
		}
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
		if err := w.put(ctx, key, e.Ports); err != nil {
			w.problems[key.Set] = &PolicyProblem{Set: key.Set, Err: err}
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
	d.securities.edit(endpoint, func(s *Security) {
		s.Policy = policy.EndpointPolicy{
			Ingress: d.policy.inForce(endpoint, want.Ingress, s.Policy.Ingress), AuditIngress: want.AuditIngress,
			Egress: d.policy.inForce(endpoint, want.Egress, s.Policy.Egress), AuditEgress: want.AuditEgress,
		}
	})
	return d.applySecurity(ctx, endpoint)
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

// SyncPolicy makes the kernel equal to t. Call it when everything is known after
// a start, and to mend what an ApplyPolicy could not write.
func (d *Datapath) SyncPolicy(ctx context.Context, t policy.Tables) error {
	d.policy.mu.Lock()
	err := d.policy.read()
	u := d.policy.difference(t, d.securities.all())
	d.policy.problems = map[policy.SetID]*PolicyProblem{}
	d.policy.mu.Unlock()
	if err != nil || u.Empty() {
		return err
	}
	return d.ApplyPolicy(ctx, u)
}

// difference is the update that leads from what is installed to t.
func (w *policyWriter) difference(t policy.Tables, security map[uint32]Security) policy.Update {
	u := policy.Update{
		Ports: missing(t.Ports, w.lists), CIDRs: map[netip.Prefix]policy.PeerID{},
		Sets: map[policy.SetID]*policy.Set{}, Endpoints: map[uint32]policy.EndpointPolicy{},
		DroppedSets:  slices.Collect(maps.Keys(missing(w.installed, t.Sets))),
		DroppedCIDRs: slices.Collect(maps.Keys(missing(w.prefixes, t.CIDRs))),
		DroppedPorts: slices.Collect(maps.Keys(missing(w.lists, t.Ports))),
	}
	for id, set := range t.Sets {
		if w.problems[id] != nil || !w.complete(set) {
			u.Sets[id] = set
		}
		for peer := range missing(w.installed[id], set.Entries) {
			u.Shrunk = append(u.Shrunk, policy.EntryKey{Set: id, Peer: peer})
		}
	}
	for p, id := range t.CIDRs {
		if have, ok := w.prefixes[p]; !ok || have != id {
			u.CIDRs[p] = id
		}
	}
	for id, want := range t.Endpoints {
		if security[id].Policy != want {
			u.Endpoints[id] = want
		}
	}
	u.Revokes = len(u.Endpoints)+len(u.Shrunk) > 0
	return u
}

// missing returns what of a has no key in b.
func missing[K comparable, A, B any](a map[K]A, b map[K]B) map[K]A {
	out := map[K]A{}
	for k, v := range a {
		if _, ok := b[k]; !ok {
			out[k] = v
		}
	}
	return out
}

func (w *policyWriter) complete(set *policy.Set) bool {
	have := w.installed[set.ID]
	if have == nil && len(set.Entries) > 0 {
		return false
	}
	for peer, e := range set.Entries {
		if ports, ok := have[peer]; !ok || ports != e.Ports {
			return false
		}
	}
	return true
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
