package datapath

import (
	"fmt"
	"slices"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/probe"
	"github.com/placid-net/placid/internal/state"
)

// MTU returns the sizes in use, in bytes.
func (d *Datapath) MTU() MTUs { return d.node.mtu }

// Status fills in the datapath's part of s.
func (d *Datapath) Status(s *agentapi.Status) error {
	s.Kernel = probe.Kernel()
	s.PodMTU, s.RouteMTU = d.node.mtu.Pod, d.node.mtu.Route
	s.Devices = slices.Clone(d.node.devices)
	if d.node.overlay.Index != 0 {
		s.Devices = append(s.Devices, d.node.overlay)
	}
	s.Features = d.features
	s.Controllers = d.Controllers()
	var err error
	if s.Maps, err = d.Maps(); err != nil {
		return err
	}
	if s.Programs, err = d.programs(); err != nil {
		return err
	}
	s.Nodes, err = d.peers()
	return err
}

// Controllers tells how each loop fares, ordered by name.
func (d *Datapath) Controllers() []agentapi.Controller {
	out := []agentapi.Controller{
		d.endpoints.Status(), d.identities.Status(), d.interfaces.Status(), d.ipcache.Status(), d.links.Status(),
	}
	if d.native != nil {
		out = append(out, d.native.Status())
	}
	return append(out, d.neighbours.Status(), d.nodeRoutes.Status(), d.podRoutes.Status())
}

func (d *Datapath) programs() ([]agentapi.Program, error) {
	links, err := d.loader.Links().Count()
	if err != nil {
		return nil, err
	}
	var out []agentapi.Program
	for _, name := range d.loader.Programs() {
		info, err := d.loader.Program(name).Info()
		if err != nil {
			return nil, fmt.Errorf("inspect program %s: %w", name, err)
		}
		id, _ := info.ID()
		out = append(out, agentapi.Program{Name: name, ID: uint32(id), Tag: info.Tag, Links: links[name]})
	}
	return out, nil
}

// peers describes the other nodes as this one reaches them.
func (d *Datapath) peers() ([]agentapi.PeerNode, error) {
	nodes, _, err := d.tables.Nodes()
	if err != nil {
		return nil, err
	}
	var out []agentapi.PeerNode
	for _, n := range nodes {
		if n.Name == d.node.cfg.NodeName {
			continue
		}
		out = append(out, agentapi.PeerNode{Node: n, Route: d.node.routeKind(n), Problem: d.node.problemWith(n)})
	}
	return out, nil
}

func (n node) routeKind(other state.Node) string {
	if n.cfg.Tunnel {
		return "tunnel"
	}
	for _, p := range other.PodCIDRs {
		if _, ok := n.remoteRange(other, p, onLink); ok {
			return "direct"
		}
	}
	return "network"
}

// problemWith names what is wrong between this node and another.
func (n node) problemWith(other state.Node) string {
	mode := state.RoutingNative
	if n.cfg.Tunnel {
		mode = state.RoutingTunnel
	}
	switch {
	case other.RoutingMode != "" && other.RoutingMode != mode:
		return fmt.Sprintf("routing-mode is %s there and %s here: pods cannot reach each other", other.RoutingMode, mode)
	case other.MTU != 0 && other.MTU != n.mtu.Route:
		return fmt.Sprintf("pod MTU is %d there and %d here: large packets may be lost", other.MTU, n.mtu.Route)
	case len(other.PodCIDRs) == 0:
		return "it has no pod CIDR yet"
	case n.cfg.Tunnel && !other.Addr(n.underlay6).IsValid():
		return "it has no address of the tunnel's family"
	}
	return ""
}
