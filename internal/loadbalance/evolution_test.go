package loadbalance_test

import (
	order "cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// world is a cluster, an engine that was told of it, and the tables that its
// Updates made.
type world struct {
	cluster
	rng    *rand.Rand
	engine *loadbalance.Engine
	made   tables
}

func newWorld(t *testing.T, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 4))
	odds := func(n int) bool { return rng.IntN(n) == 0 }
	cfg := config()
	cfg.IPv6, cfg.ExternalClusterIP, cfg.SourceRangeAllTypes = !odds(8), odds(4), odds(3)
	cfg.IPv4 = !cfg.IPv6 || !odds(12)
	cfg.TopologyHints, cfg.AlgorithmByAnnotation = odds(2), odds(2)
	if odds(3) {
		cfg.Algorithm = loadbalance.AlgorithmMaglev
	}
	e, err := loadbalance.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		rng: rng, engine: e,
		cluster: cluster{
			cfg: cfg, services: map[state.ServiceRef]*state.Service{}, slices: map[state.ServiceRef]*state.EndpointSlice{}, pods: map[state.ServiceRef]pod{},
		},
		made: tables{ports: map[loadbalance.PortKey]loadbalance.Port{}, addresses: map[netip.Addr]bool{}},
	}
}

func pick[T any](w *world, list ...T) T { return list[w.rng.IntN(len(list))] }

// some has each of the words with that many chances of a hundred.
func (w *world) some(percent int, words string) []string {
	var out []string
	for s := range strings.FieldsSeq(words) {
		if w.rng.IntN(100) < percent {
			out = append(out, s)
		}
	}
	return out
}

func (w *world) addrs(percent int, words string) []netip.Addr {
	return addrs(strings.Join(w.some(percent, words), " "))
}

func (w *world) name(names ...string) state.ServiceRef {
	return state.ServiceRef{Namespace: pick(w, "a", "a", "b"), Name: pick(w, names...)}
}

// step changes one object, in the cluster and for the engine.
func (w *world) step() {
	switch w.rng.IntN(16) {
	case 0, 1, 2, 3:
		s := w.service()
		w.services[s.Ref] = s
		w.engine.UpsertService(s)
	case 4:
		name := w.name("x", "y")
		delete(w.services, name)
		w.engine.DeleteService(name)
	case 5, 6, 7, 8, 9:
		s := w.slice()
		w.slices[state.ServiceRef{Namespace: s.Namespace, Name: s.Name}] = s
		w.engine.UpsertSlice(s)
	case 10:
		name := w.name("s1", "s2", "s3", "s4")
		delete(w.slices, name)
		w.engine.DeleteSlice(name.Namespace, name.Name)
	case 11, 12:
		w.node = loadbalance.Node{
			Name: pick(w, "n1", "n1", "n1", "n2", ""), Zone: pick(w, "za", "zb", ""),
			Addrs: w.addrs(60, "172.18.0.2 172.18.0.3 203.0.113.1 fd02::2"), Nodes: w.addrs(30, "172.18.0.2 198.51.100.1 fd02::3"),
		}
		w.engine.SetNode(w.node)
	case 13, 14:
		name := w.name("p", "q", "x")
		p := w.pod()
		w.pods[name] = p
		w.engine.SetHostPorts(name, p.addrs, p.created, p.ports)
	case 15:
		name := w.name("p", "q", "x")
		delete(w.pods, name)
		w.engine.DeleteHostPorts(name)
	}
}

func (w *world) protocol() state.Protocol {
	return pick(w, state.ProtocolTCP, state.ProtocolTCP, state.ProtocolTCP, state.ProtocolTCP, state.ProtocolUDP, state.ProtocolUDP, state.ProtocolSCTP, state.ProtocolAny)
}

func (w *world) service() *state.Service {
	odds := func(n int) bool { return w.rng.IntN(n) == 0 }
	s := &state.Service{
		Ref: w.name("x", "y"), CreatedAt: at(w.rng.IntN(3)),
		ClusterIPs:    w.addrs(60, "10.96.0.1 10.96.0.2 fd00::1"),
		ExternalIPs:   w.addrs(25, "198.51.100.1 203.0.113.1 2001:db8::1 127.0.0.1 172.18.0.2"),
		LoadBalancers: w.addrs(25, "203.0.113.1 203.0.113.2 2001:db8::1 2001:db8::2"),
		SourceRanges:  prefixes(strings.Join(w.some(20, "10.0.0.0/8 192.0.2.0/24 2001:db8::/32"), " ")),
		ExternalLocal: odds(2), InternalLocal: odds(3), Affinity: pick(w, 0, 0, time.Second, 3*time.Hour), HealthCheckPort: pick[uint16](w, 0, 31000),
	}
	for range w.rng.IntN(3) + 1 {
		s.Ports = append(s.Ports, state.ServicePort{
			Name: pick(w, "", "http", "http", "http", "dns"), Protocol: w.protocol(), Port: pick[uint16](w, 53, 80, 80, 30080, 0), NodePort: pick[uint16](w, 0, 30080, 30053, 29999),
		})
	}
	if odds(3) {
		s.Annotations = map[string]string{"service.cilium.io/lb-algorithm": pick(w, "random", "maglev", "other")}
	}
	return s
}

func (w *world) slice() *state.EndpointSlice {
	name := w.name("s1", "s2", "s3", "s4")
	s := &state.EndpointSlice{Namespace: name.Namespace, Name: name.Name, Service: pick(w, "x", "y")}
	for range w.rng.IntN(3) + 1 {
		s.Ports = append(s.Ports, state.SlicePort{Name: pick(w, "", "http", "http", "http", "dns"), Protocol: w.protocol(), Port: pick[uint16](w, 8080, 80, 53, 0)})
	}
	for _, a := range w.addrs(50, "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 fd01::1 fd01::2 169.254.1.1") {
		odds := func(n int) bool { return w.rng.IntN(n) == 0 }
		e := state.SliceEndpoint{Addr: a, Ready: !odds(3), Serving: !odds(3), Terminating: odds(3), Node: pick(w, "n1", "n1", "n2", "")}
		if !odds(4) {
			e.HintZones = append(w.some(50, "za zb"), "zc")
		}
		if !odds(2) {
			e.HintNodes = []string{pick(w, "n1", "n2")}
		}
		s.Backends = append(s.Backends, e)
	}
	return s
}

func (w *world) pod() pod {
	p := pod{addrs: w.addrs(80, "10.0.0.7 fd01::7"), created: at(w.rng.IntN(3))}
	for range w.rng.IntN(4) {
		h := state.HostPort{Protocol: w.protocol(), HostPort: pick[uint16](w, 80, 30080, 0), ContainerPort: pick[uint16](w, 80, 8080, 0)}
		if ip := pick(w, "", "0.0.0.0", "172.18.0.2", "127.0.0.1", "fd02::2"); ip != "" {
			h.HostIP = netip.MustParseAddr(ip)
		}
		p.ports = append(p.ports, h)
	}
	return p
}

// apply writes an Update into the tables, and fails where it says what is so
// already, or says it out of order.
func (m *tables) apply(u loadbalance.Update) error {
	for _, key := range u.Delete {
		if _, ok := m.ports[key]; !ok {
			return fmt.Errorf("deletes %+v, which is not there", key)
		}
		delete(m.ports, key)
	}
	for _, p := range u.Upsert {
		if old, ok := m.ports[p.Key]; ok && samePort(old, p) {
			return fmt.Errorf("changes %+v to what it is", p.Key)
		}
		m.ports[p.Key] = p
	}
	for _, a := range u.Open {
		if m.addresses[a] {
			return fmt.Errorf("opens %s, which is open", a)
		}
		m.addresses[a] = true
	}
	for _, a := range u.Gone {
		if !m.addresses[a] {
			return fmt.Errorf("says that %s is gone, which was not there", a)
		}
		delete(m.addresses, a)
	}
	if !slices.IsSortedFunc(u.Open, netip.Addr.Compare) || !slices.IsSortedFunc(u.Gone, netip.Addr.Compare) {
		return fmt.Errorf("addresses out of order: %v %v", u.Open, u.Gone)
	}
	return nil
}

var options = []cmp.Option{
	cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
}

// TestEvolution changes random clusters step by step. After each Update, the
// tables that all Updates made, and what the engine says that it holds, are what
// the oracle computes from the objects.
func TestEvolution(t *testing.T) {
	const sequences, takes = 10_000, 6
	var counts struct{ takes, ports, lost, draining, local, health int }
	for seed := range uint64(sequences) {
		w := newWorld(t, seed)
		for range w.rng.IntN(20) {
			w.step()
		}
		for n := range takes {
			for range w.rng.IntN(4) + 1 + 4*(n%2) {
				w.step()
				if w.rng.IntN(8) == 0 {
					w.engine.Problems() // settles in the middle of a batch
				}
			}
			if err := w.check(); err != nil {
				t.Fatalf("sequence %d, take %d: %v", seed, n, err)
			}
			counts.takes++
			for _, p := range w.made.ports {
				counts.ports++
				counts.draining += min(1, len(p.Draining))
				counts.local += min(1, len(p.Local))
			}
			counts.lost += len(w.made.losers)
			counts.health += len(w.made.health)
		}
		if err := w.checkProblems(); err != nil {
			t.Fatalf("sequence %d: %v", seed, err)
		}
	}
	t.Logf("%+v", counts)
	if least := counts.takes / 8; min(counts.ports/20, counts.lost, counts.draining, counts.local, counts.health) < least {
		t.Errorf("too few cases of a kind, want %d: the generator has become useless", least)
	}
}

func (w *world) check() error {
	if err := w.made.apply(w.engine.Take()); err != nil {
		return err
	}
	fresh := w.fresh()
	w.made.losers, w.made.health = fresh.losers, fresh.health
	if !maps.EqualFunc(fresh.ports, w.made.ports, samePort) {
		return fmt.Errorf("ports by Updates (-want +got):\n%s", cmp.Diff(fresh.ports, w.made.ports, options...))
	}
	if !maps.Equal(fresh.addresses, w.made.addresses) {
		return fmt.Errorf("addresses by Updates %v, want %v", w.made.addresses, fresh.addresses)
	}
	ports := w.engine.Ports()
	for i, p := range ports {
		if !samePort(p, fresh.ports[p.Key]) {
			return fmt.Errorf("Ports has %+v", p)
		}
		if i > 0 && compareKeys(ports[i-1].Key, p.Key) >= 0 {
			return fmt.Errorf("Ports has %+v after %+v", p.Key, ports[i-1].Key)
		}
		if want := stored(p); loadbalance.Cost(p) != want {
			return fmt.Errorf("cost %+v of %+v, the datapath stores %+v", loadbalance.Cost(p), p, want)
		}
	}
	if len(ports) != len(fresh.ports) {
		return fmt.Errorf("Ports has %d, want %d", len(ports), len(fresh.ports))
	}
	if got := w.engine.Addresses(); !slices.IsSortedFunc(got, netip.Addr.Compare) || len(got) != len(fresh.addresses) ||
		slices.ContainsFunc(got, func(a netip.Addr) bool { return !fresh.addresses[a] }) {
		return fmt.Errorf("Addresses has %v, want %v", got, slices.Collect(maps.Keys(fresh.addresses)))
	}
	health := map[state.ServiceRef]loadbalance.HealthPort{}
	for _, h := range w.engine.Health() {
		health[h.Service] = h
	}
	if !maps.Equal(health, fresh.health) {
		return fmt.Errorf("Health has %+v, want %+v", health, fresh.health)
	}
	if u := w.engine.Take(); len(u.Upsert)+len(u.Delete)+len(u.Open)+len(u.Gone) > 0 {
		return fmt.Errorf("a second Take gives %+v", u)
	}
	return nil
}

// checkProblems compares who lost something with the oracle, and every problem
// with those of a new engine that hears of the same objects in another order.
func (w *world) checkProblems() error {
	losers := map[loadbalance.PortKey]bool{}
	problems := w.engine.Problems()
	for _, p := range problems {
		if strings.Contains(p.Message, " belongs to ") {
			losers[loadbalance.PortKey{Service: p.Service, HostPort: p.HostPort}] = true
		}
	}
	if !maps.Equal(losers, w.made.losers) {
		return fmt.Errorf("lost something: %v, want %v", losers, w.made.losers)
	}
	again, err := loadbalance.New(w.cfg)
	if err != nil {
		return err
	}
	for _, s := range w.slices {
		again.UpsertSlice(s)
	}
	for name, p := range w.pods {
		again.SetHostPorts(name, p.addrs, p.created, p.ports)
	}
	for _, s := range w.services {
		again.UpsertService(s)
	}
	again.SetNode(w.node)
	if got := again.Problems(); !slices.Equal(got, problems) {
		return fmt.Errorf("problems (-new engine +this one):\n%s", cmp.Diff(got, problems))
	}
	if a, b := again.Services(), w.engine.Services(); !slices.EqualFunc(a, b, sameSummary) {
		return fmt.Errorf("summaries (-new engine +this one):\n%s", cmp.Diff(a, b, options...))
	}
	return nil
}

func samePort(a, b loadbalance.Port) bool {
	return a.Key == b.Key && a.Affinity == b.Affinity && slices.Equal(a.Frontends, b.Frontends) && slices.Equal(a.All, b.All) &&
		slices.Equal(a.Local, b.Local) && slices.Equal(a.Draining, b.Draining) && slices.Equal(a.SourceRanges, b.SourceRanges)
}

func sameSummary(a, b loadbalance.Summary) bool {
	return a.Service == b.Service && a.HostPort == b.HostPort && slices.EqualFunc(a.Ports, b.Ports, samePort) &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Problems, b.Problems) && a.Entries == b.Entries && a.Estimate == b.Estimate
}

// compareKeys is the order of ports: by owner, port, protocol, name and family.
func compareKeys(a, b loadbalance.PortKey) int {
	rank := func(k loadbalance.PortKey) []int {
		return []int{map[bool]int{true: 1}[k.HostPort], int(k.Port), int(k.Protocol)}
	}
	return order.Or(
		strings.Compare(a.Service.Namespace, b.Service.Namespace), strings.Compare(a.Service.Name, b.Service.Name),
		slices.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name), map[bool]int{true: 1}[a.IPv6]-map[bool]int{true: 1}[b.IPv6],
	)
}

// stored writes a port into tables as the datapath has them, and counts.
func stored(p loadbalance.Port) loadbalance.Entries {
	type slot struct {
		list string
		slot int
	}
	type backend struct {
		list string
		addr netip.AddrPort
	}
	frontends, slots, byID, maglev := map[netip.AddrPort]bool{}, map[slot]bool{}, map[backend]bool{}, map[string]bool{}
	for _, f := range p.Frontends {
		frontends[f.Addr] = true
		for scope, reach := range map[string]loadbalance.Reach{"outside": f.Outside, "cluster": f.Cluster} {
			list, id := p.Backends(reach), string(reach)
			if slices.Equal(p.All, p.Local) {
				id = "both"
			}
			for i, b := range list {
				slots[slot{id, i}] = true
				if p.Affinity > 0 {
					byID[backend{id, b.Addr}] = true
				}
			}
			if scope == "outside" && f.Maglev && len(list) > 0 {
				maglev[id] = true
			}
		}
	}
	return loadbalance.Entries{Frontends: len(frontends), Backends: len(slots) + len(byID) + len(p.Draining), Maglev: len(maglev), SourceRanges: len(p.SourceRanges)}
}
