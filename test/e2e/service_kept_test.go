package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
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
			return checkTables(after, l.draining(t, h))
		})
		if diff := cmp.Diff(frontends(before[i], "", goes.name), frontends(after, "", comes.name)); diff != "" {
			t.Errorf("frontends of %s before (-) and after (+) the agent was killed:\n%s", h.name, diff)
		}
		if len(frontends(after, comes.name, "")) == 0 {
			t.Errorf("%s has no frontend of the Service that came", h.name)
		}
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

// draining counts the backends of a node that only flows lead to which there are
// already: each has one entry, whatever Services it was one of.
func (l *lab) draining(t *testing.T, h host) int {
	t.Helper()
	type backend struct {
		addr     netip.AddrPort
		protocol state.Protocol
	}
	out := map[backend]bool{}
	for _, info := range placidJSON[[]agentapi.ServiceInfo](t, l, h, "service", "list") {
		for _, p := range info.Ports {
			for _, b := range p.Backends {
				if b.State == agentapi.BackendDraining {
					out[backend{b.Addr, p.Protocol}] = true
				}
			}
		}
	}
	return len(out)
}

// checkTables tells whether tables hold something that no frontend leads to, but
// the backends that drain.
func checkTables(tables agentapi.LBTables, draining int) error {
	var errs []error
	slots, affinity := draining, map[uint32]bool{}
	for _, f := range tables.Frontends {
		if f.Affinity > 0 {
			affinity[f.Cluster], affinity[f.Outside] = true, true
		}
		if f.Addr.Port() != 0 && f.Service == "" {
			errs = append(errs, fmt.Errorf("no Service has the frontend %s", f.Addr))
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
			errs = append(errs, fmt.Errorf("table %s has %d entries, want %d", table.Name, table.Entries, want))
		}
	}
	return errors.Join(errs...)
}
