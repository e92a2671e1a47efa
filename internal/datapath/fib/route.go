package fib

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/dump"
	"github.com/placid-net/placid/internal/reconcile"
)

// Protocols mark Placid's routes in the kernel (the proto of ip-route): those to
// other nodes' pods and of this node's range, and those to this node's pods.
const (
	ProtocolNodes = 80
	ProtocolPods  = 81
)

// Kind is what a route does with a packet.
type Kind int

// The kinds of routes, as rtnetlink numbers them.
const (
	Unicast     Kind = unix.RTN_UNICAST
	Blackhole   Kind = unix.RTN_BLACKHOLE
	Unreachable Kind = unix.RTN_UNREACHABLE
)

// Route is one route of the main table.
type Route struct {
	Kind    Kind
	Index   int        // device; 0 unless Unicast
	Gateway netip.Addr // invalid for destinations on the link
	Source  netip.Addr // of what the node itself sends; invalid to leave it to the kernel
	MTU     int        // bytes of L3; 0 is the device's
}

// Routes implements reconcile.Ops for the routes of one protocol in the network
// namespace of the thread that made it.
type Routes struct {
	h        *netlink.Handle
	protocol netlink.RouteProtocol
}

// NewRoutes opens a netlink socket in the current network namespace.
func NewRoutes(protocol int) (Routes, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return Routes{}, fmt.Errorf("open netlink: %w", err)
	}
	return Routes{h: h, protocol: netlink.RouteProtocol(protocol)}, nil
}

// Update adds the route or replaces the one to the same destination.
func (o Routes) Update(_ context.Context, dst netip.Prefix, r Route) error {
	if err := o.h.RouteReplace(o.toKernel(dst, r)); err != nil {
		return fmt.Errorf("replace route %s: %w", dst, err)
	}
	return nil
}

// Delete removes the route to dst. An absent route is success.
func (o Routes) Delete(_ context.Context, dst netip.Prefix) error {
	return o.remove(dst, netlink.Route{
		Dst: ipNet(dst), Protocol: o.protocol, Table: unix.RT_TABLE_MAIN,
		Scope: netlink.SCOPE_NOWHERE, // any
	})
}

func (o Routes) remove(dst netip.Prefix, kr netlink.Route) error {
	if err := o.h.RouteDel(&kr); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route %s: %w", dst, err)
	}
	return nil
}

// Prune compares Placid's routes with desired and changes only what differs. A
// pod whose device is gone has no routes, and that is as it should be.
func (o Routes) Prune(ctx context.Context, desired map[netip.Prefix]Route) (int, error) {
	have, err := o.list()
	if err != nil {
		return 0, err
	}
	var errs []error
	repaired := 0
	for dst, routes := range have {
		for _, kr := range routes {
			if want, ok := desired[dst]; ok && want == fromKernel(kr) {
				continue
			}
			if _, ok := desired[dst]; ok && len(routes) == 1 {
				continue // replaced in place below: no moment without a route
			}
			if err := o.remove(dst, kr); err != nil {
				errs = append(errs, err)
				continue
			}
			repaired++
		}
	}
	for dst, want := range desired {
		if routes := have[dst]; len(routes) == 1 && fromKernel(routes[0]) == want {
			continue
		}
		err := o.Update(ctx, dst, want)
		if o.protocol == ProtocolPods && errors.Is(err, unix.ENODEV) {
			continue // the pod's sandbox ended, and its device with it
		}
		if err != nil {
			errs = append(errs, &reconcile.RowError[netip.Prefix]{Key: dst, Err: err})
			continue
		}
		repaired++
	}
	return repaired, errors.Join(errs...)
}

func (o Routes) list() (map[netip.Prefix][]netlink.Route, error) {
	out := map[netip.Prefix][]netlink.Route{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Protocol: o.protocol, Table: unix.RT_TABLE_MAIN}
		routes, err := dump.Whole(func() ([]netlink.Route, error) {
			return o.h.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, kr := range routes {
			if dst, ok := prefixOf(kr.Dst); ok {
				out[dst] = append(out[dst], kr)
			}
		}
	}
	return out, nil
}

func (o Routes) toKernel(dst netip.Prefix, r Route) *netlink.Route {
	kr := &netlink.Route{
		Dst:  ipNet(dst),
		Type: int(r.Kind), Protocol: o.protocol, LinkIndex: r.Index, MTU: r.MTU,
		Table: unix.RT_TABLE_MAIN,
	}
	if r.Gateway.IsValid() {
		kr.Gw = r.Gateway.AsSlice()
	} else if r.Kind == Unicast && dst.Addr().Is4() {
		kr.Scope = netlink.SCOPE_LINK
	}
	if r.Source.IsValid() {
		kr.Src = r.Source.AsSlice()
	}
	return kr
}

func fromKernel(kr netlink.Route) Route {
	r := Route{Kind: Kind(kr.Type), MTU: kr.MTU}
	if r.Kind == Unicast {
		r.Index = kr.LinkIndex // the kernel puts IPv6 rejects on the loopback device
	}
	if gw, ok := netip.AddrFromSlice(kr.Gw); ok {
		r.Gateway = gw.Unmap()
	}
	if src, ok := netip.AddrFromSlice(kr.Src); ok {
		r.Source = src.Unmap()
	}
	return r
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), true
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// RemoveAll deletes every route that Placid made in this network namespace.
func RemoveAll() error {
	for _, protocol := range []int{ProtocolPods, ProtocolNodes} {
		o, err := NewRoutes(protocol)
		if err != nil {
			return err
		}
		_, err = o.Prune(context.Background(), nil)
		o.h.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
