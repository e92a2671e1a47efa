package conntrack

import (
	"fmt"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// translated is the entry of a flow to a service's backend.
func (f *fixture) translated(backend uint32) abi.CCtEntry {
	e := f.seen(f.jiffies(), established|abi.CCtFlagsCT_NAT|abi.CCtFlagsCT_SERVICE)
	e.Nat.Service, e.Nat.Backend = 1, backend
	return e
}

// TestForget: both entries of each flow to a backend that is gone are deleted, in
// every table, and no other entry is.
func TestForget(t *testing.T) {
	f := newFixture(t, 256)
	gone := map[uint32]bool{3: true, 5: true, 1 << 30: true}
	want := 0
	type where struct {
		table string
		key   abi.CCtKey
	}
	stays := map[where]bool{}
	for _, table := range []string{tableTCP, tableAny, tableNew} {
		for i, backend := range []uint32{1, 2, 3, 4, 5, 1 << 30} {
			e := f.translated(backend)
			for face, key := range []abi.CCtKey{
				flowKey(tcp, fmt.Sprintf("10.0.0.1:%d", 1000+i), "10.96.0.1:80"),
				flowKey(tcp, fmt.Sprintf("10.0.0.1:%d", 1000+i), fmt.Sprintf("10.1.0.%d:8080", i)),
			} {
				if face == 1 {
					key.Proto = udp
				}
				f.put(f.inner[table], &key, &e)
				stays[where{table, key}] = !gone[backend]
				if gone[backend] {
					want++
				}
			}
		}
		// A flow that is not translated is none of a backend, whatever the rest says.
		key, e := flowKey(tcp, "10.0.0.9:1", "10.0.0.8:2"), f.translated(3)
		e.State &^= uint64(abi.CCtFlagsCT_NAT)
		f.put(f.inner[table], &key, &e)
		stays[where{table, key}] = true
		// Its source alone is translated: it has no backend.
		key, e = flowKey(tcp, "10.0.0.9:1", "8.8.8.8:2"), f.translated(0)
		f.put(f.inner[table], &key, &e)
		stays[where{table, key}] = true
	}
	n, err := f.Forget(t.Context(), []uint32{3, 5, 1 << 30, 77})
	if err != nil || n != want {
		t.Errorf("Forget = %d, %v, want %d", n, err, want)
	}
	for w, stay := range stays {
		if got := f.has(w.table, w.key); got != stay {
			t.Errorf("table %s: %v is there: %t, want %t", w.table, w.key, got, stay)
		}
	}
	// What was gone once is not for ever.
	if n, err = f.Forget(t.Context(), []uint32{1}); err != nil || n != 6 {
		t.Errorf("Forget of another backend = %d, %v, want 6", n, err)
	}
	if n, err = f.Forget(t.Context(), nil); err != nil || n != 0 {
		t.Errorf("Forget of nothing = %d, %v", n, err)
	}
	// The programs that look at other things still work.
	if r := f.collect(); r.Deleted() != 0 {
		t.Errorf("the collector deleted %d entries that live", r.Deleted())
	}
}
