package pair

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/dump"
	"github.com/placid-net/placid/internal/state"
)

// ErrIfNameTaken is returned when the pod has an interface of that name already.
var ErrIfNameTaken = errors.New("interface name is taken")

// Pair is a pair of devices, by its host side.
type Pair struct {
	Host  string
	Index int       // of the host side
	MAC   state.MAC // of the pod side
}

// Make makes a pair, both sides down: the host side in this network namespace,
// the pod side, named ifName, in the one at the path ns. mtu is of both, in
// bytes of L3.
func Make(ns, ifName string, mtu int) (Pair, error) {
	pod, err := netns.GetFromPath(ns)
	if err != nil {
		return Pair{}, fmt.Errorf("open network namespace %s: %w", ns, err)
	}
	defer func() { _ = pod.Close() }()
	p := Pair{Host: HostPrefix + randomSuffix(), MAC: randomMAC()}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = p.Host, mtu, macAddr(RouterMAC())
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: ifName, PeerMTU: uint32(mtu), PeerHardwareAddr: macAddr(p.MAC),
		PeerNamespace: netlink.NsFd(pod),
	})
	if errors.Is(err, unix.EEXIST) {
		return Pair{}, fmt.Errorf("%w: %s in %s: an earlier attachment was not removed (CNI DEL), or another plugin made it",
			ErrIfNameTaken, ifName, ns)
	}
	if err != nil {
		return Pair{}, fmt.Errorf("create pair %s with %s in %s: %w", p.Host, ifName, ns, err)
	}
	l, err := netlink.LinkByName(p.Host)
	if err != nil {
		return Pair{}, fmt.Errorf("find new pair %s: %w", p.Host, err)
	}
	p.Index = l.Attrs().Index
	// The host side speaks no IPv6 of its own: no address, no listener reports.
	if err := writeSysctl("net/ipv6/conf/"+p.Host+"/addr_gen_mode", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Pair{}, errors.Join(err, Remove(p.Host))
	}
	return p, nil
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

// Inventory lists the host sides of this namespace by name, with their index.
func Inventory() (map[string]int, error) {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	out := map[string]int{}
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Name, HostPrefix) && l.Type() == "veth" {
			out[a.Name] = a.Index
		}
	}
	return out, nil
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
