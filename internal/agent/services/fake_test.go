package services

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil/bubble"
)

var errFake = errors.New("fake kernel says no")

// fakeKernel is a Datapath: what it holds outlives a Runner. It has room for so
// many backends, and admits a port whole or not at all.
type fakeKernel struct {
	mu        sync.Mutex
	ports     map[loadbalance.PortKey]loadbalance.Port // in force
	wanted    map[loadbalance.PortKey]loadbalance.Port
	addresses map[netip.Addr]bool
	refused   []loadbalance.Refusal
	ids       map[loadbalance.PortKey]uint32
	room      int
	fail      bool
	takes     time.Duration // of each write
	writes    int
	syncs     int
	failures  int
	node      []netip.Addr
	moved     chan struct{}
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{
		ports: map[loadbalance.PortKey]loadbalance.Port{}, wanted: map[loadbalance.PortKey]loadbalance.Port{},
		addresses: map[netip.Addr]bool{}, ids: map[loadbalance.PortKey]uint32{}, room: 1000,
		node: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, moved: make(chan struct{}),
	}
}

// look reads or changes the kernel.
func (k *fakeKernel) look(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// ApplyServices implements Datapath.
func (k *fakeKernel) ApplyServices(u loadbalance.Update) error {
	var takes time.Duration
	k.look(func() { takes = k.takes })
	time.Sleep(takes)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		k.failures++
		return errFake
	}
	k.writes++
	for _, key := range u.Delete {
		delete(k.wanted, key)
	}
	for _, p := range u.Upsert {
		k.wanted[p.Key] = p
	}
	for _, a := range u.Open {
		k.addresses[a] = true
	}
	for _, a := range u.Gone {
		delete(k.addresses, a)
	}
	k.admitLocked()
	return nil
}

// SyncServices implements Datapath.
func (k *fakeKernel) SyncServices(all []loadbalance.Port, addresses []netip.Addr) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		k.failures++
		return 0, errFake
	}
	k.syncs++
	before := maps.Clone(k.ports)
	k.wanted, k.addresses = map[loadbalance.PortKey]loadbalance.Port{}, map[netip.Addr]bool{}
	for _, p := range all {
		k.wanted[p.Key] = p
	}
	for _, a := range addresses {
		k.addresses[a] = true
	}
	k.admitLocked()
	repaired := 0
	for key, p := range k.ports {
		if old, ok := before[key]; !ok || fmt.Sprint(old) != fmt.Sprint(p) {
			repaired++
		}
	}
	for key := range before {
		if _, ok := k.ports[key]; !ok {
			repaired++
		}
	}
	return repaired, nil
}

// admitLocked serves what fits, what is there already first.
func (k *fakeKernel) admitLocked() {
	free := k.room
	maps.DeleteFunc(k.ports, func(key loadbalance.PortKey, _ loadbalance.Port) bool {
		_, ok := k.wanted[key]
		return !ok
	})
	for _, p := range k.ports {
		free -= len(p.All)
	}
	k.refused = nil
	keys := slices.SortedFunc(maps.Keys(k.wanted), func(a, b loadbalance.PortKey) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for _, key := range keys {
		p := k.wanted[key]
		needs, has := len(p.All), len(k.ports[key].All)
		if needs-has > free {
			k.refused = append(k.refused, loadbalance.Refusal{Key: key, Table: "backend_map", Needs: needs, Free: free})
			continue
		}
		free -= needs - has
		k.ports[key] = p
		if k.ids[key] == 0 {
			k.ids[key] = uint32(len(k.ids) + 1)
		}
	}
}

// RefusedServices implements Datapath.
func (k *fakeKernel) RefusedServices() []loadbalance.Refusal {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.refused)
}

// ServiceTables implements Datapath.
func (k *fakeKernel) ServiceTables() []datapath.ServiceTable {
	k.mu.Lock()
	defer k.mu.Unlock()
	return []datapath.ServiceTable{{Name: "backend_map", Entries: 1, Size: uint64(k.room)}}
}

// InspectServices implements Datapath. A list's id is the service's, and the
// backends' are their slots and one.
func (k *fakeKernel) InspectServices() ([]datapath.FrontendState, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail {
		return nil, errFake
	}
	var out []datapath.FrontendState
	for key, p := range k.ports {
		for _, f := range p.Frontends {
			out = append(out, datapath.FrontendState{
				Addr: f.Addr, Protocol: key.Protocol, Service: k.ids[key], Affinity: p.Affinity,
				Outside: listState(k.ids[key], p.Backends(f.Outside)), Cluster: listState(k.ids[key], p.Backends(f.Cluster)),
			})
		}
	}
	for a := range k.addresses {
		out = append(out, datapath.FrontendState{Addr: netip.AddrPortFrom(a, 0), Flags: []string{"closed"}})
	}
	slices.SortFunc(out, func(a, b datapath.FrontendState) int { return a.Addr.Compare(b.Addr) })
	return out, nil
}

func listState(id uint32, backends []loadbalance.Backend) datapath.ListState {
	if len(backends) == 0 {
		return datapath.ListState{}
	}
	out := datapath.ListState{ID: id}
	for i, b := range backends {
		out.Backends = append(out.Backends, datapath.BackendState{Addr: b.Addr, ID: uint32(i + 1)})
	}
	return out
}

// NodeAddrs implements Datapath.
func (k *fakeKernel) NodeAddrs() ([]netip.Addr, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.node), k.moved
}

// move gives the node other addresses.
func (k *fakeKernel) move(addrs ...string) {
	k.look(func() {
		k.node = nil
		for _, a := range addrs {
			k.node = append(k.node, netip.MustParseAddr(a))
		}
		close(k.moved)
		k.moved = make(chan struct{})
	})
}

// fakeCluster is a Cluster and a Meter that remember what they are told.
type fakeCluster struct {
	services, nodes chan struct{}

	mu      sync.Mutex
	events  []string
	changes map[string]int
	delays  []time.Duration
	deleted int
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{services: make(chan struct{}), nodes: make(chan struct{}), changes: map[string]int{}}
}

// ServicesSynced implements Cluster.
func (c *fakeCluster) ServicesSynced() <-chan struct{} { return c.services }

// NodesSynced implements Cluster.
func (c *fakeCluster) NodesSynced() <-chan struct{} { return c.nodes }

// EventService implements Cluster.
func (c *fakeCluster) EventService(ref state.ServiceRef, kind k8s.EventType, reason, message string) {
	c.add(fmt.Sprintf("service %s %s %s: %s", ref, kind, reason, message))
}

// Event implements Cluster.
func (c *fakeCluster) Event(ref state.PodRef, kind k8s.EventType, reason, message string) {
	c.add(fmt.Sprintf("pod %s %s %s: %s", ref, kind, reason, message))
}

func (c *fakeCluster) add(event string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event)
}

// Changed implements Meter.
func (c *fakeCluster) Changed(action string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes[action]++
}

// Programmed implements Meter.
func (c *fakeCluster) Programmed(took time.Duration, deleted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delays = append(c.delays, took)
	if deleted {
		c.deleted++
	}
}

// take returns the events since it was called last.
func (c *fakeCluster) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.events
	c.events = nil
	return out
}

// timed returns the delays since it was called last.
func (c *fakeCluster) timed() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.delays
	c.delays = nil
	return out
}

const (
	here = "node-1"
	ns   = "shop"
)

// node is one node with its Runner, in a bubble of fake time.
type node struct {
	bubble.T
	tables  *state.Tables
	kernel  *fakeKernel
	cluster *fakeCluster
	off     bool
	listen  func(uint16) (net.Listener, error)
	runner  *Runner
	stop    func()
}

// story runs tell on a node without a Runner. The time is fake.
func story(t *testing.T, name string, tell func(n *node)) {
	t.Helper()
	bubble.Run(t, name, func(t bubble.T) {
		n := newNode(t.T)
		defer func() { n.stop() }()
		tell(n)
	})
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{T: bubble.T{T: t}, kernel: newFakeKernel(), cluster: newFakeCluster(), stop: func() {}}
	n.listen = func(uint16) (net.Listener, error) { return newQuietListener(), nil }
	n.newTables()
	return n
}

func (n *node) newTables() {
	var err error
	n.tables, err = state.NewTables()
	n.Must(err)
	n.Must(n.tables.UpsertNode(state.Node{Name: here, Zone: "a", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}))
}

func compiler() loadbalance.Config {
	return loadbalance.Config{
		IPv4: true, IPv6: true, Algorithm: loadbalance.AlgorithmRandom, NodePortFirst: 30000, NodePortLast: 32767,
		TopologyHints: true, MaglevSize: 251,
	}
}

func (n *node) newRunner() *Runner {
	n.Helper()
	r, err := New(Config{
		NodeName: here, Compiler: compiler(), Off: n.off, HealthChecks: true, Interval: time.Minute, Tables: n.tables,
		Datapath: n.kernel, Cluster: n.cluster, Meter: n.cluster, Listen: n.listen, Log: slog.New(slog.DiscardHandler),
	})
	n.Must(err)
	return r
}

// launch runs a Runner.
func (n *node) launch() {
	n.Helper()
	r := n.newRunner()
	ctx, cancel := context.WithCancel(n.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	n.runner = r
	n.stop = func() {
		cancel()
		n.Must(<-done)
		n.stop = func() {}
	}
}

func (n *node) start() {
	n.Helper()
	n.launch()
	synctest.Wait()
}

// sync says that the tables are complete.
func (n *node) sync() {
	close(n.cluster.nodes)
	close(n.cluster.services)
	synctest.Wait()
}

// running is a node that has begun, with nothing to tell of it.
func (n *node) running() {
	n.Helper()
	n.start()
	n.sync()
	n.Pass(time.Second)
	n.cluster.take()
	n.cluster.timed()
}

// restart ends the Runner, and begins another with tables that are read anew.
func (n *node) restart() {
	n.Helper()
	services, _, err := n.tables.Services()
	n.Must(err)
	slices, _, err := n.tables.Slices()
	n.Must(err)
	n.stop()
	n.newTables()
	n.cluster = newFakeCluster()
	n.start()
	for _, s := range services {
		n.Must(n.tables.UpsertService(s))
	}
	for _, s := range slices {
		n.Must(n.tables.UpsertSlice(s))
	}
	synctest.Wait()
}

func ref(name string) state.ServiceRef { return state.ServiceRef{Namespace: ns, Name: name} }

// web is a Service with one port.
func web(name string, last byte) state.Service {
	return state.Service{
		Ref: ref(name), UID: "uid-" + name, CreatedAt: time.Unix(int64(last), 0), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, last})},
		Ports: []state.ServicePort{{Name: "http", Protocol: state.ProtocolTCP, Port: 80}},
	}
}

func (n *node) service(s state.Service) {
	n.Helper()
	n.Must(n.tables.UpsertService(s))
	synctest.Wait()
}

// backends writes the one slice of a Service; the first of its backends is on this
// node.
func (n *node) backends(service string, addrs ...string) {
	n.Helper()
	n.Must(n.tables.UpsertSlice(slice(service, addrs...)))
	synctest.Wait()
}

func slice(service string, addrs ...string) state.EndpointSlice {
	s := state.EndpointSlice{
		Namespace: ns, Name: service + "-1", Service: service,
		Ports: []state.SlicePort{{Name: "http", Protocol: state.ProtocolTCP, Port: 8080}},
	}
	for i, a := range addrs {
		where := here
		if i > 0 {
			where = "node-2"
		}
		s.Backends = append(s.Backends, state.SliceEndpoint{Addr: netip.MustParseAddr(a), Ready: true, Serving: true, Node: where})
	}
	return s
}

// served are the backends that the kernel has for a Service's port, as text.
func (n *node) served(name string) string {
	out := "not served"
	n.kernel.look(func() {
		for key, p := range n.kernel.ports {
			if key.Service == ref(name) && !key.HostPort {
				out = addrsOf(p.All)
			}
		}
	})
	return out
}

func addrsOf(backends []loadbalance.Backend) string {
	var out []netip.Addr
	for _, b := range backends {
		out = append(out, b.Addr.Addr())
	}
	return fmt.Sprint(out)
}

func (n *node) wantServed(name, want string) {
	n.Helper()
	if got := n.served(name); got != want {
		n.Errorf("the kernel has %s for %s, want %s", got, name, want)
	}
}

func (n *node) wantEvents(want ...string) {
	n.Helper()
	if got := n.cluster.take(); !slices.Equal(got, want) {
		n.Errorf("events %q, want %q", got, want)
	}
}

// quietListener is a port that nobody asks.
type quietListener struct {
	once   sync.Once
	closed chan struct{}
}

func newQuietListener() *quietListener { return &quietListener{closed: make(chan struct{})} }

func (l *quietListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *quietListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*quietListener) Addr() net.Addr { return &net.TCPAddr{} }
