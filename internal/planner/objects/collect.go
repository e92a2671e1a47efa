package objects

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// progressEvery is after how many objects progress is told.
const progressEvery = 500

// collector puts together what was read.
type collector struct {
	objects  map[snapshot.Object]object
	rows     int
	problems []snapshot.Problem
	unknown  map[typeMeta]*unknownKind
	input    snapshot.Input
}

// unknownKind counts the objects of a kind that is not read.
type unknownKind struct {
	count int
	first snapshot.Origin
}

func newCollector() *collector {
	return &collector{objects: map[snapshot.Object]object{}, unknown: map[typeMeta]*unknownKind{}}
}

// add takes what an item came to.
func (c *collector) add(r *reading) {
	c.problems = append(c.problems, r.problems...)
	for _, t := range r.unknown {
		u := c.unknown[t]
		if u == nil {
			u = &unknownKind{first: r.origin}
			c.unknown[t] = u
		}
		u.count++
	}
	for _, o := range r.objects {
		c.object(o)
	}
}

// object takes a row, unless there is one of the name.
func (c *collector) object(o object) {
	before, ok := c.objects[o.ref]
	if !ok {
		c.objects[o.ref] = o
		c.rows++
		return
	}
	if !reflect.DeepEqual(before.row, o.row) {
		c.problems = append(c.problems, snapshot.Problem{
			Severity: snapshot.Doubt, Origin: o.origin, Object: o.ref,
			Message: fmt.Sprintf("there is another one that says something else, in %s; that one is used", place(before.origin)),
		})
	}
}

// place says where an object was read.
func place(o snapshot.Origin) string {
	if o.File == "" {
		return "the API server"
	}
	text := o.File
	if o.Document > 0 {
		text += fmt.Sprintf(", document %d", o.Document)
	}
	if o.Item > 0 {
		text += fmt.Sprintf(", item %d", o.Item)
	}
	return text
}

// fileCollector is the collector for one source.
type fileCollector struct {
	*collector
	name     string
	found    bool // in a directory
	progress func(done, total int, what string)

	plausible, binary bool
	items, objects    int
	nothing           int // documents that are no objects
	firstNothing      snapshot.Origin
	held              []snapshot.Problem // of a text that may be no objects at all
}

func (c *collector) file(name string, found bool, progress func(int, int, string)) *fileCollector {
	return &fileCollector{collector: c, name: name, found: found, progress: progress}
}

func (f *fileCollector) take(r *reading) {
	f.items++
	if f.items%progressEvery == 0 {
		f.progress(f.items, 0, f.name)
	}
	if r.nothing {
		f.nothing++
		if f.nothing == 1 {
			f.firstNothing = r.origin
		}
		return
	}
	if r.ref.Kind == "" && r.Kind == "" && f.objects == 0 {
		f.held = append(f.held, r.problems...)
		return
	}
	f.objects++
	f.add(r)
}

// done ends a source: one from a directory that has no objects is skipped, and what
// else is none is told.
func (f *fileCollector) done() {
	if f.binary || f.found && f.objects == 0 && !f.plausible {
		f.input.Skipped++
		return
	}
	f.input.Files++
	f.input.Objects += f.objects
	f.problems = append(f.problems, f.held...)
	if f.nothing > 0 && (f.objects > 0 || !f.found) {
		f.problems = append(f.problems, snapshot.Problem{
			Severity: snapshot.Doubt, Origin: f.firstNothing,
			Message: fmt.Sprintf("%d documents of the file are no objects of Kubernetes, this one first; they have no kind", f.nothing),
		})
	}
	f.progress(f.items, f.items, f.name)
}

// snapshot gives the cluster.
func (c *collector) snapshot() *snapshot.Snapshot {
	out := &snapshot.Snapshot{Origins: make(map[snapshot.Object]snapshot.Origin, len(c.objects)), Input: c.input}
	parts := parts{sliced: map[state.ServiceRef]bool{}}
	for ref, o := range c.objects {
		out.Origins[ref] = o.origin
		parts.take(out, o)
	}
	for _, e := range parts.endpoints {
		for _, row := range e {
			if !parts.sliced[state.ServiceRef{Namespace: row.Namespace, Name: row.Service}] {
				out.Slices = append(out.Slices, row)
			}
		}
	}
	doubts := setPlatform(out, parts.configs, parts.ranges)
	out.Nodes = mergeNodes(out.Nodes, parts.ranges, out.Platform)
	addNamespaces(out)
	order(out)
	out.Problems = slices.Concat(foldDoubts(c.problems), doubts, c.unknownKinds())
	return out
}

// parts are rows that are put together with others.
type parts struct {
	endpoints []endpointsRow
	sliced    map[state.ServiceRef]bool // the services that have slices
	configs   []config
	ranges    []nodeRanges
}

func (p *parts) take(out *snapshot.Snapshot, o object) {
	switch row := o.row.(type) {
	case snapshot.Node:
		out.Nodes = append(out.Nodes, row)
	case state.Namespace:
		out.Namespaces = append(out.Namespaces, row)
	case snapshot.Pod:
		out.Pods = append(out.Pods, row)
	case serviceRow:
		out.PolicyServices = append(out.PolicyServices, row.policy)
		if row.headless {
			out.Headless++
		} else {
			out.Services = append(out.Services, row.Service)
		}
	case state.EndpointSlice:
		out.Slices = append(out.Slices, row)
		p.sliced[state.ServiceRef{Namespace: row.Namespace, Name: row.Service}] = true
	case endpointsRow:
		p.endpoints = append(p.endpoints, row)
	case policyRows:
		out.Policies = append(out.Policies, row...)
	case state.CIDRGroup:
		out.CIDRGroups = append(out.CIDRGroups, row)
	case config:
		p.configs = append(p.configs, row)
	case nodeRanges:
		p.ranges = append(p.ranges, row)
	}
}

// mergeNodes gives nodes the pod CIDRs that their network has for them, and adds
// those that only the network's objects show.
func mergeNodes(nodes []snapshot.Node, ranges []nodeRanges, platform snapshot.Platform) []snapshot.Node {
	at := map[string]int{}
	for i, n := range nodes {
		at[n.Name] = i
	}
	// The objects of the network that runs go before those that another one left.
	slices.SortFunc(ranges, func(a, b nodeRanges) int {
		first := func(r nodeRanges) int {
			if (r.platform == snapshot.Placid) == (platform == snapshot.Placid) {
				return 0
			}
			return 1
		}
		return cmp.Or(first(a)-first(b), strings.Compare(a.node.Name, b.node.Name))
	})
	taken := map[string]bool{}
	for _, r := range ranges {
		i, ok := at[r.node.Name]
		switch {
		case !ok:
			at[r.node.Name] = len(nodes)
			nodes = append(nodes, r.node)
		case !taken[r.node.Name] && len(r.node.PodCIDRs) > 0:
			nodes[i].PodCIDRs = r.node.PodCIDRs
		}
		taken[r.node.Name] = true
	}
	return nodes
}

// addNamespaces adds the namespaces that only other objects name.
func addNamespaces(s *snapshot.Snapshot) {
	have := map[string]bool{"": true} // clusterwide
	for _, n := range s.Namespaces {
		have[n.Name] = true
	}
	need := func(name string) {
		if !have[name] {
			have[name] = true
			s.Namespaces = append(s.Namespaces, state.Namespace{Name: name, Labels: withOwnName(nil, name)})
		}
	}
	for _, p := range s.Pods {
		need(p.Ref.Namespace)
	}
	for _, svc := range s.PolicyServices {
		need(svc.Ref.Namespace)
	}
	for _, e := range s.Slices {
		need(e.Namespace)
	}
	for _, p := range s.Policies {
		need(p.Namespace)
	}
}

// order sorts the lists, as they come out of a map.
func order(s *snapshot.Snapshot) {
	slices.SortFunc(s.Nodes, func(a, b snapshot.Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Namespaces, func(a, b state.Namespace) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Pods, func(a, b snapshot.Pod) int {
		return cmp.Or(strings.Compare(a.Ref.Namespace, b.Ref.Namespace), strings.Compare(a.Ref.Name, b.Ref.Name))
	})
	slices.SortFunc(s.Services, func(a, b snapshot.Service) int {
		return cmp.Or(strings.Compare(a.Ref.Namespace, b.Ref.Namespace), strings.Compare(a.Ref.Name, b.Ref.Name))
	})
	slices.SortFunc(s.PolicyServices, func(a, b state.PolicyService) int {
		return cmp.Or(strings.Compare(a.Ref.Namespace, b.Ref.Namespace), strings.Compare(a.Ref.Name, b.Ref.Name))
	})
	slices.SortFunc(s.Slices, func(a, b state.EndpointSlice) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Policies, func(a, b state.NetworkPolicy) int { return strings.Compare(a.Key(), b.Key()) })
	slices.SortFunc(s.CIDRGroups, func(a, b state.CIDRGroup) int { return strings.Compare(a.Name, b.Name) })
}

// foldDoubts makes one of equal doubts about objects of a kind: a field that is not
// known is in all of them. Each policy counts alone.
func foldDoubts(problems []snapshot.Problem) []snapshot.Problem {
	type kindOf struct{ kind, field, message string }
	at, more := map[kindOf]int{}, map[int]int{}
	var out []snapshot.Problem
	for _, p := range problems {
		key := kindOf{p.Object.Kind, p.Field, p.Message}
		i, again := at[key]
		if p.Severity == snapshot.Doubt && again && !isPolicy(p.Object.Kind) {
			more[i]++
			continue
		}
		at[key] = len(out)
		out = append(out, p)
	}
	for i, n := range more {
		out[i].Message += fmt.Sprintf(" (and so for %d more of the kind)", n)
	}
	return out
}

// unknownKinds tells of the kinds that are not read, once each.
func (c *collector) unknownKinds() []snapshot.Problem {
	var out []snapshot.Problem
	byName := func(a, b typeMeta) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.APIVersion, b.APIVersion))
	}
	for _, t := range slices.SortedFunc(maps.Keys(c.unknown), byName) {
		u := c.unknown[t]
		out = append(out, snapshot.Problem{
			Severity: snapshot.Doubt, Origin: u.first, Object: snapshot.Object{Kind: t.Kind}, Message: unknownText(t, u.count),
		})
	}
	return out
}
