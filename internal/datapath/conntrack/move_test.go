package conntrack

import (
	"context"
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/bpf"
)

// sized makes another table for the fixture's name, not in place yet.
func (f *fixture) sized(name string, size uint32) *ebpf.Map {
	f.t.Helper()
	spec := f.spec(mapName(name)).InnerMap.Copy()
	spec.MaxEntries = size
	return f.newMap(spec)
}

// begin begins to move; the fixture's table is the new one from then on.
func (f *fixture) begin(name string, size uint32) (old *ebpf.Map) {
	f.t.Helper()
	to := f.sized(name, size)
	if err := f.BeginMove(mapName(name), to); err != nil {
		f.t.Fatal(err)
	}
	old, f.inner[name] = f.inner[name], to
	return old
}

// end moves what is left.
func (f *fixture) end(name string) Moves {
	f.t.Helper()
	moves, err := f.EndMove(f.t.Context(), mapName(name), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if moving, err := f.Moving(mapName(name)); err != nil || moving {
		f.t.Fatalf("after the move: moving = %v, %v", moving, err)
	}
	return moves
}

func TestMove(t *testing.T) {
	for _, size := range []uint32{2000, 8000, 32000} {
		f := newFixture(t, 8000)
		f.fill(tableTCP, 0, 1500, 3, f.ago(secondsTCP+10))
		want := f.content(tableTCP)
		for key, e := range want {
			if e.Last != f.content(tableTCP)[numbered(1)].Last {
				delete(want, key)
			}
		}
		f.begin(tableTCP, size)
		moves := f.end(tableTCP)
		if diff := cmp.Diff(Moves{Moved: 1000, Ended: 500}, moves); diff != "" {
			t.Errorf("size %d (-want +got):\n%s", size, diff)
		}
		if diff := cmp.Diff(want, f.content(tableTCP)); diff != "" {
			t.Errorf("size %d: entries (-want +got):\n%s", size, diff)
		}
	}
}

func TestMoveWithoutRoom(t *testing.T) {
	f := newFixture(t, 1000)
	f.fill(tableAny, 0, 500, 0, 0)
	old := f.begin(tableAny, 200)
	moves, err := f.EndMove(t.Context(), mapName(tableAny), nil)
	if !errors.Is(err, ErrNoRoom) || moves.Moved != 200 || moves.Left != 300 {
		t.Fatalf("moves = %+v, error = %v; want 200 moved, 300 left, and ErrNoRoom", moves, err)
	}
	marked := 0
	for key, e := range readAll[abi.CCtKey, abi.CCtEntry](t, old) {
		moved := e.State&uint64(abi.CCtFlagsCT_MOVED) != 0
		if moved != f.has(tableAny, key) {
			t.Fatalf("an entry of the old table is marked = %v, but in the new one = %v", moved, f.has(tableAny, key))
		}
		if moved {
			marked++
		}
	}
	if marked != 200 {
		t.Errorf("%d entries of the old table are marked, want 200", marked)
	}
	// Room appears.
	for key := range f.content(tableAny) {
		if err = f.inner[tableAny].Delete(&key); err != nil {
			t.Fatal(err)
		}
		if err = old.Delete(&key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = f.EndMove(t.Context(), mapName(tableAny), nil); !errors.Is(err, ErrNoRoom) {
		t.Errorf("with room for 200 of 300: error = %v, want ErrNoRoom", err)
	}
}

// A move that its agent did not survive goes on where it was, or ends.
func TestMoveResumes(t *testing.T) {
	f := newFixture(t, 20000)
	f.stride = 64
	f.fill(tableTCP, 0, 10000, 0, 0)
	want := f.content(tableTCP)
	f.begin(tableTCP, 40000)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.EndMove(ctx, mapName(tableTCP), func(m Moves) {
		if m.Passed() > 4000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error = %v, want that of the context", err)
	}
	if moving, movingErr := f.Moving(mapName(tableTCP)); movingErr != nil || !moving {
		t.Fatalf("moving = %v, %v; want true", moving, movingErr)
	}
	if err = f.BeginMove(mapName(tableTCP), f.sized(tableTCP, 100)); !errors.Is(err, ErrMoving) {
		t.Errorf("a second move: error = %v, want ErrMoving", err)
	}
	moves := f.end(tableTCP)
	if moves.Present < 4000 || moves.Present+moves.Moved != 10000 {
		t.Errorf("moves = %+v, want at least 4000 present and 10000 in all", moves)
	}
	if diff := cmp.Diff(want, f.content(tableTCP)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	// Killed between the two writes of BeginMove: old and current are one.
	f.put(f.tables.TCP, uint32(abi.CTableSlotTABLE_OLD), f.inner[tableTCP])
	if diff := cmp.Diff(Moves{}, f.end(tableTCP)); diff != "" {
		t.Errorf("a move that never began (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, f.content(tableTCP)); diff != "" {
		t.Errorf("entries after a move that never began (-want +got):\n%s", diff)
	}
	if _, err := f.EndMove(t.Context(), mapName(tableTCP), nil); !errors.Is(err, ErrNotMoving) {
		t.Errorf("error = %v, want ErrNotMoving", err)
	}
	if _, err := f.EndMove(t.Context(), bpf.TablesMapPolicyMap, nil); err == nil {
		t.Error("moving a map of something else: no error")
	}
}

// What is flushed while it moves is gone, wherever it was.
func TestFlushWhileMoving(t *testing.T) {
	f := newFixture(t, 20000)
	f.stride = 64
	f.fill(tableTCP, 0, 10000, 0, 0)
	old := f.begin(tableTCP, 40000)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := f.EndMove(ctx, mapName(tableTCP), func(m Moves) {
		if m.Passed() > 4000 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	listed, err := f.List(t.Context(), agentapi.CTFilter{})
	if err != nil || len(listed.Entries) != 10000 {
		t.Fatalf("%d entries are listed (%v), want 10000", len(listed.Entries), err)
	}
	flushed, err := f.Flush(t.Context(), agentapi.CTFilter{})
	if err != nil || flushed.Deleted != 10000 {
		t.Fatalf("%d entries flushed, error %v; want 10000", flushed.Deleted, err)
	}
	for key, e := range readAll[abi.CCtKey, abi.CCtEntry](t, old) {
		if e.State&uint64(abi.CCtFlagsCT_DEAD) == 0 {
			t.Fatalf("entry %v of the old table is not marked dead", key)
		}
	}
	if moves := f.end(tableTCP); moves.Ended != 10000 {
		t.Errorf("moves = %+v, want all ended", moves)
	}
	if n := f.entries(); n != 0 {
		t.Errorf("%d entries, want none", n)
	}
}
