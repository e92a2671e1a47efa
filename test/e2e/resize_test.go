package e2e

import (
	"strconv"
	"testing"

	"github.com/placid-net/placid/internal/agentapi"
)

func double(size uint64) uint64 { return 2 * size }

func halve(size uint64) uint64 { return size / 2 }

// resizeTables gives every table of both nodes another size, and checks that it has
// that. Those whose size is set keep it.
func (l *lab) resizeTables(t *testing.T, to func(size uint64) uint64) {
	t.Helper()
	for _, h := range l.nodes {
		for _, before := range l.tables(t, h) {
			if before.Fixed || before.Name == "fragment" { // the latter is no table of tables
				continue
			}
			size := to(before.Size)
			l.placid(t, h, "bpf", "map", "resize", before.Name, strconv.FormatUint(size, 10), "--why", "end-to-end test")
			for _, after := range l.tables(t, h) {
				if after.Name == before.Name && (after.Size != size || after.Old != 0) {
					t.Errorf("%s: table %s has %d entries, and %d in an old one; want %d", h.name, after.Name, after.Size, after.Old, size)
				}
			}
		}
	}
}

func (l *lab) tables(t *testing.T, h host) []agentapi.TableInfo {
	t.Helper()
	var out []agentapi.TableInfo
	for _, m := range placidJSON[[]struct{ Table *agentapi.TableInfo }](t, l, h, "bpf", "map", "list") {
		if m.Table != nil {
			out = append(out, *m.Table)
		}
	}
	return out
}
