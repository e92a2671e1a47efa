package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/placid-net/placid/internal/datapath/fib"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
)

// Connect gives a pod its interface. ep names the attachment, the namespace and
// the addresses; Connect fills in the devices and the MTU. record is called
// when the pod's side is finished and before the endpoint is in the tables: it
// makes the endpoint outlive the agent. The cost does not depend on how many
// endpoints there are. On an error nothing is left.
func (d *Datapath) Connect(ctx context.Context, ep state.Endpoint, record func(state.Endpoint) error) (state.Endpoint, error) {
	p, done, err := d.pool.Take(ctx)
	if err != nil {
		return state.Endpoint{}, err
	}
	defer done()
	ep.HostIfName, ep.HostIndex, ep.MAC = p.Host, p.Index, p.MAC
	if ep.MTU == 0 {
		ep.MTU = d.node.mtu.Route
	}
	undo := func(err error) (state.Endpoint, error) {
		// What is undone must be undone even when the caller has given up.
		return state.Endpoint{}, errors.Join(err, d.Disconnect(context.WithoutCancel(ctx), ep))
	}
	if ep.Bandwidth.IngressRate > 0 {
		if err := pair.ShapeIngress(p.Index, ep.Bandwidth.IngressRate, ep.Bandwidth.IngressBurst); err != nil {
			return undo(err)
		}
	}
	if err := p.Join(ep, ep.MTU); err != nil {
		return undo(err)
	}
	if err := record(ep); err != nil {
		return undo(err)
	}
	if err := d.tables.UpsertEndpoint(ep); err != nil {
		return undo(err)
	}
	if err := d.realise(ctx, ep); err != nil {
		return undo(err)
	}
	return ep, nil
}

// realise puts the endpoint's rows into the kernel now; the loops would do it a
// moment later. The program is attached already, by the pool.
func (d *Datapath) realise(ctx context.Context, ep state.Endpoint) error {
	one := []state.Endpoint{ep}
	for key, mac := range neighbourRows(one) {
		if err := d.neighbours.Apply(ctx, key, mac); err != nil {
			return err
		}
	}
	for dst, route := range podRoutes(d.node, one) {
		if err := d.podRoutes.Apply(ctx, dst, route); err != nil {
			return err
		}
	}
	for addr, row := range rowsOf(ep) {
		if err := d.endpoints.Apply(ctx, addr, row); err != nil {
			return err
		}
	}
	return nil
}

// Disconnect takes the pod's interface away and forgets the endpoint. What is
// absent already is success.
func (d *Datapath) Disconnect(ctx context.Context, ep state.Endpoint) error {
	errs := []error{d.tables.DeleteEndpoint(ep.ID)}
	for addr := range rowsOf(ep) {
		errs = append(errs, d.endpoints.Remove(ctx, addr))
	}
	for _, a := range ep.Addrs() {
		errs = append(errs, d.podRoutes.Remove(ctx, netip.PrefixFrom(a, a.BitLen())),
			d.neighbours.Remove(ctx, fib.NeighbourKey{Index: ep.HostIndex, Addr: a}))
	}
	errs = append(errs, pair.Remove(ep.HostIfName),
		d.links.Remove(ctx, loader.LinkKey{Device: ep.HostIfName, Program: loader.FromPod}))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("disconnect endpoint %d (%s): %w", ep.ID, ep.Pod, err)
	}
	return nil
}

// Check compares the kernel with what the endpoint should be, inside the pod
// too. The error names every difference.
func (d *Datapath) Check(ctx context.Context, ep state.Endpoint) error {
	if err := pair.Check(ep); err != nil {
		return err
	}
	for addr, want := range rowsOf(ep) {
		got, ok, err := d.endpointRow(addr)
		if err != nil {
			return err
		}
		if !ok || got != want {
			return fmt.Errorf("%s: entry of %s is %+v (present: %t), want %+v", EndpointMap, addr, got, ok, want)
		}
	}
	return ctx.Err()
}

// Exists tells whether the host side of the endpoint's pair is still there. It
// goes with the pod's network namespace.
func (d *Datapath) Exists(ep state.Endpoint) (bool, error) {
	return pair.Exists(ep.HostIfName, ep.HostIndex)
}
