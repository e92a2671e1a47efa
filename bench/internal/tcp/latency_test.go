package tcp

import (
	"net/netip"
	"testing"
)

func TestTargets(t *testing.T) {
	want := Targets{First: netip.MustParseAddr("10.96.0.254"), Count: 3, Port: 80}
	got, err := ParseTargets(want.args())
	if err != nil || got != want {
		t.Errorf("ParseTargets = %+v, %v, want %+v", got, err, want)
	}
	seen := map[netip.Addr]bool{}
	for range 1000 {
		seen[got.pick()] = true
	}
	if len(seen) != 3 || !seen[netip.MustParseAddr("10.96.1.0")] {
		t.Errorf("of 3 addresses those were picked: %v", seen)
	}
	for _, bad := range [][]string{{}, {"x", "1", "80"}, {"10.0.0.1", "0", "80"}, {"fd00::1", "1", "80"}, {"10.0.0.1", "1", "x"}} {
		if got, err := ParseTargets(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, got)
		}
	}
}
