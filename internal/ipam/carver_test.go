package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func pools(t testing.TB, cidrMask ...any) []Pool {
	t.Helper()
	var out []Pool
	for i := 0; i < len(cidrMask); i += 2 {
		out = append(out, Pool{netip.MustParsePrefix(cidrMask[i].(string)), cidrMask[i+1].(int)})
	}
	return out
}

func newCarver(t testing.TB, cidrMask ...any) *Carver {
	t.Helper()
	c, err := NewCarver(pools(t, cidrMask...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustCarve(t testing.TB, c *Carver, node string) string {
	t.Helper()
	p, err := c.Carve(node)
	if err != nil {
		t.Fatal(err)
	}
	return joinPrefixes(p)
}

func at(node string, age int, cidrs ...string) Assignment {
	return Assignment{Node: node, Created: t0.Add(-time.Duration(age) * time.Hour), Prefixes: prefixes(cidrs...)}
}

func TestCarveInOrder(t *testing.T) {
	c := newCarver(t, "10.0.0.0/8", 24, "fd00::/104", 120)
	for _, step := range []struct{ node, want string }{
		{"a", "10.0.0.0/24, fd00::/120"},
		{"b", "10.0.1.0/24, fd00::100/120"},
		{"a", "10.0.0.0/24, fd00::/120"},
	} {
		if got := mustCarve(t, c, step.node); got != step.want {
			t.Errorf("node %s got %s, want %s", step.node, got, step.want)
		}
	}
	c.Free("b")
	if got := mustCarve(t, c, "c"); got != "10.0.2.0/24, fd00::200/120" {
		t.Errorf("got %s: a freed range must not come back at once", got)
	}
	if c.Complete("b") || !c.Complete("c") {
		t.Error("Complete is wrong about b or c")
	}
}

func TestCarveStartsBehindTheHighestInUse(t *testing.T) {
	c := newCarver(t, "10.0.0.0/22", 24)
	c.Adopt([]Assignment{at("x", 1, "10.0.3.0/24"), at("y", 2, "10.0.1.0/24")})
	if got := mustCarve(t, c, "a"); got != "10.0.0.0/24" {
		t.Errorf("got %s, want 10.0.0.0/24 after wrapping round", got)
	}
	if got := mustCarve(t, c, "b"); got != "10.0.2.0/24" {
		t.Errorf("got %s, want 10.0.2.0/24", got)
	}
	c = newCarver(t, "10.0.0.0/22", 24)
	c.Adopt([]Assignment{at("y", 2, "10.0.1.0/24")})
	if got := mustCarve(t, c, "a"); got != "10.0.2.0/24" {
		t.Errorf("got %s, want 10.0.2.0/24", got)
	}
}

func TestCarveAddsTheMissingFamily(t *testing.T) {
	c := newCarver(t, "10.0.0.0/8", 24, "fd00::/104", 120)
	c.Adopt([]Assignment{at("a", 1, "10.7.0.0/24")})
	if got := mustCarve(t, c, "a"); got != "10.7.0.0/24, fd00::/120" {
		t.Errorf("got %s", got)
	}
}

func TestCarveExhausted(t *testing.T) {
	c := newCarver(t, "10.0.0.0/23", 24, "10.9.0.0/24", 25, "fd00::/104", 120)
	for i := range 4 {
		mustCarve(t, c, fmt.Sprint("n", i))
	}
	before := c.Usage()
	got, err := c.Carve("late")
	var full *PoolExhaustedError
	if got != nil || !errors.Is(err, ErrExhausted) || !errors.As(err, &full) {
		t.Fatalf("got %v, %v; want exhausted", got, err)
	}
	if full.Total != 4 || full.Used != 4 || full.Family != IPv4 || len(full.Pools) != 2 {
		t.Errorf("got %+v", full)
	}
	for _, word := range []string{"late", "10.0.0.0/23 (a /24", "10.9.0.0/24 (a /25", "4 of 4", "cluster-pool-ipv4-cidr"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("message lacks %q: %s", word, err)
		}
	}
	if diff := cmp.Diff(before, c.Usage(), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("the refused carve changed the usage, so a family leaked: %s", diff)
	}
	c.Free("n1")
	if got := mustCarve(t, c, "late"); got != "10.0.1.0/24, fd00::400/120" {
		t.Errorf("got %s", got)
	}
}

func TestAdoptConflicts(t *testing.T) {
	c := newCarver(t, "10.0.0.0/16", 24)
	conflicts, foreign := c.Adopt([]Assignment{
		at("young", 1, "10.0.4.0/23"),
		at("old", 9, "10.0.5.0/24"),
		at("twin-b", 5, "10.0.8.0/24"),
		at("twin-a", 5, "10.0.8.0/24"),
		at("elsewhere", 3, "192.168.0.0/24"),
		at("self", 3, "10.0.20.0/23", "10.0.20.0/24", "10.0.20.0/23"),
	})
	var got []string
	for _, x := range conflicts {
		got = append(got, fmt.Sprintf("%s %s < %s %s", x.Node, x.Prefix, x.HeldBy, x.HeldPrefix))
	}
	want := []string{"twin-b 10.0.8.0/24 < twin-a 10.0.8.0/24", "young 10.0.4.0/23 < old 10.0.5.0/24"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conflicts (-want +got):\n%s", diff)
	}
	if len(foreign) != 1 || foreign[0].Node != "elsewhere" || foreign[0].Prefix.String() != "192.168.0.0/24" {
		t.Errorf("foreign %v", foreign)
	}
	if p, err := c.Carve("young"); !errors.Is(err, ErrConflict) || joinPrefixes(p) != "10.0.4.0/23" {
		t.Errorf("a node in conflict got %v, %v; want its range unchanged and ErrConflict", p, err)
	}
	if got := mustCarve(t, c, "elsewhere"); got != "192.168.0.0/24" {
		t.Errorf("a range outside the pools became %s", got)
	}
	if u := c.Usage()[0]; u.Used != 5 || u.Total != 256 {
		t.Errorf("usage %+v, want 5 of 256: 4 and 5, 8, 20 and 21", u)
	}
}

func TestFreeSettlesConflicts(t *testing.T) {
	c := newCarver(t, "10.0.0.0/22", 24)
	c.Adopt([]Assignment{
		at("old", 9, "10.0.0.0/24"), at("mid", 5, "10.0.0.0/24"), at("young", 1, "10.0.0.0/23"),
	})
	if got := c.Free("old"); !slices.Equal(got, []string{"mid"}) {
		t.Fatalf("settled %v, want mid: it is older than young", got)
	}
	var x *ConflictError
	if err := c.Conflict("young"); !errors.As(err, &x) || x.HeldBy != "mid" {
		t.Errorf("conflict of young: %v, want with mid", err)
	}
	if got := mustCarve(t, c, "new"); got != "10.0.2.0/24" {
		t.Errorf("got %s, want 10.0.2.0/24: the disputed ranges are not free", got)
	}
	if got := c.Free("young"); got != nil {
		t.Errorf("settled %v, want none", got)
	}
	if u := c.Usage()[0]; u.Used != 2 {
		t.Errorf("%d used, want 2: mid's and new's", u.Used)
	}
}

func TestNewCarverRefuses(t *testing.T) {
	for name, p := range map[string][]Pool{
		"mask too short": pools(t, "10.0.0.0/24", 23),
		"mask too long":  pools(t, "10.0.0.0/24", 33),
		"v6 mask":        pools(t, "fd00::/104", 129),
		"overlap":        pools(t, "10.0.0.0/8", 24, "10.5.0.0/16", 24),
		"twice":          pools(t, "10.0.0.0/8", 24, "10.0.0.0/8", 24),
		"zero":           {{}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewCarver(p); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
		})
	}
}

func TestHugePoolsAreCapped(t *testing.T) {
	c := newCarver(t, "fd00::/16", 126, "10.0.0.0/30", 30)
	c.Adopt([]Assignment{at("far", 1, "fd00:ffff::/126"), at("wide", 1, "fd00:1::/32")})
	if got := mustCarve(t, c, "a"); got != "10.0.0.0/30, fd00::/126" {
		t.Errorf("got %s", got)
	}
	if u := c.Usage(); u[0].Total != 1<<24 || u[1].Total != 1 {
		t.Errorf("usage %+v", u)
	}
	c = newCarver(t, "fd00::/16", 126)
	c.Adopt([]Assignment{at("all", 1, "fc00::/7")})
	if _, err := c.Carve("a"); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %v: one node holds the whole pool", err)
	}
	c.Free("all")
	if u := c.Usage()[0]; u.Used != 0 {
		t.Errorf("%d used after the only node was freed", u.Used)
	}
}

// TestCarverAgainstModel compares the carver with a plain list of who holds
// what: every new range must be free of all others, and must be found if there
// is one.
func TestCarverAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := []Pool{
			{netip.MustParsePrefix("10.0.0.0/28"), rapid.IntRange(29, 31).Draw(t, "mask")},
			{netip.MustParsePrefix("10.0.1.0/30"), 31},
		}
		if rapid.Bool().Draw(t, "dual") {
			cfg = append(cfg, Pool{netip.MustParsePrefix("fd00::/124"), 127})
		}
		c, err := NewCarver(cfg)
		if err != nil {
			t.Fatal(err)
		}
		existing := drawExisting(t)
		c.Adopt(existing)
		held := map[string][]netip.Prefix{}
		created := map[string]time.Time{}
		for _, a := range existing {
			held[a.Node] = a.Prefixes
			created[a.Node] = a.Created
		}
		clock := t0

		t.Repeat(map[string]func(*rapid.T){
			"carve": func(t *rapid.T) {
				n := fmt.Sprint("n", rapid.IntRange(0, 11).Draw(t, "node"))
				if _, ok := created[n]; !ok {
					clock = clock.Add(time.Second)
					created[n] = clock
				}
				checkCarve(t, c, cfg, held, n)
			},
			"free": func(t *rapid.T) {
				n := fmt.Sprint("n", rapid.IntRange(0, 11).Draw(t, "node"))
				c.Free(n)
				delete(held, n)
				delete(created, n)
			},
			"restart": func(t *rapid.T) {
				if c, err = NewCarver(cfg); err != nil {
					t.Fatal(err)
				}
				var all []Assignment
				for n, p := range held {
					all = append(all, Assignment{n, created[n], p})
				}
				c.Adopt(all)
			},
			"": func(t *rapid.T) { checkCarver(t, c, cfg, held) },
		})
	})
}

func drawExisting(t *rapid.T) []Assignment {
	var out []Assignment
	for i := range rapid.IntRange(0, 5).Draw(t, "existing") {
		base := rapid.SampledFrom([]string{"10.0.0.0", "10.0.1.0", "10.0.2.0"}).Draw(t, "base")
		a := addrAt(netip.MustParseAddr(base), uint64(rapid.IntRange(0, 15).Draw(t, "host")), 0)
		out = append(out, Assignment{
			Node:     fmt.Sprint("n", i),
			Created:  t0.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Hour),
			Prefixes: []netip.Prefix{netip.PrefixFrom(a, rapid.IntRange(28, 32).Draw(t, "bits")).Masked()},
		})
	}
	return out
}

func checkCarve(t *rapid.T, c *Carver, cfg []Pool, held map[string][]netip.Prefix, n string) {
	disputed := c.Conflict(n) != nil
	foretold := c.Check(n)
	got, err := c.Carve(n)
	if fmt.Sprint(foretold) != fmt.Sprint(err) {
		t.Fatalf("Check said %v, Carve %v", foretold, err)
	}
	if disputed {
		if !errors.Is(err, ErrConflict) || !slices.Equal(got, held[n]) {
			t.Fatalf("node %s in conflict: %v, %v; want %v", n, got, err, held[n])
		}
		return
	}
	full := false
	for i := range familyCount {
		hasPool := slices.ContainsFunc(cfg, func(p Pool) bool { return familyIndex(p.CIDR.Addr()) == i })
		has := slices.ContainsFunc(held[n], func(p netip.Prefix) bool { return familyIndex(p.Addr()) == i })
		full = full || hasPool && !has && freeRanges(cfg, held, i) == 0
	}
	if full != errors.Is(err, ErrExhausted) || !full && err != nil {
		t.Fatalf("carve for %s: %v, %v; full is %v", n, got, err, full)
	}
	if full && !slices.Equal(got, held[n]) {
		t.Fatalf("a refused carve gave %v, had %v", got, held[n])
	}
	for _, p := range got {
		if slices.Contains(held[n], p) {
			continue
		}
		if !slices.ContainsFunc(cfg, func(q Pool) bool { return q.CIDR.Overlaps(p) && q.NodeMask == p.Bits() }) {
			t.Fatalf("%s is no range of %v", p, cfg)
		}
		for other, ps := range held {
			if slices.ContainsFunc(ps, p.Overlaps) {
				t.Fatalf("%s for %s overlaps %v of %s", p, n, ps, other)
			}
		}
	}
	if len(got) > 0 {
		held[n] = got
	}
}

// freeRanges counts the ranges of a family that nothing held overlaps.
func freeRanges(cfg []Pool, held map[string][]netip.Prefix, family int) int {
	n := 0
	for _, p := range cfg {
		if familyIndex(p.CIDR.Addr()) != family {
			continue
		}
		for a := p.CIDR.Addr(); p.CIDR.Contains(a); a = addrAt(a, 1, a.BitLen()-p.NodeMask) {
			r := netip.PrefixFrom(a, p.NodeMask)
			taken := false
			for _, ps := range held {
				taken = taken || slices.ContainsFunc(ps, r.Overlaps)
			}
			if !taken {
				n++
			}
		}
	}
	return n
}

func checkCarver(t *rapid.T, c *Carver, cfg []Pool, held map[string][]netip.Prefix) {
	free := [familyCount]int{}
	for _, u := range c.Usage() {
		free[familyIndex(u.Pool.CIDR.Addr())] += u.Total - u.Used
	}
	for i := range familyCount {
		if want := freeRanges(cfg, held, i); free[i] != want {
			t.Fatalf("%s: %d free, want %d (held %v)", Families(1<<i), free[i], want, held)
		}
	}
	for n, ps := range held {
		if got := c.Prefixes(n); !slices.Equal(got, ps) {
			t.Fatalf("node %s has %v, want %v", n, got, ps)
		}
		if c.Conflict(n) != nil {
			continue
		}
		for m, qs := range held {
			if n != m && c.Conflict(m) == nil && slices.ContainsFunc(ps, func(p netip.Prefix) bool { return slices.ContainsFunc(qs, p.Overlaps) }) {
				t.Fatalf("%s %v and %s %v overlap without a conflict", n, ps, m, qs)
			}
		}
	}
}

// BenchmarkCarve5000 gives 5,000 nodes a /24 of 10.0.0.0/8 and a /120 of
// fd00::/104, starting with nothing; BenchmarkAdopt5000 reads them back.
func BenchmarkCarve5000(b *testing.B) {
	for b.Loop() {
		c := newCarver(b, "10.0.0.0/8", 24, "fd00::/104", 120)
		for i := range 5000 {
			mustCarveQuick(b, c, i)
		}
	}
}

func BenchmarkAdopt5000(b *testing.B) {
	c := newCarver(b, "10.0.0.0/8", 24, "fd00::/104", 120)
	var all []Assignment
	for i := range 5000 {
		all = append(all, Assignment{nodeName(i), t0.Add(time.Duration(i%7) * time.Hour), mustCarveQuick(b, c, i)})
	}
	for b.Loop() {
		c := newCarver(b, "10.0.0.0/8", 24, "fd00::/104", 120)
		if conflicts, _ := c.Adopt(all); conflicts != nil {
			b.Fatal(conflicts)
		}
	}
}

// BenchmarkCarveNearlyFull is the worst search: one free range in 65,536.
func BenchmarkCarveNearlyFull(b *testing.B) {
	c := newCarver(b, "10.0.0.0/8", 24)
	for i := range 1<<16 - 1 {
		mustCarveQuick(b, c, i)
	}
	for b.Loop() {
		mustCarveQuick(b, c, 1<<16)
		c.Free(nodeName(1 << 16))
	}
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func mustCarveQuick(b *testing.B, c *Carver, i int) []netip.Prefix {
	p, err := c.Carve(nodeName(i))
	if err != nil {
		b.Fatal(err)
	}
	return p
}
