package datapath

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/planner/capacity"
	"github.com/placid-net/placid/internal/planner/capacity/capacitytest"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// capacityClusters is how many generated clusters are loaded into maps of the kernel.
const capacityClusters = 400

// smallMaglev is the least size of a Maglev table that can be configured.
const smallMaglev = 251

// TestServicesTakeWhatIsPlanned loads the Services of generated clusters into real
// maps, as the agent of each node does, and counts what is in them.
func TestServicesTakeWhatIsPlanned(t *testing.T) {
	cfg := testServiceConfig(1)
	cfg.maglevSize = smallMaglev
	nodes := 0
	for seed := range uint64(capacityClusters) {
		s := capacitytest.Cluster(seed)
		s.Platform, s.Settings = snapshot.Placid, map[string]string{"bpf-lb-maglev-table-size": "251"}
		if seed%2 == 1 {
			s.Settings["bpf-lb-algorithm"] = "maglev"
		}
		plan, err := capacity.Plan(s, capacity.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.Nodes {
			n := &s.Nodes[i]
			have := loadedInto(t, cfg, s, n)
			for table, name := range map[int]string{inFrontends: "frontend", inBackends: "backend", inMaglev: "maglev", inRanges: "source_range"} {
				if want := planned(t, plan, n.Name, name); have[table] != want {
					t.Errorf("seed %d, node %s: %s has %d entries, planned are %d", seed, n.Name, name, have[table], want)
				}
			}
			nodes++
		}
	}
	t.Logf("%d nodes of %d clusters", nodes, capacityClusters)
}

// loadedInto writes the Services of a node into new maps, and counts the rows.
func loadedInto(t *testing.T, cfg serviceConfig, s *snapshot.Snapshot, n *snapshot.Node) rowCount {
	t.Helper()
	var have rowCount
	t.Run(n.Name, func(t *testing.T) { // its maps are closed when it ends
		store := realStore(t, rowCount{1 << 12, 1 << 12, 1 << 7, 1 << 9}, smallMaglev)
		ports, addresses := servedOn(t, s, n)
		if _, err := newServiceWriter(store, cfg).sync(ports, addresses); err != nil {
			t.Fatal(err)
		}
		have = rowsIn(t, store)
	})
	return have
}

// servedOn gives what the agent of a node tells its datapath.
func servedOn(t *testing.T, s *snapshot.Snapshot, n *snapshot.Node) ([]loadbalance.Port, []netip.Addr) {
	t.Helper()
	engine, err := loadbalance.New(loadbalance.Config{
		IPv4: true, IPv6: true, Algorithm: loadbalance.Algorithm(s.Settings["bpf-lb-algorithm"]), MaglevSize: smallMaglev,
		NodePortFirst: 30000, NodePortLast: 32767,
	})
	if err != nil {
		t.Fatal(err)
	}
	node := loadbalance.Node{Name: n.Name, Zone: n.Zone, Addrs: n.Addrs}
	for _, other := range s.Nodes {
		node.Nodes = append(node.Nodes, other.Addrs...)
	}
	engine.SetNode(node)
	for i := range s.Services {
		engine.UpsertService(&s.Services[i].Service)
	}
	for i := range s.Slices {
		engine.UpsertSlice(&s.Slices[i])
	}
	for _, p := range s.Pods {
		if p.Node == n.Name && len(p.HostPorts) > 0 {
			engine.SetHostPorts(state.ServiceRef{Namespace: p.Ref.Namespace, Name: p.Ref.Name}, p.Addrs, p.CreatedAt, p.HostPorts)
		}
	}
	return engine.Ports(), engine.Addresses()
}

// rowsIn counts the rows that the kernel has.
func rowsIn(t *testing.T, store serviceStore) rowCount {
	t.Helper()
	var n rowCount
	if err := errors.Join(
		store.frontends.each(func(abi.CFrontendKey, abi.CFrontend) { n[inFrontends]++ }),
		store.backends.each(func(abi.CBackendKey, abi.CBackend) { n[inBackends]++ }),
		store.maglev.each(func(uint32, []uint32) { n[inMaglev]++ }),
		store.ranges.each(func(abi.CSourceRangeKey, uint32) { n[inRanges]++ }),
	); err != nil {
		t.Fatal(err)
	}
	return n
}

// planned is what the plan says that a node needs of a table.
func planned(t *testing.T, plan capacity.Result, node, table string) int {
	t.Helper()
	i := slices.IndexFunc(plan.Nodes, func(n capacity.Node) bool { return n.Name == node })
	if i < 0 {
		t.Fatalf("the plan has no node %s", node)
	}
	for _, row := range plan.Nodes[i].Tables {
		if strings.EqualFold(row.Name, table) {
			return row.Now
		}
	}
	t.Fatalf("the plan has no table %s", table)
	return 0
}
