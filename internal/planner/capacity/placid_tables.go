package capacity

import (
	"strings"

	"github.com/placid-net/placid/internal/autosize"
	"github.com/placid-net/placid/internal/sizing"
)

// What happens when a table of Placid is full.
const (
	fullServices = "a Service port that does not fit is refused whole and named; what is there keeps working"
	fullPolicies = "a policy set that does not fit is refused: its pods stay under what they have"
	fullFlows    = "new flows stay embryonic and work on, until a flood of their like evicts them"
	fullEvicts   = "the least recently used entries go"
	fullAddress  = "pods that do not fit are the world to policies of this node"
)

// placidTables are the tables of one node, in the order of sizing.Tables.
func (p *planner) placidTables(n *nodeCensus) ([]*gauge, error) {
	sizes, err := p.settings.sizes(n.node.Memory)
	if err != nil {
		return nil, err
	}
	lb, pol, flows := p.balancer.on(n), p.judge.on(n), flowsOn(n, p.settings, p.rates)
	type row struct {
		need  form
		model string
		full  string
	}
	rows := map[string]row{
		"ct_tcp_map":       {flows.tcp, flows.model, fullFlows},
		"ct_any_map":       {flows.other, flows.model, fullFlows},
		"ct_new_map":       {flows.embryonic, flows.model, fullEvicts},
		"sock_map":         {flows.sockets, flows.model, fullEvicts},
		"frontend_map":     {lb.frontends, "", fullServices},
		"backend_map":      {lb.backends, "", fullServices},
		"maglev_map":       {withSeed(lb.maglev), "", fullServices},
		"source_range_map": {lb.ranges, "", fullServices},
		"policy_map":       {pol.entries, "", fullPolicies},
		"port_map":         {pol.lists, "", fullPolicies},
		"cidr_map":         {pol.prefixes, "", fullPolicies},
		"identity_map":     {p.elsewhere(n), "", fullAddress},
		"ipcache_map":      {p.ranges(n), "", "packets to the nodes that do not fit take the node's own routes"},
		"endpoint_map":     {p.endpoints(n), "", "new pods on the node are refused"},
		"native_map":       {p.natives(), "", "what does not fit is masqueraded"},
	}
	var out []*gauge
	for _, t := range sizes.Tables {
		r, ok := rows[t.Map]
		if !ok {
			continue // what it needs follows from nothing that is known
		}
		g := &gauge{
			kind: KindTable, name: strings.TrimSuffix(t.Map, "_map"), node: n.node.Name, key: t.Key, need: r.need.at,
			size: t.Entries, limit: t.Entries, exact: r.model == "", model: r.model, full: r.full, table: new(t.Table),
		}
		if t.Map == "backend_map" {
			g.limit -= spareBackends
		}
		if t.Key != "" {
			g.most = mostEntries
		}
		g.evicts = r.full == fullEvicts
		if tuned := autosize.Tuned(t, t.From == sizing.FromKey || !p.settings.cfg.MapAutosize); tuned.Max > t.Entries {
			g.limit = tuned.Max
		}
		out = append(out, g)
	}
	if g := p.budgetGauge(n, sizes, out); g != nil {
		out = append(out, g)
	}
	return out, nil
}

// spareBackends are rows of the table that no port gets: see spareRows in
// internal/datapath.
const spareBackends = 2

// mostEntries is the largest size that a table can be set to.
const mostEntries = 1 << 24

// withSeed adds the entry that says which seed Maglev tables were made with.
func withSeed(f form) form {
	out := form{}
	out.join(f, 1)
	out.add(1)
	return out
}

// budgetGauge is for the memory that the tables of a node may take while they tune
// themselves.
func (p *planner) budgetGauge(n *nodeCensus, sizes sizing.Sizes, tables []*gauge) *gauge {
	if n.node.Memory == 0 || !p.settings.cfg.MapAutosize {
		return nil
	}
	budget := uint64(p.settings.cfg.MapMemoryBudget)
	if budget == 0 {
		budget = sizing.DefaultBudget(n.node.Memory, sizes)
	}
	return &gauge{
		kind: KindMemory, name: "table memory (MiB)", node: n.node.Name, key: "bpf-map-memory-budget",
		size: int(budget >> 20), limit: int(budget >> 20), most: int(n.node.Memory >> 22), model: "tables with room for what they need",
		need: func(s scale) float64 {
			total := uint64(0)
			for _, g := range tables {
				if g.name != "maglev" { // it follows from the Services alone, and is no part of the budget
					total += g.bytes(s)
				}
			}
			return float64((total + 1<<20 - 1) >> 20)
		},
		full: "tables that tune themselves grow no more, and are full when they are full",
	}
}

// elsewhere are the addresses of pods and nodes that are not this one.
func (p *planner) elsewhere(n *nodeCensus) form {
	out := form{}
	out.join(p.census.addrs, 1)
	for _, pod := range n.pods {
		out.add(-float64(len(p.census.podAddrs(pod.pod))), pod.here()...)
	}
	out.add(float64(len(p.census.nodeAddrs)), byNodes)
	out.add(-float64(len(n.node.Addrs)))
	return out
}

// ranges are the pod CIDRs and addresses of other nodes.
func (p *planner) ranges(n *nodeCensus) form {
	out := form{}
	for _, other := range p.census.nodes {
		rows := float64(len(other.node.PodCIDRs) + len(other.node.Addrs))
		out.add(rows, byNodes)
		if other == n {
			out.add(-rows)
		}
	}
	return out
}

// endpoints are the addresses of this node: its own and its pods'. A pod with IPv6
// has its link-local address too.
func (p *planner) endpoints(n *nodeCensus) form {
	out := form{}
	out.add(float64(len(n.node.Addrs)))
	for _, pod := range n.pods {
		for _, a := range p.census.podAddrs(pod.pod) {
			out.add(1, pod.here()...)
			if a.Is6() {
				out.add(1, pod.here()...)
			}
		}
	}
	return out
}

func (p *planner) natives() form {
	out := form{}
	out.add(float64(len(p.settings.cfg.NativeCIDRs())))
	return out
}
