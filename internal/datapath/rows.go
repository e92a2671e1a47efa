package datapath

import (
	"maps"
	"net/netip"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/fib"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// This file is pure: from what should be to the exact rows of each table.

// node is this node as the rows depend on it.
type node struct {
	cfg       Config
	devices   []agentapi.Device // native
	overlay   agentapi.Device   // Index 0 unless tunnel
	mtu       MTUs
	underlay6 bool   // tunnel endpoints are IPv6
	hz        uint32 // jiffies a second

	translation translation
}

// endpointRow is the value of one row of the endpoint map.
type endpointRow struct {
	Index int
	Flags uint32
	ID    uint32
	MAC   state.MAC

	Identity        uint32
	Ingress, Egress policy.SetID
}

// security is what the row says of its endpoint.
func (r endpointRow) security() Security {
	return Security{Identity: r.Identity, Policy: policy.EndpointPolicy{
		Ingress: r.Ingress, Egress: r.Egress,
		AuditIngress: r.Flags&uint32(abi.CEndpointFlagsENDPOINT_AUDIT_INGRESS) != 0,
		AuditEgress:  r.Flags&uint32(abi.CEndpointFlagsENDPOINT_AUDIT_EGRESS) != 0,
	}}
}

// endpointRows gives the addresses of this node: the pods' and its own.
func endpointRows(endpoints []state.Endpoint, security map[uint32]Security, host []netip.Addr) map[netip.Addr]endpointRow {
	rows := make(map[netip.Addr]endpointRow, 3*len(endpoints)+len(host))
	for _, a := range host {
		rows[a] = endpointRow{Flags: uint32(abi.CEndpointFlagsENDPOINT_HOST)}
	}
	for _, ep := range endpoints {
		maps.Copy(rows, rowsOf(ep, security[ep.ID]))
	}
	return rows
}

// rowsOf gives the rows of one endpoint.
func rowsOf(ep state.Endpoint, sec Security) map[netip.Addr]endpointRow {
	row := endpointRow{
		Index: ep.HostIndex, ID: ep.ID, MAC: ep.MAC,
		Identity: sec.Identity, Ingress: sec.Policy.Ingress, Egress: sec.Policy.Egress,
	}
	if sec.Policy.AuditIngress {
		row.Flags |= uint32(abi.CEndpointFlagsENDPOINT_AUDIT_INGRESS)
	}
	if sec.Policy.AuditEgress {
		row.Flags |= uint32(abi.CEndpointFlagsENDPOINT_AUDIT_EGRESS)
	}
	if ep.Bandwidth.IngressRate > 0 {
		row.Flags |= uint32(abi.CEndpointFlagsENDPOINT_SHAPED)
	}
	rows := map[netip.Addr]endpointRow{}
	for _, a := range ep.Addrs() {
		rows[a] = row
	}
	if ep.IPv6.IsValid() {
		row.Flags |= uint32(abi.CEndpointFlagsENDPOINT_LINK_LOCAL)
		rows[pair.LinkLocal(ep.MAC)] = row
	}
	return rows
}

// ipcacheRows gives the node that has each range of addresses, by the address
// that a tunnel to it ends at.
func ipcacheRows(n node, nodes []state.Node) map[netip.Prefix]netip.Addr {
	rows := map[netip.Prefix]netip.Addr{}
	for _, other := range nodes {
		end := other.Addr(n.underlay6)
		if other.Name == n.cfg.NodeName || !end.IsValid() {
			continue
		}
		for _, p := range other.PodCIDRs {
			rows[p] = end
		}
		for _, a := range other.Addrs {
			rows[netip.PrefixFrom(a, a.BitLen())] = end
		}
	}
	return rows
}

// identityRows gives the identity of each address of the other nodes: their
// pods' and their own.
func identityRows(self string, nodes []state.Node, published []state.NodeEndpoints) map[netip.Addr]uint32 {
	rows := map[netip.Addr]uint32{}
	for _, n := range published {
		if n.Node == self {
			continue
		}
		for _, ep := range n.Endpoints {
			for _, a := range ep.Addrs {
				rows[a] = ep.Identity
			}
		}
	}
	for _, n := range nodes {
		if n.Name == self {
			continue
		}
		for _, a := range n.Addrs {
			rows[a] = state.IdentityRemoteNode
		}
	}
	return rows
}

// nodeRoutes gives the kernel routes to ranges of pod addresses. onLink tells
// whether a node's address is on a segment that this node is on too, and by
// which device.
func nodeRoutes(n node, nodes []state.Node, onLink func(netip.Addr) (index int, ok bool)) map[netip.Prefix]fib.Route {
	rows := map[netip.Prefix]fib.Route{}
	for _, other := range nodes {
		for _, p := range other.PodCIDRs {
			if other.Name == n.cfg.NodeName {
				rows[p] = n.ownRange()
			} else if r, ok := n.remoteRange(other, p, onLink); ok {
				rows[p] = r
			}
		}
	}
	return rows
}

// ownRange is the route of this node's pod CIDR, beneath those of its pods: it
// keeps packets for addresses that no pod has from following the default route.
func (n node) ownRange() fib.Route {
	if n.cfg.UnreachableRoutes {
		return fib.Route{Kind: fib.Unreachable}
	}
	return fib.Route{Kind: fib.Blackhole}
}

func (n node) remoteRange(other state.Node, p netip.Prefix, onLink func(netip.Addr) (int, bool)) (fib.Route, bool) {
	is6 := p.Addr().Is6()
	if n.cfg.Tunnel {
		return fib.Route{
			Kind: fib.Unicast, Index: n.overlay.Index, MTU: n.mtu.Route, Source: first(n.devices, is6),
		}, other.Addr(n.underlay6).IsValid()
	}
	gw := other.Addr(is6)
	if !n.cfg.AutoDirectRoutes || !gw.IsValid() {
		return fib.Route{}, false
	}
	index, ok := onLink(gw)
	return fib.Route{Kind: fib.Unicast, Index: index, Gateway: gw, MTU: n.directMTU()}, ok
}

// directMTU is what routes to pods of other nodes say: nothing when it is the
// device's own.
func (n node) directMTU() int {
	for _, d := range n.devices {
		if d.MTU != n.mtu.Route {
			return n.mtu.Route
		}
	}
	return 0
}

// podRoutes are what the node itself reaches its pods by.
func podRoutes(n node, endpoints []state.Endpoint) map[netip.Prefix]fib.Route {
	rows := make(map[netip.Prefix]fib.Route, 2*len(endpoints))
	for _, ep := range endpoints {
		for _, a := range ep.Addrs() {
			rows[netip.PrefixFrom(a, a.BitLen())] = fib.Route{
				Kind: fib.Unicast, Index: ep.HostIndex, Source: first(n.devices, a.Is6()),
			}
		}
	}
	return rows
}

// neighbourRows are the pods' MACs on their host sides.
func neighbourRows(endpoints []state.Endpoint) map[fib.NeighbourKey]state.MAC {
	rows := make(map[fib.NeighbourKey]state.MAC, 2*len(endpoints))
	for _, ep := range endpoints {
		for _, a := range ep.Addrs() {
			rows[fib.NeighbourKey{Index: ep.HostIndex, Addr: a}] = ep.MAC
		}
	}
	return rows
}

// linkRows are the attachments: every pod, and the node's devices.
func linkRows(n node, endpoints []state.Endpoint) map[loader.LinkKey]int {
	rows := map[loader.LinkKey]int{}
	for _, ep := range endpoints {
		rows[loader.LinkKey{Device: ep.HostIfName, Program: loader.FromPod}] = ep.HostIndex
		rows[loader.LinkKey{Device: ep.HostIfName, Program: loader.ToPod}] = ep.HostIndex
	}
	for _, d := range n.devices {
		rows[loader.LinkKey{Device: d.Name, Program: loader.FromNetdev}] = d.Index
		rows[loader.LinkKey{Device: d.Name, Program: loader.ToNetdev}] = d.Index
	}
	if d := n.overlay; d.Index != 0 {
		rows[loader.LinkKey{Device: d.Name, Program: loader.FromOverlay}] = d.Index
		rows[loader.LinkKey{Device: d.Name, Program: loader.ToOverlay}] = d.Index
	}
	return rows
}
