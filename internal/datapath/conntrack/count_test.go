package conntrack

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Every countable table is counted exactly, after others wrote to it at once.
func TestCounts(t *testing.T) {
	f := newFixture(t, 16)
	counted, tables := map[string]*ebpf.Map{}, map[string]*ebpf.Map{}
	for name := range countable(&bpf.TablesCounts{}) {
		spec := f.spec(name)
		if spec.InnerMap == nil {
			counted[name] = f.newMap(spec)
			tables[name] = counted[name]
			continue
		}
		inner := spec.InnerMap.Copy()
		inner.MaxEntries = 4096
		spec.InnerMap.MaxEntries = 1
		counted[name], tables[name] = f.newMap(spec), f.newMap(inner)
		f.put(counted[name], uint32(abi.CTableSlotTABLE_CURRENT), tables[name])
	}
	c, err := NewCounter(counted)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	expect := func(want map[string]uint64) {
		t.Helper()
		got, jiffies, err := c.Count()
		if err != nil || jiffies == 0 || len(got) != len(counted) {
			t.Fatalf("%v at %d, %v", got, jiffies, err)
		}
		for name, n := range got {
			if n != want[name] {
				t.Errorf("%s has %d entries, want %d", name, n, want[name])
			}
		}
	}
	expect(nil)
	var wait sync.WaitGroup
	want := map[string]uint64{}
	for i, name := range sorted(tables) {
		keep := 100 + 10*i // another number for each
		want[name] = uint64(2 * keep)
		for half := range 2 {
			wait.Go(func() { churn(t, tables[name], uint32(half)<<16, keep) })
		}
	}
	wait.Wait()
	expect(want)
}

func sorted(m map[string]*ebpf.Map) []string {
	var out []string
	for _, name := range []string{
		bpf.TablesMapEndpointMap, bpf.TablesMapIdentityMap, bpf.TablesMapPolicyMap, bpf.TablesMapPortMap,
		bpf.TablesMapCtTcpMap, bpf.TablesMapCtAnyMap, bpf.TablesMapCtNewMap, bpf.TablesMapFragmentMap,
	} {
		if m[name] != nil {
			out = append(out, name)
		}
	}
	return out
}

// churn puts and deletes entries, and leaves so many of them.
func churn(t *testing.T, m *ebpf.Map, base uint32, keep int) {
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	for round := range 3 {
		for i := range 2 * keep {
			binary.LittleEndian.PutUint32(key, base+uint32(i))
			if err := m.Put(key, value); err != nil {
				t.Error(err)
				return
			}
		}
		last := 0
		if round == 2 {
			last = keep
		}
		for i := last; i < 2*keep; i++ {
			binary.LittleEndian.PutUint32(key, base+uint32(i))
			if err := m.Delete(key); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

func TestCounterRefuses(t *testing.T) {
	if _, err := NewCounter(map[string]*ebpf.Map{bpf.TablesMapCidrMap: nil}); err == nil {
		t.Error("an LPM trie is counted")
	}
}

func TestStatus(t *testing.T) {
	f := newFixture(t, 64)
	f.fill(tableTCP, 0, 3, 0, 0)
	f.fill(tableNew, 0, 2, 0, 0)
	f.fill(tableAny, 0, 1, 0, 0)
	status, err := f.Status()
	if err != nil || status.TCP.Entries != 3 || status.New.Entries != 2 || status.Any.Entries != 1 || status.TCP.Size != 64 {
		t.Errorf("%+v, %v", status, err)
	}
	if status.LastCollection != nil || status.Interval != startInterval {
		t.Errorf("%+v", status)
	}
	f.collect()
	status, err = f.Status()
	if err != nil || status.LastCollection == nil || status.LastCollection.Alive != 6 || status.CollectedAt.IsZero() {
		t.Errorf("%+v, %v", status, err)
	}
}
