package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// The families of addresses.
const (
	ipv4 = iota
	ipv6
	families
)

// absent is the region of a family that a peer has no address of.
const absent = -2

// place is where a peer is: a region, nowhere or absent for each family.
type place [families]int

// peer is a Peer with what is needed to judge it.
type peer struct {
	Peer
	place place
	addrs [families]netip.Addr // one of its own; of no meaning where it is nowhere
	pods  []int                // indexes into Cluster.Pods, by name
	id    uint32               // of what is no pod
}

// grouper makes groups of pods.
type grouper struct {
	mentions mentions
	regions  regions
	keys     []string // of labels of pods that policies name, sorted
	accounts bool     // policies name service accounts
}

func newGrouper(m mentions, r regions) *grouper {
	g := &grouper{mentions: m, regions: r, accounts: m.labels[accountName] != nil}
	keys := slices.Collect(maps.Keys(m.own))
	for name := range m.labels {
		if key, ok := strings.CutPrefix(name, podPrefix); ok && !isDerived(name) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	g.keys = slices.Compact(keys)
	return g
}

// groups divides the pods that have a network of their own, ordered by their names.
func (g *grouper) groups(pods []snapshot.Pod) []peer {
	byKey := map[string]*peer{}
	var key strings.Builder
	for i, p := range pods {
		if p.HostNetwork {
			continue
		}
		where, addrs := g.placeOf(p.Addrs)
		ports := g.mentions.projectPorts(p.NamedPorts)
		key.Reset()
		g.writeKey(&key, p, where, ports)
		x := byKey[key.String()]
		if x == nil {
			x = &peer{Peer: Peer{Kind: Pods, Namespace: p.Ref.Namespace, Labels: g.labels(p), NamedPorts: ports}, place: where, addrs: addrs}
			if g.accounts {
				x.ServiceAccount = p.ServiceAccount
			}
			byKey[key.String()] = x
		}
		x.pods = append(x.pods, i)
	}
	out := make([]peer, 0, len(byKey))
	perNamespace := map[string]int{}
	for _, x := range byKey {
		slices.SortFunc(x.pods, func(a, b int) int { return strings.Compare(pods[a].Ref.Name, pods[b].Ref.Name) })
		x.Pods, x.Example = len(x.pods), pods[x.pods[0]].Ref.String()
		perNamespace[x.Namespace]++
		out = append(out, *x)
	}
	for i := range out {
		out[i].Name = out[i].podsName(perNamespace[out[i].Namespace] == 1)
	}
	slices.SortFunc(out, func(a, b peer) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.Example, b.Example))
	})
	g.distinguish(out)
	return out
}

// writeKey writes what is the same for pods of one group alone.
func (g *grouper) writeKey(b *strings.Builder, p snapshot.Pod, where place, ports []state.NamedPort) {
	b.WriteString(p.Ref.Namespace)
	for i, key := range g.keys {
		if value, ok := p.Labels[key]; ok {
			fmt.Fprintf(b, "\x00%d=%s", i, value)
		}
	}
	if g.accounts {
		b.WriteString("\x00" + p.ServiceAccount)
	}
	b.WriteString("\x00" + identity.Key(nil, ports))
	for _, r := range where {
		fmt.Fprintf(b, "\x00%d", r)
	}
}

// labels are those of a pod that policies name.
func (g *grouper) labels(p snapshot.Pod) map[string]string {
	out := map[string]string{}
	for _, key := range g.keys {
		if value, ok := p.Labels[key]; ok {
			out[key] = value
		}
	}
	return out
}

// placeOf gives the regions of the first address of each family; nowhere, of both
// families, for a pod whose addresses are not known.
func (g *grouper) placeOf(addrs []netip.Addr) (place, [families]netip.Addr) {
	if len(addrs) == 0 {
		return place{nowhere, nowhere}, [families]netip.Addr{}
	}
	where := place{absent, absent}
	var first [families]netip.Addr
	for _, a := range addrs {
		f := familyOf(a)
		if where[f] == absent {
			where[f], first[f] = g.regions.of(a), a.Unmap()
		}
	}
	return where, first
}

func familyOf(a netip.Addr) int {
	if a.Unmap().Is4() {
		return ipv4
	}
	return ipv6
}

// podsName gives e.g. "default/app=web,tier=front".
func (p *peer) podsName(alone bool) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		parts = append(parts, key+"="+p.Labels[key])
	}
	if p.ServiceAccount != "" {
		parts = append(parts, "service account "+p.ServiceAccount)
	}
	switch {
	case len(parts) > 0:
	case alone:
		parts = []string{"(all pods)"}
	default:
		parts = []string{"(other pods)"}
	}
	return p.Namespace + "/" + strings.Join(parts, ",")
}

// distinguish adds to names that are the same what their groups differ in: ports,
// then addresses.
func (g *grouper) distinguish(groups []peer) {
	more := []func(*peer) string{
		func(p *peer) string { return portNames(p.NamedPorts) },
		func(p *peer) string { return g.placeName(p.place) },
	}
	for _, add := range more {
		count := map[string]int{}
		for _, p := range groups {
			count[p.Name]++
		}
		for i := range groups {
			if p := &groups[i]; count[p.Name] > 1 {
				p.Name += add(p)
			}
		}
	}
	for i := range groups {
		for _, r := range groups[i].place {
			if r >= 0 && !groups[i].Prefix.IsValid() {
				groups[i].Prefix, groups[i].Without = g.regions.list[r].prefix, g.regions.list[r].without
			}
		}
	}
}

func portNames(ports []state.NamedPort) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = fmt.Sprintf("%s=%d/%s", p.Name, p.Port, p.Protocol)
	}
	slices.Sort(words)
	if len(words) == 0 {
		return " without named ports"
	}
	return " with " + strings.Join(words, ",")
}

func (g *grouper) placeName(where place) string {
	var words []string
	for f, r := range where {
		switch {
		case r >= 0:
			words = append(words, g.regions.list[r].String())
		case r == absent:
			words = append(words, "no "+familyName(f))
		}
	}
	if len(words) == 0 {
		return " in no prefix"
	}
	return " in " + strings.Join(words, " and ")
}

func familyName(f int) string {
	if f == ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// others gives the peers that are no pods: nodes by where their addresses are, the
// rest of the world, its regions, and pods without an identity.
func (g *grouper) others(nodes []snapshot.Node) []peer {
	var out []peer
	for _, kind := range []peer{{Peer: Peer{Kind: Host}, id: state.IdentityHost}, {Peer: Peer{Kind: RemoteNode}, id: state.IdentityRemoteNode}} {
		out = append(out, g.nodes(kind, nodes)...)
	}
	for i, r := range g.regions.list {
		f := familyOf(r.prefix.Addr())
		x := peer{Peer: Peer{Kind: Region, Name: r.String(), Prefix: r.prefix, Without: r.without}, place: place{absent, absent}, id: state.IdentityWorld}
		x.place[f], x.addrs[f] = i, r.addr
		out = append(out, x)
	}
	world := peer{Peer: Peer{Kind: World, Name: "world"}, place: place{nowhere, nowhere}, id: state.IdentityWorld}
	for f, whole := range g.regions.whole {
		if whole {
			world.place[f], world.Name = absent, "world ("+familyName(1-f)+")"
		}
	}
	if world.place != (place{absent, absent}) {
		out = append(out, world)
	}
	return append(out, peer{Peer: Peer{Kind: Init, Name: "init"}, place: place{nowhere, nowhere}, id: state.IdentityInit})
}

// nodes gives a peer like kind for every region that has addresses of nodes, and
// one for those outside of all.
func (g *grouper) nodes(kind peer, nodes []snapshot.Node) []peer {
	seen := map[int]netip.Addr{}
	outside := kind
	outside.Name, outside.place = string(kind.Kind), place{absent, absent}
	for _, n := range nodes {
		for _, a := range n.Addrs {
			switch r := g.regions.of(a); r {
			case nowhere:
				outside.place[familyOf(a)] = nowhere
			default:
				if _, known := seen[r]; !known {
					seen[r] = a.Unmap()
				}
			}
		}
	}
	var out []peer
	if len(seen) == 0 { // also when no address of a node is known
		outside.place = place{nowhere, nowhere}
	}
	if outside.place != (place{absent, absent}) {
		out = append(out, outside)
	}
	for _, r := range slices.Sorted(maps.Keys(seen)) {
		x, where := kind, g.regions.list[r]
		x.Name, x.Prefix, x.Without = string(kind.Kind)+" in "+where.String(), where.prefix, where.without
		x.place = place{absent, absent}
		x.place[familyOf(where.prefix.Addr())], x.addrs[familyOf(where.prefix.Addr())] = r, seen[r]
		out = append(out, x)
	}
	return out
}
