package pair

import (
	"math"
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

func TestBucketBytes(t *testing.T) {
	for _, tc := range []struct {
		name        string
		rate, burst uint64 // bits
		want        uint64 // bytes
	}{
		{"given", 1e9, 8e6, 1e6},
		{"not given: 50 ms", 1e9, 0, 1e9 / 8 / 20},
		{"the runtime's largest number is not given", 1e9, math.MaxInt32, 1e9 / 8 / 20},
		{"and neither is more", 1e9, math.MaxUint64, 1e9 / 8 / 20},
		{"never less than a train of segments", 1e6, 0, 64 << 10},
		{"never less than that when given", 1e6, 8, 64 << 10},
		{"never more than the kernel takes", math.MaxUint64, 0, math.MaxUint32},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := bucketBytes(tc.rate, tc.burst); got != tc.want {
				t.Errorf("bucketBytes(%d, %d) = %d, want %d", tc.rate, tc.burst, got, tc.want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	// RFC 4291, appendix A: 34-56-78-9A-BC-DE becomes 36-56-78-FF-FE-9A-BC-DE.
	if got, want := LinkLocal(state.MAC{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}), netip.MustParseAddr("fe80::3656:78ff:fe9a:bcde"); got != want {
		t.Errorf("LinkLocal = %s, want %s", got, want)
	}
	if Gateway(false) != netip.MustParseAddr("169.254.1.1") || Gateway(true) != netip.MustParseAddr("fe80::1") {
		t.Errorf("gateways are %s and %s", Gateway(false), Gateway(true))
	}
	seen := map[state.MAC]bool{RouterMAC(): true}
	for range 1000 {
		m := randomMAC()
		if m[0]&3 != 2 || seen[m] {
			t.Fatalf("MAC %s is not locally administered and unicast, or comes twice", m)
		}
		seen[m] = true
	}
}
