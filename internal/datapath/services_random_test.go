package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// testMaglev is a small size of Maglev tables; it need but be prime.
const testMaglev = 7

func testServiceConfig(seed byte) serviceConfig {
	return serviceConfig{
		maglevSize: testMaglev, maglevSeed: loadbalance.MaglevSeed{0: seed, 11: 1}, log: slog.New(slog.DiscardHandler),
	}
}

// world makes random changes to services, and keeps what is desired.
type world struct {
	*rand.Rand
	t      testing.TB
	kernel *fakeKernel
	writer *serviceWriter
	oracle *oracle
	store  serviceStore
	seed   byte
}

func newWorld(t testing.TB, number uint64) *world {
	r := rand.New(rand.NewPCG(number, 4))
	k := newFakeKernel(t, 6+r.IntN(40), 4+r.IntN(80), 2+r.IntN(6), 2+r.IntN(8))
	w := &world{Rand: r, t: t, kernel: k, store: k.store(), seed: 1}
	w.oracle = &oracle{
		k: k, maglevM: testMaglev, seed: testServiceConfig(w.seed).maglevSeed,
		desired: map[loadbalance.PortKey]loadbalance.Port{}, addresses: map[netip.Addr]bool{},
		inForce: map[loadbalance.PortKey]loadbalance.Port{}, rough: map[loadbalance.PortKey]bool{},
	}
	w.restart()
	return w
}

func (w *world) say(format string, args ...any) {
	w.kernel.story = append(w.kernel.story, fmt.Sprintf(format, args...)+"\n")
}

// note tells the oracle what came of an event.
func (w *world) note() {
	if w.kernel.failed {
		w.oracle.doubt()
		w.kernel.failed = false
	}
	if !w.writer.stale {
		w.oracle.note(w.writer.refusals())
	}
}

// must ends the test with the story of what led here.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%v", err, w.kernel.story)
	}
}

func (w *world) all() ([]loadbalance.Port, []netip.Addr) {
	var ports []loadbalance.Port
	for _, p := range w.oracle.desired {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b loadbalance.Port) int { return comparePortKeys(a.Key, b.Key) })
	var addrs []netip.Addr
	for a := range w.oracle.addresses {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return ports, addrs
}

// restart is a new agent on the tables as they are.
func (w *world) restart() {
	w.kernel.killIn = -1
	clear(w.kernel.held)
	w.oracle.doubt()
	w.writer = newServiceWriter(w.store, testServiceConfig(w.seed))
	w.oracle.seed = testServiceConfig(w.seed).maglevSeed
	w.sync()
}

func (w *world) sync() int {
	ports, addrs := w.all()
	n, err := w.writer.sync(ports, addrs)
	w.survive(err)
	return n
}

// survive is for changes during which the agent may be killed.
func (w *world) survive(err error) {
	w.t.Helper()
	switch {
	case errors.Is(err, errKilled):
		w.say("killed: %v", err)
		w.restart()
	case errors.Is(err, errKernel): // it tries again, see tidy
		w.say("failed: %v", err)
	default:
		w.must(err)
	}
}

// settle lets the agent's background work end, and looks at every row.
func (w *world) settle() {
	w.t.Helper()
	w.kernel.killIn = -1
	for range 4 {
		w.must(w.writer.tidy())
		w.must(w.writer.goneEnded(w.writer.takeGone()))
	}
	w.verify()
}

func (w *world) verify() {
	w.t.Helper()
	w.oracle.note(w.writer.refusals())
	w.must(w.oracle.verify(w.writer))
	if differs, err := w.writer.differs(); differs || err != nil {
		w.must(fmt.Errorf("the mirror is not what the kernel has: %w", err))
	}
	free := w.writer.free()
	for _, r := range w.writer.refusals() {
		table := slices.Index(tableNamesOf(), r.Table)
		if r.Needs <= r.Free || r.Free != max(0, free[table]) && !w.writer.refused[r.Key].kernel {
			w.must(fmt.Errorf("refusal %+v, but %d are free", r, free[table]))
		}
	}
}

func tableNamesOf() []string { names := tableNames(); return names[:] }

func (w *world) backend() loadbalance.Backend {
	return loadbalance.Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(w.IntN(12))}), 8080)}
}

func (w *world) someBackends(limit int) []loadbalance.Backend {
	var out []loadbalance.Backend
	for range w.IntN(limit + 1) {
		if b := w.backend(); !slices.Contains(out, b) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b loadbalance.Backend) int { return a.Addr.Compare(b.Addr) })
	return out
}

func (w *world) reach() loadbalance.Reach {
	return []loadbalance.Reach{loadbalance.ReachNone, loadbalance.ReachAll, loadbalance.ReachAll, loadbalance.ReachLocal}[w.IntN(4)]
}

func (w *world) key() loadbalance.PortKey {
	key := loadbalance.PortKey{Service: state.ServiceRef{Namespace: "n", Name: string(rune('a' + w.IntN(6)))}, Port: 80, Protocol: state.ProtocolTCP}
	if w.IntN(3) == 0 {
		key.Protocol = state.ProtocolUDP
	}
	return key
}

// frontends are such that no other port has.
func (w *world) frontends(key loadbalance.PortKey, taken map[abi.CFrontendKey]bool, ranges bool) []loadbalance.Frontend {
	kinds := []loadbalance.Kind{loadbalance.KindClusterIP, loadbalance.KindNodePort, loadbalance.KindExternalIP, loadbalance.KindLoadBalancer}
	var out []loadbalance.Frontend
	for range w.IntN(5) {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(w.IntN(10))}), 80)
		fk := frontendKey(addr, key.Protocol)
		if taken[fk] {
			continue
		}
		taken[fk] = true
		out = append(out, loadbalance.Frontend{
			Addr: addr, Kind: kinds[w.IntN(len(kinds))], Outside: w.reach(), Cluster: w.reach(),
			Maglev: w.IntN(3) == 0, SourceRanges: ranges && w.IntN(2) == 0,
		})
	}
	return out
}

func (w *world) port(key loadbalance.PortKey, taken map[abi.CFrontendKey]bool) loadbalance.Port {
	p := loadbalance.Port{Key: key, All: w.someBackends(8)}
	for _, b := range p.All {
		if w.IntN(3) > 0 {
			p.Local = append(p.Local, b)
		}
	}
	for _, b := range w.someBackends(3) {
		if !slices.Contains(p.All, b) {
			p.Draining = append(p.Draining, b)
		}
	}
	if w.IntN(3) == 0 {
		p.Affinity = uint32(60 + w.IntN(2))
	}
	if w.IntN(3) == 0 {
		for i := range 1 + w.IntN(3) {
			p.SourceRanges = append(p.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i), 0, 0, 0}), 8+w.IntN(2)))
		}
	}
	p.Frontends = w.frontends(key, taken, len(p.SourceRanges) > 0)
	return p
}

// changed is a small change of a port, such as an EndpointSlice makes.
func (w *world) changed(p loadbalance.Port) loadbalance.Port {
	b := w.backend()
	p.Draining = slices.DeleteFunc(slices.Clone(p.Draining), func(d loadbalance.Backend) bool { return d == b })
	if i := slices.Index(p.All, b); i >= 0 {
		p.All = slices.Delete(slices.Clone(p.All), i, i+1)
		p.Local = slices.DeleteFunc(slices.Clone(p.Local), func(l loadbalance.Backend) bool { return l == b })
		if w.IntN(2) == 0 {
			p.Draining = append(p.Draining, b)
		}
		return p
	}
	p.All = append(slices.Clone(p.All), b)
	slices.SortFunc(p.All, func(a, b loadbalance.Backend) int { return a.Addr.Compare(b.Addr) })
	return p
}

// update makes a random update and notes it as desired.
func (w *world) update() loadbalance.Update {
	var u loadbalance.Update
	taken := map[abi.CFrontendKey]bool{}
	keys := map[loadbalance.PortKey]bool{}
	for range 1 + w.IntN(3) {
		keys[w.key()] = true
	}
	for key, p := range w.oracle.desired {
		if !keys[key] {
			for _, f := range p.Frontends {
				taken[frontendKey(f.Addr, key.Protocol)] = true
			}
		}
	}
	ordered := make([]loadbalance.PortKey, 0, len(keys))
	for key := range keys {
		ordered = append(ordered, key)
	}
	slices.SortFunc(ordered, comparePortKeys)
	for _, key := range ordered {
		have, ok := w.oracle.desired[key]
		switch {
		case ok && w.IntN(4) == 0:
			u.Delete = append(u.Delete, key)
			delete(w.oracle.desired, key)
			continue
		case ok && w.IntN(2) == 0:
			p := w.changed(have)
			p.Frontends = slices.DeleteFunc(slices.Clone(p.Frontends), func(f loadbalance.Frontend) bool {
				fk := frontendKey(f.Addr, key.Protocol)
				mine := !taken[fk]
				taken[fk] = true
				return !mine
			})
			w.oracle.desired[key] = p
		default:
			w.oracle.desired[key] = w.port(key, taken)
		}
		u.Upsert = append(u.Upsert, w.oracle.desired[key])
	}
	addr := netip.AddrFrom4([4]byte{10, 96, 0, byte(w.IntN(10))})
	if w.IntN(3) == 0 {
		if w.oracle.addresses[addr] {
			delete(w.oracle.addresses, addr)
			u.Gone = append(u.Gone, addr)
		} else {
			w.oracle.addresses[addr] = true
			u.Open = append(u.Open, addr)
		}
	}
	return u
}

// damage changes rows behind the agent's back.
func (w *world) damage() {
	w.kernel.tampered = true
	w.oracle.doubt()
	for range 1 + w.IntN(3) {
		switch w.IntN(6) {
		case 0:
			damageRow(w, w.kernel.frontends.rows, func(v *abi.CFrontend) { v.Service += uint32(w.IntN(3)) })
		case 1:
			damageRow(w, w.kernel.backends.rows, func(v *abi.CBackend) { v.Id = uint32(w.IntN(8)) })
		case 2:
			damageRow(w, w.kernel.maglev.rows, nil)
		case 3:
			damageRow(w, w.kernel.ranges.rows, nil)
		case 4:
			if k := w.kernel.backends; len(k.rows) < k.limit {
				key := abi.CBackendKey{List: uint32(w.IntN(20)), Slot: uint32(w.IntN(10))}
				k.rows[key] = backendValue(w.backend().Addr, uint32(w.IntN(30)))
			}
		case 5:
			if k := w.kernel.frontends; len(k.rows) < k.limit {
				addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(w.IntN(10))}), 80)
				k.rows[frontendKey(addr, state.ProtocolTCP)] = abi.CFrontend{
					Service: uint32(1 + w.IntN(5)), List: [2]abi.CBackendList{{Id: uint32(w.IntN(5)), Count: uint32(w.IntN(4))}},
				}
			}
		}
	}
}

// damageRow deletes a row, or edits it.
func damageRow[K comparable, V any](w *world, rows map[K]V, edit func(*V)) {
	if len(rows) == 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(rows), func(a, b K) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	key := keys[w.IntN(len(keys))]
	w.say("damage to %v: %v", key, rows[key])
	if edit == nil || w.IntN(2) == 0 {
		delete(rows, key)
		return
	}
	v := rows[key]
	edit(&v)
	rows[key] = v
}

// event is one thing that happens to an agent.
func (w *world) event() {
	switch n := w.IntN(20); {
	case n < 12:
		u := w.update()
		for _, p := range u.Upsert {
			w.say("upsert %+v", p)
		}
		w.say("delete %v open %v gone %v", u.Delete, u.Open, u.Gone)
		w.survive(w.writer.apply(u))
	case n < 14:
		w.say("killed soon")
		w.kernel.killIn = w.IntN(40)
	case n < 15:
		w.say("background")
		w.survive(w.writer.tidy())
	case n < 16:
		w.say("flows of gone backends end")
		w.survive(w.writer.goneEnded(w.writer.takeGone()))
	case n < 17:
		w.say("audit")
		w.sync()
	case n < 18:
		w.seed = byte(1 + w.IntN(2))
		w.say("restart with seed %d", w.seed)
		w.restart()
	case n < 19:
		table := tableNamesOf()[w.IntN(int(serviceTables))]
		w.kernel.failIn[table] = w.IntN(6)
		w.say("%s will fail", table)
	default:
		w.say("damage")
		w.damage()
		w.sync()
		if !w.writer.stale {
			w.mended()
		}
	}
}

// TestServicesRandom lets ten thousand agents live through random events, with
// tables that are too small now and then. Whatever happens, every frontend leads
// to something whole after each single write, and in the end the tables are what
// a fresh computation says.
func TestServicesRandom(t *testing.T) {
	const sequences = 10_000
	refusals := 0
	for number := range uint64(sequences) {
		w := newWorld(t, number)
		w.say("sequence %d", number)
		for range 4 + w.IntN(12) {
			w.event()
			w.note()
			refusals += len(w.writer.refused)
			if w.IntN(3) == 0 {
				w.calm()
				w.settle()
			}
		}
		w.calm()
		w.settle()
		if n := w.sync(); n != 0 {
			w.must(fmt.Errorf("an audit of what is right repaired %d rows", n))
		}
		w.restart()
		w.settle()
		for key := range w.oracle.desired { // all comes in as soon as there is room
			if len(w.writer.refused) == 0 {
				break
			}
			delete(w.oracle.desired, key)
			w.must(w.writer.apply(loadbalance.Update{Delete: []loadbalance.PortKey{key}}))
			w.settle()
		}
	}
	if refusals == 0 {
		t.Error("nothing was ever refused: the test does not test what it should")
	}
}

// mended is called when an agent has seen the damage: programs that hold damaged
// rows are none of its business.
func (w *world) mended() {
	w.kernel.tampered = false
	clear(w.kernel.held)
}

// calm ends what disturbs the kernel.
func (w *world) calm() {
	w.kernel.killIn = -1
	clear(w.kernel.failIn)
	if w.kernel.tampered {
		w.sync()
		w.mended()
	}
	if w.writer.stale {
		w.sync()
	}
}
