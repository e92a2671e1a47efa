package sizes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/sizing"
)

const tcp, backends = "ct_tcp_map", "backend_map"

// TestTableGrowsWithItsReason follows one decision to the kernel and to people.
func TestTableGrowsWithItsReason(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	w.pass(30)
	if got := w.orders(); len(got) > 0 {
		t.Fatalf("a calm node resizes %v", got)
	}
	before := w.size(tcp)
	w.holds(tcp, before*8/10)
	w.pass(1)
	orders, events := w.orders(), w.news()
	if len(orders) != 1 || orders[0].Map != tcp || uint64(orders[0].Entries) <= before || w.size(tcp) != uint64(orders[0].Entries) {
		t.Fatalf("resized %v, want %s beyond %d", orders, tcp, before)
	}
	for _, part := range []string{"tcp: 80 %", fmt.Sprintf("%d → %d", before, orders[0].Entries), "MiB of 256 MiB budget"} {
		if !strings.Contains(orders[0].Why, part) {
			t.Errorf("the reason %q lacks %q", orders[0].Why, part)
		}
	}
	want := []told{{Part: "tables{ct_tcp}", Reason: "TableGrown", Message: orders[0].Why, Kind: k8s.EventNormal}}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	w.pass(5)
	if got := w.orders(); len(got) > 0 {
		t.Errorf("resized again: %v", got)
	}
	if got := w.Tally()["ct_tcp"]; got != (Counts{Success: 1, Entries: before * 8 / 10}) {
		t.Errorf("counted %+v", got)
	}
}

// TestTableShrinksWhenItWasEmptyForLong checks the other direction.
func TestTableShrinksWhenItWasEmptyForLong(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	w.pass(int(autosize.Pause/time.Second) + 60)
	sizes := map[string]uint64{}
	for _, o := range w.orders() {
		sizes[o.Map] = uint64(o.Entries)
	}
	if sizes[tcp] < 16384 || sizes[tcp] >= 151765 {
		t.Errorf("TCP has %d entries after ten calm minutes", sizes[tcp])
	}
	for _, name := range []string{"ct_new_map", "sock_map", "affinity_map", "fragment_map", "ipcache_map", "source_range_map"} {
		if size, ok := sizes[name]; ok {
			t.Errorf("%s was made %d", name, size)
		}
	}
	for _, e := range w.news() {
		if e.Reason != reasonShrunk || e.Kind != k8s.EventNormal {
			t.Errorf("event %+v", e)
		}
	}
}

// TestFixedTablesAreOnlyCounted checks sizes that were set, and all of them without
// the tuner.
func TestFixedTablesAreOnlyCounted(t *testing.T) {
	explicit := settings(t, map[string]int{sizing.KeyTCP: 20000, sizing.KeyLB: 5000})
	manual := settings(t, nil)
	manual.Auto = false
	for _, tt := range []struct {
		name     string
		settings Settings
		fixed    string
	}{
		{"set", explicit, "ct_tcp_map frontend_map backend_map maglev_map affinity_map source_range_map"},
		{"without the tuner", manual, "ct_tcp_map ct_any_map ct_new_map sock_map frontend_map backend_map maglev_map affinity_map source_range_map " +
			"policy_map port_map identity_map ipcache_map cidr_map endpoint_map native_map fragment_map"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(tt.settings.Fixed(), " "); got != tt.fixed {
				t.Errorf("fixed are %s", got)
			}
			w := newWorld(t, tt.settings)
			w.holds(tcp, w.size(tcp))
			w.holds(backends, w.size(backends))
			w.pass(3)
			if orders, events := w.orders(), w.news(); len(orders)+len(events) > 0 {
				t.Errorf("resized %v, told %v", orders, events)
			}
			tables, err := w.Tables()
			if err != nil {
				t.Fatal(err)
			}
			if info := tables.Tables[0]; !info.Fixed || info.Pressure != 1 || info.Headroom != 0 || info.Blocked != "" {
				t.Errorf("TCP: %+v", info)
			}
		})
	}
}

// TestBlockedIsSaidOnce: a budget that is used up is told once, until it changes or
// was not in the way for long.
func TestBlockedIsSaidOnce(t *testing.T) {
	s := settings(t, nil)
	s.Budget = s.Empty() + 10<<20
	w := newWorld(t, s)
	w.holds(tcp, w.size(tcp)*8/10)
	w.pass(5)
	events := w.news()
	if len(events) != 1 || events[0].Reason != reasonBlocked || events[0].Kind != k8s.EventWarning || !strings.Contains(events[0].Message, "missing while entries move") {
		t.Fatalf("told %v", events)
	}
	if n := w.logged("does not get the size that it should"); n != 1 || len(w.orders()) > 0 {
		t.Errorf("%d lines in the log:\n%s", n, w.log.String())
	}
	tables, err := w.Tables()
	if err != nil {
		t.Fatal(err)
	}
	if info := tables.Tables[0]; info.Limit != agentapi.LimitBudget || !strings.Contains(info.Blocked, "wanted, but") {
		t.Errorf("TCP: %+v", info)
	}
	w.holds(tcp, 1000)
	w.pass(60)
	tables, err = w.Tables()
	if err != nil || tables.Tables[0].Blocked != "" {
		t.Errorf("%+v, %v: it is not in the way any more", tables.Tables[0], err)
	}
	w.holds(tcp, w.size(tcp)*8/10)
	w.pass(5)
	if events = w.news(); len(events) > 0 {
		t.Errorf("told again within ten minutes: %v", events)
	}
	w.holds(tcp, w.size(tcp)/2)
	w.pass(int(autosize.Pause / time.Second))
	w.news()
	w.holds(tcp, w.size(tcp)*8/10)
	w.pass(1)
	if events = w.news(); len(events) != 1 {
		t.Errorf("not told again after ten minutes: %v", events)
	}
}

// TestServicesThatWaitMakeRoom: what does not fit into the backends' table counts
// as if it were there.
func TestServicesThatWaitMakeRoom(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	w.pass(1)
	w.kernel.look(func() {
		w.kernel.refused = []loadbalance.Refusal{{Table: backends, Needs: 60000, Free: 58000}, {Table: backends, Needs: 1000}}
	})
	w.pass(1)
	orders := w.orders()
	if len(orders) != 1 || orders[0].Map != backends || orders[0].Entries < 6553+61000 {
		t.Errorf("resized %v", orders)
	}
	tables, err := w.Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range tables.Tables {
		if want := map[string]uint64{"backend": 61000}[info.Name]; info.Waiting != want {
			t.Errorf("%s: %d wait, want %d", info.Name, info.Waiting, want)
		}
	}
}

// TestResizesThatAreRefused tells what each refusal leads to.
func TestResizesThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		err     error
		refused uint64
		tries   int // within a minute
		events  int
	}{
		{"no memory", resize.ErrMemory, 3, 3, 3}, // at once, after 10 and after 30 s
		{"a person resizes", resize.ErrBusy, 0, 60, 0},
		{"more entries came", resize.ErrEntries, 0, 3, 0},
		{"the kernel", errors.New("input/output error"), 3, 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, settings(t, nil))
			w.kernel.refusal = fmt.Errorf("resize %s: %w", tcp, tt.err)
			w.holds(tcp, w.size(tcp)*8/10)
			w.pass(60)
			orders, events := w.orders(), w.news()
			if len(orders) != tt.tries || len(events) != tt.events || w.Tally()["ct_tcp"].Refused != tt.refused {
				t.Errorf("%d tries, counted %+v, told %v", len(orders), w.Tally()["ct_tcp"], events)
			}
			for _, e := range events {
				if e.Reason != reasonFailed || e.Kind != k8s.EventWarning || !strings.Contains(e.Message, "tcp: 80 %") || !strings.Contains(e.Message, tt.err.Error()) {
					t.Errorf("event %+v", e)
				}
			}
			w.kernel.look(func() { w.kernel.refusal = nil })
			w.pass(60)
			if len(w.orders()) != 1 || w.Tally()["ct_tcp"].Success != 1 {
				t.Error("it was not resized when nothing refused it any more")
			}
		})
	}
}

// TestOneTableMovesAtATime: a move that takes long holds up the others, and no
// sample.
func TestOneTableMovesAtATime(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	w.kernel.held = make(chan struct{})
	w.holds(tcp, w.size(tcp)*8/10)
	w.holds("ct_any_map", w.size("ct_any_map")*9/10)
	for i := range 3 {
		w.turn(t.Context(), epoch.Add(time.Duration(i)*time.Second))
	}
	close(w.kernel.held)
	w.moves.Wait()
	if orders := w.orders(); len(orders) != 1 {
		t.Fatalf("began %v, want one", orders)
	}
	w.kernel.held = nil
	w.pass(10)
	if w.size(tcp) == 151765 || w.size("ct_any_map") == 75882 {
		t.Errorf("TCP has %d entries, the others %d", w.size(tcp), w.size("ct_any_map"))
	}
}

// TestMovesAreCountedOnce: however often a move is seen, and whoever began it.
func TestMovesAreCountedOnce(t *testing.T) {
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	type step struct {
		move resize.Move
		want Counts
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"done", []step{
			{resize.Move{State: resize.Moving, Began: at(1), Moved: 3}, Counts{}},
			{resize.Move{State: resize.Done, Began: at(1), Moved: 9}, Counts{Success: 1, Entries: 9}},
			{resize.Move{State: resize.Done, Began: at(1), Moved: 9}, Counts{Success: 1, Entries: 9}},
			{resize.Move{State: resize.Done, Began: at(2), Moved: 1}, Counts{Success: 2, Entries: 10}},
		}},
		{"waits for room", []step{
			{resize.Move{State: resize.Waiting, Began: at(1), To: 16, Moved: 16, Left: 3}, Counts{Waiting: 1, Entries: 16}},
			{resize.Move{State: resize.Moving, Began: at(6), To: 16}, Counts{Waiting: 1, Entries: 16}},
			{resize.Move{State: resize.Waiting, Began: at(6), To: 16, Moved: 1, Left: 2}, Counts{Waiting: 1, Entries: 17}},
			{resize.Move{State: resize.Done, Began: at(11), To: 16, Moved: 2}, Counts{Waiting: 1, Success: 1, Entries: 19}},
		}},
		{"failed and stopped", []step{
			{resize.Move{State: resize.Failed, Began: at(1)}, Counts{Failed: 1}},
			{resize.Move{State: resize.Stopped, Began: at(2), Moved: 5}, Counts{Failed: 1}},
			{resize.Move{State: resize.Done, Began: at(3), Moved: 5}, Counts{Failed: 1, Success: 1, Entries: 5}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, settings(t, nil))
			for i, s := range tt.steps {
				s.move.Map = tcp
				w.kernel.look(func() { w.kernel.moved(s.move) })
				w.pass(1)
				if got := w.Tally()["ct_tcp"]; got != s.want {
					t.Errorf("step %d: %+v, want %+v", i, got, s.want)
				}
			}
		})
	}
}

// TestChangedSettings: a size that was set is given, one that was not comes to be
// tuned, and what a person resized stays.
func TestChangedSettings(t *testing.T) {
	w := newWorld(t, settings(t, map[string]int{sizing.KeyAny: 50000}))
	if _, err := w.Resize(t.Context(), "ct_any_map", 60000, "by hand"); err != nil {
		t.Fatal(err)
	}
	w.pass(2)
	w.orders()
	changed := settings(t, map[string]int{sizing.KeyTCP: 200000, sizing.KeyAny: 50000})
	if err := w.Apply(changed); err != nil {
		t.Fatal(err)
	}
	w.kernel.look(func() { w.kernel.refusal = resize.ErrMemory })
	w.pass(1)
	w.kernel.look(func() { w.kernel.refusal = nil })
	w.pass(20)
	want := resizing{tcp, 200000, "configuration"}
	if diff := cmp.Diff([]resizing{want, want}, w.orders()); diff != "" {
		t.Errorf("resizes (-want +got):\n%s", diff)
	}
	events := w.news()
	if len(events) != 2 || events[0].Reason != reasonFailed || events[1].Message != "ct_tcp: 151765 → 200000, as it is configured" {
		t.Errorf("told %v", events)
	}
	if w.size("ct_any_map") != 60000 {
		t.Errorf("what was resized by hand has %d entries", w.size("ct_any_map"))
	}
	if err := w.Apply(changed); err != nil {
		t.Fatal(err)
	}
	if err := w.Apply(settings(t, nil)); err != nil {
		t.Fatal(err)
	}
	w.holds(tcp, 190000)
	w.pass(2)
	if orders := w.orders(); len(orders) != 1 || orders[0].Entries <= 200000 {
		t.Errorf("a size that is not set any more is tuned to %v", orders)
	}
	bad := settings(t, nil)
	bad.Tables[1] = bad.Tables[0]
	if err := w.Apply(bad); !errors.Is(err, autosize.ErrConfig) {
		t.Errorf("a table given twice: %v", err)
	}
}

// TestChangedRatio: tables follow it once, as far as their entries fit, and are
// tuned from there.
func TestChangedRatio(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	w.holds("ct_any_map", 70000)
	lower := settings(t, nil)
	var err error
	if lower.Sizes, err = sizing.Plan(sizing.Input{Memory: 16 << 30, Ratio: 0.0024}); err != nil {
		t.Fatal(err)
	}
	lower.Ratio = 0.0024
	if err := w.Apply(lower); err != nil {
		t.Fatal(err)
	}
	w.kernel.look(func() { w.kernel.table("ct_any_map").Old = 1 }) // moves already: it comes later
	w.pass(3)
	if diff := cmp.Diff([]resizing{{tcp, 145695, "configuration"}, {"sock_map", 72847, "configuration"}}, w.orders()); diff != "" {
		t.Errorf("resizes (-want +got):\n%s", diff)
	}
	w.kernel.look(func() { w.kernel.table("ct_any_map").Old, w.kernel.refusal = 0, resize.ErrEntries })
	w.news()
	w.pass(1)
	if orders, events := w.orders(), w.news(); len(orders) != 1 || orders[0].Entries != 72847 || len(events) > 0 {
		t.Errorf("resized %v, told %v", orders, events)
	}
	w.kernel.look(func() { w.kernel.refusal = nil })
	w.pass(20)
	if orders := w.orders(); len(orders) != 1 || orders[0].Entries <= 75882 {
		t.Errorf("what does not fit is tuned to %v", orders)
	}
}

// TestTables holds what people are shown.
func TestTables(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	w.holds(tcp, 50000)
	w.pass(1)
	w.holds(tcp, 40000)
	w.kernel.look(func() {
		k := w.kernel.table(tcp)
		k.Old, k.Inserts = 131072, datapath.Inserts{Inserted: 9, MovedOn: 4, Full: 3, Busy: 2, Failed: 1}
		w.kernel.moved(resize.Move{
			Map: tcp, From: 131072, To: 151765, Why: "asked for", State: resize.Moving, Began: epoch, Took: time.Second, Total: 40000, Passed: 10000, Moved: 9000, Ended: 1000, Bytes: 77,
		})
	})
	got, err := w.Tables()
	if err != nil {
		t.Fatal(err)
	}
	want := agentapi.TableInfo{
		Name: "ct_tcp", Label: "tcp", Kind: "hash", Key: sizing.KeyTCP, Entries: 40000, Size: 151765, Old: 131072, Pressure: 40000.0 / 151765,
		Peak: 50000, Headroom: 111765, Memory: got.Tables[0].Memory, Inserts: agentapi.TableInserts{Inserted: 9, Full: 3, Busy: 2, Other: 1},
		Move: &agentapi.TableMove{
			Name: "ct_tcp", From: 131072, To: 151765, Why: "asked for", State: "moving", Began: epoch, Took: time.Second,
			Total: 40000, Passed: 10000, Moved: 9000, Ended: 1000, Rate: 10000, Remaining: 3 * time.Second, Memory: 77,
		},
	}
	if diff := cmp.Diff(want, got.Tables[0]); diff != "" {
		t.Errorf("TCP (-want +got):\n%s", diff)
	}
	if !got.Autosize || got.Ratio != 0.0025 || got.NAT != 151765 || got.Budget != 256<<20 || got.Memory < w.settings.Empty() || len(got.Tables) != 17 {
		t.Errorf("%+v", got)
	}
	if n := got.Tables[2]; n.Name != "ct_new" || !n.Evicts || got.Tables[0].Evicts {
		t.Errorf("who evicts: %+v", n)
	}
}

// TestTablesThatCannotBeRead are said once.
func TestTablesThatCannotBeRead(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	w.kernel.readErr = errors.New("bad file descriptor")
	w.pass(5)
	if n := w.logged("bad file descriptor"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if _, err := w.Tables(); err == nil {
		t.Error("nobody who asks is told")
	}
	w.kernel.readErr = nil
	w.pass(1)
	w.kernel.readErr = errors.New("bad file descriptor")
	w.pass(1)
	if n := w.logged("bad file descriptor"); n != 2 {
		t.Errorf("said %d times when it came again", n)
	}
}

// TestRun samples every second until it is told to end, and then waits for the
// move that is on its way.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings(t, nil))
		w.holds(tcp, 140000)
		w.kernel.held = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it ended before its move: %v", err)
		default:
		}
		close(w.kernel.held)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if orders := w.orders(); len(orders) != 1 || orders[0].Map != tcp {
			t.Errorf("resized %v", orders)
		}
	})
}

// TestResizeThatWaits: a person's resize is counted at once.
func TestResizeThatWaits(t *testing.T) {
	w := newWorld(t, settings(t, nil))
	if _, err := w.Resize(t.Context(), tcp, 200000, "asked for"); err != nil {
		t.Fatal(err)
	}
	w.pass(2)
	if got := w.Tally()["ct_tcp"]; got.Success != 1 {
		t.Errorf("counted %+v", got)
	}
	w.kernel.refusal = conntrack.ErrNoRoom
	if move, err := w.Resize(t.Context(), tcp, 20000, "asked for"); !errors.Is(err, conntrack.ErrNoRoom) || move.To != 20000 {
		t.Errorf("%+v, %v", move, err)
	}
	if len(w.news()) > 0 {
		t.Error("people are told what they did")
	}
}
