package main

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/testutil"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		exit(child(role))
	}
	os.Exit(m.Run())
}

// TestTorture is the short form.
func TestTorture(t *testing.T) {
	testutil.RequireRoot(t)
	o := short()
	o.Other = filepath.Join(t.TempDir(), "other")
	if out, err := exec.CommandContext(t.Context(), "./other-layout", o.Other).CombinedOutput(); err != nil {
		t.Fatalf("build the version with another layout: %v\n%s", err, out)
	}
	r, err := spawnNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range r.tables() {
		t.Log("\n" + table.markdown())
	}
	if err := r.verdict(); err != nil {
		t.Error(err)
	}
	if picture, err := r.svgDraw(); err != nil || !strings.Contains(string(picture), "ct_tcp_map") {
		t.Errorf("the plot has %d bytes: %v", len(picture), err)
	}
}

func TestQuantile(t *testing.T) {
	sorted := []float32{1, 2, 3, 4, 5}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 4, 1: 5} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing is %g, want NaN", got)
	}
}

func TestDuring(t *testing.T) {
	s, at := newSamples(), time.Unix(1000, 0)
	for i := range 8 {
		s.took(queries, at.Add(time.Duration(i)*tick), time.Duration(10-i)*time.Microsecond)
	}
	got := s.during(queries, []span{{at.Add(tick), at.Add(3*tick + 1)}, {at.Add(6 * tick), at.Add(7*tick + 1)}})
	if len(got) != 3 || got[0] != 4 || got[1] != 8 || got[2] != 9 {
		t.Errorf("samples are %v, want 4, 8 and 9", got)
	}
	if got := s.during(fresh, []span{{at, at.Add(time.Hour)}}); len(got) != 0 {
		t.Errorf("samples of another kind are %v", got)
	}
}

// What may have expired, or been closed or evicted, is not lost.
func TestLost(t *testing.T) {
	at := time.Unix(1000, 0)
	entry := func(change func(*agentapi.CTEntry)) agentapi.CTEntry {
		e := agentapi.CTEntry{Proto: 6, Table: "tcp", State: agentapi.CTStateEstablished, Age: time.Minute, Expires: time.Minute}
		if change != nil {
			change(&e)
		}
		return e
	}
	for name, test := range map[string]struct {
		entry agentapi.CTEntry
		gone  int
	}{
		"an old flow":      {entry(nil), 1},
		"UDP":              {entry(func(e *agentapi.CTEntry) { e.Proto = 17 }), 1},
		"about to expire":  {entry(func(e *agentapi.CTEntry) { e.Expires = 10 * time.Second }), 0},
		"a short one":      {entry(func(e *agentapi.CTEntry) { e.Destination = netip.AddrPortFrom(serviceAddr, tcpPort+longPorts) }), 0},
		"a long one":       {entry(func(e *agentapi.CTEntry) { e.Destination = netip.AddrPortFrom(serviceAddr, tcpPort) }), 1},
		"closing":          {entry(func(e *agentapi.CTEntry) { e.State = agentapi.CTStateClosing }), 0},
		"embryonic":        {entry(func(e *agentapi.CTEntry) { e.Table = "new" }), 0},
		"expires in a day": {entry(func(e *agentapi.CTEntry) { e.Expires = 24 * time.Hour }), 1},
	} {
		before := &dump{at, at.Add(time.Second), map[flowKey]agentapi.CTEntry{{proto: 6}: test.entry}}
		after := &dump{at.Add(8 * time.Second), at.Add(10 * time.Second), map[flowKey]agentapi.CTEntry{}}
		if compared, gone := lost(before, after); compared != test.gone || len(gone) != test.gone {
			t.Errorf("%s: %d of %d lost, want %d", name, len(gone), compared, test.gone)
		}
		after.flows = before.flows
		if _, gone := lost(before, after); len(gone) != 0 {
			t.Errorf("%s: lost, though it is there", name)
		}
	}
}

// A run in which something broke fails; one on a machine without time to spare does not.
func TestVerdict(t *testing.T) {
	at := time.Unix(1000, 0)
	calm, busy := span{at, at.Add(time.Minute)}, span{at.Add(time.Minute), at.Add(2 * time.Minute)}
	good := func() *result {
		return &result{Windows: windows{quiet: {calm}, layouts: {busy}}, Compared: 10, Moves: moves{Done: 3}, Options: options{Other: "other"}, Changes: changes{Done: 1}}
	}
	for name, test := range map[string]struct {
		change func(*result)
		fails  bool
	}{
		"nothing":           {func(*result) {}, false},
		"a lost entry":      {func(r *result) { r.Lost = 1 }, true},
		"nothing compared":  {func(r *result) { r.Compared = 0 }, true},
		"no move":           {func(r *result) { r.Moves.Done = 0 }, true},
		"no other layout":   {func(r *result) { r.Changes.Done = 0 }, true},
		"a refused move":    {func(r *result) { r.Moves.Problems = []string{"x"} }, true},
		"a reset":           {func(r *result) { r.Failures = []failure{{fresh, "reset", busy.Begin}} }, true},
		"a changed port":    {func(r *result) { r.Failures = []failure{{masked, errPort.Error(), busy.Begin}} }, true},
		"a silent long one": {func(r *result) { r.Failures = []failure{{longDirect, "no answer", busy.Begin}} }, true},
		"a silent query":    {func(r *result) { r.Failures = []failure{{queries, "no answer", busy.Begin}} }, true},
		"both silent": {func(r *result) {
			r.Failures = []failure{{queries, "no answer", calm.Begin}, {queries, "no answer", busy.Begin}}
		}, false},
		"a drop":               {func(r *result) { r.Dropped = []dropped{{moving, "from_pod", "Policy denied", false, 1}} }, true},
		"a drop without moves": {func(r *result) { r.Dropped = []dropped{{emptied, "from_pod", "Policy denied", false, 1}} }, false},
		"an event":             {func(r *result) { r.Dropped = []dropped{{moving, "from_pod", "CT: Table full", true, 1}} }, false},
	} {
		r := good()
		test.change(r)
		if err := r.verdict(); errors.Is(err, errBroke) != test.fails {
			t.Errorf("%s: %v; want it to fail: %t", name, err, test.fails)
		}
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("# Head\n<!-- begin torture -->\nold\n<!-- end torture -->\ntail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	things := table{title: "Things.", head: []string{"what", "n"}}
	things.add("one", "1")
	if err := write(path, "torture", "Measured now.\n", []table{things}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := "# Head\n<!-- begin torture -->\nMeasured now.\n\nThings.\n\n| what | n |\n| --- | --: |\n| one | 1 |\n<!-- end torture -->\ntail\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if err := write(path, "other", "", nil); !errors.Is(err, errNoSection) {
		t.Errorf("another section: %v, want errNoSection", err)
	}
}
