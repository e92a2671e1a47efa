package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const delay = time.Minute

func prefixes(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i := range s {
		out[i] = netip.MustParsePrefix(s[i])
	}
	return out
}

func newAllocator(t *testing.T, cidrs ...string) *Allocator {
	t.Helper()
	a := NewAllocator(delay)
	if err := a.SetCIDRs(prefixes(cidrs...), t0); err != nil {
		t.Fatal(err)
	}
	return a
}

// drain allocates one family until it is exhausted and returns the addresses.
func drain(t *testing.T, a *Allocator, f Families, now time.Time) []string {
	t.Helper()
	var out []string
	for i := 0; ; i++ {
		v4, v6, err := a.Allocate(fmt.Sprintf("drain-%d-%d", now.Unix(), i), f, now)
		if errors.Is(err, ErrExhausted) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		got := v4
		if f == IPv6 {
			got = v6
		}
		out = append(out, got.String())
	}
}

func TestUsableAddresses(t *testing.T) {
	for _, tc := range []struct {
		cidr        string
		family      Families
		first, last string
		count       int
	}{
		{"10.1.2.0/24", IPv4, "10.1.2.1", "10.1.2.254", 254},
		{"10.1.2.0/30", IPv4, "10.1.2.1", "10.1.2.2", 2},
		{"10.1.2.2/31", IPv4, "10.1.2.2", "10.1.2.3", 2},
		{"10.1.2.3/32", IPv4, "10.1.2.3", "10.1.2.3", 1},
		{"10.1.0.0/16", IPv4, "10.1.0.1", "10.1.255.254", 65534},
		{"10.0.0.0/8", IPv4, "10.0.0.1", "10.0.255.255", 65535},
		{"10.1.2.77/24", IPv4, "10.1.2.1", "10.1.2.254", 254},
		{"fd00::/120", IPv6, "fd00::1", "fd00::ff", 255},
		{"fd00::/64", IPv6, "fd00::1", "fd00::ffff", 65535},
		{"fd00::2/127", IPv6, "fd00::2", "fd00::3", 2},
		{"fd00::2/128", IPv6, "fd00::2", "fd00::2", 1},
	} {
		t.Run(tc.cidr, func(t *testing.T) {
			a := newAllocator(t, tc.cidr)
			got := drain(t, a, tc.family, t0)
			if len(got) != tc.count || got[0] != tc.first || got[len(got)-1] != tc.last {
				t.Errorf("%d addresses %s to %s, want %d addresses %s to %s",
					len(got), got[0], got[len(got)-1], tc.count, tc.first, tc.last)
			}
			u := a.Usage(t0)
			if len(u) != 1 || u[0].Capacity != tc.count || u[0].Used != tc.count {
				t.Errorf("usage %+v, want capacity and used %d", u, tc.count)
			}
		})
	}
}

func TestAllocateIsIdempotentAndCompletesFamilies(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24", "fd00::/120")
	first, none, err := a.Allocate("pod", IPv4, t0)
	if err != nil || none.IsValid() || first.String() != "10.0.0.1" {
		t.Fatalf("got %s, %s, %v", first, none, err)
	}
	v4, v6, err := a.Allocate("pod", IPv4|IPv6, t0)
	if err != nil || v4 != first || v6.String() != "fd00::1" {
		t.Fatalf("got %s, %s, %v; want %s, fd00::1", v4, v6, err, first)
	}
	again4, again6, err := a.Allocate("pod", IPv4|IPv6, t0.Add(time.Hour))
	if err != nil || again4 != v4 || again6 != v6 {
		t.Errorf("second call gave %s, %s, %v; want %s, %s", again4, again6, err, v4, v6)
	}
}

func TestFamiliesAreTakenTogetherOrNotAtAll(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24", "fd00::/128")
	if _, _, err := a.Allocate("first", IPv4|IPv6, t0); err != nil {
		t.Fatal(err)
	}
	before := a.Usage(t0)
	v4, v6, err := a.Allocate("second", IPv4|IPv6, t0)
	var full *ExhaustedError
	if !errors.As(err, &full) || full.Family != IPv6 || v4.IsValid() || v6.IsValid() {
		t.Fatalf("got %s, %s, %v; want IPv6 exhausted", v4, v6, err)
	}
	if diff := cmp.Diff(before, a.Usage(t0), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("a failed call changed the usage: %s", diff)
	}
	if v4, _, err = a.Allocate("third", IPv4, t0); err != nil || v4.String() != "10.0.0.2" {
		t.Errorf("got %s, %v; want the address that the failed call left, 10.0.0.2", v4, err)
	}
}

func TestReuseIsLateAndOldestFirst(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/29") // .1 to .6
	now := t0
	take := func(owner string) string {
		t.Helper()
		v4, _, err := a.Allocate(owner, IPv4, now)
		if err != nil {
			t.Fatal(err)
		}
		return v4.String()
	}
	for i := range 3 {
		take(fmt.Sprint("p", i))
	}
	for _, o := range []string{"p1", "p0", "p2"} {
		now = now.Add(time.Second)
		a.Release(o, now)
	}
	now = now.Add(time.Hour)
	var got []string
	for i := range 6 {
		got = append(got, take(fmt.Sprint("q", i)))
	}
	want := []string{"10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.1", "10.0.0.3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fresh addresses first, then those that rested longest (-want +got):\n%s", diff)
	}
}

func TestExhaustedSaysWhenTheNextIsFree(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/30", "10.0.1.0/31")
	drain(t, a, IPv4, t0)
	owner, _ := a.Owner(netip.MustParseAddr("10.0.1.0"))
	a.Release(owner, t0.Add(10*time.Second))
	_, _, err := a.Allocate("late", IPv4, t0.Add(20*time.Second))
	var full *ExhaustedError
	if !errors.As(err, &full) {
		t.Fatalf("got %v, want *ExhaustedError", err)
	}
	want := &ExhaustedError{
		Family: IPv4, CIDRs: prefixes("10.0.0.0/30", "10.0.1.0/31"),
		Capacity: 4, Used: 3, Quarantined: 1, NextFree: t0.Add(10*time.Second + delay),
	}
	if diff := cmp.Diff(want, full, cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, word := range []string{"late", "IPv4", "10.0.0.0/30, 10.0.1.0/31", "of 4", "3 are used", "1 rest", "2026-01-02T03:05:15Z"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("message lacks %q: %s", word, err)
		}
	}
	if _, _, err := a.Allocate("late", IPv4, full.NextFree.Add(-1)); !errors.Is(err, ErrExhausted) {
		t.Errorf("one nanosecond early: %v, want ErrExhausted", err)
	}
	if v4, _, err := a.Allocate("late", IPv4, full.NextFree); err != nil || v4.String() != "10.0.1.0" {
		t.Errorf("at NextFree: %s, %v; want 10.0.1.0", v4, err)
	}
}

func TestAllocateRefuses(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24")
	for _, tc := range []struct {
		name   string
		owner  string
		family Families
		want   error
	}{
		{"no owner", "", IPv4, ErrInvalid},
		{"no family", "pod", 0, ErrInvalid},
		{"family without CIDR", "pod", IPv6, ErrNoCIDR},
		{"one family without CIDR", "pod", IPv4 | IPv6, ErrNoCIDR},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, _, err := a.Allocate(tc.owner, tc.family, t0); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	if o := a.Owners(); len(o) != 0 {
		t.Errorf("refused calls left owners %v", o)
	}
}

func TestRestore(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24", "fd00::/120")
	restore := func(owner, addr string, want error) {
		t.Helper()
		if err := a.Restore(owner, netip.MustParseAddr(addr)); !errors.Is(err, want) {
			t.Errorf("restore %s of %s: %v, want %v", addr, owner, err, want)
		}
	}
	restore("a", "10.0.0.7", nil)
	restore("a", "fd00::7", nil)
	restore("a", "10.0.0.7", nil)
	restore("b", "10.0.0.7", ErrConflict)
	restore("a", "10.0.0.8", ErrConflict)
	restore("", "10.0.0.8", ErrInvalid)
	restore("c", "::ffff:10.0.0.9", nil)
	restore("d", "10.0.0.0", nil)    // reserved, yet in use
	restore("e", "192.168.0.5", nil) // of a CIDR that is gone
	if err := a.Restore("f", netip.Addr{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("restore of no address: %v, want ErrInvalid", err)
	}
	if v4, _, err := a.Allocate("new", IPv4, t0); err != nil || v4.String() != "10.0.0.10" {
		t.Errorf("got %s, %v; want the one behind the last restored, 10.0.0.10", v4, err)
	}
	got := drain(t, a, IPv4, t0)
	if len(got) != 254-3 {
		t.Errorf("%d more addresses, want %d", len(got), 254-3)
	}
	want := []CIDRUsage{
		{CIDR: netip.MustParsePrefix("10.0.0.0/24"), Used: 255, Capacity: 254},
		{CIDR: netip.MustParsePrefix("fd00::/120"), Used: 1, Capacity: 255},
		{CIDR: netip.MustParsePrefix("192.168.0.5/32"), Used: 1, Draining: true},
	}
	if diff := cmp.Diff(want, a.Usage(t0), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	for _, o := range []string{"d", "e"} {
		a.Release(o, t0)
	}
	if got := drain(t, a, IPv4, t0.Add(2*delay)); len(got) != 0 {
		t.Errorf("reserved and foreign addresses were given out after their release: %v", got)
	}
}

func TestRestoreQuarantine(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/30")
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	a.RestoreQuarantine(one, t0.Add(-30*time.Second), t0)
	a.RestoreQuarantine(two, t0.Add(time.Hour), t0) // clock stepped back: counts as now
	a.RestoreQuarantine(one, t0.Add(-50*time.Second), t0)
	a.RestoreQuarantine(netip.Addr{}, t0, t0)
	want := []QuarantinedAddr{{one, t0.Add(-30 * time.Second)}, {two, t0}}
	if diff := cmp.Diff(want, a.Quarantined(t0), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := drain(t, a, IPv4, t0.Add(29*time.Second)); got != nil {
		t.Errorf("quarantined addresses were given: %v", got)
	}
	if got := drain(t, a, IPv4, t0.Add(30*time.Second)); len(got) != 1 || got[0] != "10.0.0.1" {
		t.Errorf("got %v, want 10.0.0.1 alone", got)
	}
	if err := a.Restore("alive", two); err != nil {
		t.Fatal(err)
	}
	a.RestoreQuarantine(two, t0, t0)
	if got := a.Quarantined(t0); len(got) != 0 {
		t.Errorf("a held address is quarantined: %v", got)
	}
	b := newAllocator(t, "10.0.0.0/32")
	b.RestoreQuarantine(netip.MustParseAddr("10.0.0.0"), t0.Add(-delay), t0)
	if got := drain(t, b, IPv4, t0); len(got) != 1 {
		t.Errorf("an address whose rest is over was not given")
	}
}

func TestSetCIDRs(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/30")
	v4, _, err := a.Allocate("old", IPv4, t0)
	if err != nil {
		t.Fatal(err)
	}
	set := func(cidrs ...string) {
		t.Helper()
		if err := a.SetCIDRs(prefixes(cidrs...), t0); err != nil {
			t.Fatal(err)
		}
	}
	set("10.0.0.0/30", "10.0.9.0/30")
	if got := drain(t, a, IPv4, t0); len(got) != 3 {
		t.Errorf("after adding a CIDR %v, want 3 more addresses", got)
	}
	// The new range covers the old one: what is held must not be given again.
	set("10.0.0.0/29")
	got := drain(t, a, IPv4, t0.Add(time.Second))
	if diff := cmp.Diff([]string{"10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}, got); diff != "" {
		t.Errorf("after widening (-want +got):\n%s", diff)
	}
	// Taken away and given back within the delay: the quarantine survives.
	a.Release("old", t0)
	set()
	if _, _, err := a.Allocate("x", IPv4, t0.Add(time.Hour)); !errors.Is(err, ErrNoCIDR) {
		t.Errorf("without CIDRs: %v, want ErrNoCIDR", err)
	}
	set("10.0.0.0/29")
	if got := drain(t, a, IPv4, t0.Add(delay-1)); got != nil {
		t.Errorf("given during its quarantine: %v", got)
	}
	if got := drain(t, a, IPv4, t0.Add(delay)); len(got) != 1 || got[0] != v4.String() {
		t.Errorf("got %v, want %s", got, v4)
	}
}

func TestSetCIDRsRefusesAndChangesNothing(t *testing.T) {
	for name, cidrs := range map[string][]netip.Prefix{
		"overlap":      prefixes("10.0.0.0/24", "10.0.0.128/25"),
		"zero":         {netip.Prefix{}},
		"IPv4-mapped":  {netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 120)},
		"later in row": prefixes("10.5.0.0/24", "fd00::/64", "fd00::/120"),
	} {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t, "10.9.0.0/24")
			if err := a.SetCIDRs(cidrs, t0); !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
			if v4, _, err := a.Allocate("pod", IPv4, t0); err != nil || v4.String() != "10.9.0.1" {
				t.Errorf("got %s, %v; want 10.9.0.1", v4, err)
			}
		})
	}
}

func TestDrainingCIDRDisappearsWhenEmpty(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24")
	if _, _, err := a.Allocate("pod", IPv4, t0); err != nil {
		t.Fatal(err)
	}
	if err := a.SetCIDRs(prefixes("10.0.1.0/24"), t0); err != nil {
		t.Fatal(err)
	}
	row := func(now time.Time) CIDRUsage {
		t.Helper()
		u := a.Usage(now)
		if len(u) != 2 {
			t.Fatalf("usage %+v, want the new and the draining CIDR", u)
		}
		return u[1]
	}
	old := netip.MustParsePrefix("10.0.0.0/24")
	if got, want := row(t0), (CIDRUsage{CIDR: old, Used: 1, Draining: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	a.Release("pod", t0)
	if got, want := row(t0), (CIDRUsage{CIDR: old, Quarantined: 1, Draining: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if u := a.Usage(t0.Add(delay)); len(u) != 1 {
		t.Errorf("usage %+v, want the drained CIDR gone", u)
	}
}

func TestReleaseOfNothing(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24")
	if v4, v6 := a.Release("nobody", t0); v4.IsValid() || v6.IsValid() {
		t.Errorf("got %s, %s", v4, v6)
	}
	if q := a.Quarantined(t0); len(q) != 0 {
		t.Errorf("quarantined %v", q)
	}
}

func TestAllocatorConcurrently(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24", "fd00::/120")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				owner := fmt.Sprintf("%d-%d", w, i)
				if _, _, err := a.Allocate(owner, IPv4|IPv6, t0); err != nil && !errors.Is(err, ErrExhausted) {
					t.Error(err)
				}
				a.Usage(t0)
				if i%2 == 0 {
					a.Release(owner, t0)
				}
			}
		})
	}
	wg.Wait()
	seen := map[netip.Addr]bool{}
	for _, o := range a.Owners() {
		v4, v6, err := a.Allocate(o, IPv4|IPv6, t0)
		if err != nil || seen[v4] || seen[v6] {
			t.Errorf("%s holds %s and %s (%v), and another does too", o, v4, v6, err)
		}
		seen[v4], seen[v6] = true, true
	}
}

func BenchmarkAllocateRelease(b *testing.B) {
	a := NewAllocator(0)
	if err := a.SetCIDRs(prefixes("10.0.0.0/24", "fd00::/64"), t0); err != nil {
		b.Fatal(err)
	}
	for i := range 110 {
		if _, _, err := a.Allocate(fmt.Sprint(i), IPv4|IPv6, t0); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, _, err := a.Allocate("pod", IPv4|IPv6, t0); err != nil {
			b.Fatal(err)
		}
		a.Release("pod", t0)
	}
}
