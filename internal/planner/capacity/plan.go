package capacity

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// ErrNoNodes is a cluster whose tables would be nobody's.
var ErrNoNodes = errors.New("the cluster has no nodes")

// ErrNotFound is a node or a Service that the cluster does not have.
var ErrNotFound = errors.New("not found")

// planner is what plans are made from.
type planner struct {
	settings *settings
	census   *census
	balancer *balancer
	cilium   *ciliumBalancer // nil for Placid
	judge    *judge
	rates    []Rate
	notes    []string
}

func newPlanner(s *snapshot.Snapshot, opts Options) (*planner, error) {
	if len(s.Nodes) == 0 {
		return nil, fmt.Errorf("%w: tables are planned for nodes; give objects of kind Node too", ErrNoNodes)
	}
	platform := cmp.Or(opts.For, s.Platform, snapshot.Placid)
	set, err := readSettings(s, platform)
	if err != nil {
		return nil, err
	}
	return newPlannerWith(s, opts, set)
}

func newPlannerWith(s *snapshot.Snapshot, opts Options, set *settings) (*planner, error) {
	p := &planner{settings: set, census: newCensus(s, set), rates: opts.Rates, notes: set.notes}
	if p.rates == nil {
		p.rates = DefaultRates()
		p.notes = append(p.notes, "Nobody said how many connections begin: every pod is taken to open 1.2 a second, for 30 s each, and to ask DNS twice a second (--rate).")
	}
	var err error
	if p.balancer, err = newBalancer(p.census); err != nil {
		return nil, err
	}
	if set.platform != snapshot.Placid {
		p.cilium = newCiliumBalancer(p.balancer)
	}
	p.judge = newJudge(p.census, resolved(s))
	return p, nil
}

// Plan says what a cluster needs, now and when it has grown. The error wraps
// ErrNoNodes, ErrArgument or ErrSettings.
func Plan(s *snapshot.Snapshot, opts Options) (Result, error) {
	p, err := newPlanner(s, opts)
	if err != nil {
		return Result{}, err
	}
	d, err := opts.Growth.resolve(p.census)
	if err != nil {
		return Result{}, err
	}
	gauges, byNode, err := p.gauges(opts)
	if err != nil {
		return Result{}, err
	}
	asked := d.asked()
	r := Result{
		Platform: p.settings.platform, Growth: opts.Growth.String(), Now: p.counts(asItIs()), After: p.counts(asked),
		Tables: tightest(gauges, d), Identities: p.identities(asked), Services: p.services(),
	}
	for _, rate := range p.rates {
		r.Rates = append(r.Rates, rate.String())
	}
	for _, n := range p.census.nodes {
		r.Nodes = append(r.Nodes, nodeResult(n, byNode[n.node.Name], asked))
	}
	r.Limits = limits(r.Tables, d)
	if len(r.Limits) > 0 {
		r.First = &r.Limits[0]
	}
	for i := range r.Tables {
		for _, l := range r.Limits {
			if l.Name == r.Tables[i].Name {
				r.Tables[i].FullAt = l.At
			}
		}
	}
	r.Configuration = p.configure(r.Tables)
	r.Curve = curves(r, d)
	r.Notes = slices.Concat(p.notes, p.assumptions(d))
	return r, nil
}

// gauges gives everything that can run out, all and by node.
func (p *planner) gauges(opts Options) (all []*gauge, byNode map[string][]*gauge, err error) {
	byNode = map[string][]*gauge{}
	for _, n := range p.census.nodes {
		var tables []*gauge
		if p.cilium != nil {
			tables, err = p.ciliumTables(n)
		} else {
			tables, err = p.placidTables(n)
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, tables...)
	}
	all = append(all, p.census.identityGauge())
	addresses, notes := addressGauges(p.census, opts)
	all = append(all, addresses...)
	p.notes = append(p.notes, notes...)
	for _, g := range all {
		byNode[g.node] = append(byNode[g.node], g)
	}
	return all, byNode, nil
}

// tightest gives, of the gauges of one name, the one that is met first: the fullest
// of those that never are. They keep their order.
func tightest(gauges []*gauge, d direction) []Table {
	best := map[string]*gauge{}
	at := map[*gauge]float64{}
	var names []string
	asked := d.asked()
	for _, g := range gauges {
		at[g] = limitAt(g, d)
		b := best[g.name]
		if b == nil {
			names = append(names, g.name)
		}
		if b == nil || at[g] < at[b] || at[g] == at[b] && g.fill(asked) > b.fill(asked) {
			best[g.name] = g
		}
	}
	out := make([]Table, 0, len(names))
	for _, name := range names {
		out = append(out, best[name].show(asked))
	}
	return out
}

// show is the gauge as people see it.
func (g *gauge) show(asked scale) Table {
	return Table{
		Kind: g.kind, Name: g.name, Node: g.node, What: g.what, Key: g.key, Now: int(g.need(asItIs())), After: int(g.need(asked)),
		Size: g.size, Limit: g.limit, Bytes: g.bytes(asItIs()), BytesAfter: g.bytes(asked),
		Exact: g.exact, Model: g.model, Full: g.full, most: g.most, gauge: g,
	}
}

func nodeResult(n *nodeCensus, gauges []*gauge, asked scale) Node {
	out := Node{Name: n.node.Name, Memory: n.node.Memory, Pods: int(n.all.at(asItIs())), PodsAfter: int(n.all.at(asked))}
	for _, g := range gauges {
		t := g.show(asked)
		out.Tables = append(out.Tables, NodeTable{Kind: t.Kind, Name: t.Name, Now: t.Now, After: t.After, Size: t.Size, Limit: t.Limit, What: t.What})
		out.Bytes, out.BytesAfter = out.Bytes+t.Bytes, out.BytesAfter+t.BytesAfter
	}
	return out
}

// limits are those that growth meets, the first first. A table that evicts is not
// refused anything when it is full, and so comes after those that are.
func limits(tables []Table, d direction) []Limit {
	type met struct {
		Limit
		evicts bool
	}
	var found []met
	for _, t := range tables {
		at := limitAt(t.gauge, d)
		if math.IsInf(at, 1) {
			continue
		}
		l := Limit{Name: t.Name, Node: t.Node, What: t.What, Times: at, At: d.text(at), Limit: t.Limit, Full: t.Full, Key: t.Key}
		if d.whole {
			l.Times = 1 + at
		}
		if at == 0 && t.Now > t.Limit {
			l.At = "now"
		}
		found = append(found, met{l, t.gauge.evicts})
	}
	slices.SortStableFunc(found, func(a, b met) int { return cmp.Compare(a.Times, b.Times) })
	slices.SortStableFunc(found, func(a, b met) int { return cmp.Compare(boolInt(a.evicts), boolInt(b.evicts)) })
	out := make([]Limit, len(found))
	for i, f := range found {
		out[i] = f.Limit
	}
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Curves show how the first limits come nearer.
const (
	curveCount  = 5
	curvePoints = 24
)

// curves shows the tables whose limits are met first, a quarter beyond the first of
// them.
func curves(r Result, d direction) []Curve {
	if len(r.Limits) == 0 {
		return nil
	}
	end := r.Limits[0].Times
	if d.whole {
		end--
	}
	if end = max(end*1.25, 0.5); !d.whole && r.Limits[0].Times < 1 {
		end = max(end, 1)
	}
	var out []Curve
	for _, l := range r.Limits[:min(len(r.Limits), curveCount)] {
		i := slices.IndexFunc(r.Tables, func(t Table) bool { return t.Name == l.Name })
		c := Curve{Name: l.Name, Node: l.Node}
		for k := range curvePoints + 1 {
			t := end * float64(k) / curvePoints
			at := t
			if d.whole {
				at++
			}
			c.Points = append(c.Points, Point{Times: at, Fill: r.Tables[i].gauge.fill(d.at(t))})
		}
		out = append(out, c)
	}
	return out
}

func (p *planner) counts(s scale) Counts {
	c := p.census
	namespaces, services, pods := form{}, form{}, form{}
	for _, ns := range c.snap.Namespaces {
		if isSystem(ns.Name) {
			namespaces.add(1)
		} else {
			namespaces.add(1, byNamespaces)
		}
	}
	for i := range c.snap.Services {
		services.add(1, serviceDims(c.snap.Services[i].Ref)...)
	}
	for i := range c.snap.Pods {
		pc := podCensus{daemon: onEveryNode(&c.snap.Pods[i]), cloned: !isSystem(c.snap.Pods[i].Ref.Namespace)}
		pods.add(1, pc.everywhere()...)
	}
	policies := form{}
	for _, pol := range c.snap.Policies {
		if pol.Namespace == "" || isSystem(pol.Namespace) {
			policies.add(1, byPolicies)
		} else {
			policies.add(1, byPolicies, byNamespaces)
		}
	}
	return Counts{
		Nodes: int(math.Ceil(float64(len(c.nodes))*s[byNodes] - 1e-6)), Namespaces: int(namespaces.at(s)), Pods: int(pods.at(s)),
		Services: int(services.at(s)), Policies: int(policies.at(s)), Identities: int(c.identityForm().at(s)),
	}
}

// services compares the usual rule with what Services take on the first node.
func (p *planner) services() ServiceTotals {
	var out ServiceTotals
	for i := range p.census.snap.Services {
		cost := p.explain(&p.census.snap.Services[i], p.census.nodes[0])
		out.Documented += cost.Documented
		out.Exact += cost.Exact
		out.Largest = append(out.Largest, cost)
	}
	slices.SortStableFunc(out.Largest, func(a, b ServiceCost) int {
		return cmp.Or(cmp.Compare(b.Exact, a.Exact), byRef(a.Service, b.Service))
	})
	out.Largest = out.Largest[:min(len(out.Largest), largest)]
	return out
}

// largest is how many of the largest are named.
const largest = 12

func (p *planner) explain(s *snapshot.Service, n *nodeCensus) ServiceCost {
	if p.cilium != nil {
		return p.cilium.explain(s, n)
	}
	return p.balancer.explain(s, n)
}

// Explain says what one Service takes on a node, and how that comes about. An empty
// node is the first by name. The error wraps ErrNotFound, ErrNoNodes or ErrSettings.
func Explain(s *snapshot.Snapshot, opts Options, ref state.ServiceRef, node string) (ServiceCost, error) {
	p, err := newPlanner(s, opts)
	if err != nil {
		return ServiceCost{}, err
	}
	n := p.census.nodes[0]
	if node != "" {
		if n = p.census.byName[node]; n == nil {
			return ServiceCost{}, fmt.Errorf("node %s: %w", node, ErrNotFound)
		}
	}
	for i := range s.Services {
		if s.Services[i].Ref == ref {
			return p.explain(&s.Services[i], n), nil
		}
	}
	return ServiceCost{}, fmt.Errorf("service %s: %w; a headless one takes no entries", ref, ErrNotFound)
}

// identities says what makes the identities.
func (p *planner) identities(asked scale) IdentityCounts {
	c, g := p.census, p.census.identityGauge()
	out := IdentityCounts{Now: int(g.need(asItIs())), After: int(g.need(asked)), Limit: g.limit}
	spaces, keys := map[string]form{}, map[string]bool{}
	for _, i := range c.identities {
		ns := i.labels[namespaceLabel]
		if spaces[ns] == nil {
			spaces[ns] = form{}
		}
		grow := slices.DeleteFunc(i.grows(), func(d dim) bool { return d == byNamespaces })
		spaces[ns].add(1, grow...)
		for key := range i.labels {
			keys[key] = true
		}
	}
	for ns, f := range spaces {
		out.Namespaces = append(out.Namespaces, Share{Name: ns, Count: int(f.at(asItIs())), After: int(f.at(asked))})
	}
	for key := range keys {
		if n := c.causedBy(key); n > 0 {
			out.Labels = append(out.Labels, Share{Name: key, Count: n})
		}
	}
	for _, list := range []*[]Share{&out.Namespaces, &out.Labels} {
		slices.SortFunc(*list, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
		*list = (*list)[:min(len(*list), largest)]
	}
	return out
}

// causedBy is how many identities fewer there would be without a label key.
func (c *census) causedBy(key string) int {
	without := map[string]bool{}
	for _, i := range c.identities {
		text := i.key
		if _, ok := i.labels[key]; ok {
			labels := maps.Clone(i.labels)
			delete(labels, key)
			text = identity.Key(labels, i.ports)
		}
		without[text] = true
	}
	return len(c.identities) - len(without)
}

// assumptions say in sentences what the numbers rest on.
func (p *planner) assumptions(d direction) []string {
	var out []string
	switch {
	case p.settings.platform == snapshot.Placid:
		if p.settings.cfg.MapAutosize {
			out = append(out, "Tables of Placid whose size is not set get larger by themselves, within the memory budget (bpf-map-autosize, bpf-map-memory-budget).")
		}
	case !p.settings.seen:
		out = append(out, fmt.Sprintf("The cluster is not seen to run %s: defaults count, with kube-proxy replaced, which takes the most.", p.settings.platform))
	}
	unknown := 0
	for _, n := range p.census.nodes {
		if n.node.Memory == 0 {
			unknown++
		}
	}
	if unknown > 0 {
		out = append(out, fmt.Sprintf("The memory of %s is not known: their tables have the default sizes, and no budget.", count(unknown, "node")))
	}
	if d.whole {
		out = append(out, "Limits are those of nodes that run several times as much: more namespaces like those that there are, with all that is in them (--grow says otherwise).")
	}
	pending := 0
	for i := range p.census.snap.Pods {
		if p.census.byName[p.census.snap.Pods[i].Node] == nil {
			pending++
		}
	}
	if pending > 0 {
		out = append(out, fmt.Sprintf("%s on no node of the cluster: counted in the cluster's numbers alone.", plural(pending, "pod is", "pods are")))
	}
	return out
}
