package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/fib"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/probe"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/reconcile"
	"github.com/placid-net/placid/internal/state"
)

// Datapath keeps the kernel of one node as the state tables say. Create it with
// New, then call Open and Run.
type Datapath struct {
	node     node
	tables   *state.Tables
	features []agentapi.Feature
	loader   *loader.Loader
	// devices is held while a pair is made and until it is in the tables, and
	// while an audit looks for pairs that are not.
	devices sync.Mutex
	ready   atomic.Bool
	readyAt chan struct{}

	eithers    eithers
	settings   *settings
	securities *securities
	additive   atomic.Bool
	policy     *policyWriter
	services   *serviceWriter // nil where the programs have no tables of services
	nodeAddrs  nodeAddrs
	natives    natives
	conntrack  *conntrack.Collector
	counter    *conntrack.Counter
	sizes      *resize.Manager

	identities *reconcile.Loop[netip.Addr, uint32]
	endpoints  *reconcile.Loop[netip.Addr, endpointRow]
	ipcache    *reconcile.Loop[netip.Prefix, netip.Addr]
	nodeRoutes *reconcile.Loop[netip.Prefix, fib.Route]
	podRoutes  *reconcile.Loop[netip.Prefix, fib.Route]
	neighbours *reconcile.Loop[fib.NeighbourKey, state.MAC]
	links      *reconcile.Loop[loader.LinkKey, int]
	interfaces *reconcile.Loop[string, int]
	native     *reconcile.Loop[netip.Prefix, uint32] // nil where the programs masquerade nothing
}

// New returns a datapath that follows tables. It does no I/O.
func New(cfg Config, tables *state.Tables) *Datapath {
	return &Datapath{
		node: node{cfg: cfg}, tables: tables, readyAt: make(chan struct{}),
		securities: &securities{m: map[uint32]Security{}},
	}
}

// Open probes the kernel, finds the native devices, makes the overlay device,
// and loads the programs. Packets are not touched yet. The error says what is
// missing and what to do about it.
func (d *Datapath) Open() error {
	var err error
	if d.features, err = probe.Features(); err != nil {
		return err
	}
	for _, f := range d.features {
		if f.Name == "IPv6" && !f.Available && d.node.cfg.IPv6 {
			d.node.cfg.Log.Warn("IPv6 is switched off: the kernel has none", "effect", f.Effect)
			d.node.cfg.IPv6 = false
		}
	}
	if err = d.openDevices(); err != nil {
		return err
	}
	if err = d.readNodeAddrs(); err != nil {
		return err
	}
	if err = routerSysctls(d.node.cfg.IPv4, d.node.cfg.IPv6, d.node.devices); err != nil {
		return err
	}
	if d.node.hz, err = conntrack.HZ(); err != nil {
		return err
	}
	if d.node.translation, err = openTranslation(d.node.cfg); err != nil {
		return err
	}
	if err = d.openLoader(); err != nil {
		return err
	}
	if d.settings, err = openSettings(d.loader.Map(SettingsMap).Table.Map(), d.node.hz, d.node.cfg.Timeouts); err != nil {
		return err
	}
	if err := d.makeLoops(); err != nil {
		return err
	}
	d.openServices()
	if err := errors.Join(d.openPolicy(), d.openConntrack(), d.openSockets()); err != nil {
		return err
	}
	d.openSizes()
	return nil
}

func (d *Datapath) openLoader() error {
	var err error
	if d.loader, err = loader.Open(d.node.cfg.BPFRoot, d.node.constants(), d.node.cfg.Tables.sizes()); err != nil {
		return err
	}
	for _, problem := range d.loader.Problems() {
		d.node.cfg.Log.Warn("a table begins empty", "error", problem)
	}
	return nil
}

func (d *Datapath) openDevices() error {
	n := &d.node
	var err error
	if n.devices, err = nativeDevices(n.cfg.Devices); err != nil {
		return err
	}
	n.underlay6 = !first(n.devices, false).IsValid()
	if n.mtu, err = computeMTUs(n.cfg, n.devices, n.underlay6); err != nil {
		return err
	}
	if !n.cfg.Tunnel {
		return nil
	}
	n.overlay, err = ensureOverlay(n.cfg.TunnelPort, n.mtu.Route)
	return err
}

// Known tells when tables are complete for the first time: each channel is
// closed then.
type Known struct {
	Nodes         <-chan struct{}
	NodeEndpoints <-chan struct{}
}

// Run realises the tables until ctx ends. Programs are attached when the maps hold what they must:
// on a node that is served already by programs with other maps, that is
// everything. Where there is nothing to replace, or the maps were found as they
// are needed, the API server may be away.
func (d *Datapath) Run(ctx context.Context, known Known) error {
	g, ctx := errgroup.WithContext(ctx)
	adopted := d.loader.Adopted(EndpointMap) && d.loader.Adopted(IPCacheMap)
	mustFill := d.loader.Running() && !adopted
	servicesKnown := d.servicesKnown()
	g.Go(func() error { return d.endpoints.Run(ctx) })
	g.Go(func() error { return d.neighbours.Run(ctx) })
	g.Go(func() error { return d.podRoutes.Run(ctx) })
	d.runServices(ctx, g)
	g.Go(func() error {
		return d.settings.run(ctx, func(err error) { d.node.cfg.Log.Error("move the epoch", "error", err) })
	})
	g.Go(func() error {
		if !wait(ctx, known.Nodes) {
			return nil
		}
		g.Go(func() error { return d.ipcache.Run(ctx) })
		g.Go(func() error {
			if !wait(ctx, known.NodeEndpoints) {
				return nil
			}
			return d.identities.Run(ctx)
		})
		return d.nodeRoutes.Run(ctx)
	})
	g.Go(func() error {
		if !wait(ctx, d.endpoints.Synced()) || mustFill && !wait(ctx, d.ipcache.Synced()) || !wait(ctx, servicesKnown) {
			return nil
		}
		if d.native != nil && !wait(ctx, d.native.Synced()) {
			return nil
		}
		g.Go(func() error { return d.commit(ctx) })
		return d.links.Run(ctx)
	})
	return g.Wait()
}

// commit follows the first complete attachment.
func (d *Datapath) commit(ctx context.Context) error {
	if !wait(ctx, d.links.Synced()) {
		return nil
	}
	if err := d.loader.Commit(); err != nil {
		return err
	}
	// What flows remember was found out by programs with other constants.
	if err := d.settings.bump(); err != nil {
		return err
	}
	d.ready.Store(true)
	close(d.readyAt)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.dropOverlay(ctx) })
	g.Go(func() error { return d.interfaces.Run(ctx) })
	g.Go(func() error { return d.watchKernel(ctx) })
	g.Go(func() error { return d.conntrack.Run(ctx) })
	g.Go(func() error { return d.runSizes(ctx) })
	return g.Wait()
}

// dropOverlay removes the device that an earlier agent in tunnel mode left, once
// no route leads into it any more.
func (d *Datapath) dropOverlay(ctx context.Context) error {
	if d.node.cfg.Tunnel || !wait(ctx, d.nodeRoutes.Synced()) {
		return nil
	}
	return removeOverlay()
}

// Attached is closed once every program is attached and its maps are filled.
func (d *Datapath) Attached() <-chan struct{} { return d.readyAt }

// Ready tells why the datapath is not ready, or nil when programs are attached
// and all maps hold what they should.
func (d *Datapath) Ready() error {
	if !d.ready.Load() {
		return errors.New("programs are not attached yet")
	}
	for name, synced := range map[string]<-chan struct{}{
		"routes to nodes": d.nodeRoutes.Synced(), "routes to pods": d.podRoutes.Synced(),
		"ipcache": d.ipcache.Synced(), "neighbours": d.neighbours.Synced(),
	} {
		select {
		case <-synced:
		default:
			return fmt.Errorf("%s are not complete yet", name)
		}
	}
	return nil
}

// Close lets go of descriptors. Everything in the kernel stays and works on.
func (d *Datapath) Close() error {
	if d.loader == nil {
		return nil
	}
	var errs []error
	if d.conntrack != nil {
		errs = append(errs, d.conntrack.Close())
	}
	if d.counter != nil {
		errs = append(errs, d.counter.Close())
	}
	return errors.Join(append(errs, d.loader.Close())...)
}

// watchKernel triggers audits when addresses or routes of the node change.
func (d *Datapath) watchKernel(ctx context.Context) error {
	addrs := make(chan netlink.AddrUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribe(addrs, done); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	// Changes come in bursts: one audit a second is enough.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	dirty := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-addrs:
			if !ok {
				return errors.New("watch addresses: the kernel closed the socket")
			}
			dirty = true
		case <-tick.C:
			if dirty {
				d.endpoints.Trigger()
				d.nodeRoutes.Trigger()
				dirty = false
				if err := d.readNodeAddrs(); err != nil {
					d.node.cfg.Log.Warn("read the addresses of node ports", "error", err)
					dirty = true
				}
			}
		}
	}
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	case <-ctx.Done():
		return false
	}
}
