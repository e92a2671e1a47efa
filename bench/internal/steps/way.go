package steps

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/pair"
	"github.com/placid-net/placid/internal/state"
)

const linkPin = node.Root + "/links/bench"

// run makes a pod's interface step by step, and removes it.
func (w *way) run() (err error) {
	if w.pod, err = netlab.New(); err != nil {
		return err
	}
	defer w.pod.Close()
	type action struct {
		name string
		do   func() error
	}
	create := []action{{stepCreate, w.create}, {stepSysctl, w.sysctl}, {stepAttach, w.attach}}
	open := []action{{stepOpen, w.open}}
	order := slices.Concat(open, create)
	if w.moved {
		order = slices.Concat(create, open, []action{{stepMove, w.move}})
	}
	order = append(
		order, action{stepHostUp, w.hostUp}, action{stepAddrs, w.addrs}, action{stepPodUp, w.podUp},
		action{stepPodRoutes, w.podRoutes}, action{stepNode, w.nodeSide}, action{stepFile, w.file},
		action{stepMap, w.entries}, action{stepDelete, w.remove}, action{stepUnpin, w.unpin},
	)
	for _, a := range order {
		if err := w.step(a.name, a.do); err != nil {
			return err
		}
	}
	w.inPod.Close()
	return w.ns.Close()
}

func (w *way) open() (err error) {
	if w.ns, err = netns.GetFromPath(w.pod.Path()); err != nil {
		return err
	}
	w.inPod, err = netlink.NewHandleAt(w.ns, unix.NETLINK_ROUTE)
	return err
}

func (w *way) create() (err error) {
	router := pair.RouterMAC()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = hostDevice, 1500, router[:]
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: spareName, PeerMTU: 1500, PeerHardwareAddr: podMAC()}
	if !w.moved {
		veth.PeerName, veth.PeerNamespace = podDevice, netlink.NsFd(int(w.ns))
	}
	if err = netlink.LinkAdd(veth); err != nil {
		return err
	}
	w.host, err = netlink.LinkByName(hostDevice)
	return err
}

func podMAC() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 7} }

func (w *way) sysctl() error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+hostDevice+"/addr_gen_mode", []byte("1"), 0o644)
}

func (w *way) attach() error {
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: w.host.Attrs().Index, Program: w.program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
	})
	if err != nil {
		return err
	}
	return errors.Join(l.Pin(linkPin+":next"), os.Rename(linkPin+":next", linkPin), l.Close())
}

func (w *way) move() error {
	peer, err := netlink.LinkByName(spareName)
	if err != nil {
		return err
	}
	if err = netlink.LinkSetNsFd(peer, int(w.ns)); err != nil {
		return err
	}
	l, err := w.inPod.LinkByName(spareName)
	if err != nil {
		return err
	}
	return w.inPod.LinkSetName(l, podDevice)
}

func (w *way) hostUp() error {
	return errors.Join(netlink.LinkSetUp(w.host), netlink.LinkSetAlias(w.host, "namespace/pod"))
}

// families calls f with the pod's address, its gateway, and the length of
// addresses.
func families(f func(addr, gateway netip.Addr) error) error {
	var errs []error
	for _, is6 := range []bool{false, true} {
		errs = append(errs, f(node.PodAddr(1, 1, is6), pair.Gateway(is6)))
	}
	return errors.Join(errs...)
}

func whole(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func (w *way) addrs() (err error) {
	if w.peer, err = w.inPod.LinkByName(podDevice); err != nil {
		return err
	}
	return families(func(addr, _ netip.Addr) error {
		a := &netlink.Addr{IPNet: whole(addr)}
		if addr.Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		return w.inPod.AddrAdd(w.peer, a)
	})
}

func (w *way) podUp() error { return w.inPod.LinkSetUp(w.peer) }

func (w *way) podRoutes() error {
	router := pair.RouterMAC()
	index := w.peer.Attrs().Index
	return families(func(_, gw netip.Addr) error {
		neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gw.AsSlice(), HardwareAddr: router[:]}
		if err := w.inPod.NeighSet(neigh); err != nil {
			return err
		}
		all := &net.IPNet{IP: make(net.IP, gw.BitLen()/8), Mask: net.CIDRMask(0, gw.BitLen())}
		return w.inPod.RouteReplace(&netlink.Route{
			LinkIndex: index, Gw: gw.AsSlice(), Dst: all, MTU: 1500, Flags: int(netlink.FLAG_ONLINK),
		})
	})
}

func (w *way) nodeSide() error {
	index := w.host.Attrs().Index
	return families(func(addr, _ netip.Addr) error {
		neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: podMAC()}
		if err := netlink.NeighSet(neigh); err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: index, Dst: whole(addr), Scope: unix.RT_SCOPE_LINK})
	})
}

// file writes as much as an endpoint's file holds, and renames it into place.
func (w *way) file() error {
	path := filepath.Join(w.folder, "1.json")
	if err := os.WriteFile(path+".next", make([]byte, 512), 0o600); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return os.Rename(path+".next", path)
}

func (w *way) remove() error { return netlink.LinkDel(w.host) }

func (w *way) unpin() error { return os.Remove(linkPin) }

// entries writes what a pod of both families has in the endpoint map.
func (w *way) entries() error {
	link6 := pair.LinkLocal(state.MAC(podMAC()))
	for _, a := range []netip.Addr{node.PodAddr(1, 1, false), node.PodAddr(1, 1, true), link6} {
		key := abi.CEndpointKey{Addr: abi.CAddr{B: a.As16()}}
		value := abi.CEndpoint{Ifindex: uint32(w.host.Attrs().Index), Id: 1, Mac: [6]uint8(podMAC())}
		if err := w.table.Put(&key, &value); err != nil {
			return err
		}
	}
	return nil
}
