package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the slow, obvious allocator: it lists every address and looks at
// each of them.
type model struct {
	now   time.Time
	cidrs []netip.Prefix
	held  map[netip.Addr]string
	until map[netip.Addr]time.Time
}

// usable lists the addresses of a family that the CIDRs give out.
func (m *model) usable(f Families) []netip.Addr {
	var out []netip.Addr
	for _, c := range m.cidrs {
		if FamilyOf(c.Addr()) != f {
			continue
		}
		var all []netip.Addr
		for a := c.Addr(); c.Contains(a); a = a.Next() {
			all = append(all, a)
		}
		if len(all) > 2 {
			all = all[1:]
			if f == IPv4 {
				all = all[:len(all)-1]
			}
		}
		out = append(out, all...)
	}
	return out
}

// free lists those of them that nobody holds and that have rested.
func (m *model) free(f Families) []netip.Addr {
	return slices.DeleteFunc(m.usable(f), func(a netip.Addr) bool {
		_, held := m.held[a]
		return held || m.until[a].After(m.now)
	})
}

func (m *model) has(owner string, f Families) netip.Addr {
	for a, o := range m.held {
		if o == owner && FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// candidates overlap one another on purpose: a node's mask can be changed.
var candidates = prefixes("10.0.0.0/29", "10.0.0.0/30", "10.0.0.4/31", "10.0.1.0/32", "fd00::/126", "fd00::/125", "fd00::8/128")

func TestAllocatorAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := NewAllocator(delay)
		m := &model{now: t0, held: map[netip.Addr]string{}, until: map[netip.Addr]time.Time{}}
		owner := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("pod", rapid.IntRange(0, 9).Draw(t, "pod")) })
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			if rapid.Bool().Draw(t, "v6") {
				return addrAt(netip.MustParseAddr("fd00::"), uint64(rapid.IntRange(0, 9).Draw(t, "host")), 0)
			}
			return addrAt(netip.MustParseAddr("10.0.0.0"), uint64(rapid.IntRange(0, 9).Draw(t, "host")), 0)
		})

		t.Repeat(map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				checkAllocate(t, a, m, owner.Draw(t, "owner"), Families(rapid.IntRange(1, 3).Draw(t, "families")))
			},
			"release": func(t *rapid.T) {
				o := owner.Draw(t, "owner")
				v4, v6 := a.Release(o, m.now)
				if v4 != m.has(o, IPv4) || v6 != m.has(o, IPv6) {
					t.Fatalf("release of %s gave %s, %s; want %s, %s", o, v4, v6, m.has(o, IPv4), m.has(o, IPv6))
				}
				for _, x := range []netip.Addr{v4, v6} {
					if x.IsValid() {
						delete(m.held, x)
						m.until[x] = m.now.Add(delay)
					}
				}
			},
			"restore": func(t *rapid.T) {
				o, x := owner.Draw(t, "owner"), addr.Draw(t, "addr")
				other, taken := m.held[x]
				has := m.has(o, FamilyOf(x))
				wantConflict := taken && other != o || has.IsValid() && has != x
				if err := a.Restore(o, x); errors.Is(err, ErrConflict) != wantConflict || !wantConflict && err != nil {
					t.Fatalf("restore %s of %s: %v, want conflict %v", x, o, err, wantConflict)
				}
				if !wantConflict {
					m.held[x] = o
					delete(m.until, x)
				}
			},
			"restoreQuarantine": func(t *rapid.T) {
				x := addr.Draw(t, "addr")
				at := m.now.Add(time.Duration(rapid.IntRange(-90, 30).Draw(t, "seconds")) * time.Second)
				a.RestoreQuarantine(x, at, m.now)
				if at.After(m.now) {
					at = m.now
				}
				if _, held := m.held[x]; !held && at.Add(delay).After(m.now) && at.Add(delay).After(m.until[x]) {
					m.until[x] = at.Add(delay)
				}
			},
			"setCIDRs": func(t *rapid.T) {
				cidrs := rapid.SliceOfN(rapid.SampledFrom(candidates), 0, 4).Draw(t, "cidrs")
				want, invalid := canonical(cidrs)
				if err := a.SetCIDRs(cidrs, m.now); (err != nil) != (invalid != nil) {
					t.Fatalf("set %v: %v", cidrs, err)
				}
				if invalid == nil {
					m.cidrs = want
				}
			},
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) { checkUsage(t, a, m) },
		})

		checkNothingLeaked(t, a, m)
	})
}

func checkAllocate(t *rapid.T, a *Allocator, m *model, o string, want Families) {
	had := grant{m.has(o, IPv4), m.has(o, IPv6)}
	v4, v6, err := a.Allocate(o, want, m.now)
	possible := true
	for i := range familyCount {
		if want&(1<<i) != 0 && !had[i].IsValid() && len(m.free(1<<i)) == 0 {
			possible = false
		}
	}
	if (err == nil) != possible {
		t.Fatalf("allocate %s for %s: %v; possible is %v", want, o, err, possible)
	}
	if err != nil {
		if v4.IsValid() || v6.IsValid() || !errors.Is(err, ErrExhausted) && !errors.Is(err, ErrNoCIDR) {
			t.Fatalf("refusal gave %s, %s, %v", v4, v6, err)
		}
		if full, ok := errors.AsType[*ExhaustedError](err); ok {
			checkExhausted(t, m, full)
		}
		return
	}
	for i, got := range (grant{v4, v6}) {
		switch {
		case want&(1<<i) == 0:
			if got.IsValid() {
				t.Fatalf("family %s was not wanted, got %s", Families(1<<i), got)
			}
		case had[i].IsValid():
			if got != had[i] {
				t.Fatalf("%s holds %s, got %s", o, had[i], got)
			}
		default:
			if !slices.Contains(m.free(1<<i), got) {
				t.Fatalf("%s for %s is not free (holder %q, resting until %s, now %s)", got, o, m.held[got], m.until[got], m.now)
			}
			m.held[got] = o
			delete(m.until, got)
		}
	}
}

func checkExhausted(t *rapid.T, m *model, e *ExhaustedError) {
	usable := m.usable(e.Family)
	used, resting := 0, 0
	var next time.Time
	for _, a := range usable {
		if _, ok := m.held[a]; ok {
			used++
			continue
		}
		resting++
		if u := m.until[a]; next.IsZero() || u.Before(next) {
			next = u
		}
	}
	if e.Capacity != len(usable) || e.Used != used || e.Quarantined != resting || !e.NextFree.Equal(next) {
		t.Fatalf("got %+v, want capacity %d, used %d, quarantined %d, next %s", e, len(usable), used, resting, next)
	}
}

func checkUsage(t *rapid.T, a *Allocator, m *model) {
	used, resting, capacity := 0, 0, 0
	for _, u := range a.Usage(m.now) {
		used += u.Used
		resting += u.Quarantined
		capacity += u.Capacity
		if u.Draining == slices.Contains(m.cidrs, u.CIDR) || u.Draining && u.Used+u.Quarantined == 0 {
			t.Fatalf("row %+v with CIDRs %v", u, m.cidrs)
		}
	}
	wantResting := 0
	for x, u := range m.until {
		if u.After(m.now) {
			wantResting++
			if _, ok := m.held[x]; ok {
				t.Fatalf("model: %s is held and rests", x)
			}
		}
	}
	wantCapacity := len(m.usable(IPv4)) + len(m.usable(IPv6))
	if used != len(m.held) || resting != wantResting || capacity != wantCapacity {
		t.Fatalf("used %d resting %d capacity %d, want %d %d %d", used, resting, capacity, len(m.held), wantResting, wantCapacity)
	}
	if q := a.Quarantined(m.now); len(q) != wantResting {
		t.Fatalf("quarantined %v, want %d", q, wantResting)
	}
	for x, o := range m.held {
		if got, ok := a.Owner(x); !ok || got != o {
			t.Fatalf("owner of %s is %q, want %q", x, got, o)
		}
	}
}

// checkNothingLeaked gives everything back, waits, and takes every address.
func checkNothingLeaked(t *rapid.T, a *Allocator, m *model) {
	for _, o := range a.Owners() {
		a.Release(o, m.now)
	}
	m.now = m.now.Add(delay)
	m.held = map[netip.Addr]string{}
	for i := range familyCount {
		f := Families(1 << i)
		for n := range m.usable(f) {
			checkAllocate(t, a, m, fmt.Sprint(f, n), f)
		}
		if left := m.free(f); len(left) != 0 {
			t.Fatalf("%v were never given", left)
		}
	}
	for _, o := range a.Owners() {
		a.Release(o, m.now)
	}
	if err := a.SetCIDRs(nil, m.now.Add(delay)); err != nil {
		t.Fatal(err)
	}
	if n := len(a.held) + len(a.owners) + len(a.families[0].parked.addrs) + len(a.families[1].parked.addrs); n != 0 {
		t.Fatalf("%d entries are left in an empty allocator", n)
	}
	if u := a.Usage(m.now.Add(delay)); len(u) != 0 || len(a.draining) != 0 {
		t.Fatalf("usage of an empty allocator: %+v, draining %v", u, a.draining)
	}
}
