package cli

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
)

// resizing is how the fake agent answers a resize.
type resizing struct {
	// refusal is the answer, if it is set; else it is ResizeResult.
	refusal error
	// takes is how long that takes; meanwhile ct_tcp moves.
	takes  time.Duration
	moving atomic.Bool
}

// Tables answers with TablesResult.
func (f *fakeAgent) Tables(ctx context.Context) (agentapi.Tables, error) {
	out := f.TablesResult
	out.Tables = slices.Clone(out.Tables)
	for i := range out.Tables {
		if f.moving.Load() && out.Tables[i].Name == "ct_tcp" {
			out.Tables[i].Move = &agentapi.TableMove{
				Name: "ct_tcp", From: 131072, To: 262144, State: agentapi.MoveMoving, Total: 90000, Passed: 45000, Rate: 1234567.8, Remaining: 36 * time.Millisecond,
			}
		}
	}
	return out, f.fail(ctx)
}

// ResizeTable answers as it is set up.
func (f *fakeAgent) ResizeTable(ctx context.Context, req agentapi.ResizeRequest) (agentapi.TableMove, error) {
	f.moving.Store(true)
	select {
	case <-ctx.Done():
		return agentapi.TableMove{}, ctx.Err()
	case <-time.After(f.takes):
	}
	f.moving.Store(false)
	if err := f.fail(ctx); err != nil {
		return agentapi.TableMove{}, err
	}
	out := f.ResizeResult
	out.Why = req.Why
	return out, f.refusal
}

// sizedTable is one in good order, a tenth full.
func sizedTable(name, kind, key string, size uint64) agentapi.TableInfo {
	return agentapi.TableInfo{
		Name: name, Label: name, Kind: kind, Key: key, Evicts: kind == "LRU", Entries: size / 10, Size: size, Pressure: 0.1,
		Peak: size / 8, Headroom: size - size/10, Memory: size * 128,
	}
}

// addTables gives the agent the tables of a node with 7.5 GiB.
func addTables(f *fakeAgent) {
	f.TablesResult = agentapi.Tables{
		Ratio: 0.0025, Autosize: true, Budget: 128 << 20, Memory: 101 << 20, NAT: 131072,
		Tables: []agentapi.TableInfo{
			sizedTable("ct_tcp", "hash", "bpf-ct-global-tcp-max", 131072), sizedTable("ct_any", "hash", "bpf-ct-global-any-max", 65536),
			sizedTable("ct_new", "LRU", "bpf-ct-embryonic-max", 65536), sizedTable("sock", "LRU", "bpf-sock-rev-map-max", 65536),
			sizedTable("frontend", "hash on demand", "bpf-lb-service-map-max", 65536), sizedTable("backend", "hash on demand", "bpf-lb-service-backend-map-max", 65536),
			sizedTable("maglev", "hash on demand", "bpf-lb-maglev-map-max", 65536), sizedTable("affinity", "LRU", "bpf-lb-affinity-map-max", 65536),
			sizedTable("source_range", "LPM trie", "bpf-lb-source-range-map-max", 65536), sizedTable("policy", "hash on demand", "bpf-policy-map-max", 1048576),
			sizedTable("port", "hash on demand", "", 65536), sizedTable("identity", "hash on demand", "", 524288), sizedTable("ipcache", "LPM trie", "", 65536),
			sizedTable("cidr", "LPM trie", "", 65536), sizedTable("endpoint", "hash", "", 16384), sizedTable("native", "LPM trie", "", 16384), sizedTable("fragment", "LRU", "", 8192),
		},
	}
	f.TablesResult.Tables[14].Entries, f.TablesResult.Tables[14].Pressure, f.TablesResult.Tables[14].Fixed = 4, 4.0/16384, true
	f.ResizeResult = agentapi.TableMove{
		Name: "ct_tcp", From: 131072, To: 262144, State: agentapi.MoveDone, Began: testNow, Took: 84 * time.Millisecond,
		Total: 90000, Passed: 90000, Moved: 89988, Ended: 12, Rate: 1071428.6, Memory: 58 << 20,
	}
	f.status.Tables = &f.TablesResult
}

// fillTables lets tables be full, blocked, and on their way.
func fillTables(f *fakeAgent) {
	tables := f.TablesResult.Tables
	full := func(t *agentapi.TableInfo) { t.Entries, t.Peak, t.Pressure, t.Headroom = t.Size, t.Size, 1, 0 }
	tcp, anyTable, backend, policy := &tables[0], &tables[1], &tables[5], &tables[9]
	for _, t := range []*agentapi.TableInfo{tcp, policy, &tables[2]} {
		full(t)
	}
	tcp.Fixed, tcp.Inserts.Full = true, 4711
	anyTable.Old, anyTable.Move = 32768, &agentapi.TableMove{Name: "ct_any", From: 32768, To: 65536, State: agentapi.MoveWaiting, Left: 12, Began: testNow}
	backend.Waiting = 5000
	backend.Blocked, backend.Limit = "backends: 10 %: 65536 → 114688 wanted, but 2.5 MiB missing while entries move, 1 MiB of 128 MiB budget are free", agentapi.LimitBudget
	tables[2].Blocked, tables[2].Limit = "embryonic: evicts after 0.8 s, before the 5 s that an entry is needed: 65536 → 655360 wanted, but 196608 is its maximum", agentapi.LimitMaximum
	policy.Move = &agentapi.TableMove{Name: "policy", From: 1048576, To: 2097152, State: agentapi.MoveFailed, Problem: "make the table: cannot allocate memory"}
}
