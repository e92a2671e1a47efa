package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
)

// nodeAddrs are the addresses that node ports are served at.
type nodeAddrs struct {
	mu      sync.Mutex
	addrs   []netip.Addr
	changed chan struct{}
}

// get returns the addresses and a channel that is closed when they change.
func (n *nodeAddrs) get() ([]netip.Addr, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return slices.Clone(n.addrs), n.changed
}

func (n *nodeAddrs) set(addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(n.addrs, addrs) {
		return
	}
	n.addrs = addrs
	if n.changed != nil {
		close(n.changed)
	}
	n.changed = make(chan struct{})
}

// NodeAddrs returns the addresses that node ports and host ports are served at,
// sorted: those of the native devices, or the node's in the prefixes of
// nodeport-addresses. The channel is closed when they change; ask again then.
func (d *Datapath) NodeAddrs() ([]netip.Addr, <-chan struct{}) { return d.nodeAddrs.get() }

// readNodeAddrs asks the kernel for the addresses.
func (d *Datapath) readNodeAddrs() error {
	all, err := hostAddrs()
	if err != nil {
		return err
	}
	var native []netip.Addr
	for _, dev := range d.node.devices {
		addrs, err := deviceAddrs(dev.Index)
		if err != nil {
			return err
		}
		native = append(native, addrs...)
	}
	d.nodeAddrs.set(servingAddrs(native, all, d.node.cfg))
	return nil
}

// deviceAddrs returns the addresses of the device with that index; none when it
// is gone.
func deviceAddrs(index int) ([]netip.Addr, error) {
	l, err := netlink.LinkByIndex(index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find device %d: %w", index, err)
	}
	return globalAddrs(l)
}

// servingAddrs chooses from the addresses of the native devices and of all.
func servingAddrs(native, all []netip.Addr, cfg Config) []netip.Addr {
	prefixes := cfg.Services.NodePortAddresses
	from := native
	if len(prefixes) > 0 {
		from = all
	}
	var out []netip.Addr
	for _, a := range from {
		in := len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
		if in && (a.Is4() && cfg.IPv4 || a.Is6() && cfg.IPv6) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
