package capacity

import (
	"fmt"

	"github.com/placid-net/placid/internal/sizing"
)

// Cilium's sizes and limits (1.18 to 1.20: pkg/option/config.go, pkg/maps,
// pkg/loadbalancer/config.go).
const (
	ciliumLB        = 65536  // bpf-lb-map-max, and by default of each of its tables
	ciliumPolicy    = 16384  // bpf-policy-map-max, of every pod
	ciliumPolicyMax = 65536  // the largest size that it takes
	ciliumIPCache   = 512000 // fixed
	ciliumEndpoints = 65535  // fixed
	ciliumNumbers   = 65535  // of frontends: 16 bits, whatever the size of the map
)

// What happens when a table of Cilium is full.
const (
	ciliumFullLB      = "inserts fail: Services that change are half written and tried again for ever, others keep working"
	ciliumFullNumbers = "frontends beyond it get no number and are not served, whatever the size of the map"
	ciliumFullPolicy  = "a part of the pod's policy is missing: what should be allowed is dropped, and a deny that is missing lets through"
	ciliumFullCache   = "addresses that do not fit are the world to policies"
	ciliumFullFlows   = "the least recently used flow goes, whether it lives or not: long connections are cut or judged anew"
	ciliumFullNAT     = "the least recently used translation goes, and its connection with it"
)

// ciliumKinds are the tables as Cilium stores them. Bytes of an entry follow from
// key and value as measured: LRU tables allocate all entries at once with 48 bytes
// beside them, others come on demand with 56 and tries with 20.
func ciliumKind(name string, kind sizing.Kind, key, value int) *sizing.Table {
	round := func(n int) int { return (n + 7) / 8 * 8 }
	entry := 48 + round(key) + round(value)
	switch kind {
	case sizing.OnDemand:
		entry += 8
	case sizing.LPM:
		entry = 20 + key + value
	case sizing.Hash, sizing.LRU:
	}
	return &sizing.Table{Map: name, Kind: kind, KeyBytes: key, ValueBytes: value, EntryBytes: entry}
}

// ciliumTables are the tables of one node.
func (p *planner) ciliumTables(n *nodeCensus) ([]*gauge, error) {
	sizes, err := p.settings.sizes(n.node.Memory)
	if err != nil {
		return nil, err
	}
	out := p.ciliumServiceTables(n)
	out = append(out, p.ciliumFlowTables(n, sizes)...)
	pol := p.judge.on(n)
	if g := p.ciliumPolicyTable(n, pol); g != nil {
		out = append(out, g)
	}
	ipv4, ipv6 := p.settings.families()
	perNode := 0.0 // cilium_host and the health endpoint
	for _, on := range []bool{ipv4, ipv6} {
		if on {
			perNode++
			if p.settings.on("enable-endpoint-health-checking", true) {
				perNode++
			}
		}
	}
	cache, local := form{}, form{}
	cache.join(p.census.addrs, 1)
	cache.add(float64(len(p.census.nodeAddrs))+perNode*float64(len(p.census.nodes)), byNodes)
	cache.add(2) // the world, of either family
	cache.join(p.judge.allPrefixes(), 1)
	for _, pod := range n.pods {
		local.add(float64(len(p.census.podAddrs(pod.pod))), pod.here()...)
	}
	local.add(float64(len(n.node.Addrs)) + perNode)
	return append(out,
		&gauge{
			kind: KindTable, name: "ipcache_v2", node: n.node.Name, need: cache.at, size: ciliumIPCache, limit: ciliumIPCache, exact: true,
			full: ciliumFullCache, table: ciliumKind("ipcache_v2", sizing.LPM, 24, 40),
		},
		&gauge{
			kind: KindTable, name: "lxc", node: n.node.Name, need: local.at, size: ciliumEndpoints, limit: ciliumEndpoints, exact: true,
			full: "new pods on the node are refused", table: ciliumKind("lxc", sizing.OnDemand, 20, 48),
		}), nil
}

// ciliumServiceTables are those of Services, of each family that is on.
func (p *planner) ciliumServiceTables(n *nodeCensus) []*gauge {
	var out []*gauge
	f := p.cilium.on(n)
	lb := p.settings.number(sizing.KeyLB, ciliumLB)
	add := func(name, key string, size int, need form, table *sizing.Table) {
		g := &gauge{
			kind: KindTable, name: name, node: n.node.Name, key: key, need: need.at, size: size, limit: size, most: mostEntries,
			exact: true, full: ciliumFullLB, table: table,
		}
		out = append(out, g)
	}
	size := func(key string) int { return p.settings.number(key, lb) }
	ipv4, ipv6 := p.settings.families()
	for i, on := range []bool{ipv4, ipv6} {
		if !on {
			continue
		}
		family, addr := []string{"4", "6"}[i], []int{4, 16}[i]
		name := "lb" + family + "_services_v2"
		add(name, sizing.KeyService, size(sizing.KeyService), f.services[i], ciliumKind(name, sizing.OnDemand, 8+addr, 12))
		name = "lb" + family + "_backends_v3"
		add(name, sizing.KeyBackend, size(sizing.KeyBackend), f.backends[i], ciliumKind(name, sizing.OnDemand, 4, 8+addr))
		name = "lb" + family + "_reverse_nat"
		add(name, "bpf-lb-rev-nat-map-max", size("bpf-lb-rev-nat-map-max"), f.reverse[i], ciliumKind(name, sizing.OnDemand, 2, 2+addr))
		out[len(out)-1].most = ciliumLB // there are no more numbers
		name = "lb" + family + "_source_range"
		add(name, sizing.KeySourceRange, size(sizing.KeySourceRange), f.ranges[i], ciliumKind(name, sizing.LPM, 8+addr, 1))
		if maglev := f.maglev[i]; len(maglev) > 0 {
			name = "lb" + family + "_maglev"
			add(name, sizing.KeyMaglev, size(sizing.KeyMaglev), maglev, ciliumKind(name, sizing.OnDemand, 2, 4*p.settings.cfg.LBMaglevTableSize))
		}
		out = append(out, &gauge{
			kind: KindTable, name: "IPv" + family + " frontend numbers", node: n.node.Name, need: f.reverse[i].at,
			size: ciliumNumbers, limit: ciliumNumbers, exact: true, full: ciliumFullNumbers,
		})
	}
	add("lb_affinity_match", sizing.KeyAffinity, size(sizing.KeyAffinity), f.affinity, ciliumKind("lb_affinity_match", sizing.OnDemand, 8, 1))
	return out
}

// ciliumFlowTables are those of connections. A table of each family has the size.
func (p *planner) ciliumFlowTables(n *nodeCensus, sizes sizing.Sizes) []*gauge {
	flows := flowsOn(n, p.settings, p.rates)
	var out []*gauge
	ipv4, ipv6 := p.settings.families()
	for i, on := range []bool{ipv4, ipv6} {
		if !on || i == 1 && ipv4 { // which flows are IPv6 is not known: all may be IPv4
			continue
		}
		family, key := []string{"4", "6"}[i], []int{14, 38}[i]
		for _, t := range []struct {
			name, key  string
			need       form
			size       int
			table      *sizing.Table
			consequent string
		}{
			{"ct" + family + "_global", sizing.KeyTCP, flows.tcp, sizes.Entries("ct_tcp_map"), ciliumKind("ct", sizing.LRU, key, 56), ciliumFullFlows},
			{"ct_any" + family + "_global", sizing.KeyAny, flows.other, sizes.Entries("ct_any_map"), ciliumKind("ct_any", sizing.LRU, key, 56), ciliumFullFlows},
			{"snat_v" + family + "_external", sizing.KeyNAT, flows.nat, sizes.NAT, ciliumKind("snat", sizing.LRU, key, 16+6*[]int{4, 6}[i]), ciliumFullNAT},
		} {
			out = append(out, &gauge{
				kind: KindTable, name: t.name, node: n.node.Name, key: t.key, need: t.need.at, size: t.size, limit: t.size, most: mostEntries,
				model: flows.model, full: t.consequent, table: t.table,
			})
		}
	}
	return out
}

// ciliumPolicyTable is the map of the pod of the node that takes the most.
func (p *planner) ciliumPolicyTable(n *nodeCensus, pol *policyForms) *gauge {
	if len(pol.endpoints) == 0 || !p.settings.isolates() {
		return nil
	}
	size := min(max(p.settings.number(sizing.KeyPolicy, ciliumPolicy), 256), ciliumPolicyMax)
	worst, most := pol.endpoints[0], -1.0
	for _, e := range pol.endpoints {
		if now := e.at(asItIs()); now > most {
			worst, most = e, now
		}
	}
	return &gauge{
		kind: KindTable, name: "policy_v2 (a pod's)", node: n.node.Name, what: fmt.Sprintf("pod %s", worst.pod), key: sizing.KeyPolicy,
		need: func(s scale) float64 {
			most := 0.0
			for _, e := range pol.endpoints {
				most = max(most, e.at(s))
			}
			return most
		},
		size: size, limit: size, most: ciliumPolicyMax, exact: true, full: ciliumFullPolicy,
		table: ciliumKind("policy_v2", sizing.LPM, 12, 12),
	}
}
