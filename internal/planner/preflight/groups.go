package preflight

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// group is pods that no selector tells apart.
type group struct {
	namespace string
	labels    map[string]string // of identities, those that selectors name
	ports     []state.NamedPort // that the containers declare; of some the name is empty
	pods      int
	example   state.PodRef // the first by name
	dns       bool         // answers questions about names
}

// groupsOf divides the pods that have a network of their own by the labels that
// are named.
func groupsOf(in *snapshot.Snapshot, named map[string]bool) []group {
	namespaces := map[string]state.Namespace{}
	for _, n := range in.Namespaces {
		namespaces[n.Name] = n
	}
	keys := sortedKeys(named)
	cluster := cmp.Or(in.ClusterName, "default")
	byKey := map[string]*group{}
	var text strings.Builder
	for i := range in.Pods {
		p := &in.Pods[i]
		if p.HostNetwork {
			continue
		}
		text.Reset()
		text.WriteString(p.Ref.Namespace + "\x00" + p.ServiceAccount + "\x00")
		for _, key := range keys {
			if own, ok := strings.CutPrefix(key, podPrefix); ok {
				if value, has := p.Labels[own]; has {
					text.WriteString(key + "=" + value + "\x00")
				}
			}
		}
		for _, x := range p.Ports {
			fmt.Fprintf(&text, "\x00%s/%d/%d", x.Name, x.Protocol, x.Port)
		}
		g := byKey[text.String()]
		if g == nil {
			all := identity.PodLabels(p.Pod, namespaces[p.Ref.Namespace], cluster)
			g = &group{namespace: p.Ref.Namespace, ports: p.Ports, example: p.Ref, dns: isDNS(p)}
			g.labels = maps.Clone(all)
			maps.DeleteFunc(g.labels, func(key, _ string) bool { return !named[key] })
			byKey[text.String()] = g
		}
		g.pods++
		g.dns = g.dns || isDNS(p)
		if p.Ref.Name < g.example.Name {
			g.example = p.Ref
		}
	}
	out := make([]group, 0, len(byKey))
	for _, g := range byKey {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.example.Name, b.example.Name))
	})
	return out
}

// isDNS tells whether a pod is one of the cluster's DNS servers, by the labels that
// these have everywhere.
func isDNS(p *snapshot.Pod) bool {
	return slices.Contains([]string{"kube-dns", "coredns", "node-local-dns"}, p.Labels["k8s-app"]) ||
		p.Labels["app.kubernetes.io/name"] == "coredns"
}

// selecting says how labels that the filter leaves out of identities count.
type selecting int

const (
	byLabels   selecting = iota // they are there: pods of Placid's policies
	byIdentity                  // no pod has them: everybody in Cilium
	strictly                    // who asks for one selects nobody: peers in Placid
)

// index finds the groups that selectors select.
type index struct {
	groups []group
	kept   func(key string) bool
	known  map[string]set
	// byNamespace and byLabel list groups in order.
	byNamespace map[string][]int
	byLabel     map[[2]string][]int
	everyone    []int
}

func newIndex(groups []group, kept func(string) bool) *index {
	x := &index{groups: groups, kept: kept, known: map[string]set{}, byNamespace: map[string][]int{}, byLabel: map[[2]string][]int{}}
	for i, g := range groups {
		x.everyone = append(x.everyone, i)
		x.byNamespace[g.namespace] = append(x.byNamespace[g.namespace], i)
		for key, value := range g.labels {
			x.byLabel[[2]string{key, value}] = append(x.byLabel[[2]string{key, value}], i)
		}
	}
	return x
}

// selected gives the groups that fulfil the conditions. What it returns is shared.
func (x *index) selected(t terms, how selecting) set {
	key := fmt.Sprint(int(how)) + t.String()
	if s, ok := x.known[key]; ok {
		return s
	}
	s := newSet(len(x.groups))
	if unknown := x.filtered(t); how != strictly || unknown == "" {
		for _, i := range x.candidates(t) {
			if x.matches(t, i, how) {
				s.add(i)
			}
		}
	}
	x.known[key] = s
	return s
}

// filtered gives the first key of the conditions that identities do not have, empty
// if there is none.
func (x *index) filtered(t terms) string {
	for _, c := range t {
		if !x.kept(c.key) {
			return c.key
		}
	}
	return ""
}

func (x *index) matches(t terms, i int, how selecting) bool {
	for _, c := range t {
		labels := x.groups[i].labels
		if how == byIdentity && !x.kept(c.key) {
			labels = nil
		}
		if !c.matches(labels) {
			return false
		}
	}
	return true
}

// candidates are groups among which all are that fulfil the conditions.
func (x *index) candidates(t terms) []int {
	best := x.everyone
	for _, c := range t {
		if c.op != state.OperatorIn || len(c.values) != 1 {
			continue
		}
		list := x.byLabel[[2]string{c.key, c.values[0]}]
		if c.key == namespaceName {
			list = x.byNamespace[c.values[0]]
		}
		if len(list) < len(best) {
			best = list
		}
	}
	return best
}
