package conntrack

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
)

const (
	tcp    = unix.IPPROTO_TCP
	udp    = unix.IPPROTO_UDP
	icmp   = unix.IPPROTO_ICMP
	icmpv6 = unix.IPPROTO_ICMPV6
)

func TestWhatIsCollected(t *testing.T) {
	const (
		slack  = 3000 // seconds
		margin = 1000 // by which a test may be slow
		nonSyn = abi.CCtFlagsCT_NON_SYN
		finA   = abi.CCtFlagsCT_FIN_ORIGIN
		finB   = abi.CCtFlagsCT_FIN_REPLY
		reset  = abi.CCtFlagsCT_RESET
		dead   = abi.CCtFlagsCT_DEAD
		moved  = abi.CCtFlagsCT_MOVED
	)
	cases := []struct {
		name  string
		proto uint8
		flags abi.CCtFlags
		idle  int // seconds
		gone  bool
	}{
		{"established", tcp, established, secondsTCP - margin, false},
		{"established, expired within the slack", tcp, established, secondsTCP + slack - margin, false},
		{"established, expired", tcp, established, secondsTCP + slack + 1, true},
		{"half open", tcp, 0, secondsSyn - margin, false},
		{"half open, expired", tcp, 0, secondsSyn + slack + 1, true},
		{"half open, answered", tcp, abi.CCtFlagsCT_REPLIED, secondsSyn + slack + 1, true},
		{"one segment that is no SYN", tcp, nonSyn, secondsTCP - margin, false},
		{"closed by one side", tcp, established | finA, secondsTCP - margin, false},
		{"closed by the other side", tcp, established | finB, secondsTCP - margin, false},
		{"closed by both", tcp, established | finA | finB, secondsFin - margin, false},
		{"closed by both, expired", tcp, established | finA | finB, secondsFin + slack + 1, true},
		{"reset", tcp, established | reset, secondsFin + slack + 1, true},
		{"UDP", udp, established, secondsAny - margin, false},
		{"UDP, expired", udp, established, secondsAny + slack + 1, true},
		{"ICMP with flags of TCP", icmp, established | reset, secondsAny - margin, false},
		{"ICMPv6, expired", icmpv6, 0, secondsAny + slack + 1, true},
		{"just now", tcp, established, 0, false},
		{"a moment ahead", tcp, 0, -margin, false},
		{"left dead", tcp, established | dead, 0, true},
		{"moved", tcp, established | moved, secondsTCP + slack + 1, false},
		{"of the host, expired", tcp, established | abi.CCtFlagsCT_FROM_HOST | abi.CCtFlagsCT_ORIGIN, secondsTCP + slack + 1, true},
		{"idle for a large part of the clock's round", tcp, established, 1 << 22, true},
	}
	for _, name := range []string{tableTCP, tableAny, tableNew} {
		f := newFixture(t, 64)
		settings, err := f.tables.settings()
		if err != nil {
			t.Fatal(err)
		}
		settings.Hz *= slack // the slack is one second of this
		f.put(f.tables.Settings, uint32(0), &settings)
		key := func(i int) abi.CCtKey {
			return flowKey(cases[i].proto, fmt.Sprintf("10.0.0.1:%d", i), "10.0.0.2:2")
		}
		gone := uint64(0)
		for i, tc := range cases {
			k, e := key(i), f.seen(f.ago(tc.idle), tc.flags)
			f.put(f.inner[name], &k, &e)
			if tc.gone {
				gone++
			}
		}
		r := f.collect()
		for i, tc := range cases {
			if got := !f.has(name, key(i)); got != tc.gone {
				t.Errorf("table %s: %s: gone is %t after %d s, want %t", name, tc.name, got, tc.idle, tc.gone)
			}
		}
		if r.Deleted() != gone || r.Alive() != uint64(len(cases))-gone {
			t.Errorf("table %s: %d alive and %d deleted, want %d deleted of %d", name, r.Alive(), r.Deleted(), gone, len(cases))
		}
	}
}

// A flow that begins again gets its new birth before the new time of its last packet.
func TestNewBirthIsLife(t *testing.T) {
	f := newFixture(t, 16)
	key := flowKey(tcp, "10.0.0.1:1", "10.0.0.2:2")
	e := abi.CCtEntry{State: uint64(f.jiffies())<<32 | uint64(established), Last: f.ago(secondsTCP + 10)}
	f.put(f.inner[tableTCP], &key, &e)
	if r := f.collect(); r.Deleted() != 0 || !f.has(tableTCP, key) {
		t.Errorf("an entry that was just born is collected: %+v", r)
	}
	// One that lives for longer than the clock can count is not kept by its birth.
	e = abi.CCtEntry{State: uint64(f.jiffies()+1<<31)<<32 | uint64(established), Last: f.ago(secondsTCP + 10)}
	f.put(f.inner[tableTCP], &key, &e)
	if r := f.collect(); r.Deleted() != 1 {
		t.Errorf("an entry of great age is not collected: %+v", r)
	}
}

func TestKindsAreCountedApart(t *testing.T) {
	f := newFixture(t, 16)
	old := f.ago(secondsTCP + 10)
	for _, e := range []struct {
		table, a, b string
		proto       uint8
		last        uint32
	}{
		{tableTCP, "10.0.0.1:1", "10.0.0.2:2", tcp, f.jiffies()},
		{tableTCP, "10.0.0.1:2", "10.0.0.2:2", tcp, old},
		{tableTCP, "[fd00::1]:1", "[fd00::2]:2", tcp, old},
		{tableNew, "[fd00::1]:3", "[fd00::2]:2", tcp, f.jiffies()},
		{tableAny, "10.0.0.1:1", "10.0.0.2:53", udp, old},
		{tableNew, "10.0.0.1:7", "10.0.0.2:0", icmp, old},
		{tableAny, "[fd00::1]:1", "[fd00::2]:53", udp, f.jiffies()},
	} {
		key, value := flowKey(e.proto, e.a, e.b), f.seen(e.last, established)
		f.put(f.inner[e.table], &key, &value)
	}
	f.collect()
	want := []EntryStats{
		{FamilyIPv4, ProtocolNonTCP, 0, 2},
		{FamilyIPv4, ProtocolTCP, 1, 1},
		{FamilyIPv6, ProtocolNonTCP, 1, 0},
		{FamilyIPv6, ProtocolTCP, 1, 1},
	}
	stats := f.Stats()
	if len(stats.Entries) != len(want) {
		t.Fatalf("%+v, want %+v", stats.Entries, want)
	}
	for i, e := range stats.Entries {
		if e != want[i] {
			t.Errorf("%+v, want %+v", e, want[i])
		}
	}
	for _, r := range stats.Runs {
		if want := map[string]uint64{StatusCompleted: 1}[r.Status]; r.Runs != want || r.Buckets[30] != want {
			t.Errorf("%+v, want %d runs", r, want)
		}
	}
}

// Every number of deletions in a bucket and at the border of two steps must come
// out even: nothing is passed over.
func TestEveryExpiredEntryGoes(t *testing.T) {
	for _, tc := range []struct {
		name             string
		entries, every   int
		size, stride     uint32
		embryonic, loose bool
	}{
		{name: "every entry, a step each", entries: 3000, every: 1, size: 4096, stride: 1},
		{name: "crowded buckets", entries: 4096, every: 1, size: 4096, stride: 3},
		{name: "half of them", entries: 4096, every: 2, size: 4096, stride: 7},
		{name: "few in a large table", entries: 10, every: 1, size: 1 << 20, stride: 1},
		{name: "as compiled", entries: 60000, every: 3, size: 1 << 16},
		{name: "none", entries: 1000, size: 4096, stride: 16},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, tc.size)
			f.stride = tc.stride
			f.fill(tableTCP, 0, tc.entries, tc.every, f.ago(secondsTCP+10))
			want := 0
			if tc.every > 0 {
				want = (tc.entries + tc.every - 1) / tc.every
			}
			r := f.collect()
			if r.Deleted() != uint64(want) || r.Alive() != uint64(tc.entries-want) {
				t.Errorf("%d deleted and %d alive, want %d and %d", r.Deleted(), r.Alive(), want, tc.entries-want)
			}
			if left := f.entries(); left != uint64(tc.entries-want) {
				t.Errorf("%d left, want %d", left, tc.entries-want)
			}
			if ratio := float64(want) / float64(tc.size); r.Ratio != ratio {
				t.Errorf("ratio %v, want %v", r.Ratio, ratio)
			}
		})
	}
}

func TestMillionEntries(t *testing.T) {
	const entries, every = 1 << 20, 10
	f := newFixture(t, entries)
	f.fill(tableTCP, 0, entries, every, f.ago(secondsTCP+10))
	want := uint64((entries + every - 1) / every)
	r := f.collect()
	if r.Deleted() != want || r.Alive() != entries-want || f.entries() != entries-want {
		t.Errorf("%d deleted, %d alive, %d left; want %d and %d", r.Deleted(), r.Alive(), f.entries(), want, entries-want)
	}
	t.Logf("%d entries, %d deleted: took %v, %v of a CPU", entries, r.Deleted(), r.Took, r.CPU)
}

// A pass that ends early has done no harm, counts as uncompleted, and the next
// one finishes the work.
func TestCancelledPass(t *testing.T) {
	f := newFixture(t, 1<<16)
	f.stride = 64
	f.fill(tableTCP, 0, 40000, 2, f.ago(secondsTCP+10))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	steps := 0
	p := pace{begin: time.Now(), spread: time.Hour, hurry: func() bool {
		steps++
		if steps == 100 {
			cancel()
		}
		return true
	}}
	result, err := f.pass(ctx, f.prepared(), p)
	if !errors.Is(err, context.Canceled) || steps != 100 {
		t.Fatalf("ended with %v after %d steps", err, steps)
	}
	for i, k := range result.Kinds {
		if k.Complete {
			t.Errorf("kind %d counts as complete", i)
		}
	}
	if result.Deleted() == 0 || result.Deleted() >= 20000 {
		t.Errorf("%d deleted by a part of a pass", result.Deleted())
	}
	if left := f.entries(); left != 40000-result.Deleted() {
		t.Errorf("%d left, and %d deleted", left, result.Deleted())
	}
	assertNoneDead(t, f)
	if rest := f.collect(); rest.Deleted() != 20000-result.Deleted() || rest.Alive() != 20000 {
		t.Errorf("then %d deleted and %d alive", rest.Deleted(), rest.Alive())
	}
}

func assertNoneDead(t *testing.T, f *fixture) {
	t.Helper()
	for name := range f.inner {
		for key, e := range f.content(name) {
			if e.State&terminal != 0 {
				t.Fatalf("table %s: %v is left with state %#x", name, key, e.State)
			}
		}
	}
}

func TestNoTimeoutsNoCollection(t *testing.T) {
	f := newFixture(t, 16)
	f.fill(tableTCP, 0, 5, 1, f.ago(secondsTCP+10))
	f.put(f.tables.Settings, uint32(0), abi.CSettings{Hz: f.hz})
	if r, err := f.Collect(t.Context()); !errors.Is(err, ErrNoSettings) || r.Deleted() != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if f.entries() != 5 {
		t.Error("entries are gone")
	}
	status, err := f.Status()
	if err != nil || status.Problem == "" || status.LastCollection != nil {
		t.Errorf("%+v, %v", status, err)
	}
	for _, r := range f.Stats().Runs {
		if want := map[string]uint64{StatusUncompleted: 1}[r.Status]; r.Runs != want {
			t.Errorf("%+v, want %d runs", r, want)
		}
	}
}

func TestNoTable(t *testing.T) {
	f := newFixture(t, 16)
	f.fill(tableTCP, 0, 5, 1, f.ago(secondsTCP+10))
	if err := f.tables.Any.Delete(uint32(abi.CTableSlotTABLE_CURRENT)); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Collect(t.Context()); !errors.Is(err, ErrNoTable) || r.Deleted() != 5 {
		t.Errorf("%d deleted, %v: one table that is not there keeps it from the others", r.Deleted(), err)
	}
	for _, r := range f.Stats().Runs {
		complete := r.Protocol == ProtocolTCP
		if (r.Runs == 1) != (complete == (r.Status == StatusCompleted)) {
			t.Errorf("%+v", r)
		}
	}
}

// The table is the one that the outer map holds at that moment, of any size.
func TestOtherTable(t *testing.T) {
	f := newFixture(t, 16)
	f.fill(tableTCP, 0, 5, 1, f.ago(secondsTCP+10))
	if r := f.collect(); r.Deleted() != 5 {
		t.Fatalf("%d deleted", r.Deleted())
	}
	spec := f.spec(mapName(tableTCP)).InnerMap
	spec.MaxEntries = 4096
	f.inner[tableTCP] = f.newMap(spec)
	f.put(f.tables.TCP, uint32(abi.CTableSlotTABLE_CURRENT), f.inner[tableTCP])
	f.fill(tableTCP, 0, 3000, 3, f.ago(secondsTCP+10))
	if r := f.collect(); r.Deleted() != 1000 || f.entries() != 2000 {
		t.Errorf("%d deleted, %d left in the new table", r.Deleted(), f.entries())
	}
}

// Run collects at once, again when the schedule says so, and not where there is
// nothing to collect for.
func TestRun(t *testing.T) {
	f := newFixture(t, 64)
	var needed atomic.Bool
	asked := make(chan struct{}, 1)
	f.cfg.Needed = func() bool {
		select {
		case asked <- struct{}{}:
		default:
		}
		return needed.Load()
	}
	f.fill(tableTCP, 0, 5, 1, f.ago(secondsTCP+10))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	waitFor(t, func() bool { return f.entries() == 0 })
	f.fill(tableTCP, 0, 5, 1, f.ago(secondsTCP+10))
	f.SetSchedule(Schedule{Fixed: time.Millisecond})
	<-asked
	<-asked
	if f.entries() != 5 {
		t.Error("it collects where nothing is to be collected for")
	}
	needed.Store(true)
	waitFor(t, func() bool { return f.entries() == 0 })
	if f.Interval() != time.Millisecond || f.Stats().Interval != time.Millisecond {
		t.Errorf("the interval is %v", f.Interval())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	status, err := f.Status()
	if err != nil || status.Problem != "" || status.LastCollection == nil || status.CollectedAt.IsZero() {
		t.Errorf("%+v, %v", status, err)
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was waited for does not come")
		}
	}
}

// Whoever asks for a collection does not wait for the rests of a paced pass.
func TestPacedPassHurriesUp(t *testing.T) {
	f := newFixture(t, 1<<14)
	f.stride = 1
	f.fill(tableTCP, 0, 10000, 2, f.ago(secondsTCP+10))
	resting := make(chan struct{})
	var once atomic.Bool
	paced := make(chan Result, 1)
	go func() {
		f.passes.Lock()
		defer f.passes.Unlock()
		r, err := f.pass(t.Context(), f.prepared(), pace{begin: time.Now(), spread: time.Hour, hurry: func() bool {
			if once.CompareAndSwap(false, true) {
				close(resting)
			}
			return f.hurry()
		}})
		if err != nil {
			t.Error(err)
		}
		paced <- r
	}()
	<-resting
	second := f.collect()
	first := <-paced
	if first.Deleted() != 5000 || second.Deleted() != 0 || second.Alive() != 5000 {
		t.Errorf("paced: %d deleted; then %d deleted, %d alive", first.Deleted(), second.Deleted(), second.Alive())
	}
}
