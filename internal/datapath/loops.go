package datapath

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/fib"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/reconcile"
	"github.com/placid-net/placid/internal/state"
)

// constants are the programs' load-time constants on this node.
func (n node) constants() abi.CConfig {
	c := abi.CConfig{
		RouterMac:      pair.RouterMAC(),
		PodMtu:         uint16(n.mtu.Pod),
		OverlayMtu:     uint16(n.mtu.Route),
		OverlayIfindex: uint32(n.overlay.Index),
		TunnelVni:      TunnelVNI,
		WayJiffies:     n.hz,
	}
	if a := first(n.devices, false); a.IsValid() {
		c.RouterIp4 = netorder.Addr(a)
	}
	if a := first(n.devices, true); a.IsValid() {
		c.RouterIp6 = netorder.Addr(a)
	}
	if n.cfg.Tunnel {
		c.Tunnel = 1
	}
	if n.underlay6 {
		c.TunnelUnderlay6 = 1
	}
	n.translationConstants(&c)
	return c
}

func newLoop[K comparable, V comparable](d *Datapath, name string, ops reconcile.Ops[K, V], desired func() (map[K]V, <-chan struct{}, error)) (*reconcile.Loop[K, V], error) {
	return reconcile.New(reconcile.Config[K, V]{
		Name: name, Desired: desired, Ops: ops, Interval: d.node.cfg.ReconcileInterval,
		Equal: func(a, b V) bool { return a == b }, Log: d.node.cfg.Log,
	})
}

func (d *Datapath) endpointTable() tableOps[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint] {
	return tableOps[netip.Addr, endpointRow, abi.CEndpointKey, abi.CEndpoint]{
		EndpointMap, d.loader.Map(EndpointMap).Table, endpointCodec(),
	}
}

// makeLoops wires each table of rows to the part of the kernel that it describes.
func (d *Datapath) makeLoops() error {
	nodeRoutes, err := fib.NewRoutes(fib.ProtocolNodes)
	if err != nil {
		return err
	}
	podRoutes, err := fib.NewRoutes(fib.ProtocolPods)
	if err != nil {
		return err
	}
	neighbours, err := fib.NewNeighbours(podDevices)
	if err != nil {
		return err
	}
	endpointOps := endpointOps{d.endpointTable(), d.settings, &d.additive}
	identityOps := identityOps{
		tableOps[netip.Addr, uint32, abi.CIdentityKey, abi.CIdentityEntry]{
			IdentityMap, d.loader.Map(IdentityMap).Table, identityCodec(),
		}, d.settings, d.securities,
	}
	ipcacheOps := tableOps[netip.Prefix, netip.Addr, abi.CIpcacheKey, abi.CIpcacheEntry]{
		IPCacheMap, d.loader.Map(IPCacheMap).Table, ipcacheCodec(),
	}
	var errs [9]error
	errs[8] = d.makeNative()
	d.identities, errs[7] = newLoop(d, "identities", identityOps, d.desiredIdentities)
	d.endpoints, errs[0] = newLoop(d, "endpoints", endpointOps, d.desiredEndpoints)
	d.ipcache, errs[1] = newLoop(d, "ipcache", ipcacheOps, d.desiredIPCache)
	d.nodeRoutes, errs[2] = newLoop(d, "node-routes", nodeRoutes, d.desiredNodeRoutes)
	d.podRoutes, errs[6] = newLoop(d, "pod-routes", podRoutes, d.desiredPodRoutes)
	d.neighbours, errs[3] = newLoop(d, "neighbours", neighbours, d.desiredNeighbours)
	d.links, errs[4] = newLoop(d, "links", d.loader.Links(), d.desiredLinks)
	d.interfaces, errs[5] = newLoop(d, "interfaces", interfaceOps{&d.devices, d.tables}, d.desiredInterfaces)
	return errors.Join(errs[:]...)
}

func (d *Datapath) desiredEndpoints() (map[netip.Addr]endpointRow, <-chan struct{}, error) {
	eps, changed, err := d.tables.Endpoints()
	if err != nil {
		return nil, nil, err
	}
	host, err := hostAddrs()
	if err != nil {
		return nil, nil, err
	}
	return endpointRows(eps, d.securities.all(), host), changed, nil
}

func (d *Datapath) desiredIdentities() (map[netip.Addr]uint32, <-chan struct{}, error) {
	nodes, nodesChanged, err := d.tables.Nodes()
	if err != nil {
		return nil, nil, err
	}
	published, changed, err := d.tables.NodeEndpoints()
	if err != nil {
		return nil, nil, err
	}
	return identityRows(d.node.cfg.NodeName, nodes, published), d.either(nodesChanged, changed), nil
}

func (d *Datapath) desiredIPCache() (map[netip.Prefix]netip.Addr, <-chan struct{}, error) {
	nodes, changed, err := d.tables.Nodes()
	return ipcacheRows(d.node, nodes), changed, err
}

func (d *Datapath) desiredNodeRoutes() (map[netip.Prefix]fib.Route, <-chan struct{}, error) {
	nodes, changed, err := d.tables.Nodes()
	return nodeRoutes(d.node, nodes, onLink), changed, err
}

func (d *Datapath) desiredPodRoutes() (map[netip.Prefix]fib.Route, <-chan struct{}, error) {
	eps, changed, err := d.tables.Endpoints()
	return podRoutes(d.node, eps), changed, err
}

func (d *Datapath) desiredNeighbours() (map[fib.NeighbourKey]state.MAC, <-chan struct{}, error) {
	eps, changed, err := d.tables.Endpoints()
	return neighbourRows(eps), changed, err
}

func (d *Datapath) desiredLinks() (map[loader.LinkKey]int, <-chan struct{}, error) {
	eps, changed, err := d.tables.Endpoints()
	rows := linkRows(d.node, eps)
	maps.Copy(rows, d.loader.SocketLinks())
	return rows, changed, err
}

func (d *Datapath) desiredInterfaces() (map[string]int, <-chan struct{}, error) {
	eps, changed, err := d.tables.Endpoints()
	rows := make(map[string]int, len(eps))
	for _, ep := range eps {
		rows[ep.HostIfName] = ep.HostIndex
	}
	return rows, changed, err
}

// onLink asks the routing table whether addr is a neighbour, and on which device.
func onLink(addr netip.Addr) (index int, ok bool) {
	routes, err := netlink.RouteGet(addr.AsSlice())
	if err != nil || len(routes) == 0 || len(routes[0].Gw) > 0 {
		return 0, false
	}
	return routes[0].LinkIndex, true
}

func podDevices() (map[int]bool, error) {
	hosts, err := pair.Inventory()
	out := make(map[int]bool, len(hosts))
	for _, index := range hosts {
		out[index] = true
	}
	return out, err
}

// interfaceOps removes host sides that no endpoint has: what a killed agent
// left half-made. It cannot make one, that needs a pod's namespace.
type interfaceOps struct {
	devices *sync.Mutex // Datapath's
	tables  *state.Tables
}

// Update succeeds when the device exists under its index.
func (interfaceOps) Update(_ context.Context, name string, index int) error {
	l, err := netlink.LinkByName(name)
	if err != nil || l.Attrs().Index != index {
		return fmt.Errorf("device %s (index %d) of an endpoint is gone: its pod's sandbox ended, or somebody deleted it", name, index)
	}
	return nil
}

// Delete removes the pair.
func (interfaceOps) Delete(_ context.Context, name string) error { return pair.Remove(name) }

// Prune removes pairs that are no endpoint's.
func (o interfaceOps) Prune(ctx context.Context, desired map[string]int) (int, error) {
	o.devices.Lock()
	defer o.devices.Unlock()
	hosts, err := pair.Inventory()
	if err != nil {
		return 0, err
	}
	// Desired alone will not do: it is older than the inventory.
	eps, _, err := o.tables.Endpoints()
	if err != nil {
		return 0, err
	}
	for _, ep := range eps {
		delete(hosts, ep.HostIfName)
	}
	var errs []error
	repaired := 0
	for name := range hosts {
		if _, ok := desired[name]; ok {
			continue // an endpoint until a moment ago: who removes it has begun
		}
		if err := o.Delete(ctx, name); err != nil {
			errs = append(errs, err)
			continue
		}
		repaired++
	}
	for name, index := range desired {
		if err := o.Update(ctx, name, index); err != nil {
			errs = append(errs, &reconcile.RowError[string]{Key: name, Err: err})
		}
	}
	return repaired, errors.Join(errs...)
}
