package pair

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/dump"
	"github.com/placid-net/placid/internal/state"
)

// ErrDiffers is returned when the kernel does not have what an endpoint should.
var ErrDiffers = errors.New("the pod's interface is not as it should be")

// Exists tells whether the device is there under this index.
func Exists(host string, index int) (bool, error) {
	l, err := netlink.LinkByName(host)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find %s: %w", host, err)
	}
	return l.Attrs().Index == index, nil
}

// Check compares both sides of the pair with the endpoint. The error names the
// first difference and wraps ErrDiffers.
func Check(ep state.Endpoint) error {
	ok, err := Exists(ep.HostIfName, ep.HostIndex)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: no device %s with index %d", ErrDiffers, ep.HostIfName, ep.HostIndex)
	}
	ns, err := netns.GetFromPath(ep.Netns)
	if err != nil {
		return fmt.Errorf("%w: network namespace %s: %w", ErrDiffers, ep.Netns, err)
	}
	defer func() { _ = ns.Close() }()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", ep.Netns, err)
	}
	defer h.Close()
	return checkPod(h, ep)
}

func checkPod(h *netlink.Handle, ep state.Endpoint) error {
	l, err := h.LinkByName(ep.Attachment.IfName)
	if err != nil {
		return fmt.Errorf("%w: %s in the pod: %w", ErrDiffers, ep.Attachment.IfName, err)
	}
	if got := l.Attrs().HardwareAddr.String(); got != ep.MAC.String() {
		return fmt.Errorf("%w: MAC of %s in the pod is %s, want %s", ErrDiffers, ep.Attachment.IfName, got, ep.MAC)
	}
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return h.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses in the pod: %w", err)
	}
	for _, want := range ep.Addrs() {
		found := slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
			got, ok := netip.AddrFromSlice(a.IP)
			return ok && got.Unmap() == want
		})
		if !found {
			return fmt.Errorf("%w: %s is missing from %s in the pod", ErrDiffers, want, ep.Attachment.IfName)
		}
		if err := checkRoute(h, l.Attrs().Index, want.Is6()); err != nil {
			return err
		}
	}
	return nil
}

func checkRoute(h *netlink.Handle, index int, is6 bool) error {
	family := netlink.FAMILY_V4
	if is6 {
		family = netlink.FAMILY_V6
	}
	routes, err := dump.Whole(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(family, &netlink.Route{LinkIndex: index}, netlink.RT_FILTER_OIF)
	})
	if err != nil {
		return fmt.Errorf("list routes in the pod: %w", err)
	}
	gw := Gateway(is6)
	for _, r := range routes {
		if got, ok := netip.AddrFromSlice(r.Gw); ok && got.Unmap() == gw && (r.Dst == nil || r.Dst.IP.IsUnspecified()) {
			return nil
		}
	}
	return fmt.Errorf("%w: no default route through %s in the pod", ErrDiffers, gw)
}
