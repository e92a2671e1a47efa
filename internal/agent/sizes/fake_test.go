package sizes

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/sizing"
)

// epoch is when every test begins.
var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// resizing is one call of Resize.
type resizing struct {
	Map     string
	Entries uint32
	Why     string
}

// fakeKernel is a Datapath whose tables change as they are told to.
type fakeKernel struct {
	mu      sync.Mutex
	tables  []datapath.SizedTable
	moves   []resize.Move
	refused []loadbalance.Refusal
	asked   []resizing
	readErr error
	// refusal is the answer to every Resize, until is nil.
	refusal error
	// held makes moves wait until it is closed; nil: they do not.
	held chan struct{}
	now  time.Time
}

// look reads or changes the kernel.
func (k *fakeKernel) look(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// table is the one of that map; the caller holds the lock.
func (k *fakeKernel) table(mapName string) *datapath.SizedTable {
	for i := range k.tables {
		if k.tables[i].Map == mapName {
			return &k.tables[i]
		}
	}
	return &datapath.SizedTable{}
}

func (k *fakeKernel) SizedTables() ([]datapath.SizedTable, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]datapath.SizedTable{}, k.tables...), k.readErr
}

func (k *fakeKernel) Moves() []resize.Move {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]resize.Move{}, k.moves...)
}

func (k *fakeKernel) RefusedServices() []loadbalance.Refusal {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

func (k *fakeKernel) Resize(_ context.Context, mapName string, entries uint32, why string) (resize.Move, error) {
	k.mu.Lock()
	k.asked = append(k.asked, resizing{mapName, entries, why})
	held := k.held
	k.mu.Unlock()
	if held != nil {
		<-held
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.table(mapName)
	move := resize.Move{Map: mapName, From: uint32(t.Size), To: entries, Why: why}
	if k.refusal != nil {
		return move, k.refusal
	}
	move.State, move.Began, move.Total, move.Passed, move.Moved = resize.Done, k.now, t.Entries, t.Entries, t.Entries
	t.Size = uint64(entries)
	k.moved(move)
	return move, nil
}

// moved notes the last move of a table; the caller holds the lock.
func (k *fakeKernel) moved(move resize.Move) {
	for i := range k.moves {
		if k.moves[i].Map == move.Map {
			k.moves[i] = move
			return
		}
	}
	k.moves = append(k.moves, move)
}

// told is one event.
type told struct {
	Part, Reason, Message string
	Kind                  k8s.EventType
}

// world is a Runner with what is around it.
type world struct {
	*Runner
	t      *testing.T
	kernel *fakeKernel
	log    bytes.Buffer
	events []told
	mu     sync.Mutex // of events
	now    time.Time
}

// EventNode implements Events.
func (w *world) EventNode(part string, kind k8s.EventType, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, told{part, reason, message, kind})
}

// settings are those of a machine with 16 GiB and the defaults, changed by the
// explicit sizes.
func settings(t *testing.T, explicit map[string]int) Settings {
	t.Helper()
	in := sizing.Input{Memory: 16 << 30, Ratio: 0.0025, Explicit: explicit}
	planned, err := sizing.Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	return Settings{Sizes: planned, Ratio: in.Ratio, Auto: true, Budget: sizing.DefaultBudget(in.Memory, planned)}
}

// newWorld is a node whose tables have the planned sizes and are a tenth full.
func newWorld(t *testing.T, s Settings) *world {
	t.Helper()
	w := &world{t: t, kernel: &fakeKernel{now: epoch}, now: epoch}
	for _, p := range s.Tables {
		w.kernel.tables = append(w.kernel.tables, datapath.SizedTable{
			Table: p.Table, Size: uint64(p.Entries), Entries: uint64(p.Entries) / 10, Memory: p.Bytes(p.Entries, p.Entries/10),
		})
	}
	var err error
	w.Runner, err = New(Config{
		Settings: s, Datapath: w.kernel, Events: w, Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// holds sets the entries of a table.
func (w *world) holds(mapName string, entries uint64) {
	w.kernel.look(func() { w.kernel.table(mapName).Entries = entries })
}

func (w *world) size(mapName string) uint64 {
	var out uint64
	w.kernel.look(func() { out = w.kernel.table(mapName).Size })
	return out
}

// pass lets so many seconds go by, each with its sample, and every move end.
func (w *world) pass(seconds int) {
	w.t.Helper()
	for range seconds {
		w.now = w.now.Add(time.Second)
		w.kernel.look(func() { w.kernel.now = w.now })
		w.turn(w.t.Context(), w.now)
		w.moves.Wait()
	}
}

// news gives the events since it was asked last.
func (w *world) news() []told {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.events
	w.events = nil
	return out
}

// orders gives the resizes since it was asked last.
func (w *world) orders() []resizing {
	var out []resizing
	w.kernel.look(func() { out, w.kernel.asked = w.kernel.asked, nil })
	return out
}

// logged counts the lines of the log that have the text.
func (w *world) logged(text string) int { return strings.Count(w.log.String(), text) }
