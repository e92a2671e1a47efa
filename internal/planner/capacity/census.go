package capacity

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// census is who is where, counted once.
type census struct {
	snap     *snapshot.Snapshot
	settings *settings
	nodes    []*nodeCensus // by name
	byName   map[string]*nodeCensus
	// pods are those with a network of their own, in the snapshot's order.
	pods       []*podCensus
	byAddr     map[netip.Addr]*podCensus
	nodeAddrs  map[netip.Addr]string
	spaces     map[string]state.Namespace
	identities []*identityCensus // by key
	appPods    int               // that grow with pods
	services   int
	namespaces int // that can be copied
	// addrs are those of all pods, hostPods all pods on the node's network.
	addrs form
}

// nodeCensus is one node.
type nodeCensus struct {
	node *snapshot.Node
	pods []*podCensus
	// all are the pods that count against max-pods, own those with addresses of
	// their own.
	all, own form
	hostPods []*snapshot.Pod
}

// podCensus is one pod with a network of its own.
type podCensus struct {
	pod      *snapshot.Pod
	labels   map[string]string // all, as identity.PodLabels
	identity *identityCensus
	daemon   bool // there is one on every node
	cloned   bool // its namespace can be copied
}

// identityCensus is one identity.
type identityCensus struct {
	key    string
	id     uint32
	labels map[string]string // those that the filter keeps
	ports  []state.NamedPort
	pods   []*podCensus
	cloned bool
	// perPod tells that its pods' owners have pods of other identities too: some
	// label differs from pod to pod.
	perPod bool
}

// isSystem tells whether there is one such namespace in every cluster, however
// large.
func isSystem(namespace string) bool { return strings.HasPrefix(namespace, "kube-") }

// onEveryNode tells whether pods follow the nodes: those of DaemonSets and static
// ones.
func onEveryNode(p *snapshot.Pod) bool {
	return strings.HasPrefix(p.Owner, "DaemonSet/") || strings.HasPrefix(p.Owner, "Node/")
}

func newCensus(s *snapshot.Snapshot, set *settings) *census {
	c := &census{
		snap: s, settings: set, byName: map[string]*nodeCensus{}, byAddr: map[netip.Addr]*podCensus{},
		nodeAddrs: map[netip.Addr]string{}, spaces: map[string]state.Namespace{}, addrs: form{},
	}
	for i := range s.Nodes {
		n := &nodeCensus{node: &s.Nodes[i], all: form{}, own: form{}}
		c.nodes, c.byName[n.node.Name] = append(c.nodes, n), n
		for _, a := range n.node.Addrs {
			c.nodeAddrs[a] = n.node.Name
		}
	}
	slices.SortFunc(c.nodes, func(a, b *nodeCensus) int { return cmp.Compare(a.node.Name, b.node.Name) })
	for _, ns := range s.Namespaces {
		c.spaces[ns.Name] = ns
		if !isSystem(ns.Name) {
			c.namespaces++
		}
	}
	for i := range s.Pods {
		c.addPod(&s.Pods[i])
	}
	for i := range s.Services {
		if !isAPIServer(s.Services[i].Ref) {
			c.services++
		}
	}
	c.countIdentities()
	return c
}

// isAPIServer tells whether there is one such Service in every cluster.
func isAPIServer(ref state.ServiceRef) bool {
	return ref == state.ServiceRef{Namespace: "default", Name: "kubernetes"}
}

func (c *census) addPod(p *snapshot.Pod) {
	pc := &podCensus{pod: p, daemon: onEveryNode(p), cloned: !isSystem(p.Ref.Namespace)}
	n := c.byName[p.Node]
	if !pc.daemon {
		c.appPods++
	}
	if n != nil {
		n.all.add(1, pc.here()...)
	}
	if p.HostNetwork {
		if n != nil {
			n.hostPods = append(n.hostPods, p)
		}
		return
	}
	c.pods = append(c.pods, pc)
	for _, a := range p.Addrs {
		c.byAddr[a] = pc
	}
	c.addrs.add(float64(len(c.podAddrs(p))), pc.everywhere()...)
	if n != nil {
		n.pods = append(n.pods, pc)
		n.own.add(1, pc.here()...)
	}
}

// podAddrs are the addresses of a pod in the families that are on; a pod that has
// none yet gets one of each.
func (c *census) podAddrs(p *snapshot.Pod) []netip.Addr {
	ipv4, ipv6 := c.settings.families()
	if len(p.Addrs) == 0 && ipv4 {
		return []netip.Addr{{}}
	}
	return slices.DeleteFunc(slices.Clone(p.Addrs), func(a netip.Addr) bool { return a.Is6() && !ipv6 || a.Is4() && !ipv4 })
}

// everywhere is how the pods like this one grow in the cluster, here how they do on
// its node.
func (p *podCensus) everywhere() []dim {
	out := []dim{byPods}
	if p.daemon {
		out = []dim{byNodes}
	}
	if p.cloned {
		out = append(out, byNamespaces)
	}
	return out
}

func (p *podCensus) here() []dim {
	switch {
	case p.daemon && p.cloned:
		return []dim{byNamespaces}
	case p.daemon:
		return nil
	case p.cloned:
		return []dim{byClonedHere}
	}
	return []dim{byFixedHere}
}

// countIdentities finds the identities of all pods and numbers them.
func (c *census) countIdentities() {
	byKey, kinds := map[string]*identityCensus{}, map[string]map[string]bool{}
	for _, p := range c.pods {
		ns, ok := c.spaces[p.pod.Ref.Namespace]
		if !ok {
			ns = state.Namespace{Name: p.pod.Ref.Namespace}
		}
		p.labels = identity.PodLabels(p.pod.Pod, ns, c.clusterName())
		labels, ports := c.settings.filter.Apply(p.labels), p.pod.NamedPorts
		if c.settings.platform == "terway" {
			ports = nil // its Cilium is older than identities with named ports
		}
		key := identity.Key(labels, ports)
		if byKey[key] == nil {
			_, ordered := identity.Of(p.pod.Pod, ns, c.clusterName(), c.settings.filter)
			byKey[key] = &identityCensus{key: key, labels: labels, ports: ordered, cloned: p.cloned}
		}
		p.identity = byKey[key]
		p.identity.pods = append(p.identity.pods, p)
		owner := p.pod.Ref.Namespace + " " + p.pod.Owner
		if kinds[owner] == nil {
			kinds[owner] = map[string]bool{}
		}
		kinds[owner][key] = true
	}
	for _, i := range byKey {
		i.perPod = !slices.ContainsFunc(i.pods, func(p *podCensus) bool {
			return p.daemon || p.pod.Owner == "" || len(kinds[p.pod.Ref.Namespace+" "+p.pod.Owner]) < 2
		})
		c.identities = append(c.identities, i)
	}
	slices.SortFunc(c.identities, func(a, b *identityCensus) int { return strings.Compare(a.key, b.key) })
	for n, i := range c.identities {
		i.id = state.IdentityMin + uint32(n)
	}
}

func (c *census) clusterName() string { return cmp.Or(c.snap.ClusterName, "default") }

// identityForm is how the identities grow.
func (c *census) identityForm() form {
	out := form{}
	for _, i := range c.identities {
		out.add(1, i.grows()...)
	}
	return out
}

func (i *identityCensus) grows() []dim {
	var out []dim
	if i.perPod {
		out = append(out, byPods)
	}
	if i.cloned {
		out = append(out, byNamespaces)
	}
	return out
}
