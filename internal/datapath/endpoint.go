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
	if ep.MTU == 0 {
		ep.MTU = d.node.mtu.Route
	}
	ep, err := d.join(ctx, ep, record)
	if err == nil {
		err = d.realise(ctx, ep)
	}
	if err != nil && ep.HostIfName == "" {
		return state.Endpoint{}, err
	}
	if err != nil {
		// What is undone must be undone even when the caller has given up.
		return state.Endpoint{}, errors.Join(err, d.Disconnect(context.WithoutCancel(ctx), ep))
	}
	return ep, nil
}

// join makes the pair, attaches the program, configures the pod's side, records
// the endpoint and puts it into the tables. One pod at a time: the kernel's
// network lock would not let two do it together anyway.
func (d *Datapath) join(ctx context.Context, ep state.Endpoint, record func(state.Endpoint) error) (state.Endpoint, error) {
	d.devices.Lock()
	defer d.devices.Unlock()
	p, err := pair.Make(ep.Netns, ep.Attachment.IfName, d.node.mtu.Pod)
	if err != nil {
		return ep, err
	}
	ep.HostIfName, ep.HostIndex, ep.MAC = p.Host, p.Index, p.MAC
	// Not through the loop, which would take a link of no endpoint for a left-over.
	for _, program := range []string{loader.FromPod, loader.ToPod} {
		if err := d.loader.Links().Update(ctx, loader.LinkKey{Device: p.Host, Program: program}, p.Index); err != nil {
			return ep, err
		}
	}
	if ep.Bandwidth.IngressRate > 0 {
		if err := pair.ShapeIngress(p.Index, ep.Bandwidth.IngressRate, ep.Bandwidth.IngressBurst); err != nil {
			return ep, err
		}
	}
	if err := p.Join(ep, ep.MTU); err != nil {
		return ep, err
	}
	if err := record(ep); err != nil {
		return ep, err
	}
	return ep, d.tables.UpsertEndpoint(ep)
}

// realise puts the endpoint's rows into the kernel now; the loops would do it a
// moment later. The program is attached already.
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
	return d.applyEndpoint(ctx, ep)
}

// Disconnect takes the pod's interface away and forgets the endpoint. What is
// absent already is success.
func (d *Datapath) Disconnect(ctx context.Context, ep state.Endpoint) error {
	errs := []error{d.tables.DeleteEndpoint(ep.ID)}
	for addr := range rowsOf(ep, Security{}) {
		errs = append(errs, d.endpoints.Remove(ctx, addr))
	}
	for _, a := range ep.Addrs() {
		errs = append(errs, d.podRoutes.Remove(ctx, netip.PrefixFrom(a, a.BitLen())),
			d.neighbours.Remove(ctx, fib.NeighbourKey{Index: ep.HostIndex, Addr: a}))
	}
	errs = append(errs, pair.Remove(ep.HostIfName),
		d.links.Remove(ctx, loader.LinkKey{Device: ep.HostIfName, Program: loader.FromPod}),
		d.links.Remove(ctx, loader.LinkKey{Device: ep.HostIfName, Program: loader.ToPod}))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("disconnect endpoint %d (%s): %w", ep.ID, ep.Pod, err)
	}
	d.Forget(ep.ID) // not before its rows are gone: without it they would be open
	return nil
}

// Check compares the kernel with what the endpoint should be, inside the pod
// too. The error names every difference.
func (d *Datapath) Check(ctx context.Context, ep state.Endpoint) error {
	if err := pair.Check(ep); err != nil {
		return err
	}
	sec, _ := d.securities.get(ep.ID)
	for addr, want := range rowsOf(ep, sec) {
		got, ok, err := d.endpointTable().get(addr)
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
