// Package netlab makes network namespaces and joins them.
//
// Invariants: a namespace has no name; it is held open by this process and by
// those that were started in it, and ends with the last of them, so that a
// killed run leaves nothing.
package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace. Its loopback device is up.
type Namespace struct {
	handle netns.NsHandle
	link   *netlink.Handle
}

// New makes a namespace.
func New() (*Namespace, error) {
	n := &Namespace{}
	err := restoring(func() error {
		var err error
		if n.handle, err = netns.New(); err != nil {
			return fmt.Errorf("create network namespace: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if n.link, err = netlink.NewHandleAt(n.handle, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := n.up("lo"); err != nil {
		return nil, err
	}
	return n, nil
}

// Open opens a namespace by its path, to run programs in it. It has no Netlink.
func Open(path string) (*Namespace, error) {
	handle, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	return &Namespace{handle: handle}, nil
}

// restoring runs f on a thread that is back in its namespace afterwards.
func restoring(f func() error) error {
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	defer func() { _ = old.Close() }()
	result := f()
	if err := netns.Set(old); err != nil {
		return fmt.Errorf("go back to the thread's network namespace: %w", err) // the thread stays locked
	}
	runtime.UnlockOSThread()
	return result
}

// Do runs f in the namespace. Goroutines that f starts are not in it.
func (n *Namespace) Do(f func() error) error {
	return restoring(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// Start starts cmd in the namespace; it is killed when this process ends.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	return n.Do(cmd.Start)
}

// Path names the namespace to any process of this machine while this one lives.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.handle)) }

// Netlink is a socket of the namespace.
func (n *Namespace) Netlink() *netlink.Handle { return n.link }

// Close lets go of the namespace.
func (n *Namespace) Close() {
	if n.link != nil {
		n.link.Close()
	}
	_ = n.handle.Close()
}

func (n *Namespace) up(device string) error {
	l, err := n.link.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	if err := n.link.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", device, err)
	}
	return nil
}

// Side is one end of a pair of devices.
type Side struct {
	In     *Namespace
	Device string
	Addrs  []netip.Prefix
}

// Join connects two namespaces by a veth pair with addresses, and sets it up.
func Join(a, b Side) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.Device
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.Device, PeerNamespace: netlink.NsFd(int(b.In.handle))}
	if err := a.In.link.LinkAdd(veth); err != nil {
		return fmt.Errorf("create pair %s, %s: %w", a.Device, b.Device, err)
	}
	for _, s := range []Side{a, b} {
		for _, addr := range s.Addrs {
			if err := s.In.AddAddr(s.Device, addr); err != nil {
				return err
			}
		}
		if err := s.In.up(s.Device); err != nil {
			return err
		}
	}
	return nil
}

// AddAddr adds an address without duplicate address detection.
func (n *Namespace) AddAddr(device string, addr netip.Prefix) error {
	l, err := n.link.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := n.link.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add %s to %s: %w", addr, device, err)
	}
	return nil
}

// AddRoute adds a route; gateway may be invalid for one that is on the link.
func (n *Namespace) AddRoute(device string, dst netip.Prefix, gateway netip.Addr) error {
	l, err := n.link.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(dst)}
	if gateway.IsValid() {
		r.Gw, r.Flags = gateway.AsSlice(), int(netlink.FLAG_ONLINK)
	}
	if err := n.link.RouteReplace(r); err != nil {
		return fmt.Errorf("add route to %s: %w", dst, err)
	}
	return nil
}

// AddDefaultRoute adds the route to everywhere.
func (n *Namespace) AddDefaultRoute(device string, gateway netip.Addr) error {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gateway.Is6() {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return n.AddRoute(device, all, gateway)
}

// AddNeighbour adds a permanent neighbour.
func (n *Namespace) AddNeighbour(device string, addr netip.Addr, mac net.HardwareAddr) error {
	l, err := n.link.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	neigh := &netlink.Neigh{
		LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac,
	}
	if err := n.link.NeighSet(neigh); err != nil {
		return fmt.Errorf("add neighbour %s: %w", addr, err)
	}
	return nil
}

// MAC returns a device's address.
func (n *Namespace) MAC(device string) (net.HardwareAddr, error) {
	l, err := n.link.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", device, err)
	}
	return l.Attrs().HardwareAddr, nil
}

// Forwarding makes the namespace a router of both families.
func (n *Namespace) Forwarding() error {
	return n.Do(func() error {
		for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/"+key, []byte("1"), 0o644); err != nil {
				return fmt.Errorf("switch forwarding on: %w", err)
			}
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
