package capacity

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// testSettings reads the settings of a cluster that runs a platform.
func testSettings(t testing.TB, platform snapshot.Platform, values map[string]string) *settings {
	t.Helper()
	set, err := readSettings(&snapshot.Snapshot{Platform: platform, Settings: values}, platform)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
