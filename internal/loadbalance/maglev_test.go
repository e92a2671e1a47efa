package loadbalance_test

import (
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// backends are n pods of one size, sorted.
func backends(n int) []loadbalance.Backend {
	out := make([]loadbalance.Backend, n)
	for i := range out {
		out[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), 8080)
	}
	return out
}

func defaultSeed(t *testing.T) loadbalance.MaglevSeed {
	t.Helper()
	seed, err := loadbalance.ParseMaglevSeed(loadbalance.DefaultMaglevSeed)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// TestMaglevByHand compares tables with those that the words of the algorithm
// give: permutations written out, turns taken one by one.
func TestMaglevByHand(t *testing.T) {
	seed := defaultSeed(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []uint32{251, 509, 1021} {
		for _, n := range []int{1, 2, 3, 50, 250, 600} {
			list := backends(n)
			rng.Shuffle(n, func(i, j int) { list[i], list[j] = list[j], list[i] })
			got := loadbalance.Maglev(list, state.ProtocolUDP, size, seed)
			want := tableByHand(list, "UDP", size, seed)
			if !slices.Equal(got, want) {
				t.Errorf("size %d, %d backends: not the table by hand", size, n)
			}
		}
	}
	if got := loadbalance.Maglev(nil, state.ProtocolTCP, 251, seed); got != nil {
		t.Errorf("no backends have a table of %d", len(got))
	}
}

func tableByHand(list []loadbalance.Backend, protocol string, size uint32, seed loadbalance.MaglevSeed) []uint32 {
	byName := map[string]uint32{}
	var names []string
	for i, b := range list {
		name := fmt.Sprintf("[%s:%d/%s,State:active]", b.Addr.Addr(), b.Addr.Port(), protocol)
		if b.Addr.Addr().Is6() {
			name = fmt.Sprintf("[[%s]:%d/%s,State:active]", b.Addr.Addr(), b.Addr.Port(), protocol)
		}
		byName[name] = uint32(i)
		names = append(names, name)
	}
	slices.Sort(names)
	permutation := map[string][]uint64{}
	for _, name := range names {
		h1, h2 := loadbalance.Murmur3([]byte(name), seed.Backends())
		offset, skip := h1%uint64(size), h2%uint64(size-1)+1
		for j := range uint64(size) {
			permutation[name] = append(permutation[name], (offset+j*skip)%uint64(size))
		}
	}
	table := map[uint64]string{}
	for len(table) < int(size) {
		for _, name := range names {
			for len(table) < int(size) {
				place := permutation[name][0]
				permutation[name] = permutation[name][1:]
				if _, taken := table[place]; !taken {
					table[place] = name
					break
				}
			}
		}
	}
	out := make([]uint32, size)
	for place, name := range table {
		out[place] = byName[name]
	}
	return out
}

// TestMaglevIsFrozen holds tables still: nodes of two versions must agree.
func TestMaglevIsFrozen(t *testing.T) {
	list := append(backends(20), loadbalance.Backend{Addr: netip.MustParseAddrPort("[fd00::1]:53")})
	for _, c := range []struct {
		size uint32
		want uint64
	}{{251, 0x8436fb9ad8c12f1f}, {16381, 0xf6b212375107df95}} {
		h := fnv.New64a()
		for _, slot := range loadbalance.Maglev(list, state.ProtocolTCP, c.size, defaultSeed(t)) {
			fmt.Fprintln(h, slot)
		}
		if h.Sum64() != c.want {
			t.Errorf("size %d: the table has hash %#x, had %#x", c.size, h.Sum64(), c.want)
		}
	}
}

// TestMaglevSpread measures how evenly backends share the table and flows, with
// at least 100 places for each.
func TestMaglevSpread(t *testing.T) {
	seed := defaultSeed(t)
	for _, c := range []struct {
		size     uint32
		backends int
	}{{251, 2}, {1021, 3}, {1021, 10}, {4093, 40}, {16381, 3}, {16381, 10}, {16381, 100}, {16381, 163}, {131071, 1000}} {
		table := loadbalance.Maglev(backends(c.backends), state.ProtocolTCP, c.size, seed)
		places := make([]int, c.backends)
		for _, slot := range table {
			places[slot]++
		}
		// No backend has more than one place more than another; that is 1 % at most.
		if most, least := slices.Max(places), slices.Min(places); most-least > 1 || float64(most-least) > 0.01*float64(c.size)/float64(c.backends) {
			t.Errorf("size %d, %d backends: the fewest places are %d, the most %d", c.size, c.backends, least, most)
		}
		const flows = 1_000_000
		got := make([]int, c.backends)
		rng := rand.New(rand.NewPCG(3, uint64(c.backends)))
		f := loadbalance.Flow{Frontend: netip.MustParseAddrPort("203.0.113.1:443"), Protocol: state.ProtocolTCP}
		for range flows {
			f.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(rng.Uint32()), byte(rng.Uint32())}), uint16(rng.UintN(1<<16)))
			got[f.ChooseMaglev(table, seed)]++
		}
		// Up to ten backends: 1 %. With more, chance alone is off by more than that;
		// it comes on top, with 4.5 standard deviations, which the worst of 1,000
		// backends exceeds in less than 1 % of all runs.
		mean := float64(flows) / float64(c.backends)
		allowed := 0.01 * mean
		if c.backends > 10 {
			allowed += 4.5 * math.Sqrt(mean)
		}
		worst := 0.0
		for _, n := range got {
			worst = max(worst, math.Abs(float64(n)-mean))
		}
		if worst > allowed {
			t.Errorf("size %d, %d backends: of %.0f flows a backend one is off by %.0f, allowed are %.0f", c.size, c.backends, mean, worst, allowed)
		}
		t.Logf("size %d, %d backends: places differ by %d, flows by %.2f %% of the mean (chance alone %.2f %%)",
			c.size, c.backends, slices.Max(places)-slices.Min(places), 100*worst/mean, 100/math.Sqrt(mean))
	}
}

// TestMaglevDisruption takes one backend away: almost nothing else moves.
func TestMaglevDisruption(t *testing.T) {
	seed := defaultSeed(t)
	for _, n := range []int{2, 3, 10, 50, 160} {
		list := backends(n)
		before := loadbalance.Maglev(list, state.ProtocolTCP, 16381, seed)
		worst := 0.0
		for gone := range min(n, 5) {
			rest := slices.Delete(slices.Clone(list), gone, gone+1)
			after := loadbalance.Maglev(rest, state.ProtocolTCP, 16381, seed)
			moved := 0
			for i := range before {
				if int(before[i]) != gone && list[before[i]] != rest[after[i]] {
					moved++
				}
			}
			worst = max(worst, float64(moved)/float64(len(before)))
		}
		t.Logf("one of %d backends leaves: %.2f %% of the places of others move", n, 100*worst)
		if worst > 0.02 {
			t.Errorf("one of %d backends leaves: %.2f %% of the places of others move", n, 100*worst)
		}
	}
}

func TestParseMaglevSeed(t *testing.T) {
	seed := defaultSeed(t)
	if seed.Backends() != 0x24b7ef82 || seed.IPv4() != 0x71dcda46 || seed.IPv6() != 0x92505688 {
		t.Errorf("parts %#x %#x %#x", seed.Backends(), seed.IPv4(), seed.IPv6())
	}
	if seed.String() != loadbalance.DefaultMaglevSeed {
		t.Errorf("the default seed is %q", seed)
	}
	for in, want := range map[string]string{
		"":                                    "0 bytes, want 12",
		"JLfvgnHc2kaSUFa":                     "illegal base64",
		"JLfvgnHc2kaSUFaIAAAA":                "15 bytes, want 12",
		"JLfvgnHc2kaSUFa=":                    "illegal base64",
		"not base64 at all":                   "illegal base64",
		strings.Repeat("JLfvgnHc2kaSUFaI", 9): "108 bytes, want 12",
	} {
		_, err := loadbalance.ParseMaglevSeed(in)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "bpf-lb-maglev-hash-seed") {
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
}

func TestCheckMaglevSize(t *testing.T) {
	for _, size := range loadbalance.MaglevSizes() {
		if err := loadbalance.CheckMaglevSize(size); err != nil {
			t.Error(err)
		}
	}
	for _, size := range []uint32{0, 1, 250, 16382, math.MaxUint32} {
		if err := loadbalance.CheckMaglevSize(size); err == nil || !strings.Contains(err.Error(), "251 509 1021 2039 4093 8191 16381 32749 65521 131071") {
			t.Errorf("%d: error %v", size, err)
		}
	}
}

// FuzzParseMaglevSeed: what is a seed is twelve bytes in their one base64 form.
func FuzzParseMaglevSeed(f *testing.F) {
	f.Add(loadbalance.DefaultMaglevSeed)
	f.Add("JLfvgnHc2kaSUFa=")
	f.Add("\n")
	f.Fuzz(func(t *testing.T, in string) {
		seed, err := loadbalance.ParseMaglevSeed(in)
		raw, decodes := base64.StdEncoding.Strict().DecodeString(in)
		if (err == nil) != (decodes == nil && len(raw) == 12) {
			t.Fatalf("%q: error %v", in, err)
		}
		if err == nil && string(seed[:]) != string(raw) {
			t.Fatalf("%q is %q", in, seed)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
	})
}
