package autosize_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/sizing"
)

const (
	tcp       = "ct_tcp_map"
	anyProto  = "ct_any_map"
	embryonic = "ct_new_map"
	mib       = 1 << 20
)

// tuned is a table that may have any size from 1024 on.
func tuned(t testing.TB, name string) autosize.Table {
	t.Helper()
	table, ok := sizing.TableOf(name, sizing.DefaultMaglevSize)
	if !ok {
		t.Fatalf("no table %s", name)
	}
	return autosize.Table{Table: table, Min: 1024, Max: 1 << 24}
}

// player feeds a controller, a second at a time.
type player struct {
	t  *testing.T
	c  *autosize.Controller
	at time.Time
}

func play(t *testing.T, budget uint64, tables ...autosize.Table) *player {
	t.Helper()
	c, err := autosize.New(autosize.Config{Budget: budget, Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	return &player{t: t, c: c, at: time.Unix(1_000_000, 0)}
}

// step lets a time pass and gives the decisions.
func (p *player) step(after time.Duration, samples map[string]autosize.Sample) []autosize.Decision {
	p.at = p.at.Add(after)
	return p.c.Step(p.at, samples)
}

// one is step for one table that gets at most one decision.
func (p *player) one(after time.Duration, name string, s autosize.Sample) autosize.Decision {
	p.t.Helper()
	switch all := p.step(after, map[string]autosize.Sample{name: s}); len(all) {
	case 0:
		return autosize.Decision{}
	case 1:
		return all[0]
	default:
		p.t.Fatalf("%d decisions: %+v", len(all), all)
		return autosize.Decision{}
	}
}

func wantDecision(t *testing.T, got, want autosize.Decision) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

func TestGrowsBeforeItIsFull(t *testing.T) {
	p := play(t, 256*mib, tuned(t, tcp))
	wantDecision(t, p.one(0, tcp, autosize.Sample{Entries: 50000, Size: 131072}), autosize.Decision{})
	wantDecision(t, p.one(time.Second, tcp, autosize.Sample{Entries: 51000, Size: 131072}), autosize.Decision{})
	// The growth of one second is as good as three more of it: 110,000 would be above 80 %.
	wantDecision(t, p.one(time.Second, tcp, autosize.Sample{Entries: 66000, Size: 131072}), autosize.Decision{
		Map: tcp, Action: autosize.Grow, From: 131072, To: 327680,
		Reason: "tcp: 50 % and growing 15k entries/s, full in 4 s: 131072 → 327680, +45 MiB of 256 MiB budget",
	})
	// While entries move nothing is decided, whatever comes.
	wantDecision(t, p.one(time.Second, tcp, autosize.Sample{Entries: 300000, Size: 327680, Old: 131072}), autosize.Decision{})
	// Afterwards only what cannot wait.
	p = play(t, 256*mib, tuned(t, tcp))
	p.one(0, tcp, autosize.Sample{Entries: 250000, Size: 350000})
	for range 60 {
		wantDecision(t, p.one(time.Second, tcp, autosize.Sample{Entries: 250000, Size: 327680}), autosize.Decision{})
	}
	got := p.one(time.Second, tcp, autosize.Sample{Entries: 270000, Size: 327680})
	if got.Action != autosize.Grow || !got.Urgent || got.To < 450000 {
		t.Errorf("82 %% full within the pause: %+v", got)
	}
}

func TestGrowsSlowlyFullTable(t *testing.T) {
	p := play(t, 256*mib, tuned(t, tcp))
	wantDecision(t, p.one(0, tcp, autosize.Sample{Entries: 106168, Size: 131072}), autosize.Decision{
		Map: tcp, Action: autosize.Grow, From: 131072, To: 196608,
		Reason: "tcp: 81 %: 131072 → 196608, +15 MiB of 256 MiB budget",
	})
}

func TestRepeatsWhatIsNotDone(t *testing.T) {
	p := play(t, 256*mib, tuned(t, tcp))
	full := autosize.Sample{Entries: 120000, Size: 131072}
	first := p.one(0, tcp, full)
	wantDecision(t, p.one(time.Second, tcp, full), first)
	// The same moment says nothing new, nor does an earlier one.
	wantDecision(t, p.one(0, tcp, full), autosize.Decision{})
	wantDecision(t, p.one(-time.Second, tcp, full), autosize.Decision{})
}

func TestShrinksWhenLittleWasUsedForTenMinutes(t *testing.T) {
	p := play(t, 256*mib, tuned(t, tcp))
	s := autosize.Sample{Entries: 60000, Size: 262144}
	p.one(0, tcp, s)
	s.Entries = 30000
	for range 599 {
		if d := p.one(time.Second, tcp, s); d.Action != "" {
			t.Fatalf("before ten minutes are over: %+v", d)
		}
	}
	wantDecision(t, p.one(time.Second, tcp, s), autosize.Decision{
		Map: tcp, Action: autosize.Shrink, From: 262144, To: 114688,
		Reason: "tcp: 23 % at most in 10 min: 262144 → 114688, -31 MiB of 256 MiB budget",
	})
	// The peak is forgotten half a minute later.
	var d autosize.Decision
	for range 60 {
		d = p.one(time.Second, tcp, s)
	}
	if d.To != 57344 {
		t.Errorf("without the peak: %+v, want 57344 entries", d)
	}
	// A change, whoever made it, is followed by a pause.
	s.Size = 200000
	for range 600 {
		if d := p.one(time.Second, tcp, s); d.Action != "" {
			t.Fatalf("within the pause: %+v", d)
		}
	}
	if d := p.one(time.Second, tcp, s); d.Action != autosize.Shrink {
		t.Errorf("after the pause: %+v", d)
	}
}

// TestIsNotShrunkForLittle: a table that is nearly half full stays as it is, though
// a smaller one would do.
func TestIsNotShrunkForLittle(t *testing.T) {
	p := play(t, 256*mib, tuned(t, tcp))
	s := autosize.Sample{Entries: 75366, Size: 163840}
	p.one(0, tcp, s)
	for range 1200 {
		if d := p.one(time.Second, tcp, s); d.Action != "" {
			t.Fatalf("46 %% full: %+v", d)
		}
	}
}

func TestBudget(t *testing.T) {
	half := autosize.Sample{Entries: 1000, Size: 131072} // 28 MiB
	full := autosize.Sample{Entries: 125000, Size: 131072}
	both := map[string]autosize.Sample{tcp: full, anyProto: half}

	t.Run("less than wanted", func(t *testing.T) {
		p := play(t, 100*mib, tuned(t, tcp), tuned(t, anyProto))
		got := p.step(0, both)
		wantDecision(t, got[0], autosize.Decision{
			Map: tcp, Action: autosize.Grow, From: 131072, To: 196608, Limit: autosize.BoundBudget, Missing: 5767168,
			Reason: "tcp: 95 %: 131072 → 196608, +15 MiB of 100 MiB budget; 229376 wanted, but 5.5 MiB missing while entries move, 44 MiB of 100 MiB budget are free",
		})
	})
	t.Run("nothing", func(t *testing.T) {
		p := play(t, 60*mib, tuned(t, tcp), tuned(t, anyProto))
		got := p.step(0, both)
		wantDecision(t, got[0], autosize.Decision{
			Map: tcp, Action: autosize.Blocked, From: 131072, To: 229376, Limit: autosize.BoundBudget, Missing: 47710208,
			Reason: "tcp: 95 %: 131072 → 229376 wanted, but 46 MiB missing while entries move, 4 MiB of 60 MiB budget are free",
		})
	})
	t.Run("taken by a move", func(t *testing.T) {
		p := play(t, 100*mib, tuned(t, tcp), tuned(t, anyProto))
		got := p.step(0, map[string]autosize.Sample{tcp: full, anyProto: {Entries: 10, Size: 131072, Old: 131072}})
		if len(got) != 1 || got[0].Action != autosize.Blocked {
			t.Errorf("decisions %+v, want one that is blocked", got)
		}
	})
	t.Run("shared by two", func(t *testing.T) {
		p := play(t, 120*mib, tuned(t, tcp), tuned(t, anyProto))
		got := p.step(0, map[string]autosize.Sample{tcp: full, anyProto: full})
		if len(got) != 2 || got[0].Action != autosize.Grow || got[1].Action != autosize.Blocked {
			t.Errorf("decisions %+v, want one to grow and one blocked", got)
		}
	})
	t.Run("below what is taken already", func(t *testing.T) {
		p := play(t, 10*mib, tuned(t, tcp), tuned(t, anyProto))
		if got := p.step(0, both); len(got) != 1 || got[0].Missing <= 40*mib || !strings.Contains(got[0].Reason, "0 MiB of 10 MiB budget are free") {
			t.Errorf("decisions %+v", got)
		}
	})
	t.Run("no room to shrink", func(t *testing.T) {
		p := play(t, 30*mib, tuned(t, tcp))
		p.one(0, tcp, autosize.Sample{Entries: 50000, Size: 131072})
		wantDecision(t, p.one(10*time.Minute, tcp, autosize.Sample{Entries: 50000, Size: 131072}), autosize.Decision{
			Map: tcp, Action: autosize.Blocked, From: 131072, To: 98304, Limit: autosize.BoundBudget, Missing: 20447232,
			Reason: "tcp: 38 % at most in 10 min: 131072 → 98304 wanted, but 20 MiB missing while entries move, 2 MiB of 30 MiB budget are free",
		})
	})
}

func TestMostUrgentFirst(t *testing.T) {
	p := play(t, 1024*mib, tuned(t, tcp), tuned(t, anyProto))
	p.step(0, map[string]autosize.Sample{tcp: {Entries: 50000, Size: 131072}, anyProto: {Entries: 10000, Size: 131072}})
	got := p.step(time.Second, map[string]autosize.Sample{tcp: {Entries: 101000, Size: 131072}, anyProto: {Entries: 90000, Size: 131072}})
	if len(got) != 2 || got[0].Map != anyProto {
		t.Errorf("decisions %+v, want that of %s first, which is full in less than a second", got, anyProto)
	}
}

func TestMaximum(t *testing.T) {
	table := tuned(t, tcp)
	table.Max = 150000
	p := play(t, 1024*mib, table)
	wantDecision(t, p.one(0, tcp, autosize.Sample{Entries: 120000, Size: 131072}), autosize.Decision{
		Map: tcp, Action: autosize.Grow, From: 131072, To: 150000, Limit: autosize.BoundMaximum,
		Reason: "tcp: 92 %: 131072 → 150000, +5.8 MiB of 1024 MiB budget; 229376 wanted, but this is its maximum",
	})
	wantDecision(t, p.one(time.Second, tcp, autosize.Sample{Entries: 140000, Size: 150000}), autosize.Decision{
		Map: tcp, Action: autosize.Blocked, From: 150000, To: 458752, Urgent: true, Limit: autosize.BoundMaximum,
		Reason: "tcp: 93 % and growing 20k entries/s, full in 0 s: 150000 → 458752 wanted, but 150000 is its maximum",
	})
	fixed := tuned(t, tcp)
	fixed.Min, fixed.Max = 131072, 131072
	p = play(t, 1024*mib, fixed)
	wantDecision(t, p.one(0, tcp, autosize.Sample{Entries: 131072, Size: 131072}), autosize.Decision{})
}

// TestWaitingEntriesCount: a writer that waits says at once how much it needs.
func TestWaitingEntriesCount(t *testing.T) {
	p := play(t, 256*mib, tuned(t, "backend_map"))
	d := p.one(0, "backend_map", autosize.Sample{Entries: 65000, Size: 65536, Waiting: 235000})
	if d.Action != autosize.Grow || d.To != 524288 {
		t.Errorf("300,000 backends are needed: %+v, want 524288 entries", d)
	}
}

// TestFailuresCount: who is refused once is as good as a full table.
func TestFailuresCount(t *testing.T) {
	p := play(t, 256*mib, tuned(t, tcp))
	s := autosize.Sample{Entries: 80000, Size: 131072}
	p.one(0, tcp, s)
	s.Failures = 500
	d := p.one(time.Second, tcp, s)
	if d.Action != autosize.Grow || d.To < 150000 {
		t.Errorf("after 500 failures: %+v", d)
	}
}

func TestTableThatEvicts(t *testing.T) {
	table := tuned(t, embryonic)
	table.Keep, table.Share, table.Min = 5*time.Second, 0.375, 65536
	full := autosize.Sample{Entries: 65500, Size: 65536}

	t.Run("is left alone without a count of inserts", func(t *testing.T) {
		p := play(t, 256*mib, table)
		for range 700 {
			if d := p.one(time.Second, embryonic, full); d.Action != "" {
				t.Fatalf("decision %+v", d)
			}
		}
	})
	t.Run("is full of what nobody needs", func(t *testing.T) {
		p := play(t, 256*mib, table)
		s := full
		for range 700 {
			s.Inserts += 2000
			if d := p.one(time.Second, embryonic, s); d.Action != "" {
				t.Fatalf("decision %+v", d)
			}
		}
		if got := p.c.Status()[0]; got.Needed < 9500 || got.Needed > 10000 || got.Entries != 65500 {
			t.Errorf("status %+v, want 10,000 needed", got)
		}
	})
	t.Run("grows to its share of the budget", func(t *testing.T) {
		p := play(t, 256*mib, table)
		s := full
		s.Inserts = 1
		var last autosize.Decision
		for range 60 {
			s.Inserts += 300000
			if d := p.one(time.Second, embryonic, s); d.Action != "" {
				last = d
			}
			if last.Action == autosize.Grow {
				s.Size, s.Entries = last.To, last.To
			}
		}
		wantDecision(t, last, autosize.Decision{
			Map: embryonic, Action: autosize.Blocked, From: 393216, To: 2621440, Urgent: true, Limit: autosize.BoundMaximum,
			Reason: "embryonic: evicts after 1.3 s, before the 5 s that an entry is needed: 393216 → 2621440 wanted, but 393216 is its maximum",
		})
	})
}

// TestLostSamples: without samples a table counts as it was, and nothing is decided.
func TestLostSamples(t *testing.T) {
	p := play(t, 100*mib, tuned(t, tcp), tuned(t, anyProto))
	p.step(0, map[string]autosize.Sample{tcp: {Entries: 10, Size: 131072}, anyProto: {Entries: 10, Size: 131072}})
	if taken := p.c.Taken(); taken != 2*131072*224 {
		t.Errorf("%d bytes taken", taken)
	}
	got := p.step(time.Second, map[string]autosize.Sample{tcp: {Entries: 100000, Size: 131072}})
	if len(got) != 1 || got[0].Limit != autosize.BoundBudget {
		t.Errorf("decisions %+v, want one within what the other table leaves", got)
	}
	if n := len(p.c.Status()); n != 2 {
		t.Errorf("status of %d tables, want 2", n)
	}
}

func TestBadConfig(t *testing.T) {
	bad := func(change func(*autosize.Table)) []autosize.Table {
		table := tuned(t, tcp)
		change(&table)
		return []autosize.Table{table}
	}
	for name, tables := range map[string][]autosize.Table{
		"twice":          {tuned(t, tcp), tuned(t, tcp)},
		"no least size":  bad(func(t *autosize.Table) { t.Min = 0 }),
		"sizes reversed": bad(func(t *autosize.Table) { t.Min, t.Max = 2, 1 }),
		"share":          bad(func(t *autosize.Table) { t.Share = 1.1 }),
		"keep":           bad(func(t *autosize.Table) { t.Keep = -1 }),
	} {
		if _, err := autosize.New(autosize.Config{Budget: mib, Tables: tables}); !errors.Is(err, autosize.ErrConfig) {
			t.Errorf("%s: New() = %v, want ErrConfig", name, err)
		}
	}
}
