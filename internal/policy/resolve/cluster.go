package resolve

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// namespaceKey is the label of identities for the namespace of a pod, podKey what
// begins those for the pod's own labels.
const namespaceKey, podKey = "k8s:io.kubernetes.pod.namespace", "k8s:"

// apiServer is the Service whose addresses are those of the API server.
func apiServer() state.ServiceRef { return state.ServiceRef{Namespace: "default", Name: "kubernetes"} }

// cluster is what policies name.
type cluster struct {
	nodes    map[string]state.Node
	services map[state.ServiceRef]state.PolicyService
	groups   map[string]state.CIDRGroup
	slices   map[state.ServiceRef]map[string]state.EndpointSlice // by Service, then name
	serves   map[state.ServiceRef]string                         // the Service of a slice, by its namespace and name
}

func newCluster() cluster {
	return cluster{
		nodes: map[string]state.Node{}, services: map[state.ServiceRef]state.PolicyService{}, groups: map[string]state.CIDRGroup{},
		slices: map[state.ServiceRef]map[string]state.EndpointSlice{}, serves: map[state.ServiceRef]string{},
	}
}

func (c *cluster) putSlice(s state.EndpointSlice) {
	of := state.ServiceRef{Namespace: s.Namespace, Name: s.Service}
	if c.slices[of] == nil {
		c.slices[of] = map[string]state.EndpointSlice{}
	}
	c.slices[of][s.Name] = s
	c.serves[state.ServiceRef{Namespace: s.Namespace, Name: s.Name}] = s.Service
}

func (c *cluster) dropSlice(namespace, name string) {
	slice := state.ServiceRef{Namespace: namespace, Name: name}
	service, ok := c.serves[slice]
	if !ok {
		return
	}
	of := state.ServiceRef{Namespace: namespace, Name: service}
	delete(c.serves, slice)
	delete(c.slices[of], name)
	if len(c.slices[of]) == 0 {
		delete(c.slices, of)
	}
}

// nodePeers are the addresses of the nodes with such labels.
func (c *cluster) nodePeers(s *state.Selector) []state.PolicyPeer {
	var addrs []netip.Addr
	for _, n := range c.nodes {
		if matches(s, n.Labels) {
			addrs = append(addrs, n.Addrs...)
		}
	}
	return addrPeers(addrs)
}

// servicePeers are the backends of the Services that are meant; found tells
// whether there is any such Service.
func (c *cluster) servicePeers(p *state.ServicePeer) (peers []state.PolicyPeer, found bool) {
	var addrs []netip.Addr
	for _, ref := range slices.SortedFunc(maps.Keys(c.services), byRef) {
		s := c.services[ref]
		if !means(p, &s) {
			continue
		}
		found = true
		if len(s.Selector) == 0 {
			addrs = append(addrs, c.addrsOf(ref)...)
			continue
		}
		pods := state.Selector{MatchLabels: map[string]string{namespaceKey: ref.Namespace}}
		for key, value := range s.Selector {
			pods.MatchLabels[podKey+key] = value
		}
		peers = append(peers, state.PolicyPeer{Endpoints: &pods})
	}
	return append(peers, addrPeers(addrs)...), found
}

// addrsOf are the addresses of a Service that selects no pods.
func (c *cluster) addrsOf(ref state.ServiceRef) []netip.Addr {
	var out []netip.Addr
	for _, s := range c.slices[ref] {
		for _, b := range s.Backends {
			out = append(out, b.Addr)
		}
	}
	return out
}

// groupPeers are the CIDRs of the groups that are meant, without the exceptions;
// whole is false when some of a group was not understood.
func (c *cluster) groupPeers(p *state.GroupPeer) (peers []state.PolicyPeer, found, whole bool) {
	whole = true
	var cidrs []netip.Prefix
	for _, g := range c.groups {
		if p.Selector == nil && g.Name != p.Name || p.Selector != nil && !matches(p.Selector, g.Labels) {
			continue
		}
		found = true
		whole = whole && len(g.Problems) == 0
		cidrs = append(cidrs, g.CIDRs...)
	}
	slices.SortFunc(cidrs, netip.Prefix.Compare)
	for _, cidr := range slices.Compact(cidrs) {
		if block, any := without(cidr, p.Except); any {
			peers = append(peers, state.PolicyPeer{Block: &block})
		}
	}
	return peers, found, whole
}

// without makes a block of a CIDR and those exceptions that are inside of it; any
// is false when nothing is left.
func without(cidr netip.Prefix, except []netip.Prefix) (block state.IPBlock, any bool) {
	block = state.IPBlock{CIDR: cidr, Outside: true}
	for _, e := range except {
		switch {
		case !e.Overlaps(cidr):
		case e.Bits() <= cidr.Bits():
			return block, false
		default:
			block.Except = append(block.Except, e)
		}
	}
	return block, true
}

// addrPeers makes a block of each address, in order.
func addrPeers(addrs []netip.Addr) []state.PolicyPeer {
	slices.SortFunc(addrs, netip.Addr.Compare)
	var out []state.PolicyPeer
	for _, a := range slices.Compact(addrs) {
		out = append(out, state.PolicyPeer{Block: &state.IPBlock{CIDR: netip.PrefixFrom(a, a.BitLen())}})
	}
	return out
}

// means tells whether the reference is to that Service.
func means(p *state.ServicePeer, s *state.PolicyService) bool {
	if p.Namespace != "" && p.Namespace != s.Ref.Namespace {
		return false
	}
	if p.Selector != nil {
		return matches(p.Selector, s.Labels)
	}
	return p.Name == s.Ref.Name
}

// matches tells whether labels fulfil a selector, as Kubernetes has it: NotIn is
// fulfilled by what does not have the label.
func matches(s *state.Selector, labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if have, ok := labels[key]; !ok || have != value {
			return false
		}
	}
	return !slices.ContainsFunc(s.Expressions, func(r state.Requirement) bool { return !fulfils(r, labels) })
}

func fulfils(r state.Requirement, labels map[string]string) bool {
	value, ok := labels[r.Key]
	return r.Operator.Holds(r.Values, value, ok)
}

func byRef(a, b state.ServiceRef) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
