package conntrack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
)

// flow is one entry of the tests of filters.
type flow struct {
	table string
	proto uint8
	a, b  string
	flags abi.CCtFlags
	state string // that it is in
}

func flows() []flow {
	const (
		fins    = abi.CCtFlagsCT_FIN_ORIGIN | abi.CCtFlagsCT_FIN_REPLY
		replied = abi.CCtFlagsCT_REPLIED
		origin1 = abi.CCtFlagsCT_ORIGIN
	)
	return []flow{
		{tableTCP, tcp, "10.0.0.1:4000", "10.0.0.2:80", established, agentapi.CTStateEstablished},
		{tableTCP, tcp, "10.0.0.1:80", "10.0.0.2:4000", established | origin1, agentapi.CTStateEstablished},
		{tableTCP, tcp, "10.0.0.1:4001", "10.0.0.3:80", established | fins, agentapi.CTStateClosing},
		{tableTCP, tcp, "10.0.0.2:4001", "10.0.0.3:443", established | abi.CCtFlagsCT_RESET, agentapi.CTStateClosing},
		{tableTCP, tcp, "10.0.0.2:4002", "10.0.0.3:443", established | abi.CCtFlagsCT_FIN_REPLY, agentapi.CTStateEstablished},
		{tableTCP, tcp, "[fd00::1]:4000", "[fd00::2]:80", established, agentapi.CTStateEstablished},
		{tableTCP, tcp, "[fd00::1]:4000", "[fd01::2]:443", established | origin1, agentapi.CTStateEstablished},
		{tableNew, tcp, "10.0.0.4:4000", "10.0.0.2:80", 0, agentapi.CTStateNew},
		{tableNew, tcp, "10.0.0.4:4001", "10.0.0.2:80", replied, agentapi.CTStateReplied},
		{tableNew, udp, "10.0.0.4:4001", "10.0.0.2:80", replied, agentapi.CTStateReplied},
		{tableAny, udp, "10.0.0.1:53", "10.0.0.5:5353", established, agentapi.CTStateEstablished},
		{tableAny, udp, "10.0.0.1:53", "10.1.0.5:80", established | fins, agentapi.CTStateEstablished},
		{tableAny, icmp, "10.0.0.1:80", "10.0.0.2:0", established, agentapi.CTStateEstablished},
		{tableNew, icmpv6, "[fd00::1]:7", "[fd00::2]:0", 0, agentapi.CTStateNew},
	}
}

func filters() map[string]agentapi.CTFilter {
	out := map[string]agentapi.CTFilter{
		"none":            {},
		"all":             {All: true},
		"port":            {Port: 80},
		"port of few":     {Port: 5353},
		"port of none":    {Port: 81},
		"TCP":             {Proto: tcp},
		"ICMP":            {Proto: icmp},
		"one address":     {Addr: netip.MustParsePrefix("10.0.0.2/32")},
		"IPv4 prefix":     {Addr: netip.MustParsePrefix("10.0.0.4/31")},
		"other prefix":    {Addr: netip.MustParsePrefix("10.1.0.0/16")},
		"all of IPv4":     {Addr: netip.MustParsePrefix("0.0.0.0/0")},
		"all of IPv6":     {Addr: netip.MustParsePrefix("::/0")},
		"IPv6 prefix":     {Addr: netip.MustParsePrefix("fd01::/17")},
		"pod of 2 stacks": {Pod: "default/a"},
		"pod of 1 stack":  {Pod: "default/b"},
		"several":         {Pod: "default/a", Proto: tcp, Port: 80, State: agentapi.CTStateEstablished, Addr: netip.MustParsePrefix("10.0.0.2/32")},
		"against":         {Pod: "default/b", Addr: netip.MustParsePrefix("fd00::/16")},
	}
	for _, s := range agentapi.CTStates() {
		out["state "+s] = agentapi.CTFilter{State: s}
	}
	return out
}

// selectSlow is the obvious form of a filter.
func selectSlow(f agentapi.CTFilter, fl flow) bool {
	a, b := netip.MustParseAddrPort(fl.a), netip.MustParseAddrPort(fl.b)
	either := func(is func(netip.AddrPort) bool) bool { return is(a) || is(b) }
	switch {
	case f.Proto != 0 && f.Proto != fl.proto,
		f.State != "" && f.State != fl.state,
		f.Port != 0 && !either(func(e netip.AddrPort) bool { return e.Port() == f.Port }),
		f.Pod != "" && !either(func(e netip.AddrPort) bool { return testPods{}.NameOf(e.Addr()) == f.Pod }):
		return false
	}
	return !f.Addr.IsValid() || either(func(e netip.AddrPort) bool { return f.Addr.Contains(e.Addr()) })
}

func (f *fixture) add(all []flow) {
	f.t.Helper()
	for _, fl := range all {
		key, e := flowKey(fl.proto, fl.a, fl.b), f.seen(f.jiffies(), fl.flags)
		f.put(f.inner[fl.table], &key, &e)
	}
}

// asListed is how a list names a flow.
func asListed(fl flow) string {
	from, to := fl.a, fl.b
	if fl.flags&abi.CCtFlagsCT_ORIGIN != 0 {
		from, to = to, from
	}
	return fmt.Sprintf("%s %d %s > %s %s", fl.table, fl.proto, from, to, fl.state)
}

func listed(l agentapi.CTList) []string {
	var out []string
	for _, e := range l.Entries {
		out = append(out, fmt.Sprintf("%s %d %s > %s %s", e.Table, e.Proto, e.Source, e.Destination, e.State))
	}
	slices.Sort(out)
	return out
}

func TestListAndFlushByFilter(t *testing.T) {
	f := newFixture(t, 64)
	for name, filter := range filters() {
		if _, err := f.Flush(t.Context(), agentapi.CTFilter{}); err != nil {
			t.Fatal(err)
		}
		f.add(flows())
		var selected, others []string
		for _, fl := range flows() {
			if selectSlow(filter, fl) {
				selected = append(selected, asListed(fl))
			} else {
				others = append(others, asListed(fl))
			}
		}
		slices.Sort(selected)
		slices.Sort(others)
		list, err := f.List(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(selected, listed(list)); diff != "" || list.Total != len(selected) {
			t.Errorf("%s: listed, of %d: %s", name, list.Total, diff)
		}
		flushed, err := f.Flush(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := f.List(t.Context(), agentapi.CTFilter{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(others, listed(rest)); diff != "" || flushed.Deleted != len(selected) {
			t.Errorf("%s: left after %d were flushed: %s", name, flushed.Deleted, diff)
		}
	}
}

// A list of many entries is what was put in, however it is cut into reads.
func TestListOfMany(t *testing.T) {
	const entries = 20000
	f := newFixture(t, 1<<15)
	f.fill(tableTCP, 0, entries, 0, 0)
	want := make([]string, entries)
	for i := range want {
		key := numbered(i)
		want[i] = sideOf(&key, 0).String()
	}
	slices.Sort(want)
	list, err := f.List(t.Context(), agentapi.CTFilter{})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, len(list.Entries))
	for i, e := range list.Entries {
		got[i] = e.Source.String()
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || list.Total != entries {
		t.Errorf("%d entries listed of %d, %d were put in", len(got), list.Total, entries)
	}
	for _, limit := range []int{1, 31, 32, 33, 5000, entries, entries + 1} {
		list, err := f.List(t.Context(), agentapi.CTFilter{Limit: limit})
		if err != nil || list.Total != entries || len(list.Entries) != min(limit, entries) {
			t.Errorf("limit %d: %d listed of %d, %v", limit, len(list.Entries), list.Total, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.List(ctx, agentapi.CTFilter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What is expired, dead or moved is no flow any more.
func TestListIsOfTheLiving(t *testing.T) {
	f := newFixture(t, 64)
	for i, e := range []abi.CCtEntry{
		f.seen(f.jiffies(), established),
		f.seen(f.ago(secondsTCP+10), established),
		f.seen(f.jiffies(), established|abi.CCtFlagsCT_DEAD),
		f.seen(f.jiffies(), established|abi.CCtFlagsCT_MOVED),
	} {
		key := numbered(i)
		f.put(f.inner[tableTCP], &key, &e)
	}
	list, err := f.List(t.Context(), agentapi.CTFilter{})
	if err != nil || len(list.Entries) != 1 || list.Total != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	e := list.Entries[0]
	if e.Age < 100*time.Second || e.Expires > secondsTCP*time.Second || e.Expires < (secondsTCP-1000)*time.Second {
		t.Errorf("%+v", e)
	}
	// A flush takes what has expired too, and what an agent left dead; not what has moved.
	flushed, err := f.Flush(t.Context(), agentapi.CTFilter{})
	if err != nil || flushed.Deleted != 3 || !f.has(tableTCP, numbered(3)) {
		t.Errorf("%+v, %v", flushed, err)
	}
}

func TestGet(t *testing.T) {
	f := newFixture(t, 64)
	f.add(flows())
	for _, fl := range flows() {
		a, b := netip.MustParseAddrPort(fl.a), netip.MustParseAddrPort(fl.b)
		for _, sides := range [][2]netip.AddrPort{{a, b}, {b, a}} {
			e, err := f.Get(fl.proto, sides[0], sides[1])
			if err != nil {
				t.Fatal(err)
			}
			got := listed(agentapi.CTList{Entries: []agentapi.CTEntry{e}})[0]
			if got != asListed(fl) || e.SourcePod != (testPods{}).NameOf(e.Source.Addr()) {
				t.Errorf("%s, pod %q, want %s", got, e.SourcePod, asListed(fl))
			}
		}
	}
	a, b := netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("10.0.0.2:80")
	if _, err := f.Get(udp, a, b); !errors.Is(err, ErrNoEntry) {
		t.Errorf("of another protocol: %v", err)
	}
	key, e := flowKey(tcp, a.String(), b.String()), f.seen(f.jiffies(), established|abi.CCtFlagsCT_DEAD)
	f.put(f.inner[tableTCP], &key, &e)
	if _, err := f.Get(tcp, a, b); !errors.Is(err, ErrNoEntry) {
		t.Errorf("dead: %v", err)
	}
}

func TestTopTalkers(t *testing.T) {
	f := newFixture(t, 64)
	f.add(flows())
	for by, name := range map[string]func(agentapi.CTEntry) []string{
		agentapi.CTTopSource:      func(e agentapi.CTEntry) []string { return []string{e.Source.Addr().String()} },
		agentapi.CTTopDestination: func(e agentapi.CTEntry) []string { return []string{e.Destination.Addr().String()} },
		agentapi.CTTopPod:         func(e agentapi.CTEntry) []string { return []string{e.SourcePod, e.DestinationPod} },
	} {
		list, err := f.List(t.Context(), agentapi.CTFilter{})
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, e := range list.Entries {
			for _, n := range name(e) {
				if n != "" {
					counts[n]++
				}
			}
		}
		var want []agentapi.CTTalker
		for n, c := range counts {
			want = append(want, agentapi.CTTalker{Name: n, Entries: c})
		}
		slices.SortFunc(want, func(a, b agentapi.CTTalker) int {
			return cmp.Or(b.Entries-a.Entries, cmp.Compare(a.Name, b.Name))
		})
		got, err := f.Top(t.Context(), by, 2)
		if err != nil || len(want) < 2 || !slices.Equal(got, want[:2]) {
			t.Errorf("by %s: %v, %v; want the first of %v", by, got, err, want)
		}
	}
	if _, err := f.Top(t.Context(), "mac", 2); !errors.Is(err, ErrBadFilter) {
		t.Errorf("by mac: %v", err)
	}
}
