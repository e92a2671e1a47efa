package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/sizing"
)

// TestSizeInput checks which sizes are explicit: those that differ from the default
// of their key, whoever wrote them.
func TestSizeInput(t *testing.T) {
	for _, tc := range []struct {
		flags string
		want  map[string]int
	}{
		{"", map[string]int{}},
		{"--bpf-lb-map-max=65536 --bpf-policy-map-max=1048576 --bpf-ct-embryonic-max=65536 --bpf-ct-global-tcp-max=0", map[string]int{}},
		{"--bpf-lb-map-max=1000 --bpf-lb-service-map-max=65536", map[string]int{sizing.KeyLB: 1000, sizing.KeyService: 65536}},
		{
			"--bpf-ct-global-tcp-max=2000 --bpf-ct-global-any-max=3000 --bpf-nat-global-max=4000 --bpf-ct-embryonic-max=5000 --bpf-sock-rev-map-max=6000 --bpf-policy-map-max=7000",
			map[string]int{sizing.KeyTCP: 2000, sizing.KeyAny: 3000, sizing.KeyNAT: 4000, sizing.KeyEmbryonic: 5000, sizing.KeySock: 6000, sizing.KeyPolicy: 7000},
		},
		{
			"--bpf-lb-service-backend-map-max=1 --bpf-lb-affinity-map-max=2 --bpf-lb-source-range-map-max=3 --bpf-lb-maglev-map-max=4",
			map[string]int{sizing.KeyBackend: 1, sizing.KeyAffinity: 2, sizing.KeySourceRange: 3, sizing.KeyMaglev: 4},
		},
	} {
		c := mustLoad(t, Sources{Flags: flagsWith(t, strings.Fields(tc.flags)...)}).Config
		want := sizing.Input{Memory: 1 << 34, Ratio: 0.0025, MaglevSize: 16381, Explicit: tc.want}
		if diff := cmp.Diff(want, c.SizeInput(1<<34)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.flags, diff)
		}
	}
}

// TestSizeKeys checks that the keys of sizes are those that internal/sizing knows,
// with the same limits.
func TestSizeKeys(t *testing.T) {
	keys := map[string]Key{}
	for _, k := range Keys() {
		keys[k.Name] = k
	}
	for _, name := range sizing.Keys() {
		k, ok := keys[name]
		if !ok {
			t.Errorf("%s is no key", name)
			continue
		}
		for _, text := range []string{k.Min, k.Max} {
			n, _, err := k.number(text)
			if err != nil {
				t.Fatal(err)
			}
			explicit := map[string]int{sizing.KeyTCP: 1 << 24, sizing.KeyAny: 1 << 24}
			explicit[name] = n.(int)
			if _, err = sizing.Plan(sizing.Input{Explicit: explicit}); err != nil {
				t.Errorf("%s=%s: %v", name, text, err)
			}
			explicit[name]--
			if _, err = sizing.Plan(sizing.Input{Explicit: explicit}); text == k.Min && explicit[name] != 0 && err == nil {
				t.Errorf("%s=%d is taken, below the least %s", name, explicit[name], text)
			}
		}
	}
}

// TestBytesText: what is shown means the same number again.
func TestBytesText(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := Bytes(rapid.Uint64Range(0, 1<<52).Draw(rt, "bytes"))
		if again, err := parseBytes(b.String()); err != nil || again != b {
			rt.Errorf("%d is shown as %s, which is %d (%v)", b, b, again, err)
		}
	})
}
