package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
)

// Tables of services, as rows in them are counted.
const (
	inFrontends = iota
	inBackends
	inMaglev
	inRanges
	serviceTables
)

// rowCount counts rows of each table.
type rowCount [serviceTables]int

// tableNames are the maps in the order of a rowCount.
func tableNames() [serviceTables]string {
	return [serviceTables]string{FrontendMap, BackendMap, MaglevMap, SourceRangeMap}
}

// spareRows are never given to a port. Two backends let a port whose old and new
// lists do not fit side by side pass through lists of one backend; see tight. One
// Maglev table is the seed's.
func spareRows() rowCount { return rowCount{inBackends: 2, inMaglev: 1} }

// serviceStore is where services are written to.
type serviceStore struct {
	frontends serviceTable[abi.CFrontendKey, abi.CFrontend]
	backends  serviceTable[abi.CBackendKey, abi.CBackend]
	maglev    maglevTable
	ranges    serviceTable[abi.CSourceRangeKey, uint32]
	// wait returns when every program that runs now has ended.
	wait func() error
}

// serviceConfig is what a serviceWriter needs beside its tables.
type serviceConfig struct {
	maglevSize uint32
	maglevSeed loadbalance.MaglevSeed
	log        *slog.Logger
}

// serviceWriter keeps the tables of services. Its order of writes lets no packet
// see half of a change: lists are complete before a frontend leads to them, never
// change while one does, and go when no program can have them in hand any more.
//
// It holds a copy of what it wrote, by which it counts rows and knows what to
// remove; sync compares the copy with the kernel. After an error of the kernel
// the copy is not trusted: it is read anew.
type serviceWriter struct {
	serviceStore
	cfg serviceConfig
	// wake asks run to tidy up, goneSoon runGone to end the flows of gone backends.
	wake, goneSoon chan struct{}
	whole          chan struct{} // closed when the tables were right once

	mu     sync.Mutex
	synced bool // sync was called
	stale  bool // the kernel may not hold what mirror says

	desired   map[loadbalance.PortKey]*loadbalance.Port
	addresses serviceAddresses
	homeless  int // addresses that the log was told of: their rows have no room
	refused   map[loadbalance.PortKey]*refusedPort
	ages      uint64 // refusals, ever
	freed     bool   // rows were freed since refused ports were last tried
	retryAll  bool   // also those that the kernel itself refused

	mirror
	pending pendingRows
	retired []*removal
	reaped  uint64 // how many of all removals are carried out
	writes  int    // rows written or deleted, ever
	lastID  struct{ service, list, backend uint32 }
}

// refusedPort is a port that does not fit; desired has the port.
type refusedPort struct {
	loadbalance.Refusal
	age    uint64 // the lower, the longer it waits
	kernel bool   // the kernel refused a row that should fit: free is not known
	table  int
}

// mirror is what the kernel holds.
type mirror struct {
	rows     map[abi.CFrontendKey]frontendRow
	ports    map[loadbalance.PortKey]*servedPort
	services map[uint32]bool // ids in use
	lists    map[uint32]*backendList
	known    map[backendKey]*backendState
	ids      map[uint32]*backendState
	gone     map[uint32]*backendState // those of ids that nobody has
	used     rowCount
}

func newMirror() mirror {
	return mirror{
		rows: map[abi.CFrontendKey]frontendRow{}, ports: map[loadbalance.PortKey]*servedPort{},
		services: map[uint32]bool{}, lists: map[uint32]*backendList{},
		known: map[backendKey]*backendState{}, ids: map[uint32]*backendState{}, gone: map[uint32]*backendState{},
	}
}

// frontendRow is one row of the frontend table.
type frontendRow struct {
	value abi.CFrontend
	owner *servedPort // nil: the row of an address
}

// servedPort is one port as the kernel has it.
type servedPort struct {
	service  uint32
	keys     []abi.CFrontendKey
	lists    []*backendList
	ranges   []netip.Prefix
	draining []backendKey
	// leaving counts removals under way of rows that hang on its id or lists.
	leaving int
}

// backendList is one list in the kernel.
type backendList struct {
	id     uint32
	slots  []listSlot
	byID   bool
	maglev bool
}

// listSlot is a backend in a list.
type listSlot struct {
	addr netip.AddrPort
	id   uint32
}

func (l *backendList) ref() abi.CBackendList {
	return abi.CBackendList{Id: l.id, Count: uint32(len(l.slots))}
}

func (l *backendList) backends() []loadbalance.Backend {
	out := make([]loadbalance.Backend, 0, len(l.slots))
	for _, s := range l.slots {
		out = append(out, loadbalance.Backend{Addr: s.addr})
	}
	return out
}

// rows are the entries of the backend table that the list takes.
func (l *backendList) rows() int {
	if l.byID {
		return 2 * len(l.slots)
	}
	return len(l.slots)
}

func newServiceWriter(store serviceStore, cfg serviceConfig) *serviceWriter {
	return &serviceWriter{
		serviceStore: store, cfg: cfg, wake: make(chan struct{}, 1), goneSoon: make(chan struct{}, 1),
		whole:   make(chan struct{}),
		desired: map[loadbalance.PortKey]*loadbalance.Port{}, addresses: newServiceAddresses(),
		refused: map[loadbalance.PortKey]*refusedPort{}, mirror: newMirror(), pending: newPendingRows(),
	}
}

// limit is how many rows of each table ports may take.
func (w *serviceWriter) limit() rowCount {
	spare := spareRows()
	return rowCount{
		w.frontends.size() - spare[inFrontends], w.backends.size() - spare[inBackends],
		w.maglev.size() - spare[inMaglev], w.ranges.size() - spare[inRanges],
	}
}

// free is how many rows of each table ports may still take.
func (w *serviceWriter) free() rowCount {
	free := w.limit()
	for t := range free {
		free[t] -= w.used[t]
	}
	return free
}

func (w *serviceWriter) apply(u loadbalance.Update) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.synced {
		return ErrNotSynced
	}
	for _, key := range u.Delete {
		delete(w.desired, key)
		delete(w.refused, key)
	}
	for i := range u.Upsert {
		w.desired[u.Upsert[i].Key] = &u.Upsert[i]
	}
	for _, a := range u.Open {
		w.addresses.add(a)
	}
	if !w.stale {
		return w.mended(w.change(u))
	}
	for _, a := range u.Gone {
		w.addresses.remove(a)
	}
	return w.rebuild()
}

// change carries out an update that desired has already.
func (w *serviceWriter) change(u loadbalance.Update) error {
	for _, key := range u.Delete {
		if s := w.ports[key]; s != nil {
			w.dropPort(key, s)
		}
	}
	for _, a := range u.Gone {
		w.closeAddress(a)
	}
	if err := w.openAddresses(u.Open); err != nil {
		return err
	}
	if err := w.retry(); err != nil {
		return err
	}
	for i := range u.Upsert {
		if w.desired[u.Upsert[i].Key] != &u.Upsert[i] {
			continue // the update names it again, later
		}
		if err := w.realise(&u.Upsert[i]); err != nil {
			return errService(u.Upsert[i].Key, err)
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.ask()
	return nil
}

// mended reads the kernel anew after an error, and writes what is missing. Only
// what that cannot mend is an error.
func (w *serviceWriter) mended(err error) error {
	if err == nil {
		return nil
	}
	w.cfg.log.Warn("write services", "error", err)
	if again := w.rebuild(); again != nil {
		return errors.Join(err, again)
	}
	return nil
}

// ask wakes run when it has something to do.
func (w *serviceWriter) ask() {
	if len(w.retired) == 0 && !w.stale && !w.freed {
		return
	}
	wakeUp(w.wake)
}

// roomAppeared lets refused ports in: a table has another size.
func (w *serviceWriter) roomAppeared() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.freed, w.retryAll = true, true
	w.ask()
}

func wakeUp(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// openAddresses writes the rows of addresses, as far as there is room.
func (w *serviceWriter) openAddresses(addresses []netip.Addr) error {
	left := 0
	for _, a := range addresses {
		if !w.addresses.waiting[a] {
			continue
		}
		if w.free()[inFrontends] < 1 {
			left++
			continue
		}
		w.addresses.wrote(a)
		w.putFrontend(addressKey(a), closedFrontend(), nil)
	}
	if left > 0 && left != w.homeless {
		w.cfg.log.Warn("no room for addresses of services: ports of them that no service has are not refused there; raise bpf-lb-service-map-max",
			"addresses", left, "table", FrontendMap, "free", max(0, w.free()[inFrontends]))
	}
	if left > 0 {
		w.homeless = left
	}
	return w.flushIfLarge()
}

func (w *serviceWriter) closeAddress(a netip.Addr) {
	if w.addresses.remove(a) {
		w.dropFrontend(addressKey(a))
	}
}

// retry tries the refused ports again, those that wait longest first, when
// something has become free.
func (w *serviceWriter) retry() error {
	if !w.freed {
		return nil
	}
	w.freed = false
	if waiting := w.addresses.withoutRow(); len(waiting) > 0 {
		if err := w.openAddresses(waiting); err != nil {
			return err
		}
	}
	for _, key := range w.refusedKeys() {
		if w.refused[key].kernel && !w.retryAll {
			continue
		}
		if err := w.realise(w.desired[key]); err != nil {
			return errService(key, err)
		}
		if w.refused[key] != nil && w.fitsSoon(w.desired[key]) {
			break // it was first: the others wait for it
		}
	}
	w.retryAll = false
	return nil
}

// fitsSoon tells whether a refused port has room as soon as the flows of backends
// that are gone are ended, and their rows deleted.
func (w *serviceWriter) fitsSoon(p *loadbalance.Port) bool {
	free := w.free()
	for _, b := range w.gone {
		if b.row {
			free[inBackends]++
		}
	}
	return w.plan(p).lacks(free) < 0
}

// refusedKeys are the refused ports, those that wait longest first.
func (w *serviceWriter) refusedKeys() []loadbalance.PortKey {
	return slices.SortedFunc(maps.Keys(w.refused), func(a, b loadbalance.PortKey) int {
		if w.refused[a].age < w.refused[b].age {
			return -1
		}
		return 1
	})
}

func (w *serviceWriter) refusals() []loadbalance.Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	free := w.free()
	var out []loadbalance.Refusal
	for _, key := range w.refusedKeys() {
		r := w.refused[key]
		refusal := r.Refusal
		if !r.kernel {
			refusal.Free = min(max(0, free[r.table]), refusal.Needs-1)
		}
		out = append(out, refusal)
	}
	return out
}

// tableSizes gives the rows and the size of each table.
func (w *serviceWriter) tableSizes() (used, size rowCount) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used, rowCount{w.frontends.size(), w.backends.size(), w.maglev.size(), w.ranges.size()}
}

// nextID returns the next id after last that is not in use.
func nextID[V any](last *uint32, limit uint32, used map[uint32]V) uint32 {
	for {
		if *last >= limit {
			*last = 0
		}
		*last++
		if _, ok := used[*last]; !ok {
			return *last
		}
	}
}

// errService names the port that an error is about.
func errService(key loadbalance.PortKey, err error) error {
	name := key.Service.String()
	if key.Name != "" {
		name += " port " + key.Name
	}
	return fmt.Errorf("write service %s (%s %d): %w", name, key.Protocol, key.Port, err)
}
