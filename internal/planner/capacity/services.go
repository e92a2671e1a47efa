package capacity

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// serviceForms are what all Services take on a node.
type serviceForms struct {
	frontends, backends, maglev, ranges form
}

// balancer compiles the Services of a cluster for its nodes. Nodes for which they
// come to the same share what was found.
type balancer struct {
	census  *census
	config  loadbalance.Config
	slices  map[state.ServiceRef][]*state.EndpointSlice
	allNode []netip.Addr
	// located are the addresses of nodes that a Service has too.
	located map[netip.Addr]bool
	byClass map[string]*serviceForms
	engine  *loadbalance.Engine
	ports   []state.ServiceRef // pods whose host ports the engine has
}

func newBalancer(c *census) (*balancer, error) {
	cfg := c.settings.cfg
	b := &balancer{
		census: c, slices: map[state.ServiceRef][]*state.EndpointSlice{}, located: map[netip.Addr]bool{}, byClass: map[string]*serviceForms{},
		config: loadbalance.Config{
			IPv4: cfg.EnableIPv4, IPv6: cfg.EnableIPv6, Algorithm: loadbalance.Algorithm(cfg.LBAlgorithm),
			AlgorithmByAnnotation: cfg.LBAlgorithmAnnotation, ExternalClusterIP: cfg.LBExternalClusterIP,
			SourceRangeAllTypes: cfg.LBSourceRangeAllTypes, NodePortFirst: cfg.NodePortRange.First, NodePortLast: cfg.NodePortRange.Last,
			TopologyHints: cfg.ServiceTopology, MaglevSize: uint32(cfg.LBMaglevTableSize),
		},
	}
	engine, err := loadbalance.New(b.config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	b.engine = engine
	for i := range c.snap.Slices {
		s := &c.snap.Slices[i]
		ref := state.ServiceRef{Namespace: s.Namespace, Name: s.Service}
		b.slices[ref] = append(b.slices[ref], s)
		engine.UpsertSlice(s)
	}
	for i := range c.snap.Services {
		s := &c.snap.Services[i].Service
		engine.UpsertService(s)
		for _, a := range slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancers) {
			if _, ok := c.nodeAddrs[a]; ok {
				b.located[a] = true
			}
		}
	}
	for _, n := range c.nodes {
		b.allNode = append(b.allNode, n.node.Addrs...)
	}
	return b, nil
}

// nodePortAddrs are those of a node's addresses that node ports are served at.
func (b *balancer) nodePortAddrs(n *nodeCensus) []netip.Addr {
	only := b.census.settings.cfg.NodePortAddresses
	return slices.DeleteFunc(slices.Clone(n.node.Addrs), func(a netip.Addr) bool {
		return len(only) > 0 && !slices.ContainsFunc(only, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// class names what the Services of a node depend on.
func (b *balancer) class(n *nodeCensus) string {
	var text strings.Builder
	counts := [2]int{}
	for _, a := range b.nodePortAddrs(n) {
		counts[index(a)]++
		if b.located[a] {
			fmt.Fprintf(&text, "%s ", a)
		}
	}
	fmt.Fprintf(&text, "%v", counts)
	if b.config.TopologyHints {
		fmt.Fprintf(&text, " %s %s", n.node.Name, n.node.Zone)
	}
	for i := range b.census.snap.Services {
		if s := &b.census.snap.Services[i]; s.ExternalLocal || s.InternalLocal {
			fmt.Fprintf(&text, " %d:%s", i, b.localKinds(s, n.node.Name))
		}
	}
	for _, p := range b.hostPortPods(n) {
		fmt.Fprintf(&text, " %d%v", len(p.Addrs), p.HostPorts)
	}
	return text.String()
}

func index(a netip.Addr) int {
	if a.Is6() {
		return 1
	}
	return 0
}

// localKinds tells which backends a Service has on a node: how many, in which
// state, and which of them grow.
func (b *balancer) localKinds(s *snapshot.Service, node string) string {
	counts := map[string]int{}
	for _, slice := range b.slices[s.Ref] {
		for i := range slice.Backends {
			if e := &slice.Backends[i]; e.Node == node {
				counts[fmt.Sprint(e.Addr.Is6(), e.Ready, e.Serving, e.Terminating, b.kindOf(e.Addr))]++
			}
		}
	}
	return fmt.Sprint(counts) // in the order of keys
}

// hostPortPods are the pods of a node with ports of it, in order.
func (b *balancer) hostPortPods(n *nodeCensus) []*snapshot.Pod {
	var out []*snapshot.Pod
	for _, p := range n.pods {
		if len(p.pod.HostPorts) > 0 && len(p.pod.Addrs) > 0 {
			out = append(out, p.pod)
		}
	}
	slices.SortFunc(out, func(a, b *snapshot.Pod) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
	return out
}

// backendKind says how backends like one grow.
type backendKind int

const (
	backendFixed  backendKind = iota // no pod
	backendPod                       // as many as pods
	backendDaemon                    // one a node
)

func (b *balancer) kindOf(a netip.Addr) backendKind {
	p := b.census.byAddr[a]
	switch _, isNode := b.census.nodeAddrs[a]; {
	case p != nil && !p.daemon:
		return backendPod
	case p != nil || isNode:
		return backendDaemon
	}
	return backendFixed
}

// on gives what the Services take on a node.
func (b *balancer) on(n *nodeCensus) *serviceForms {
	key := b.class(n)
	if f := b.byClass[key]; f != nil {
		return f
	}
	b.place(n)
	f := &serviceForms{frontends: form{}, backends: form{}, maglev: form{}, ranges: form{}}
	for _, s := range b.engine.Services() {
		b.add(f, s)
	}
	b.byClass[key] = f
	return f
}

// place makes the engine's node that one.
func (b *balancer) place(n *nodeCensus) {
	b.engine.SetNode(loadbalance.Node{Name: n.node.Name, Zone: n.node.Zone, Addrs: b.nodePortAddrs(n), Nodes: b.allNode})
	for _, ref := range b.ports {
		b.engine.DeleteHostPorts(ref)
	}
	b.ports = nil
	for _, p := range b.hostPortPods(n) {
		ref := state.ServiceRef{Namespace: p.Ref.Namespace, Name: p.Ref.Name}
		b.engine.SetHostPorts(ref, p.Addrs, p.CreatedAt, p.HostPorts)
		b.ports = append(b.ports, ref)
	}
}

// Ports gives the ports of all Services and host ports on a node, and the addresses
// that have an entry of their own: what the datapath of the node is told.
func (b *balancer) portsOn(n *nodeCensus) ([]loadbalance.Port, []netip.Addr) {
	b.place(n)
	return b.engine.Ports(), b.engine.Addresses()
}

// serviceDims is how entries of a Service grow with the Services.
func serviceDims(ref state.ServiceRef) []dim {
	switch {
	case isAPIServer(ref):
		return nil
	case isSystem(ref.Namespace):
		return []dim{byServices}
	}
	return []dim{byServices, byNamespaces}
}

// add adds one Service, or one pod with host ports. A backend that several ports
// let drain is counted at each, which is more than there is for a moment.
func (b *balancer) add(f *serviceForms, s loadbalance.Summary) {
	if s.HostPort {
		f.frontends.add(float64(s.Entries.Frontends))
		f.backends.add(float64(s.Entries.Backends))
		return
	}
	grow := serviceDims(s.Service)
	f.frontends.add(float64(s.Entries.Frontends), grow...)
	f.maglev.add(float64(s.Entries.Maglev), grow...)
	f.ranges.add(float64(s.Entries.SourceRanges), grow...)
	for i := range s.Ports {
		p := &s.Ports[i]
		each := 1.0
		if p.Affinity > 0 {
			each = 2 // each backend is found by its slot and by its id
		}
		all, local := reached(p, loadbalance.ReachAll), reached(p, loadbalance.ReachLocal)
		if all {
			b.addList(f.backends, p.All, each, s.Service, false)
		}
		if local {
			b.addList(f.backends, p.Local, each, s.Service, true, b.apart(p, all)...)
		}
		f.backends.add(float64(len(p.Draining)), grow...)
	}
}

// reached tells whether a frontend of the port leads to such backends.
func reached(p *loadbalance.Port, r loadbalance.Reach) bool {
	return slices.ContainsFunc(p.Frontends, func(f loadbalance.Frontend) bool { return f.Outside == r || f.Cluster == r })
}

// addList adds a list of backends, each so many times.
func (b *balancer) addList(f form, list []loadbalance.Backend, each float64, ref state.ServiceRef, local bool, also ...dim) {
	for _, backend := range list {
		f.add(each, append(b.backendDims(backend.Addr.Addr(), ref, local), also...)...)
	}
}

// apart tells when the backends of this node are a list of their own: they are none
// as long as they are all that there are.
func (b *balancer) apart(p *loadbalance.Port, all bool) []dim {
	switch {
	case !all || !slices.Equal(p.All, p.Local):
		return nil
	case slices.ContainsFunc(p.Local, func(x loadbalance.Backend) bool { return b.kindOf(x.Addr.Addr()) == backendDaemon }):
		return []dim{byNewNodes}
	}
	return []dim{byNewPods}
}

// backendDims is how backends like one grow, of those everywhere or of the node's.
func (b *balancer) backendDims(a netip.Addr, ref state.ServiceRef, local bool) []dim {
	grow := serviceDims(ref)
	switch kind := b.kindOf(a); {
	case kind == backendPod && !local:
		return append(grow, byPods)
	case kind == backendPod && slices.Contains(grow, byNamespaces):
		return []dim{byServices, byClonedHere}
	case kind == backendPod:
		return append(grow, byFixedHere)
	case kind == backendDaemon && !local:
		return append(grow, byNodes)
	}
	return grow
}

// byRef orders by namespace and name.
func byRef(a, b state.ServiceRef) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
