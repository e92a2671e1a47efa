package resize

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/sizing"
	"github.com/placid-net/placid/internal/testutil"
)

const size = 4096 // of every table, in entries

// world is a set of the datapath's tables with a manager.
type world struct {
	*Manager
	t         *testing.T
	root      string
	loader    *loader.Loader
	available uint64
	ends      []Move
}

func sizes() loader.Sizes {
	out := loader.Sizes{}
	for _, t := range sizing.Tables(251) {
		if t.Map != "fragment_map" {
			out[t.Map] = size
		}
	}
	return out
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, root: testutil.BPFFS(t), available: 1 << 40}
	w.open()
	return w
}

// open is the beginning of an agent; what an earlier one pinned is adopted.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.loader, err = loader.Open(w.root, abi.CConfig{Services: 1, Tunnel: 1, MaglevSize: 251}, sizes())
	w.must(err)
	w.t.Cleanup(func() { w.must(w.loader.Close()) })
	w.must(w.loader.Commit())
	hz, err := conntrack.HZ()
	w.must(err)
	settings := abi.CSettings{Hz: hz}
	for i := range settings.Timeout {
		settings.Timeout[i] = 3600 * hz
	}
	w.must(w.loader.Map("settings_map").Table.Put(uint32(0), settings))
	outer := func(name string) *ebpf.Map { return w.loader.Map(name).Outer }
	flows := conntrack.New(conntrack.Config{
		Tables: conntrack.Tables{TCP: outer("ct_tcp_map"), Any: outer("ct_any_map"), New: outer("ct_new_map"), Settings: outer("settings_map")},
		Log:    slog.New(slog.DiscardHandler),
	})
	w.t.Cleanup(func() { w.must(flows.Close()) })
	cfg := Config{
		Flows: flows, Available: func() (uint64, error) { return w.available, nil },
		Done: func(m Move) { w.ends = append(w.ends, m) }, Log: slog.New(slog.DiscardHandler),
	}
	for name := range sizes() {
		m := w.loader.Map(name)
		described, _ := sizing.TableOf(name, 251)
		cfg.Tables = append(cfg.Tables, Table{
			Map: m, Kind: kind(name), Bytes: described.Bytes,
			Entries: func() (uint64, error) { return uint64(len(w.content(m))), nil },
		})
	}
	w.Manager = New(cfg)
}

func kind(name string) Kind {
	switch {
	case strings.HasPrefix(name, "ct_"):
		return Flow
	case name == "affinity_map" || name == "sock_map":
		return Kept
	}
	return Written
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// row is the i-th entry of a set without repetition, for a table of any layout.
func row(m *ebpf.Map, i int) (key, value []byte) {
	key, value = make([]byte, m.KeySize()), bytes.Repeat([]byte{byte(i), byte(i >> 8), 3}, int(m.ValueSize())/3+1)[:m.ValueSize()]
	at := 0
	if m.Type() == ebpf.LPMTrie {
		binary.NativeEndian.PutUint32(key, 8*(m.KeySize()-4)) // the whole key is the prefix
		at = 4
	}
	binary.BigEndian.PutUint32(key[at:], uint32(i))
	return key, value
}

// fill writes n entries into the table of the map; flows are alive.
func (w *world) fill(m *loader.Map, n int) {
	w.t.Helper()
	flow := w.flow()
	for i := range n {
		key, value := row(m.Table.Map(), i)
		if kind(m.Name) == Flow {
			value = flow
		}
		w.must(m.Table.Put(key, value))
	}
}

// flow is an entry that was seen a moment ago: idle is counted from birth too.
func (w *world) flow() []byte {
	now := w.jiffies()
	e := abi.CCtEntry{State: uint64(now)<<32 | uint64(abi.CCtFlagsCT_REPLIED), Last: now}
	out, err := binary.Append(nil, binary.NativeEndian, e)
	w.must(err)
	return out
}

func (w *world) jiffies() uint32 {
	counter, err := conntrack.NewCounter(nil)
	w.must(err)
	defer func() { w.must(counter.Close()) }()
	_, now, err := counter.Count()
	w.must(err)
	return uint32(now)
}

// content reads the table of the map and of its old one, as hexadecimal rows.
func (w *world) content(m *loader.Map) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	w.must(m.EachTable(func(table *ebpf.Map) error {
		key, value := make([]byte, table.KeySize()), make([]byte, table.ValueSize())
		it := table.Iterate()
		for it.Next(&key, &value) {
			out[fmt.Sprintf("%x", key)] = fmt.Sprintf("%x", value)
		}
		return it.Err()
	}))
	return out
}

// inPlace is the size of what programs look entries up in.
func (w *world) inPlace(m *loader.Map) (entries uint32) {
	w.t.Helper()
	var id ebpf.MapID
	w.must(m.Outer.Lookup(uint32(abi.CTableSlotTABLE_CURRENT), &id))
	table, err := ebpf.NewMapFromID(id)
	w.must(err)
	defer func() { w.must(table.Close()) }()
	return table.MaxEntries()
}

func TestEveryTable(t *testing.T) {
	w := newWorld(t)
	for _, name := range w.Names() {
		m := w.loader.Map(name)
		w.fill(m, 500)
		want := w.content(m)
		for _, to := range []uint32{2 * size, 8 * size, size, 1000} {
			move, err := w.Resize(t.Context(), name, to, "test")
			w.must(err)
			if move.State != Done || move.To != to || move.Total != 500 || move.Moved != 500 || move.Why != "test" {
				t.Errorf("%s to %d: move = %+v, want it done with 500 entries moved", name, to, move)
			}
			if got := w.inPlace(m); got != to || m.Table.MaxEntries() != to {
				t.Errorf("%s: programs see %d entries, the agent %d; want %d", name, got, m.Table.MaxEntries(), to)
			}
			if old, err := m.HasOld(); err != nil || old {
				t.Errorf("%s to %d: there is an old table still (%v)", name, to, err)
			}
			if diff := cmp.Diff(want, w.content(m)); diff != "" {
				t.Errorf("%s to %d: entries (-want +got):\n%s", name, to, diff)
			}
		}
		// It is written as before.
		key, value := row(m.Table.Map(), 999)
		w.must(m.Table.Put(key, value))
		if got := len(w.content(m)); got != 501 {
			t.Errorf("%s: %d entries after one more was written, want 501", name, got)
		}
	}
	if got, want := len(w.ends), 4*len(w.Names()); got != want {
		t.Errorf("%d moves were told, want %d", got, want)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	policy, flows := w.loader.Map("policy_map"), w.loader.Map("ct_tcp_map")
	w.fill(policy, 900)
	w.fill(flows, 100)
	for _, tc := range []struct {
		name      string
		size      uint32
		available uint64
		want      error
		says      string
	}{
		{"no_map", 4000, 1 << 40, ErrUnknown, "policy_map"},
		{"fragment_map", 4000, 1 << 40, ErrUnknown, "fragment_map"},
		{"policy_map", 8, 1 << 40, ErrSize, "16 to 16777216"},
		{"policy_map", 1<<24 + 1, 1 << 40, ErrSize, "16 to 16777216"},
		{"policy_map", 1000, 1 << 40, ErrEntries, "it has 900: the least size is 1012"},
		{"ct_tcp_map", 64, 1 << 40, ErrEntries, "the least size is 112"},
		{"ct_tcp_map", 1 << 20, 100 << 20, ErrMemory, "100 MiB are available"},
	} {
		w.available = tc.available
		before := w.inPlace(flows)
		_, err := w.Resize(t.Context(), tc.name, tc.size, "test")
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s to %d: error = %v, want %v with %q", tc.name, tc.size, err, tc.want, tc.says)
		}
		if w.inPlace(flows) != before || w.inPlace(policy) != size {
			t.Errorf("%s to %d: a table has another size", tc.name, tc.size)
		}
	}
	if moves := w.Moves(); len(moves) != 0 {
		t.Errorf("moves = %+v, want none", moves)
	}
	move, err := w.Resize(t.Context(), "policy_map", size, "test")
	if err != nil || move.State != "" {
		t.Errorf("to the size that it has: %+v, %v", move, err)
	}
}

// An agent that is killed leaves either size, and the next one ends what it began.
func TestKilledHalfWay(t *testing.T) {
	w := newWorld(t)
	want := map[string]map[string]string{}
	for _, name := range []string{"affinity_map", "sock_map", "ct_any_map", "backend_map"} {
		m := w.loader.Map(name)
		w.fill(m, 600)
		want[name] = w.content(m)
		switch kind(name) {
		case Kept:
			w.must(m.BeginMove(2 * size))
		case Flow:
			to, err := m.Sized(2 * size)
			w.must(err)
			w.must(errors.Join(w.cfg.Flows.BeginMove(name, to), to.Close()))
		case Written:
			// Before the switch there is nothing to see.
			to, err := m.Sized(2 * size)
			w.must(err)
			w.must(to.Close())
		}
	}
	// Between the two writes of a beginning, old and current are one.
	endpoints := w.loader.Map("sock_map")
	w.must(endpoints.EndMove(nil))
	w.must(endpoints.Outer.Put(uint32(abi.CTableSlotTABLE_OLD), endpoints.Table.Map()))

	w.open() // the next agent
	w.Resume(t.Context())
	for name, content := range want {
		m := w.loader.Map(name)
		if old, err := m.HasOld(); err != nil || old {
			t.Errorf("%s: there is an old table still (%v)", name, err)
		}
		if diff := cmp.Diff(content, w.content(m)); diff != "" {
			t.Errorf("%s: entries (-want +got):\n%s", name, diff)
		}
		entries := uint32(2 * size)
		if kind(name) == Written {
			entries = size
		}
		if got := w.inPlace(m); got != entries {
			t.Errorf("%s has %d entries, want %d", name, got, entries)
		}
	}
	for _, move := range w.Moves() {
		if move.State != Done {
			t.Errorf("move = %+v, want it done", move)
		}
	}
}

// Entries that found no room work on, and move when there is some.
func TestWaitsForRoom(t *testing.T) {
	w := newWorld(t)
	m := w.loader.Map("ct_tcp_map")
	w.fill(m, 300)
	to, err := m.Sized(200)
	w.must(err)
	w.must(errors.Join(w.cfg.Flows.BeginMove(m.Name, to), m.Refresh()))
	w.Resume(t.Context())
	moves := w.Moves()
	if len(moves) != 1 || moves[0].State != Waiting || moves[0].Left != 100 {
		t.Fatalf("moves = %+v, want one that waits with 100 left", moves)
	}
	if _, err := w.Resize(t.Context(), m.Name, 8*size, "test"); !errors.Is(err, ErrBusy) {
		t.Errorf("resize of a table that waits: %v, want ErrBusy", err)
	}
	removed := 0
	key, value := make([]byte, to.KeySize()), make([]byte, to.ValueSize())
	var keys [][]byte
	it := to.Iterate()
	for it.Next(&key, &value) && removed < 150 {
		keys = append(keys, bytes.Clone(key))
		removed++
	}
	w.must(m.EachTable(func(table *ebpf.Map) error {
		for _, key := range keys {
			if err := table.Delete(key); err != nil {
				return err
			}
		}
		return nil
	}))
	w.must(to.Close())
	w.Resume(t.Context())
	if moves = w.Moves(); moves[0].State != Done || moves[0].Left != 0 || len(w.content(m)) != 150 {
		t.Errorf("moves = %+v with %d entries, want it done with 150", moves, len(w.content(m)))
	}
}
