package pair

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/state"
)

// Join brings the host side up and configures the pod side, which Make left in
// the endpoint's network namespace: addresses (/32 and /128), default routes
// through the gateways with routeMTU, permanent neighbours, bandwidth. On an
// error the pair is not usable and is to be removed.
func (p Pair) Join(ep state.Endpoint, routeMTU int) error {
	if err := p.up(ep.Pod.String()); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(ep.Netns)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", ep.Netns, err)
	}
	defer func() { _ = ns.Close() }()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", ep.Netns, err)
	}
	defer h.Close()
	return configure(h, ep, routeMTU)
}

// configure sets up the pod side in h's namespace.
func configure(h *netlink.Handle, ep state.Endpoint, routeMTU int) error {
	l, err := h.LinkByName(ep.Attachment.IfName)
	if err != nil {
		return fmt.Errorf("find %s in the pod: %w", ep.Attachment.IfName, err)
	}
	if ep.Bandwidth.EgressRate > 0 {
		if err := shape(h, l.Attrs().Index, ep.Bandwidth.EgressRate, ep.Bandwidth.EgressBurst); err != nil {
			return fmt.Errorf("limit what the pod sends: %w", err)
		}
	}
	for _, addr := range ep.Addrs() {
		if err := addAddr(h, l, addr); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up in the pod: %w", ep.Attachment.IfName, err)
	}
	for _, addr := range ep.Addrs() {
		if err := addDefaultRoute(h, l.Attrs().Index, addr.Is6(), routeMTU); err != nil {
			return err
		}
	}
	return nil
}

// Gateway returns the next hop of the family.
func Gateway(is6 bool) netip.Addr {
	if is6 {
		return Gateway6()
	}
	return Gateway4()
}

func addAddr(h *netlink.Handle, l netlink.Link, addr netip.Addr) error {
	a := &netlink.Addr{IPNet: hostNet(addr)}
	if addr.Is6() {
		a.Flags = unix.IFA_F_NODAD // the node gave it to this pod alone
	}
	if err := h.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add address %s in the pod: %w", addr, err)
	}
	return nil
}

// addDefaultRoute also pins the gateway's MAC, so that no pod ever waits for it.
func addDefaultRoute(h *netlink.Handle, index int, is6 bool, mtu int) error {
	gw := Gateway(is6)
	family := netlink.FAMILY_V4
	if is6 {
		family = netlink.FAMILY_V6
	}
	neigh := &netlink.Neigh{
		LinkIndex: index, Family: family, State: netlink.NUD_PERMANENT,
		IP: gw.AsSlice(), HardwareAddr: macAddr(RouterMAC()),
	}
	if err := h.NeighSet(neigh); err != nil {
		return fmt.Errorf("add neighbour %s in the pod: %w", gw, err)
	}
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if is6 {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	route := &netlink.Route{
		LinkIndex: index, Family: family, Gw: gw.AsSlice(), MTU: mtu,
		Flags: int(netlink.FLAG_ONLINK),
		Dst:   &net.IPNet{IP: all.Addr().AsSlice(), Mask: net.CIDRMask(0, all.Addr().BitLen())},
	}
	if err := h.RouteReplace(route); err != nil {
		return fmt.Errorf("add default route through %s in the pod: %w", gw, err)
	}
	return nil
}

func hostNet(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}
