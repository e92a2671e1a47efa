package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/datapath/loader"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// newTestMap makes a map like those of bpf/lib/maps.h.
func newTestMap(t testing.TB, kind ebpf.MapType, entries, keySize, valueSize int) *loader.Table {
	t.Helper()
	testutil.RequireRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: kind, MaxEntries: uint32(entries), KeySize: uint32(keySize), ValueSize: uint32(valueSize), Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return loader.NewTable(m)
}

// realStore is a store of maps of the kernel.
func realStore(t testing.TB, sizes rowCount, maglevSize int) serviceStore {
	t.Helper()
	return serviceStore{
		frontends: kernelTable[abi.CFrontendKey, abi.CFrontend]{FrontendMap, newTestMap(t, ebpf.Hash, sizes[inFrontends],
			binary.Size(abi.CFrontendKey{}), binary.Size(abi.CFrontend{}))},
		backends: kernelTable[abi.CBackendKey, abi.CBackend]{BackendMap, newTestMap(t, ebpf.Hash, sizes[inBackends],
			binary.Size(abi.CBackendKey{}), binary.Size(abi.CBackend{}))},
		maglev: maglevKernel{newTestMap(t, ebpf.Hash, sizes[inMaglev], 4, 4*maglevSize)},
		ranges: kernelTable[abi.CSourceRangeKey, uint32]{SourceRangeMap, newTestMap(t, ebpf.LPMTrie, sizes[inRanges],
			binary.Size(abi.CSourceRangeKey{}), 4)},
		wait: waitForPrograms,
	}
}

// both writes to a fake table and, as far as that took the rows, to the kernel's.
type both[K comparable, V any] struct {
	*fakeTable[K, V]
	real serviceTable[K, V]
}

func (b both[K, V]) put(keys []K, values []V) error {
	n, full := 0, error(nil)
	for i := range keys {
		if full = b.fakeTable.put(keys[i:i+1], values[i:i+1]); full != nil {
			break
		}
		n++
	}
	if err := b.real.put(keys[:n], values[:n]); err != nil {
		b.kernel.t.Fatalf("the kernel refuses what the fake takes: %v", err)
	}
	if noRoom(full) {
		if err := b.real.put(keys[n:n+1], values[n:n+1]); !noRoom(err) {
			b.kernel.t.Fatalf("the kernel takes what the fake has no room for (%v): %v", full, err)
		}
	}
	return full
}

func (b both[K, V]) remove(keys []K) error {
	n, err := 0, error(nil)
	for i := range keys {
		if err = b.fakeTable.remove(keys[i : i+1]); err != nil {
			break
		}
		n++
	}
	if realErr := b.real.remove(keys[:n]); realErr != nil {
		b.kernel.t.Fatal(realErr)
	}
	return err
}

func (b both[K, V]) each(f func(K, V)) error {
	if b.kernel.killIn == 0 {
		return errKilled
	}
	return b.real.each(f)
}

// same tells how the kernel's rows differ from the fake's.
func (b both[K, V]) same(equal func(a, b V) bool) error {
	n := 0
	var wrong error
	err := b.real.each(func(k K, v V) {
		n++
		if have, ok := b.rows[k]; !ok || !equal(have, v) {
			wrong = fmt.Errorf("%s: row %v is %v, want %v, %t", b.name, k, v, have, ok)
		}
	})
	if n != len(b.rows) {
		wrong = errors.Join(wrong, fmt.Errorf("%s has %d rows, want %d", b.name, n, len(b.rows)))
	}
	return errors.Join(err, wrong)
}

type bothMaglev struct {
	both[uint32, []uint32]
	kernel maglevTable
}

func (b bothMaglev) get(list uint32) ([]uint32, bool, error) { return b.kernel.get(list) }

// TestServicesRandomKernel lets agents live through random events on real maps,
// which must say the same as the fake of TestServicesRandom.
func TestServicesRandomKernel(t *testing.T) {
	for number := range uint64(60) {
		w := newWorld(t, 1_000_000+number)
		k := w.kernel
		real := realStore(t, rowCount{k.frontends.limit, k.backends.limit, k.maglev.limit, k.ranges.limit}, testMaglev)
		frontends := both[abi.CFrontendKey, abi.CFrontend]{k.frontends, real.frontends}
		backends := both[abi.CBackendKey, abi.CBackend]{k.backends, real.backends}
		maglev := bothMaglev{both[uint32, []uint32]{k.maglev.fakeTable, real.maglev}, real.maglev}
		ranges := both[abi.CSourceRangeKey, uint32]{k.ranges, real.ranges}
		// The seed's row is there already.
		w.must(real.maglev.put([]uint32{lastingList}, [][]uint32{k.maglev.rows[lastingList]}))
		w.store = serviceStore{frontends: frontends, backends: backends, maglev: maglev, ranges: ranges, wait: k.wait}
		w.restart()
		for range 4 + w.IntN(10) {
			if n := w.IntN(20); n == 19 {
				continue // damage is the fake's alone
			}
			u := w.update()
			w.survive(w.writer.apply(u))
			w.note()
			if w.IntN(4) == 0 {
				w.kernel.killIn = w.IntN(30)
			}
			if w.IntN(3) == 0 {
				w.calm()
				w.settle()
			}
		}
		w.calm()
		w.settle()
		w.must(frontends.same(func(a, b abi.CFrontend) bool { return a == b }))
		w.must(backends.same(func(a, b abi.CBackend) bool { return a == b }))
		w.must(maglev.same(func(_, _ []uint32) bool { return true }))
		w.must(ranges.same(func(a, b uint32) bool { return a == b }))
		for list, want := range k.maglev.rows {
			if have, ok, err := real.maglev.get(list); !ok || err != nil || !slices.Equal(have, want) {
				w.must(fmt.Errorf("Maglev table of list %d is %v, %w, want %v", list, have, err, want))
			}
		}
	}
}

// TestKernelTable: rows go in and out in batches, absent ones are no error, and a
// full table says so.
func TestKernelTable(t *testing.T) {
	const n = 3*batchRows + 7
	table := kernelTable[uint32, uint32]{"test_map", newTestMap(t, ebpf.Hash, n, 4, 4)}
	keys, values := make([]uint32, n), make([]uint32, n)
	for i := range keys {
		keys[i], values[i] = uint32(i), rand.Uint32()
	}
	if err := table.put(keys, values); err != nil {
		t.Fatal(err)
	}
	if err := table.put([]uint32{n}, []uint32{1}); !noRoom(err) {
		t.Errorf("a full table says %v", err)
	}
	if err := table.put([]uint32{n, n + 1}, []uint32{1, 1}); !noRoom(err) {
		t.Errorf("a full table says %v to a batch", err)
	}
	if err := table.put(keys[:2], values[:2]); err != nil {
		t.Errorf("a full table does not take other values: %v", err)
	}
	rows := map[uint32]uint32{}
	if err := table.each(func(k, v uint32) { rows[k] = v }); err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if rows[k] != values[i] {
			t.Fatalf("row %d is %d, want %d", k, rows[k], values[i])
		}
	}
	// Some of these are not there.
	absent := []uint32{n, 0, n + 1, n + 2, 1, 2, n + 3}
	if err := table.remove(absent); err != nil {
		t.Errorf("removing absent rows: %v", err)
	}
	if err := table.remove(keys); err != nil {
		t.Errorf("removing all rows, some of which are absent: %v", err)
	}
	if err := table.each(func(k, _ uint32) { t.Errorf("row %d is left", k) }); err != nil {
		t.Fatal(err)
	}
}

// TestMaglevKernel: tables of any size go in and out whole.
func TestMaglevKernel(t *testing.T) {
	for _, size := range loadbalance.MaglevSizes() {
		const tables = 40
		table := maglevKernel{newTestMap(t, ebpf.Hash, tables, 4, 4*int(size))}
		want := map[uint32][]uint32{}
		for list := range uint32(tables) {
			want[list] = make([]uint32, size)
			for i := range want[list] {
				want[list][i] = rand.Uint32()
			}
			if err := table.put([]uint32{list}, [][]uint32{want[list]}); err != nil {
				t.Fatalf("size %d: %v", size, err)
			}
		}
		if err := table.put([]uint32{tables}, [][]uint32{want[0]}); !noRoom(err) {
			t.Errorf("size %d: a full table says %v", size, err)
		}
		var lists []uint32
		if err := table.each(func(list uint32, _ []uint32) { lists = append(lists, list) }); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(lists); !slices.Equal(lists, slices.Sorted(maps.Keys(want))) {
			t.Errorf("size %d: lists are %v", size, lists)
		}
		for list := range want {
			if have, ok, err := table.get(list); !ok || err != nil || !slices.Equal(have, want[list]) {
				t.Errorf("size %d: table of list %d: %t, %v", size, list, ok, err)
			}
		}
		if err := table.remove(append(lists, tables)); err != nil {
			t.Errorf("size %d: remove: %v", size, err)
		}
		if _, ok, err := table.get(0); ok || err != nil {
			t.Errorf("size %d: a removed table is there: %t, %v", size, ok, err)
		}
	}
}

// manyPorts are n services of that many backends each.
func manyPorts(n, backends int) []loadbalance.Port {
	ports := make([]loadbalance.Port, n)
	for i := range ports {
		addr := func(net byte, j int) netip.Addr {
			v := i*backends + j
			return netip.AddrFrom4([4]byte{net, byte(v >> 16), byte(v >> 8), byte(v)})
		}
		p := loadbalance.Port{
			Key: loadbalance.PortKey{Service: state.ServiceRef{Namespace: "bench", Name: fmt.Sprintf("s%05d", i)}, Port: 80, Protocol: state.ProtocolTCP},
			Frontends: []loadbalance.Frontend{{
				Addr: netip.AddrPortFrom(addr(96, 0), 80), Kind: loadbalance.KindClusterIP, Cluster: loadbalance.ReachAll,
			}},
		}
		for j := range backends {
			p.All = append(p.All, loadbalance.Backend{Addr: netip.AddrPortFrom(addr(10, j), 8080)})
		}
		ports[i] = p
	}
	return ports
}

// BenchmarkServicesCold programs 10,000 services of 10 backends from nothing.
func BenchmarkServicesCold(b *testing.B) {
	const services, backends = 10_000, 10
	ports := manyPorts(services, backends)
	for b.Loop() {
		b.StopTimer()
		w := newServiceWriter(realStore(b, rowCount{65536, 262144, 16, 16}, testMaglev), testServiceConfig(1))
		b.StartTimer()
		if _, err := w.sync(ports, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*services*(backends+1)), "ns/row")
}

// BenchmarkServicesAudit compares as many with the kernel.
func BenchmarkServicesAudit(b *testing.B) {
	ports := manyPorts(10_000, 10)
	w := newServiceWriter(realStore(b, rowCount{65536, 262144, 16, 16}, testMaglev), testServiceConfig(1))
	if _, err := w.sync(ports, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if n, err := w.sync(ports, nil); n != 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkServicesChange adds or removes one backend among as many.
func BenchmarkServicesChange(b *testing.B) {
	ports := manyPorts(10_000, 10)
	w := newServiceWriter(realStore(b, rowCount{65536, 262144, 16, 16}, testMaglev), testServiceConfig(1))
	if _, err := w.sync(ports, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		p := ports[i%len(ports)]
		p.All = p.All[:9+i/len(ports)%2]
		if err := w.apply(loadbalance.Update{Upsert: []loadbalance.Port{p}}); err != nil {
			b.Fatal(err)
		}
		if i++; i%512 == 0 {
			b.StopTimer()
			if err := w.tidy(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}
