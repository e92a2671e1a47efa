package datapath

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/loadbalance"
)

// translation is what programs need to know of the node to translate packets.
type translation struct {
	ports     portRange // that sources get
	hostNetns uint64    // cookie of the node's network namespace
}

// openTranslation finds it out.
func openTranslation(cfg Config) (translation, error) {
	var t translation
	if !cfg.Services.Enabled && !cfg.Masquerade.IPv4 && !cfg.Masquerade.IPv6 {
		return t, nil
	}
	local, err := localPorts()
	if err != nil {
		return t, err
	}
	var nodePorts portRange
	if cfg.Services.Enabled {
		nodePorts = portRange{cfg.Services.NodePortFirst, cfg.Services.NodePortLast}
	}
	if t.ports, err = natPorts(local, nodePorts); err != nil {
		return t, err
	}
	t.hostNetns, err = netnsCookie()
	return t, err
}

// netnsCookie is how programs name the network namespace that this runs in.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("read the cookie of the network namespace: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read the cookie of the network namespace: %w", err)
	}
	return cookie, nil
}

// hashSeed makes nodes choose backends differently, and one node in the same way
// after a restart.
func hashSeed(node string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // never fails
	return h.Sum32()
}

// translationConstants fills in what programs need for services and masquerade.
func (n node) translationConstants(c *abi.CConfig) {
	services, flag := n.cfg.Services, func(on bool) uint8 {
		if on {
			return 1
		}
		return 0
	}
	seed := loadbalance.MaglevSeed(services.MaglevSeed)
	c.Services, c.Reject, c.SockHostOnly = flag(services.Enabled), flag(services.Reject), flag(services.SocketsOfHostOnly)
	c.MaglevSize, c.MaglevSeed4, c.MaglevSeed6 = n.maglevSize(), seed.IPv4(), seed.IPv6()
	c.HashSeed, c.HostNetns, c.SyncJiffies = hashSeed(n.cfg.NodeName), n.translation.hostNetns, n.hz
	if r := n.translation.ports; r.last > 0 {
		c.NatPortFirst, c.NatPorts = r.first, uint16(min(r.size(), 1<<16-1))
	}
	// Without an address to give, there is nothing to translate to.
	ip4, ip6 := first(n.devices, false), first(n.devices, true)
	if ip4.IsValid() {
		c.MasqueradeIp4, c.Masquerade4 = netorder.Addr(ip4), flag(n.cfg.Masquerade.IPv4 && n.cfg.IPv4)
	}
	if ip6.IsValid() {
		c.MasqueradeIp6, c.Masquerade6 = netorder.Addr(ip6), flag(n.cfg.Masquerade.IPv6 && n.cfg.IPv6)
	}
}

// sources is what masqueraded flows get, as translationConstants says it.
func (n node) sources() conntrack.Sources {
	r := n.translation.ports
	if r.last == 0 {
		return conntrack.Sources{}
	}
	out := conntrack.Sources{Ports: r.size()}
	for _, v6 := range []bool{false, true} {
		if a := first(n.devices, v6); a.IsValid() {
			out.Addrs = append(out.Addrs, a)
		}
	}
	return out
}

// maglevSize is how many entries a Maglev table has.
func (n node) maglevSize() uint32 {
	if n.cfg.Services.MaglevSize == 0 {
		return loadbalance.DefaultMaglevSize
	}
	return n.cfg.Services.MaglevSize
}

// natives are the destinations that pods reach with their own address.
type natives struct {
	mu      sync.Mutex
	rows    map[netip.Prefix]uint32
	changed chan struct{}
}

// nativeRows are the rows of the native map.
func nativeRows(prefixes []netip.Prefix) map[netip.Prefix]uint32 {
	rows := make(map[netip.Prefix]uint32, len(prefixes))
	for _, p := range prefixes {
		if p.IsValid() {
			rows[p.Masked()] = 1
		}
	}
	return rows
}

// set makes these the destinations. It does nothing when they are so already.
func (n *natives) set(prefixes []netip.Prefix) {
	rows := nativeRows(prefixes)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed != nil && maps.Equal(n.rows, rows) {
		return
	}
	if n.changed != nil {
		close(n.changed)
	}
	n.rows, n.changed = rows, make(chan struct{})
}

func (n *natives) desired() (map[netip.Prefix]uint32, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.rows), n.changed, nil
}

// SetNative replaces MasqueradeConfig.Native from now on.
func (d *Datapath) SetNative(prefixes []netip.Prefix) { d.natives.set(prefixes) }

func nativeCodec() codec[netip.Prefix, uint32, abi.CNativeKey, uint32] {
	return codec[netip.Prefix, uint32, abi.CNativeKey, uint32]{
		key: func(p netip.Prefix) abi.CNativeKey {
			return abi.CNativeKey{PrefixLen: prefixBits(p), Addr: netorder.Addr(p.Addr())}
		},
		fromKey:   func(k abi.CNativeKey) netip.Prefix { return prefixOf(k.PrefixLen, k.Addr) },
		value:     func(v uint32) uint32 { return v },
		fromValue: func(v uint32) uint32 { return v },
	}
}
