package conntrack

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/testutil"
)

// Timeouts of the tests, in seconds: far apart, so that each one tells which it was.
const (
	secondsTCP = 90000
	secondsSyn = 20000
	secondsFin = 5000
	secondsAny = 10000
)

// fixture is a set of tables with a collector.
type fixture struct {
	*Collector
	t      testing.TB
	tables Tables
	inner  map[string]*ebpf.Map // by name of the table
	hz     uint32
}

// newFixture makes tables of that many entries.
func newFixture(t testing.TB, size uint32) *fixture {
	t.Helper()
	testutil.RequireRoot(t)
	hz, err := HZ()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, inner: map[string]*ebpf.Map{}, hz: hz}
	f.tables = Tables{
		TCP: f.outer(tableTCP, size), Any: f.outer(tableAny, size), New: f.outer(tableNew, size),
		Settings: f.newMap(f.spec(bpf.TablesMapSettingsMap)),
	}
	f.put(f.tables.Settings, uint32(0), abi.CSettings{Hz: hz, Timeout: [6]uint32{
		secondsTCP * hz, secondsSyn * hz, secondsFin * hz, secondsAny * hz, secondsTCP * hz, secondsAny * hz,
	}})
	f.Collector = New(Config{Tables: f.tables, Pods: testPods{}, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) spec(name string) *ebpf.MapSpec {
	f.t.Helper()
	spec, err := bpf.LoadTables()
	if err != nil {
		f.t.Fatal(err)
	}
	return spec.Maps[name]
}

func (f *fixture) newMap(spec *ebpf.MapSpec) *ebpf.Map {
	f.t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = m.Close() })
	return m
}

func (f *fixture) outer(name string, size uint32) *ebpf.Map {
	f.t.Helper()
	spec := f.spec(mapName(name))
	inner := spec.InnerMap.Copy()
	inner.MaxEntries = size
	spec.InnerMap.MaxEntries = 1
	outer := f.newMap(spec)
	f.inner[name] = f.newMap(inner)
	f.put(outer, uint32(abi.CTableSlotTABLE_CURRENT), f.inner[name])
	return outer
}

func (f *fixture) put(m *ebpf.Map, key, value any) {
	f.t.Helper()
	if err := m.Put(key, value); err != nil {
		f.t.Fatal(err)
	}
}

// jiffies is the kernel's clock now.
func (f *fixture) jiffies() uint32 {
	f.t.Helper()
	counts, err := f.counter()
	if err != nil {
		f.t.Fatal(err)
	}
	_, jiffies, err := counts.Count()
	if err != nil {
		f.t.Fatal(err)
	}
	return uint32(jiffies)
}

// ago is the moment so many seconds ago.
func (f *fixture) ago(seconds int) uint32 { return f.jiffies() - uint32(seconds)*f.hz }

func (f *fixture) has(name string, key abi.CCtKey) bool {
	f.t.Helper()
	var e abi.CCtEntry
	err := f.inner[name].Lookup(&key, &e)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		f.t.Fatal(err)
	}
	return err == nil
}

// content reads a whole table, by batches.
func (f *fixture) content(name string) map[abi.CCtKey]abi.CCtEntry {
	f.t.Helper()
	return readAll[abi.CCtKey, abi.CCtEntry](f.t, f.inner[name])
}

func readAll[K comparable, V any](t testing.TB, m *ebpf.Map) map[K]V {
	t.Helper()
	out := map[K]V{}
	keys, values := make([]K, 16384), make([]V, 16384)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			out[keys[i]] = values[i]
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// entries is how many the kernel counts in all three tables.
func (f *fixture) entries() (n uint64) {
	f.t.Helper()
	status, err := f.Status()
	if err != nil {
		f.t.Fatal(err)
	}
	return status.TCP.Entries + status.Any.Entries + status.New.Entries
}

func (f *fixture) collect() Result {
	f.t.Helper()
	r, err := f.Collect(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// prepared opens the tables for a pass.
func (f *fixture) prepared() []prepared {
	f.t.Helper()
	tables, err := f.prepare()
	if err != nil {
		f.t.Error(err)
	}
	f.t.Cleanup(func() {
		for _, t := range tables {
			_ = t.Close()
		}
	})
	return tables
}

// flowKey is the key of a flow between two ends such as 10.0.0.1:80; the first
// one is side 0.
func flowKey(proto uint8, a, b string) abi.CCtKey {
	key := abi.CCtKey{Proto: proto}
	for i, s := range []string{a, b} {
		key.Addr[i], key.Port[i] = netorder.AddrPort(netip.MustParseAddrPort(s))
	}
	return key
}

// seen is an entry with these flags, born long before it was last seen.
func (f *fixture) seen(last uint32, flags abi.CCtFlags) abi.CCtEntry {
	born := last - 100*f.hz
	return abi.CCtEntry{State: uint64(born)<<32 | uint64(flags), Last: last}
}

const established = abi.CCtFlagsCT_REPLIED | abi.CCtFlagsCT_ASSURED | abi.CCtFlagsCT_NON_SYN

// fill puts n TCP entries into a table, by batches, from the key of number first.
// One in every so many was last seen at the moment old, the others now.
func (f *fixture) fill(name string, first, n, every int, old uint32) {
	f.t.Helper()
	now := f.jiffies()
	const batch = 8192
	for from := 0; from < n; from += batch {
		count := min(batch, n-from)
		keys, entries := make([]abi.CCtKey, count), make([]abi.CCtEntry, count)
		for i := range count {
			keys[i] = numbered(first + from + i)
			last := now
			if every > 0 && (first+from+i)%every == 0 {
				last = old
			}
			entries[i] = f.seen(last, established)
		}
		if _, err := f.inner[name].BatchUpdate(keys, entries, nil); err != nil {
			f.t.Fatal(err)
		}
	}
}

// numbered is the i-th key of a set without repetition.
func numbered(i int) abi.CCtKey {
	key := flowKey(unix.IPPROTO_TCP, "10.0.0.0:0", "10.128.0.1:443")
	binary.BigEndian.PutUint32(key.Addr[0].B[12:], 10<<24|uint32(i>>8))
	key.Port[0] = netorder.Port(uint16(i&0xff) + 1024)
	return key
}

// testPods are pods of the node: 10.0.0.1 and fd00::1 are default/a's, 10.0.0.2 is default/b's.
type testPods struct{}

func (testPods) NameOf(addr netip.Addr) string {
	switch addr.String() {
	case "10.0.0.1", "fd00::1":
		return "default/a"
	case "10.0.0.2":
		return "default/b"
	}
	return ""
}

func (testPods) AddrsOf(name string) []netip.Addr {
	var out []netip.Addr
	for s := range strings.SplitSeq(map[string]string{"default/a": "10.0.0.1,fd00::1", "default/b": "10.0.0.2"}[name], ",") {
		if s != "" {
			out = append(out, netip.MustParseAddr(s))
		}
	}
	return out
}
