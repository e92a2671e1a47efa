package datapath

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/loader"

	"golang.org/x/sync/errgroup"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// makeNative makes the loop of the native map.
func (d *Datapath) makeNative() error {
	m := d.loader.Map(NativeMap)
	if m == nil {
		return nil
	}
	d.natives.set(d.node.cfg.Masquerade.Native)
	var err error
	d.native, err = newLoop(d, "native", tableOps[netip.Prefix, uint32, abi.CNativeKey, uint32]{
		NativeMap, m.Table, nativeCodec(),
	}, d.natives.desired)
	return err
}

// runServices runs what goes on beside changes of services.
func (d *Datapath) runServices(ctx context.Context, g *errgroup.Group) {
	if d.native != nil {
		g.Go(func() error { return d.native.Run(ctx) })
	}
	if d.services == nil {
		return
	}
	g.Go(func() error { return d.services.run(ctx) })
	g.Go(func() error { return d.services.runGone(ctx, d.flows()) })
}

// servicesKnown is closed when programs may be attached as far as services are
// concerned: at once, unless they take the place of programs that serve from
// other maps. Then the new ones must have all services first.
func (d *Datapath) servicesKnown() <-chan struct{} {
	adopted := d.loader.Adopted(FrontendMap) && d.loader.Adopted(BackendMap) && d.loader.Adopted(MaglevMap) && d.loader.Adopted(SourceRangeMap)
	if d.services == nil || adopted || !d.loader.Running() || !d.node.cfg.Services.Enabled {
		known := make(chan struct{})
		close(known)
		return known
	}
	return d.services.whole
}

// openServices finds the tables of services. Programs without them serve none.
func (d *Datapath) openServices() {
	table := func(name string) *loader.Table {
		if m := d.loader.Map(name); m != nil {
			return m.Table
		}
		return nil
	}
	frontends, backends, maglev, ranges := table(FrontendMap), table(BackendMap), table(MaglevMap), table(SourceRangeMap)
	if slices.Contains([]*loader.Table{frontends, backends, maglev, ranges}, nil) {
		return
	}
	d.services = newServiceWriter(serviceStore{
		frontends: kernelTable[abi.CFrontendKey, abi.CFrontend]{FrontendMap, frontends},
		backends:  kernelTable[abi.CBackendKey, abi.CBackend]{BackendMap, backends},
		maglev:    maglevKernel{maglev},
		ranges:    kernelTable[abi.CSourceRangeKey, uint32]{SourceRangeMap, ranges},
		wait:      waitForPrograms,
	}, serviceConfig{
		maglevSize: d.node.maglevSize(),
		maglevSeed: d.node.cfg.Services.MaglevSeed, log: d.node.cfg.Log,
	})
}

func (d *Datapath) serviceTables() []ServiceTable {
	used, size := d.services.tableSizes()
	var out []ServiceTable
	for t, name := range tableNames() {
		out = append(out, ServiceTable{Name: name, Entries: uint64(used[t]), Size: uint64(size[t])})
	}
	counts, _, err := d.counter.Count()
	for _, name := range []string{AffinityMap, SockMap} {
		m := d.loader.Map(name)
		if n, ok := counts[name]; ok && err == nil && m != nil {
			out = append(out, ServiceTable{Name: name, Entries: n, Size: uint64(m.Table.MaxEntries())})
		}
	}
	slices.SortFunc(out, func(a, b ServiceTable) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
