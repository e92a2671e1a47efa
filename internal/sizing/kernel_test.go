package sizing_test

import (
	"fmt"
	"maps"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/sizing"
	"github.com/placid-net/placid/internal/testutil"
)

// specOf gives what the programs declare of a table: the inner map's, if it is
// reached through an outer one.
func specOf(t *testing.T, specs map[string]*ebpf.MapSpec, name string) *ebpf.MapSpec {
	t.Helper()
	ms := specs[name]
	if ms == nil {
		t.Fatalf("the programs have no map %s", name)
	}
	if ms.InnerMap != nil {
		ms = ms.InnerMap
	}
	return ms.Copy()
}

func declared(t *testing.T) map[string]*ebpf.MapSpec {
	t.Helper()
	out := map[string]*ebpf.MapSpec{}
	for _, load := range []func() (*ebpf.CollectionSpec, error){bpf.LoadPod, bpf.LoadSock, bpf.LoadTables} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(out, spec.Maps)
	}
	return out
}

func kindOf(ms *ebpf.MapSpec) sizing.Kind {
	const noPrealloc = 1
	switch {
	case ms.Type == ebpf.LPMTrie:
		return sizing.LPM
	case ms.Type == ebpf.LRUHash:
		return sizing.LRU
	case ms.Flags&noPrealloc != 0:
		return sizing.OnDemand
	}
	return sizing.Hash
}

// TestTablesAreTheProgramsMaps compares the list with what is compiled in.
func TestTablesAreTheProgramsMaps(t *testing.T) {
	specs := declared(t)
	listed := map[string]bool{}
	for _, table := range sizing.Tables(1) {
		listed[table.Map] = true
		ms := specOf(t, specs, table.Map)
		if table.KeyBytes != int(ms.KeySize) || table.ValueBytes != int(ms.ValueSize) || table.Kind != kindOf(ms) {
			t.Errorf("%s: listed as %s of %d+%d bytes, compiled as %s of %d+%d", table.Map,
				table.Kind, table.KeyBytes, table.ValueBytes, kindOf(ms), ms.KeySize, ms.ValueSize)
		}
	}
	for name, ms := range specs {
		// Tables of another layout are none of ours: they are there while they are converted.
		if ms.InnerMap != nil && !listed[name] && !strings.HasSuffix(name, "_foreign_map") {
			t.Errorf("%s is a sized table of the programs, but not listed", name)
		}
	}
}

// TestBytesAreThisKernels makes every table empty and filled, and compares what
// the kernel says it takes with what the list says.
func TestBytesAreThisKernels(t *testing.T) {
	testutil.RequireRoot(t)
	specs := declared(t)
	for _, table := range sizing.Tables(251) {
		t.Run(table.Map, func(t *testing.T) {
			for _, size := range []int{4096, 5000, 20000} {
				compareBytes(t, table, specOf(t, specs, table.Map), size)
			}
		})
	}
}

func compareBytes(t *testing.T, table sizing.Table, ms *ebpf.MapSpec, size int) {
	t.Helper()
	ms.MaxEntries, ms.ValueSize = uint32(size), uint32(table.ValueBytes)
	ms.Key, ms.Value = nil, nil
	m, err := ebpf.NewMap(ms)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	// The map itself, and what each CPU keeps.
	const overhead = 8 << 10
	check := func(live int) {
		t.Helper()
		got, want := float64(memlock(t, m)), float64(table.Bytes(size, 0))
		if table.Kind == sizing.OnDemand || table.Kind == sizing.LPM {
			want += float64(live * table.EntryBytes)
		}
		if math.Abs(got-want) > 0.1*want+overhead {
			t.Errorf("%d of %d entries take %.0f bytes, %.1f each; the list says %.0f", live, size, got, got/float64(size), want)
		}
	}
	check(0)
	if table.Kind != sizing.OnDemand && table.Kind != sizing.LPM {
		return
	}
	live := size / 2
	fill(t, m, table, live)
	check(live)
}

// fill writes entries with keys that differ in their first bytes. An LPM trie's
// keys begin with their length: here all bits count.
func fill(t *testing.T, m *ebpf.Map, table sizing.Table, entries int) {
	t.Helper()
	value := make([]byte, table.ValueBytes)
	for i := range entries {
		key := make([]byte, table.KeyBytes)
		at := 0
		if table.Kind == sizing.LPM {
			bits := uint32(table.KeyBytes-4) * 8
			key[0], key[1], at = byte(bits), byte(bits>>8), 4
		}
		key[at], key[at+1], key[at+2] = byte(i), byte(i>>8), byte(i>>16)
		if err := m.Put(key, value); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}

// memlock reads what the kernel says a map takes, in bytes.
func memlock(t *testing.T, m *ebpf.Map) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); name == "memlock" {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("fdinfo has no memlock:\n%s", b)
	return 0
}
