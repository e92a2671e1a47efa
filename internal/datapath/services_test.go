package datapath

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

func newTestWriter(k *fakeKernel) *serviceWriter {
	return newServiceWriter(k.store(), testServiceConfig(1))
}

func testKey(name string) loadbalance.PortKey {
	return loadbalance.PortKey{Service: state.ServiceRef{Namespace: "n", Name: name}, Port: 80, Protocol: state.ProtocolTCP}
}

func testBackends(n ...byte) []loadbalance.Backend {
	out := make([]loadbalance.Backend, len(n))
	for i, b := range n {
		out[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, b}), 8080)
	}
	return out
}

// testPort is a service at 10.96.0.N with these backends.
func testPort(name string, n byte, backends ...byte) loadbalance.Port {
	return loadbalance.Port{
		Key: testKey(name), All: testBackends(backends...),
		Frontends: []loadbalance.Frontend{{
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, n}), 80),
			Kind: loadbalance.KindClusterIP, Outside: loadbalance.ReachNone, Cluster: loadbalance.ReachAll,
		}},
	}
}

func mustSync(t *testing.T, w *serviceWriter, ports ...loadbalance.Port) {
	t.Helper()
	if _, err := w.sync(ports, nil); err != nil {
		t.Fatal(err)
	}
}

func mustApply(t *testing.T, w *serviceWriter, u loadbalance.Update) {
	t.Helper()
	if err := w.apply(u); err != nil {
		t.Fatal(err)
	}
}

// listOf is what clients of the cluster get at a test port.
func listOf(k *fakeKernel, p loadbalance.Port) (service uint32, backends []netip.AddrPort, ids []uint32) {
	v := k.frontends.rows[frontendKey(p.Frontends[0].Addr, p.Key.Protocol)]
	list := v.List[abi.CFrontendScopeSCOPE_CLUSTER]
	for slot := range list.Count {
		b := k.backends.rows[abi.CBackendKey{List: list.Id, Slot: slot}]
		backends, ids = append(backends, addrOf(b)), append(ids, b.Id)
	}
	return v.Service, backends, ids
}

func TestServicesNotSynced(t *testing.T) {
	w := newTestWriter(newFakeKernel(t, 8, 8, 2, 2))
	if err := w.apply(loadbalance.Update{Upsert: []loadbalance.Port{testPort("a", 1, 1)}}); !errors.Is(err, ErrNotSynced) {
		t.Errorf("a change before the first sync: %v, want ErrNotSynced", err)
	}
	var d Datapath
	if err := d.ApplyServices(loadbalance.Update{}); !errors.Is(err, ErrNoServices) {
		t.Errorf("a change without tables: %v, want ErrNoServices", err)
	}
	if _, err := d.SyncServices([]loadbalance.Port{testPort("a", 1)}, nil); !errors.Is(err, ErrNoServices) {
		t.Errorf("a sync without tables: %v, want ErrNoServices", err)
	}
	if n, err := d.SyncServices(nil, nil); n != 0 || err != nil {
		t.Errorf("removing services without tables: %d, %v", n, err)
	}
}

// TestServicesRefusal: what does not fit waits, the oldest first, and nothing
// else is kept waiting.
func TestServicesRefusal(t *testing.T) {
	k := newFakeKernel(t, 8, 2+6, 2, 2) // two backends are spare
	w := newTestWriter(k)
	a, b, c, d := testPort("a", 1, 1, 2, 3, 4), testPort("b", 2, 1, 2, 3, 4, 5), testPort("c", 3, 1, 2, 3), testPort("d", 4, 9)
	mustSync(t, w, a)
	mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{b}})
	mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{c, d}})
	want := []loadbalance.Refusal{{Key: b.Key, Table: BackendMap, Needs: 5, Free: 1}, {Key: c.Key, Table: BackendMap, Needs: 3, Free: 1}}
	if got := w.refusals(); !slices.Equal(got, want) {
		t.Errorf("refusals are %+v, want %+v", got, want)
	}
	if _, got, _ := listOf(k, d); len(got) != 1 {
		t.Error("a service that fits is kept waiting")
	}
	// Its version before stays while the next does not fit.
	bigger := testPort("a", 1, 1, 2, 3, 4, 5, 6, 7, 8)
	mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{bigger}})
	if _, got, _ := listOf(k, a); len(got) != 4 || len(w.refusals()) != 3 {
		t.Errorf("a service that grew too large has %v, refusals %+v", got, w.refusals())
	}
	mustApply(t, w, loadbalance.Update{Delete: []loadbalance.PortKey{a.Key}})
	if err := w.tidy(); err != nil {
		t.Fatal(err)
	}
	if err := w.goneEnded(w.takeGone()); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := listOf(k, b); len(got) != 5 {
		t.Errorf("the oldest refusal did not come in: %+v", w.refusals())
	}
	if got := w.refusals(); len(got) != 1 || got[0].Key != c.Key {
		t.Errorf("refusals are %+v, want that of c", got)
	}
}

// TestServicesTight: with no room for two lists side by side, a service still
// changes all its backends, and always has some.
func TestServicesTight(t *testing.T) {
	k := newFakeKernel(t, 2, 2+8, 2, 2)
	w := newTestWriter(k)
	p := testPort("a", 1, 1, 2, 3, 4)
	p.Affinity, p.Frontends[0].Maglev, p.Frontends[0].Outside = 60, true, loadbalance.ReachAll
	mustSync(t, w, p)
	next := p
	next.All = testBackends(5, 6, 7, 8)
	mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{next}})
	_, got, _ := listOf(k, p)
	if len(got) != 4 || got[0] != next.All[0].Addr || len(w.refusals()) != 0 {
		t.Errorf("backends are %v, refusals %+v", got, w.refusals())
	}
	if v := k.frontends.rows[frontendKey(p.Frontends[0].Addr, p.Key.Protocol)]; v.Flags&uint32(abi.CFrontendFlagsFRONTEND_AFFINITY|abi.CFrontendFlagsFRONTEND_MAGLEV) == 0 {
		t.Errorf("flags are %#x in the end", v.Flags)
	}
	if differs, err := w.differs(); differs || err != nil {
		t.Errorf("the mirror differs: %v", err)
	}
}

// TestServicesKeepIDs: a new agent finds all ids, writes nothing, and still knows
// a backend that drains, and one whose flows the old one did not end.
func TestServicesKeepIDs(t *testing.T) {
	k := newFakeKernel(t, 8, 40, 2, 2)
	old := newTestWriter(k)
	p := testPort("a", 1, 1, 2, 3)
	mustSync(t, old, testPort("z", 9, 7), p)
	service, _, ids := listOf(k, p)
	p.All, p.Draining = testBackends(1), testBackends(2) // 3 is gone
	mustApply(t, old, loadbalance.Update{Upsert: []loadbalance.Port{p}})
	if err := old.tidy(); err != nil { // and the agent is killed
		t.Fatal(err)
	}
	w := newTestWriter(k)
	writes := k.writes
	mustSync(t, w, testPort("z", 9, 7), p)
	if k.writes != writes {
		t.Errorf("the new agent wrote %d rows", k.writes-writes)
	}
	again, _, now := listOf(k, p)
	if again != service || now[0] != ids[0] {
		t.Errorf("service %d and backend %d became %d and %d", service, ids[0], again, now[0])
	}
	gone := w.takeGone()
	if len(gone) != 1 || gone[0].id != ids[2] {
		t.Fatalf("gone backends are %+v, want %d", gone, ids[2])
	}
	// The same address comes back: as another backend, for its old flows are being
	// ended. The one that drained is the same.
	p.All, p.Draining = testBackends(1, 2, 3), nil
	mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{p}})
	if _, _, back := listOf(k, p); back[1] != ids[1] || back[2] == ids[2] {
		t.Errorf("ids were %v and are %v", ids, back)
	}
	if err := w.goneEnded(gone); err != nil {
		t.Fatal(err)
	}
	for key := range k.backends.rows {
		if key.List == lastingList {
			t.Errorf("backend %d is still remembered", key.Slot)
		}
	}
}

// TestServicesNoMemory: a row that should fit does not, and only the service that
// needs it suffers.
func TestServicesNoMemory(t *testing.T) {
	k := newFakeKernel(t, 16, 64, 8, 8)
	w := newTestWriter(k)
	mustSync(t, w)
	k.noMemory = MaglevMap
	a, b, c := testPort("a", 1, 1), testPort("b", 2, 2), testPort("c", 3, 3)
	b.Frontends[0].Maglev, b.Frontends[0].Outside = true, loadbalance.ReachAll
	mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{a, b, c}})
	want := []loadbalance.Refusal{{Key: b.Key, Table: MaglevMap, Needs: 1}}
	if got := w.refusals(); !slices.Equal(got, want) {
		t.Errorf("refusals are %+v, want %+v", got, want)
	}
	for _, p := range []loadbalance.Port{a, c} {
		if _, got, _ := listOf(k, p); len(got) != 1 {
			t.Errorf("service %v has %v", p.Key, got)
		}
	}
	mustSync(t, w, a, b, c)
	if len(w.refusals()) != 1 {
		t.Errorf("an audit changes refusals to %+v", w.refusals())
	}
	k.noMemory = ""
	mustSync(t, w, a, b, c)
	if _, got, _ := listOf(k, b); len(got) != 1 || len(w.refusals()) != 0 {
		t.Errorf("service b has %v in the end, refusals %+v", got, w.refusals())
	}
}

// TestServicesInspect reads what the kernel has.
func TestServicesInspect(t *testing.T) {
	k := newFakeKernel(t, 8, 40, 4, 4)
	w := newTestWriter(k)
	p := testPort("a", 2, 1, 2)
	p.Affinity = 60
	p.SourceRanges = prefixes("192.0.2.0/24")
	p.Local = testBackends(2)
	p.Frontends = append(p.Frontends, loadbalance.Frontend{
		Addr: netip.MustParseAddrPort("[fd00::1]:443"), Outside: loadbalance.ReachLocal, Cluster: loadbalance.ReachAll, Maglev: true, SourceRanges: true,
	})
	if _, err := w.sync([]loadbalance.Port{p}, []netip.Addr{p.Frontends[0].Addr.Addr()}); err != nil {
		t.Fatal(err)
	}
	delete(k.backends.rows, abi.CBackendKey{List: 1, Slot: 1})
	got, err := w.inspect()
	if err != nil || len(got) != 3 {
		t.Fatalf("inspect = %+v, %v", got, err)
	}
	closed, inside, outside := got[0], got[1], got[2]
	if closed.Addr.Port() != 0 || closed.Protocol != 0 || !slices.Equal(closed.Flags, []string{"closed"}) {
		t.Errorf("the row of an address is %+v", closed)
	}
	if inside.Addr != p.Frontends[0].Addr || inside.Service != 1 || inside.Affinity != 60 || inside.Cluster.Missing != 1 ||
		len(inside.Cluster.Backends) != 1 || !slices.Equal(inside.Flags, []string{"affinity", "cluster-only"}) || inside.Outside.ID != 0 {
		t.Errorf("the frontend of the cluster is %+v", inside)
	}
	if outside.Protocol != state.ProtocolTCP || !outside.Outside.Maglev || len(outside.Outside.Backends) != 1 ||
		outside.Outside.Backends[0].Addr != p.Local[0].Addr || !slices.Equal(outside.Flags, []string{"affinity", "source-ranges", "maglev"}) {
		t.Errorf("the frontend for outside is %+v", outside)
	}
}

// TestServicesEntries: a port takes what loadbalance says that it takes, and
// a row for each backend that drains.
func TestServicesEntries(t *testing.T) {
	for number := range uint64(300) {
		w := newWorld(t, number)
		p := w.port(testKey("a"), map[abi.CFrontendKey]bool{})
		if !slices.ContainsFunc(p.Frontends, func(f loadbalance.Frontend) bool { return f.SourceRanges }) {
			p.SourceRanges = nil // as the compiler does
		}
		writer := newTestWriter(newFakeKernel(t, 64, 128, 16, 16))
		mustSync(t, writer, p)
		e := loadbalance.Cost(p)
		if want := (rowCount{e.Frontends, e.Backends, e.Maglev, e.SourceRanges}); writer.used != want {
			t.Errorf("%+v takes %v, want %v", p, writer.used, want)
		}
	}
}

// flowsFake notes whose flows are ended.
type flowsFake struct {
	mu    sync.Mutex
	ended [][]uint32
	fail  int
}

func (f *flowsFake) endFlows(_ context.Context, backends []uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return errKernel
	}
	f.ended = append(f.ended, backends)
	return nil
}

// TestServicesGone: the flows of backends that go in a burst are ended together
// within a second, those of one that comes back at once are not, and an error is
// not the end.
func TestServicesGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFakeKernel(t, 8, 40, 2, 2)
		w := newServiceWriter(k.store(), serviceConfig{maglevSize: testMaglev, log: slog.New(slog.DiscardHandler)})
		p := testPort("a", 1, 1, 2, 3, 4)
		mustSync(t, w, p)
		_, _, ids := listOf(k, p)
		flows := &flowsFake{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- w.run(ctx) }()
		go func() { done <- w.runGone(ctx, flows) }()
		for n := 3; n >= 1; n-- {
			p.All = p.All[:n]
			mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{p}})
			time.Sleep(10 * time.Millisecond)
		}
		p.All = testBackends(1, 2)
		mustApply(t, w, loadbalance.Update{Upsert: []loadbalance.Port{p}})
		time.Sleep(time.Second - 30*time.Millisecond)
		synctest.Wait()
		if want := []uint32{ids[2], ids[3]}; len(flows.ended) != 1 || !slices.Equal(flows.ended[0], want) {
			t.Errorf("ended flows of %v, want once %v", flows.ended, want)
		}
		if _, _, now := listOf(k, p); now[1] != ids[1] {
			t.Errorf("backend %d that came back at once has id %d", ids[1], now[1])
		}
		flows.mu.Lock()
		flows.fail = 2
		flows.mu.Unlock()
		mustApply(t, w, loadbalance.Update{Delete: []loadbalance.PortKey{p.Key}})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(flows.ended) != 2 || len(k.backends.rows) != 0 {
			t.Errorf("ended flows of %v, %d rows are left", flows.ended, len(k.backends.rows))
		}
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
	})
}
