package sizing_test

import (
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/sizing"
)

const gib = 1 << 30

// set is sizes by configuration key.
type set = map[string]int

// triple gives the sizes that operators know: TCP, any, NAT.
func triple(s sizing.Sizes) [3]int {
	return [3]int{s.Entries("ct_tcp_map"), s.Entries("ct_any_map"), s.NAT}
}

func plan(t *testing.T, in sizing.Input) sizing.Sizes {
	t.Helper()
	s, err := sizing.Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSizesFromMemory holds the sizes that Cilium gives the same machines.
func TestSizesFromMemory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		memory uint64
		ratio  float64
		want   [3]int
		sock   int
		from   sizing.From
	}{
		{"512 MiB", gib / 2, .0025, [3]int{131072, 65536, 131072}, 65536, sizing.FromFloor},
		{"1 GiB", gib, .0025, [3]int{131072, 65536, 131072}, 65536, sizing.FromFloor},
		{"7.5 GiB", gib * 15 / 2, .0025, [3]int{131072, 65536, 131072}, 65536, sizing.FromFloor},
		{"13.8 GiB, the last at the minimum", 14837350399, .0025, [3]int{131072, 65536, 131072}, 65536, sizing.FromFloor},
		{"15 GiB", gib * 15, .0025, [3]int{142280, 71140, 142280}, 71140, sizing.FromMemory},
		{"16 GiB", gib * 16, .0025, [3]int{151765, 75882, 151765}, 75882, sizing.FromMemory},
		{"30 GiB", gib * 30, .0025, [3]int{284560, 142280, 284560}, 142280, sizing.FromMemory},
		{"240 GiB", gib * 240, .0025, [3]int{2276484, 1138242, 2276484}, 1138242, sizing.FromMemory},
		{"360 GiB", gib * 360, .0025, [3]int{3414726, 1707363, 3414726}, 1707363, sizing.FromMemory},
		{"16 GiB, more of it", gib * 16, .003, [3]int{182118, 91059, 182118}, 91059, sizing.FromMemory},
		// NAT is at its maximum before the sum of the others allows as much.
		{"4 TiB, at the maximum", gib * 4096, .0025, [3]int{16777216, 16777216, 16777216}, 16777216, sizing.FromCeiling},
		{"all of 16 EiB", math.MaxUint64, 1, [3]int{16777216, 16777216, 16777216}, 16777216, sizing.FromCeiling},
		{"static", gib * 16, 0, [3]int{524288, 262144, 524288}, 262144, sizing.FromDefault},
		{"static, memory unknown", 0, 0, [3]int{524288, 262144, 524288}, 262144, sizing.FromDefault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := plan(t, sizing.Input{Memory: tt.memory, Ratio: tt.ratio})
			if got := triple(s); got != tt.want {
				t.Errorf("TCP, any, NAT = %v, want %v", got, tt.want)
			}
			if got := s.Entries("sock_map"); got != tt.sock {
				t.Errorf("sock = %d, want %d", got, tt.sock)
			}
			if got := s.Tables[0].From; got != tt.from {
				t.Errorf("TCP comes from %q, want %q", got, tt.from)
			}
			if want := uint64(float64(tt.memory) * tt.ratio); s.Nominal != want {
				t.Errorf("nominal %d bytes, want %d", s.Nominal, want)
			}
			if len(s.Warnings) > 0 {
				t.Errorf("warnings %q, want none", s.Warnings)
			}
		})
	}
}

// TestFixedSizes holds the tables that do not follow the memory.
func TestFixedSizes(t *testing.T) {
	want := map[string]int{
		"ct_new_map": 65536, "frontend_map": 65536, "backend_map": 65536, "maglev_map": 65536, "affinity_map": 65536,
		"source_range_map": 65536, "policy_map": 1048576, "port_map": 65536, "identity_map": 524288, "ipcache_map": 65536,
		"cidr_map": 65536, "endpoint_map": 16384, "native_map": 16384, "fragment_map": 8192,
	}
	for _, in := range []sizing.Input{{Memory: gib, Ratio: .0025}, {Memory: 512 * gib, Ratio: .01}, {}} {
		got := map[string]int{}
		for _, table := range plan(t, in).Tables {
			if table.Floor == 0 {
				got[table.Map] = table.Entries
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v: -want +got:\n%s", in, diff)
		}
	}
}

func TestExplicitSizesWinTableByTable(t *testing.T) {
	for _, tt := range []struct {
		name     string
		explicit set
		want     [3]int
		entries  set // by map
		warning  string
	}{
		{name: "TCP alone", explicit: set{sizing.KeyTCP: 1000000}, want: [3]int{1000000, 75882, 151765}},
		{name: "any alone", explicit: set{sizing.KeyAny: 1024}, want: [3]int{151765, 1024, 151765}},
		{name: "below the minimum of memory", explicit: set{sizing.KeyTCP: 1024, sizing.KeyAny: 200000}, want: [3]int{1024, 200000, 151765}},
		{name: "NAT alone", explicit: set{sizing.KeyNAT: 200000}, want: [3]int{151765, 75882, 200000}},
		{name: "NAT at the limit", explicit: set{sizing.KeyNAT: 227647}, want: [3]int{151765, 75882, 227647}},
		{name: "NAT at its default gives way", explicit: set{sizing.KeyNAT: 524288}, want: [3]int{151765, 75882, 151764}},
		{name: "NAT that does not follow", explicit: set{sizing.KeyTCP: 2048, sizing.KeyAny: 1024}, want: [3]int{2048, 1024, 2048}, warning: "bpf-nat-global-max would be 151765, more than bpf-ct-global-tcp-max + bpf-ct-global-any-max = 3072: it is 2048, two thirds of that"},
		{name: "0 is not set", explicit: set{sizing.KeyTCP: 0, sizing.KeyLB: 0}, want: [3]int{151765, 75882, 151765}, entries: set{"frontend_map": 65536}},
		{
			name: "services", explicit: set{sizing.KeyLB: 1000, sizing.KeyBackend: 5000}, want: [3]int{151765, 75882, 151765},
			entries: set{"frontend_map": 1000, "backend_map": 5000, "maglev_map": 1000, "affinity_map": 1000, "source_range_map": 1000, "sock_map": 75882},
		},
		{
			name: "others", explicit: set{sizing.KeyPolicy: 256, sizing.KeyEmbryonic: 16777216, sizing.KeySock: 1024}, want: [3]int{151765, 75882, 151765},
			entries: set{"policy_map": 256, "ct_new_map": 16777216, "sock_map": 1024, "port_map": 65536},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := plan(t, sizing.Input{Memory: 16 * gib, Ratio: .0025, Explicit: tt.explicit})
			if got := triple(s); got != tt.want {
				t.Errorf("TCP, any, NAT = %v, want %v", got, tt.want)
			}
			for name, want := range tt.entries {
				if got := s.Entries(name); got != want {
					t.Errorf("%s = %d, want %d", name, got, want)
				}
			}
			if got := strings.Join(s.Warnings, "\n"); got != tt.warning {
				t.Errorf("warning %q, want %q", got, tt.warning)
			}
		})
	}
}

func TestStaticNATFollowsConntrack(t *testing.T) {
	s := plan(t, sizing.Input{Explicit: set{sizing.KeyTCP: 3000, sizing.KeyAny: 3000}})
	if s.NAT != 4000 || len(s.Warnings) > 0 {
		t.Errorf("NAT = %d, warnings %q; want 4000 without a word", s.NAT, s.Warnings)
	}
}

func TestSizesOfDistributedTables(t *testing.T) {
	s := plan(t, sizing.Input{Memory: 16 * gib, Ratio: .0025, CPUs: 48, Explicit: set{sizing.KeyAny: 75881}})
	if got, want := triple(s), [3]int{151776, 75881, 151776}; got != want {
		t.Errorf("TCP, any, NAT = %v, want %v", got, want)
	}
	if s = plan(t, sizing.Input{Memory: gib, Ratio: .0025, CPUs: 48}); s.Tables[0].Entries != 131088 {
		t.Errorf("minimum of TCP = %d, want 131088, rounded up", s.Tables[0].Entries)
	}
	if s = plan(t, sizing.Input{Memory: 8192 * gib, Ratio: 1, CPUs: 48}); s.Tables[0].Entries != 16777200 {
		t.Errorf("maximum of TCP = %d, want 16777200, rounded down", s.Tables[0].Entries)
	}
}

func TestRefusedSizes(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   sizing.Input
		want []string
	}{
		{
			"NAT above both conntrack tables",
			sizing.Input{Memory: 16 * gib, Ratio: .0025, Explicit: set{sizing.KeyNAT: 227648}},
			[]string{"bpf-nat-global-max = 227648: want at most 227647, which is bpf-ct-global-tcp-max + bpf-ct-global-any-max; leave it unset for 151764 (two thirds of that), or set larger conntrack tables"},
		},
		{"negative ratio", sizing.Input{Ratio: -.1}, []string{"bpf-map-dynamic-size-ratio = -0.1: want a number from 0 (sizes do not follow the memory) to 1"}},
		{"large ratio", sizing.Input{Memory: gib, Ratio: 1.01}, []string{"bpf-map-dynamic-size-ratio = 1.01"}},
		{"no ratio", sizing.Input{Memory: gib, Ratio: math.NaN()}, []string{"bpf-map-dynamic-size-ratio = NaN"}},
		{"no memory", sizing.Input{Ratio: .0025}, []string{"the memory is unknown"}},
		{"below no CPU", sizing.Input{CPUs: -1}, []string{"-1 CPUs"}},
		{
			"several at once",
			sizing.Input{Explicit: set{sizing.KeyTCP: 1023, sizing.KeyLB: 16777217, "bpf-ct-max": 3, sizing.KeyPolicy: 255, sizing.KeyAny: -1}},
			[]string{
				"bpf-ct-global-tcp-max = 1023: want 1024 to 16777216 entries", "bpf-lb-map-max = 16777217: want 1 to 16777216 entries",
				"bpf-ct-max is not the key of a size; want one of bpf-ct-embryonic-max, ", "bpf-policy-map-max = 255: want 256 to",
				"bpf-ct-global-any-max = -1: want 1024",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sizing.Plan(tt.in)
			if !errors.Is(err, sizing.ErrSize) {
				t.Fatalf("Plan() = %v, want ErrSize", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestFormula compares sizes with the formula in numbers of any length.
func TestFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := sizing.Input{Memory: rapid.Uint64Range(1, 1<<50).Draw(t, "memory"), Ratio: rapid.Float64Range(1e-6, 1).Draw(t, "ratio")}
		s, err := sizing.Plan(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct{ got, atDefaults, floor int }{
			{s.Entries("ct_tcp_map"), 524288, 131072}, {s.Entries("ct_any_map"), 262144, 65536}, {s.Entries("sock_map"), 262144, 65536},
		} {
			share := new(big.Int).SetUint64(uint64(float64(in.Memory) * in.Ratio))
			share.Mul(share, big.NewInt(int64(tt.atDefaults))).Div(share, big.NewInt(148373504))
			want := tt.floor
			if share.Cmp(big.NewInt(1<<24)) > 0 {
				want = 1 << 24
			} else {
				want = max(want, int(share.Int64()))
			}
			if tt.got != want {
				t.Errorf("%d entries of %d, want %d", tt.got, tt.atDefaults, want)
			}
		}
		if limit := s.Entries("ct_tcp_map") + s.Entries("ct_any_map"); s.NAT > limit {
			t.Errorf("NAT = %d, above %d", s.NAT, limit)
		}
	})
}

func TestBytes(t *testing.T) {
	table, ok := sizing.TableOf("ct_tcp_map", sizing.DefaultMaglevSize)
	if !ok {
		t.Fatal("no ct_tcp_map")
	}
	if table.Nominal() != 160 {
		t.Errorf("nominal %d bytes, want 160", table.Nominal())
	}
	policy, _ := sizing.TableOf("policy_map", sizing.DefaultMaglevSize)
	lpm, _ := sizing.TableOf("cidr_map", sizing.DefaultMaglevSize)
	for _, tt := range []struct {
		table         sizing.Table
		entries, live int
		want          uint64
	}{
		{table, 131072, 0, 131072 * 224},
		{table, 131072, 1000, 131072 * 224}, // allocated already
		{table, 131073, 0, 262144*16 + 131073*208},
		{policy, 1000, 0, 1024 * 16},
		{policy, 1000, 10, 1024*16 + 960},
		{lpm, 65536, 0, 0},
		{lpm, 65536, 10, 640},
		{table, 0, 0, 0},
		{policy, -1, -1, 0},
	} {
		if got := tt.table.Bytes(tt.entries, tt.live); got != tt.want {
			t.Errorf("%s: Bytes(%d, %d) = %d, want %d", tt.table.Map, tt.entries, tt.live, got, tt.want)
		}
	}
	for m, want := range map[int]int{16381: 131072, 8191: 65536, 251: 2048} { // 16381: seen as 133,031 bytes of free memory an entry
		if maglev, _ := sizing.TableOf("maglev_map", m); maglev.Allocated() != want {
			t.Errorf("a Maglev table of %d slots takes %d bytes, want %d", m, maglev.Allocated(), want)
		}
	}
	if _, ok := sizing.TableOf("nat_map", sizing.DefaultMaglevSize); ok {
		t.Error("there is a nat_map")
	}
	s := plan(t, sizing.Input{Memory: 16 * gib, Ratio: .0025})
	if s.Full() <= s.Empty() || s.Empty() < s.Tables[0].Empty() || s.Tables[0].Full() != s.Tables[0].Empty() {
		t.Errorf("all tables: %d bytes empty, %d full", s.Empty(), s.Full())
	}
}

func TestDefaultBudget(t *testing.T) {
	for _, tt := range []struct {
		memory uint64
		policy int
		want   uint64
	}{
		{4 * gib, 1024, 170 << 20}, // twice what the tables take at start
		{16 * gib, 0, 256 << 20},
		{32 * gib, 0, 512 << 20},
		{240 * gib, 0, 1956 << 20}, // the same again
	} {
		s := plan(t, sizing.Input{Memory: tt.memory, Ratio: .0025, Explicit: set{sizing.KeyPolicy: tt.policy}})
		got := sizing.DefaultBudget(tt.memory, s)
		if got < tt.want-3<<20 || got > tt.want+3<<20 {
			t.Errorf("%d bytes of memory: budget %d, want about %d", tt.memory, got, tt.want)
		}
		if got < 2*s.Empty() {
			t.Errorf("%d bytes of memory: budget %d has no room for %d twice", tt.memory, got, s.Empty())
		}
	}
}

func TestKeys(t *testing.T) {
	keys := sizing.Keys()
	if !slices.IsSorted(keys) || len(keys) != 12 || !slices.Contains(keys, sizing.KeyNAT) || slices.Contains(keys, "") {
		t.Errorf("Keys() = %q", keys)
	}
}
