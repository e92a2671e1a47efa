package gc

import (
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
)

func TestNumberedKeysDiffer(t *testing.T) {
	seen := map[abi.CCtKey]int{}
	for i := range 1 << 17 {
		key := numbered(i)
		if other, ok := seen[key]; ok {
			t.Fatalf("%d and %d have the same key", other, i)
		}
		seen[key] = i
	}
}
