package state

import "net/netip"

// RoutingMode says how packets reach pods of other nodes.
type RoutingMode string

// The routing modes, with Cilium's values of the key routing-mode.
const (
	RoutingNative RoutingMode = "native"
	RoutingTunnel RoutingMode = "tunnel"
)

// Node is one node of the cluster as its PlacidNode object describes it.
type Node struct {
	Name string `json:"name"`
	// Addrs are the node's InternalIP addresses, the first of a family is the
	// one that carries its pod traffic.
	Addrs []netip.Addr `json:"addrs"`
	// PodCIDRs are the ranges that the node's pod addresses come from, masked.
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	// MTU is what the node's pods use, in bytes; 0 while the node has not said.
	MTU int `json:"mtu,omitempty"`
	// RoutingMode is what the node's agent runs; empty while it has not said.
	RoutingMode RoutingMode `json:"routingMode,omitempty"`
	// Zone is the label topology.kubernetes.io/zone of the Node object, which is
	// known of this node alone; empty if it has none.
	Zone string `json:"zone,omitempty"`
	// Labels are those of the Node object.
	Labels map[string]string `json:"labels,omitempty"`
}

// Addr returns the node's first address of the family of is6, or the zero Addr.
func (n Node) Addr(is6 bool) netip.Addr {
	for _, a := range n.Addrs {
		if a.Is6() == is6 {
			return a
		}
	}
	return netip.Addr{}
}
