package policytest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// Modes of a Cluster.
const (
	ModeAlways = "always"
	ModeNever  = "never"
)

// Name is the name of every Cluster.
const Name = "test"

// Pod is a pod of a Cluster.
type Pod struct {
	Ref            state.PodRef
	Labels         map[string]string
	ServiceAccount string
	NamedPorts     []state.NamedPort
	Addrs          []netip.Addr // IPv4, then IPv6
	// Init is true while the labels have no number yet.
	Init     bool
	Identity uint32
	Endpoint uint32 // 0 on other nodes
}

// Cluster is what a node knows of a cluster.
type Cluster struct {
	Namespaces []state.Namespace
	Pods       []Pod
	Policies   []state.NetworkPolicy
	Node       []netip.Addr // of this node
	Nodes      []netip.Addr // of others
	World      []netip.Addr // elsewhere
	Mode       string       // of enable-policy: empty is default; ModeAlways, ModeNever
	AuditAll   bool
	// HiddenPodLabels and HiddenNamespaceLabels are keys that identities lack;
	// HiddenDerivedLabels those of labels that stand for something else
	// ("io.cilium.k8s.policy.serviceaccount").
	HiddenPodLabels, HiddenNamespaceLabels, HiddenDerivedLabels []string

	numbers map[string]uint32 // of identities, by what makes them
}

// Identities are those of all pods whose labels have a number, ordered by it.
func (c Cluster) Identities() []state.Identity {
	seen := map[uint32]state.Identity{}
	for _, p := range c.Pods {
		if p.Init {
			continue
		}
		seen[p.Identity] = state.Identity{ID: p.Identity, Labels: c.identityLabels(p), NamedPorts: p.NamedPorts}
	}
	var out []state.Identity
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, seen[id])
	}
	return out
}

// PodAt finds the pod that has an address; nil when none has.
func (c Cluster) PodAt(a netip.Addr) *Pod {
	for i := range c.Pods {
		if slices.Contains(c.Pods[i].Addrs, a) {
			return &c.Pods[i]
		}
	}
	return nil
}

// IdentityOf gives the identity of whoever has an address.
func (c Cluster) IdentityOf(a netip.Addr) uint32 {
	switch p := c.PodAt(a); {
	case p != nil:
		return p.Identity
	case slices.Contains(c.Node, a):
		return state.IdentityHost
	case slices.Contains(c.Nodes, a):
		return state.IdentityRemoteNode
	}
	return state.IdentityWorld
}

func (c Cluster) namespace(name string) state.Namespace {
	for _, n := range c.Namespaces {
		if n.Name == name {
			return n
		}
	}
	return state.Namespace{Name: name}
}

// The keys of labels that stand for something else than a label of the pod.
const (
	namespaceKey      = "io.kubernetes.pod.namespace"
	namespaceLabelKey = "io.cilium.k8s.namespace.labels."
	accountKey        = "io.cilium.k8s.policy.serviceaccount"
	clusterKey        = "io.cilium.k8s.policy.cluster"
)

// Derived is what a pod has besides its own labels, by the keys of identities.
func (c Cluster) Derived(p Pod) map[string]string {
	out := map[string]string{
		"k8s:" + namespaceKey: p.Ref.Namespace, "k8s:" + accountKey: p.ServiceAccount, "k8s:" + clusterKey: Name,
	}
	for key, value := range c.namespace(p.Ref.Namespace).Labels {
		out["k8s:"+namespaceLabelKey+key] = value
	}
	return out
}

// allLabels are a pod's own and derived labels, by the keys of identities.
func (c Cluster) allLabels(p Pod) map[string]string {
	out := c.Derived(p)
	for key, value := range p.Labels {
		out["k8s:"+key] = value
	}
	return out
}

// hidden tells whether identities lack a label, by its key there.
func (c Cluster) hidden(key string) bool {
	name, ok := strings.CutPrefix(key, "k8s:")
	if !ok {
		return true // no label has another source
	}
	if label, of := strings.CutPrefix(name, namespaceLabelKey); of {
		return slices.Contains(c.HiddenNamespaceLabels, label)
	}
	if name == namespaceKey || strings.HasPrefix(name, "io.cilium.k8s.") {
		return slices.Contains(c.HiddenDerivedLabels, name)
	}
	return slices.Contains(c.HiddenPodLabels, name)
}

func (c Cluster) identityLabels(p Pod) map[string]string {
	out := c.allLabels(p)
	maps.DeleteFunc(out, func(key, _ string) bool { return c.hidden(key) })
	return out
}

// Number gives every pod its identity: equal labels and named ports are equal
// identities, and a number is never used for others. It must be called after pods
// were added or changed by hand.
func (c *Cluster) Number() {
	if c.numbers == nil {
		c.numbers = map[string]uint32{}
	}
	for i := range c.Pods {
		p := &c.Pods[i]
		if p.Init {
			p.Identity = state.IdentityInit
			continue
		}
		labels := c.identityLabels(*p)
		var key strings.Builder
		for _, k := range slices.Sorted(maps.Keys(labels)) {
			fmt.Fprintf(&key, "%s=%s;", k, labels[k])
		}
		fmt.Fprint(&key, p.NamedPorts)
		id, known := c.numbers[key.String()]
		if !known {
			id = state.IdentityMin + uint32(len(c.numbers))
			c.numbers[key.String()] = id
		}
		p.Identity = id
	}
}
