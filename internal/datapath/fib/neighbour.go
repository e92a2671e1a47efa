package fib

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/dump"
	"github.com/placid-net/placid/internal/reconcile"
	"github.com/placid-net/placid/internal/state"
)

// NeighbourKey is an address on a device.
type NeighbourKey struct {
	Index int
	Addr  netip.Addr
}

// Neighbours implements reconcile.Ops for permanent neighbours of pod devices:
// the node never asks a pod for its MAC.
type Neighbours struct {
	h *netlink.Handle
	// owned tells whether the device of that index is Placid's.
	owned func() (map[int]bool, error)
}

// NewNeighbours opens a netlink socket in the current network namespace; owned
// returns the indexes of the devices whose permanent neighbours are Placid's.
func NewNeighbours(owned func() (map[int]bool, error)) (Neighbours, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Neighbours{}, fmt.Errorf("open netlink: %w", err)
	}
	return Neighbours{h: h, owned: owned}, nil
}

func neigh(key NeighbourKey, mac state.MAC) *netlink.Neigh {
	family := netlink.FAMILY_V4
	if key.Addr.Is6() {
		family = netlink.FAMILY_V6
	}
	return &netlink.Neigh{
		LinkIndex: key.Index, Family: family, State: netlink.NUD_PERMANENT,
		IP: key.Addr.AsSlice(), HardwareAddr: mac[:],
	}
}

// Update adds or replaces the neighbour.
func (o Neighbours) Update(_ context.Context, key NeighbourKey, mac state.MAC) error {
	if err := o.h.NeighSet(neigh(key, mac)); err != nil {
		return fmt.Errorf("set neighbour %s on device %d: %w", key.Addr, key.Index, err)
	}
	return nil
}

// Delete removes the neighbour; success when it, or its device, is gone.
func (o Neighbours) Delete(_ context.Context, key NeighbourKey) error {
	err := o.h.NeighDel(neigh(key, state.MAC{}))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("delete neighbour %s on device %d: %w", key.Addr, key.Index, err)
	}
	return nil
}

// Prune compares the permanent neighbours of Placid's devices with desired.
func (o Neighbours) Prune(ctx context.Context, desired map[NeighbourKey]state.MAC) (int, error) {
	owned, err := o.owned()
	if err != nil {
		return 0, err
	}
	have, err := o.list(owned)
	if err != nil {
		return 0, err
	}
	var errs []error
	repaired := 0
	for key := range have {
		if _, ok := desired[key]; ok {
			continue
		}
		if err := o.Delete(ctx, key); err != nil {
			errs = append(errs, err)
			continue
		}
		repaired++
	}
	for key, mac := range desired {
		if got, ok := have[key]; ok && got == mac {
			continue
		}
		err := o.Update(ctx, key, mac)
		if errors.Is(err, unix.ENODEV) {
			continue // the pod's sandbox ended, and its device with it
		}
		if err != nil {
			errs = append(errs, &reconcile.RowError[NeighbourKey]{Key: key, Err: err})
			continue
		}
		repaired++
	}
	return repaired, errors.Join(errs...)
}

func (o Neighbours) list(owned map[int]bool) (map[NeighbourKey]state.MAC, error) {
	out := map[NeighbourKey]state.MAC{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		neighs, err := dump.Whole(func() ([]netlink.Neigh, error) { return o.h.NeighList(0, family) })
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, n := range neighs {
			addr, ok := netip.AddrFromSlice(n.IP)
			if !ok || n.State&netlink.NUD_PERMANENT == 0 || !owned[n.LinkIndex] || len(n.HardwareAddr) != 6 {
				continue
			}
			out[NeighbourKey{Index: n.LinkIndex, Addr: addr.Unmap()}] = state.MAC(n.HardwareAddr)
		}
	}
	return out, nil
}
