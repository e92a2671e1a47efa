package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
)

// testKept shows that agents that were killed while Services changed keep the ids
// of what did not change, make good what did, and leave nothing behind.
func (l *lab) testKept(t *testing.T, c *serviceCast) {
	goes := &served{name: "goes", number: 50, backends: []backend{c.near}, selector: map[string]string{"pod": c.near.name}}
	l.createServices(t, goes)
	before := make([]agentapi.LBTables, len(l.nodes))
	for i, h := range l.nodes {
		before[i] = placidJSON[agentapi.LBTables](t, l, h, "bpf", "lb", "list")
	}
	for _, h := range l.nodes {
		l.on(t, h, "pkill", "-9", "-x", "placid-agent")
	}
	// While nobody watches, one Service goes and one comes.
	l.kubectl(t, "-n", serviceSpace, "delete", "service", goes.name)
	comes := &served{name: "comes", number: 51, backends: []backend{c.far}, selector: map[string]string{"pod": c.far.name}}
	l.apply(t, comes.manifest())
	for _, h := range l.nodes {
		l.waitAgent(t, h)
	}
	l.setBalancer(t, comes)
	l.waitServed(t, map[string]int{comes.name: len(comes.backends)})
	for i, h := range l.nodes {
		var after agentapi.LBTables
		eventually(t, serviceTimeout, h.name+" has nothing left of the Service that went", func() error {
			after = placidJSON[agentapi.LBTables](t, l, h, "bpf", "lb", "list")
			if left := frontends(after, goes.name, ""); len(left) > 0 {
				return fmt.Errorf("%v", left)
			}
			return nil
		})
		if diff := cmp.Diff(frontends(before[i], "", goes.name), frontends(after, "", comes.name)); diff != "" {
			t.Errorf("frontends of %s before (-) and after (+) the agent was killed:\n%s", h.name, diff)
		}
		if len(frontends(after, comes.name, "")) == 0 {
			t.Errorf("%s has no frontend of the Service that came", h.name)
		}
		checkTables(t, h, after)
	}
}

// frontends are those of one Service, or of all but one, with their ids and
// backends. Entries that only say that an address is one of Services are left out.
func frontends(tables agentapi.LBTables, only, without string) []string {
	lists := map[uint32]string{}
	for _, list := range tables.Lists {
		lists[list.ID] = fmt.Sprint(list.Backends)
	}
	var out []string
	for _, f := range tables.Frontends {
		name := strings.TrimPrefix(f.Service, serviceSpace+"/")
		if f.Addr.Port() == 0 || only != "" && name != only || without != "" && name == without {
			continue
		}
		out = append(out, fmt.Sprintf("%s %s of %s has id %d, backends %s and %s", f.Addr, f.Protocol, f.Service, f.ID, lists[f.Cluster], lists[f.Outside]))
	}
	slices.Sort(out)
	return out
}

// checkTables fails when tables hold something that no frontend leads to.
func checkTables(t *testing.T, h host, tables agentapi.LBTables) {
	t.Helper()
	slots, affinity := 0, map[uint32]bool{}
	for _, f := range tables.Frontends {
		if f.Affinity > 0 {
			affinity[f.Cluster], affinity[f.Outside] = true, true
		}
		if f.Addr.Port() != 0 && f.Service == "" {
			t.Errorf("on %s no Service has the frontend %s", h.name, f.Addr)
		}
	}
	for _, list := range tables.Lists {
		slots += len(list.Backends)
		if affinity[list.ID] {
			slots += len(list.Backends) // by their ids, too
		}
	}
	for _, table := range tables.Tables {
		want, known := map[string]int{"frontend": len(tables.Frontends), "backend": slots}[table.Name]
		if known && table.Entries != uint64(want) {
			t.Errorf("table %s of %s has %d entries, what frontends lead to is %d", table.Name, h.name, table.Entries, want)
		}
	}
}
