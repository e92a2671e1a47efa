package capacity

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/planner/capacity/capacitytest"
	"github.com/placid-net/placid/internal/planner/snapshot"
)

// slowPlacid writes every row of Placid's service maps of a node, from the ports and
// addresses that the datapath is told.
func slowPlacid(ports []loadbalance.Port, addresses []netip.Addr) rows {
	r := rows{}
	r.put("maglev", "seed")
	for _, a := range addresses {
		r.put("frontends", a.String())
	}
	for i, p := range ports {
		port := strconv.Itoa(i)
		name := func(to loadbalance.Reach) string { // equal lists of a port are one
			if to == loadbalance.ReachLocal && slices.Equal(p.All, p.Local) {
				to = loadbalance.ReachAll
			}
			return port + " " + string(to)
		}
		reach := map[loadbalance.Reach]bool{}
		for _, f := range p.Frontends {
			r.put("frontends", f.Addr.String()+p.Key.Protocol.String())
			reach[f.Outside], reach[f.Cluster] = true, true
			if f.Maglev && len(p.Backends(f.Outside)) > 0 {
				r.put("maglev", name(f.Outside))
			}
		}
		for _, to := range []loadbalance.Reach{loadbalance.ReachAll, loadbalance.ReachLocal} {
			if !reach[to] {
				continue
			}
			for slot, b := range p.Backends(to) {
				r.put("backends", name(to)+strconv.Itoa(slot))
				if p.Affinity > 0 {
					r.put("backends", name(to)+" by id "+b.Addr.String())
				}
			}
		}
		for _, b := range p.Draining {
			r.put("backends", "lasting "+port+b.Addr.String())
		}
		for _, s := range p.SourceRanges {
			r.put("ranges", port+s.String())
		}
	}
	return r
}

// TestPlacidServicesOracle compares with maps of rows, over thousands of clusters.
func TestPlacidServicesOracle(t *testing.T) {
	for _, values := range []map[string]string{{}, {"bpf-lb-algorithm": "maglev", "bpf-lb-source-range-all-types": "true"}} {
		set := testSettings(t, snapshot.Placid, values)
		for seed := range uint64(3000) {
			s := capacitytest.Cluster(seed)
			b, err := newBalancer(newCensus(s, set))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range b.census.nodes {
				f := b.on(n)
				want := slowPlacid(b.portsOn(n))
				for _, c := range []struct {
					table string
					form  form
				}{{"frontends", f.frontends}, {"backends", f.backends}, {"maglev", withSeed(f.maglev)}, {"ranges", f.ranges}} {
					if got := int(c.form.at(asItIs())); got != len(want[c.table]) {
						t.Fatalf("seed %d, node %s: %s has %d entries, want %d", seed, n.node.Name, c.table, got, len(want[c.table]))
					}
				}
			}
		}
	}
}
