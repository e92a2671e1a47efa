package capacity

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// ServiceCost is what one Service takes on a node, and how that comes about.
type ServiceCost struct {
	Service state.ServiceRef `json:"service"`
	Type    string           `json:"type"`
	Node    string           `json:"node"`
	// Documented is what the usual rule says: backends times ports and protocols, of
	// two families the larger number.
	Documented int `json:"documented"`
	// Exact is the number of entries in the tables of frontends and their backends
	// (of Cilium: masters and slots, in one map a family).
	Exact  int            `json:"exact"`
	Tables []ServiceTable `json:"tables"`
	// Steps add up to Exact.
	Steps []ServiceStep `json:"steps,omitempty"`
	// Why says in sentences what the rule leaves out.
	Why []string `json:"why,omitempty"`
}

// ServiceTable is what a Service takes of one table.
type ServiceTable struct {
	Table   string `json:"table"`
	Entries int    `json:"entries"`
}

// ServiceStep is a part of what a Service takes.
type ServiceStep struct {
	What    string `json:"what"`
	Formula string `json:"formula"`
	Entries int    `json:"entries"`
}

// documented is the usual rule, whatever the platform.
func (b *balancer) documented(s *snapshot.Service) int {
	whole := loadbalance.Compile(&b.config, &loadbalance.Node{}, &s.Service, b.slices[s.Ref])
	return loadbalance.DocumentedEstimate(whole.Ports...)
}

// explain says what a Service takes on a node in Cilium's tables.
func (b *ciliumBalancer) explain(s *snapshot.Service, n *nodeCensus) ServiceCost {
	out := ServiceCost{Service: s.Ref, Type: s.Type, Node: n.node.Name, Documented: b.documented(s)}
	f, unique := newCiliumForms(), map[ciliumBackend][]dim{}
	all := b.frontends(s, n)
	nodePorts, scoped, masters := 0, 0, len(all)
	for _, fe := range all {
		b.add(f, s, fe, unique)
		step := ServiceStep{
			What: fe.kind + " " + fe.String(), Entries: 1 + len(fe.backends),
			Formula: fmt.Sprintf("1 master + %s", count(len(fe.backends), "slot")),
		}
		if fe.kind == "NodePort" {
			nodePorts++
			if fe.addr.IsUnspecified() {
				step.What += " (surrogate)"
			}
		}
		if fe.internal {
			scoped++
		}
		out.Steps = append(out.Steps, step)
		out.Exact += step.Entries
	}
	out.Tables = ciliumServiceTables(f, unique)
	if masters > 0 {
		out.Why = append(out.Why, fmt.Sprintf("Each of %s has a master entry, and its own copy of the backends' slots.", count(masters, "frontend")))
	}
	if nodePorts > 0 {
		out.Why = append(out.Why, fmt.Sprintf("Node ports are %s: one at the unspecified address (the surrogate), and one at each address of the node.", count(nodePorts, "frontend")))
	}
	if scoped > 0 {
		out.Why = append(out.Why, fmt.Sprintf("One traffic policy is Local and the other is not, so that %s a second time for clients inside the cluster.", plural(scoped, "frontend is there", "frontends are there")))
	}
	if families(s.ClusterIPs) == 2 {
		out.Why = append(out.Why, "IPv4 and IPv6 are in maps of their own: each has room for all of its family.")
	}
	if out.Exact == out.Documented {
		out.Why = nil
	}
	return out
}

func ciliumServiceTables(f *ciliumForms, unique map[ciliumBackend][]dim) []ServiceTable {
	for backend := range unique {
		f.backends[index(backend.addr.Addr())].add(1)
	}
	var out []ServiceTable
	add := func(name string, f form) {
		if n := int(f.at(asItIs())); n > 0 {
			out = append(out, ServiceTable{name, n})
		}
	}
	for i, family := range []string{"4", "6"} {
		add("lb"+family+"_services_v2", f.services[i])
		add("lb"+family+"_backends_v3", f.backends[i])
		add("lb"+family+"_reverse_nat", f.reverse[i])
		add("lb"+family+"_source_range", f.ranges[i])
		add("lb"+family+"_maglev", f.maglev[i])
	}
	add("lb_affinity_match", f.affinity)
	return out
}

// explain says what a Service takes on a node in Placid's tables.
func (b *balancer) explain(s *snapshot.Service, n *nodeCensus) ServiceCost {
	b.place(n)
	out := ServiceCost{Service: s.Ref, Type: s.Type, Node: n.node.Name, Documented: b.documented(s)}
	sum, _ := b.engine.Service(s.Ref, false)
	for i := range sum.Ports {
		p := &sum.Ports[i]
		cost := loadbalance.Cost(*p)
		name := fmt.Sprintf("port %d/%s", p.Key.Port, p.Key.Protocol)
		if p.Key.IPv6 {
			name += " (IPv6)"
		}
		formula := count(cost.Frontends, "frontend") + " + " + count(cost.Backends, "backend entry")
		out.Steps = append(out.Steps, ServiceStep{What: name, Formula: formula, Entries: cost.Frontends + cost.Backends})
		if p.Affinity > 0 {
			out.Why = append(out.Why, name+": with session affinity a backend is found by its slot and by its id: two entries.")
		}
		if reached(p, loadbalance.ReachLocal) && reached(p, loadbalance.ReachAll) && !slices.Equal(p.All, p.Local) && len(p.Local) > 0 {
			out.Why = append(out.Why, name+": clients that must stay on the node have a list of backends of their own.")
		}
	}
	if n := len(sum.Addresses); n > 0 {
		out.Steps = append(out.Steps, ServiceStep{What: "addresses alone", Formula: "1 for each, so that other ports there are refused", Entries: n})
	}
	for _, t := range []ServiceTable{
		{"frontends", sum.Entries.Frontends}, {"backends", sum.Entries.Backends}, {"maglev", sum.Entries.Maglev}, {"source ranges", sum.Entries.SourceRanges},
	} {
		if t.Entries > 0 {
			out.Tables = append(out.Tables, t)
		}
	}
	out.Exact = sum.Entries.Frontends + sum.Entries.Backends
	if out.Exact != out.Documented {
		out.Why = append([]string{"The rule counts backends alone. All frontends of a port share one list of backends here, and each is one entry beside it."}, out.Why...)
	}
	for _, p := range sum.Problems {
		out.Why = append(out.Why, "Not served as it is written: "+p.Message)
	}
	return out
}

func families(addrs []netip.Addr) int {
	seen := map[bool]bool{}
	for _, a := range addrs {
		seen[a.Is6()] = true
	}
	return len(seen)
}

// count gives "1 slot", "2 slots", "2 backend entries".
func count(n int, noun string) string {
	many := noun + "s"
	if noun[len(noun)-1] == 'y' {
		many = noun[:len(noun)-1] + "ies"
	}
	return plural(n, noun, many)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
