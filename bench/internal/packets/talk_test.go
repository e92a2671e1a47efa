package packets

import (
	"net/netip"
	"testing"
)

// Flows differ, begin at the first ports, and stay off each other's cases.
func TestFlowPorts(t *testing.T) {
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	seen := map[[2]netip.AddrPort]bool{}
	for i := range uint32(3 << flowBits) {
		from, to := flowPorts(src, dst, i, newPort)
		if from.Port() < 1<<flowBits || from.Port() >= 2<<flowBits || to.Port() != newPort+uint16(i>>flowBits) {
			t.Fatalf("flow %d is from port %d to port %d", i, from.Port(), to.Port())
		}
		seen[[2]netip.AddrPort{from, to}] = true
	}
	if len(seen) != 3<<flowBits {
		t.Errorf("%d different flows, want %d", len(seen), 3<<flowBits)
	}
}
