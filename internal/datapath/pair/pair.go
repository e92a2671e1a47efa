package pair

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/dump"
	"github.com/placid-net/placid/internal/state"
)

// Pair is a pair of devices. Peer is the name of the pod side while it is still
// in the node's namespace.
type Pair struct {
	Host  string
	Index int // of the host side
	Peer  string
	MAC   state.MAC // of the pod side
	MTU   int       // of both, bytes of L3
}

// newPair names a pair that does not exist yet.
func newPair(mtu int) Pair {
	suffix := randomSuffix()
	return Pair{Host: HostPrefix + suffix, Peer: SparePrefix + suffix, MAC: randomMAC(), MTU: mtu}
}

// create makes the pair, both ends in this namespace and down, and fills in Index.
func (p *Pair) create() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = p.Host, p.MTU, macAddr(RouterMAC())
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: p.Peer, PeerMTU: uint32(p.MTU), PeerHardwareAddr: macAddr(p.MAC),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("create pair %s: %w", p.Host, err)
	}
	l, err := netlink.LinkByName(p.Host)
	if err != nil {
		return fmt.Errorf("find new pair %s: %w", p.Host, err)
	}
	p.Index = l.Attrs().Index
	// The host side speaks no IPv6 of its own: no address, no listener reports.
	if err := writeSysctl("net/ipv6/conf/"+p.Host+"/addr_gen_mode", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Remove deletes the pair by its host side. An absent pair is success.
func Remove(host string) error {
	l, err := netlink.LinkByName(host)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", host, err)
	}
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", host, err)
	}
	return nil
}

// Inventory lists the host sides of this namespace: spares, which no pod has
// yet, and used ones by name with their index.
func Inventory() (spares []Pair, used map[string]int, err error) {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("list devices: %w", err)
	}
	peers := map[string]*netlink.LinkAttrs{}
	for _, l := range links {
		if after, ok := strings.CutPrefix(l.Attrs().Name, SparePrefix); ok {
			peers[after] = l.Attrs()
		}
	}
	used = map[string]int{}
	for _, l := range links {
		a := l.Attrs()
		suffix, ok := strings.CutPrefix(a.Name, HostPrefix)
		if !ok || l.Type() != "veth" {
			continue
		}
		peer := peers[suffix]
		if peer == nil {
			used[a.Name] = a.Index
			continue
		}
		spares = append(spares, Pair{
			Host: a.Name, Index: a.Index, Peer: peer.Name, MAC: state.MAC(peer.HardwareAddr), MTU: a.MTU,
		})
	}
	return spares, used, nil
}

func writeSysctl(key, value string) error {
	path := "/proc/sys/" + key
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %s: %w", strings.ReplaceAll(key, "/", "."), value, err)
	}
	return nil
}

// up brings the host side up and names its pod for those who look at it.
func (p Pair) up(pod string) error {
	l := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: p.Host, Index: p.Index}}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", p.Host, err)
	}
	if len(pod) > maxAlias {
		pod = pod[:maxAlias]
	}
	if err := netlink.LinkSetAlias(l, pod); err != nil {
		return fmt.Errorf("set alias of %s: %w", p.Host, err)
	}
	return nil
}

// maxAlias is the kernel's IFALIASZ less the final zero.
const maxAlias = 255

func macAddr(m state.MAC) net.HardwareAddr { return m[:] }
