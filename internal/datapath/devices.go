package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/datapath/dump"
	"github.com/placid-net/placid/internal/datapath/pair"
)

// ErrNoDevice is returned when no native device is found.
var ErrNoDevice = errors.New("no native device")

// roleNative and roleOverlay are the roles of devices that programs run on.
const (
	roleNative  = "native"
	roleOverlay = "overlay"
)

// nativeDevices returns the named devices, or those that carry a default route
// when names is empty.
func nativeDevices(names []string) ([]agentapi.Device, error) {
	if len(names) == 0 {
		var err error
		if names, err = defaultRouteDevices(); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: there is no default route to find it by: set the key devices to the names of the devices that carry the node's traffic", ErrNoDevice)
	}
	out := make([]agentapi.Device, 0, len(names))
	for _, name := range names {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("key devices: device %q: %w", name, err)
		}
		addrs, err := globalAddrs(l)
		if err != nil {
			return nil, err
		}
		out = append(out, agentapi.Device{
			Name: name, Index: l.Attrs().Index, MTU: l.Attrs().MTU, Addrs: addrs, Role: roleNative,
		})
	}
	return out, nil
}

func defaultRouteDevices() ([]string, error) {
	var names []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump.Whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
				continue
			}
			l, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil || l.Attrs().Flags&net.FlagLoopback != 0 {
				continue
			}
			if name := l.Attrs().Name; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// globalAddrs returns the addresses of one device, or of all when l is nil.
func globalAddrs(l netlink.Link) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family) })
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range addrs {
			addr, ok := netip.AddrFromSlice(a.IP)
			if addr = addr.Unmap(); ok && addr.IsGlobalUnicast() && !slices.Contains(out, addr) {
				out = append(out, addr)
			}
		}
	}
	return out, nil
}

// hostAddrs returns every address of the node that packets can be sent to.
func hostAddrs() ([]netip.Addr, error) { return globalAddrs(nil) }

// first returns the first address of the family among the devices' addresses.
func first(devices []agentapi.Device, is6 bool) netip.Addr {
	for _, d := range devices {
		for _, a := range d.Addrs {
			if a.Is6() == is6 {
				return a
			}
		}
	}
	return netip.Addr{}
}

// MTUs are sizes in bytes of L3: of the underlay, of pod devices, and of routes
// between pods (the same, less the tunnel's overhead).
type MTUs struct{ Underlay, Pod, Route int }

// minIPv6MTU is the smallest that IPv6 allows: RFC 8200, section 5.
const minIPv6MTU = 1280

// computeMTUs derives the sizes from the underlay's: an explicit one, or else
// the smallest of the devices'.
func computeMTUs(cfg Config, devices []agentapi.Device, underlay6 bool) (MTUs, error) {
	base := cfg.MTU
	for _, d := range devices {
		if cfg.MTU == 0 && (base == 0 || d.MTU < base) {
			base = d.MTU
		}
		if cfg.MTU > d.MTU {
			return MTUs{}, fmt.Errorf("key mtu: %d is more than device %s takes (%d)", cfg.MTU, d.Name, d.MTU)
		}
	}
	m := MTUs{Underlay: base, Pod: base, Route: base}
	if cfg.Tunnel {
		m.Route -= vxlanOverhead4
		if underlay6 {
			m.Route -= vxlanOverhead6 - vxlanOverhead4
		}
	}
	if cfg.IPv6 && m.Route < minIPv6MTU {
		return MTUs{}, fmt.Errorf("MTU of pod traffic is %d (underlay %d), IPv6 needs %d: raise the MTU of the native device or set enable-ipv6 to false",
			m.Route, base, minIPv6MTU)
	}
	return m, nil
}

// ensureOverlay makes the VXLAN device, or mends the one that is there.
func ensureOverlay(port, mtu int) (agentapi.Device, error) {
	want := overlayLink(port, mtu)
	l, err := netlink.LinkByName(OverlayDevice)
	if err == nil {
		have, ok := l.(*netlink.Vxlan)
		if !ok || have.Port != port || !have.FlowBased {
			if err = netlink.LinkDel(l); err != nil {
				return agentapi.Device{}, fmt.Errorf("replace %s: %w", OverlayDevice, err)
			}
			l = nil
		}
	}
	if err != nil || l == nil {
		if err = netlink.LinkAdd(want); err != nil {
			return agentapi.Device{}, fmt.Errorf("create %s (VXLAN on UDP port %d): %w", OverlayDevice, port, err)
		}
		if l, err = netlink.LinkByName(OverlayDevice); err != nil {
			return agentapi.Device{}, fmt.Errorf("find %s: %w", OverlayDevice, err)
		}
	}
	if l.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(l, mtu); err != nil {
			return agentapi.Device{}, fmt.Errorf("set MTU of %s to %d: %w", OverlayDevice, mtu, err)
		}
	}
	// No address resolution: the far end rewrites the inner Ethernet header.
	if err := netlink.LinkSetARPOff(l); err != nil {
		return agentapi.Device{}, fmt.Errorf("switch ARP off on %s: %w", OverlayDevice, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return agentapi.Device{}, fmt.Errorf("set %s up (VXLAN on UDP port %d, key tunnel-port): %w", OverlayDevice, port, err)
	}
	return agentapi.Device{Name: OverlayDevice, Index: l.Attrs().Index, MTU: mtu, Role: roleOverlay}, nil
}

func overlayLink(port, mtu int) *netlink.Vxlan {
	attrs := netlink.NewLinkAttrs()
	mac := pair.RouterMAC()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = OverlayDevice, mtu, mac[:]
	return &netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: port, Learning: false}
}

// removeOverlay deletes the VXLAN device. An absent device is success.
func removeOverlay() error {
	l, err := netlink.LinkByName(OverlayDevice)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", OverlayDevice, err)
	}
	if err := netlink.LinkDel(l); err != nil {
		return fmt.Errorf("delete %s: %w", OverlayDevice, err)
	}
	return nil
}
