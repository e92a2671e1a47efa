package tcp

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/bench/internal/bpf"
	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/state"
)

// Path is a way between two pods.
type Path struct {
	Name           string
	Base           string // name of the path to compare with
	client, server *netlab.Namespace
	addrs          map[bool]netip.Addr // of the server, by "is IPv6"
}

// topology holds everything that the paths need.
type topology struct {
	nodeArgs   []string // make this program call node.Child
	namespaces []*netlab.Namespace
	nodes      []*node.Process
	links      []link.Link
}

func (t *topology) close() {
	for _, n := range t.nodes {
		_ = n.Close()
	}
	for _, l := range t.links {
		_ = l.Close()
	}
	for _, n := range t.namespaces {
		n.Close()
	}
}

// make makes n namespaces.
func (t *topology) make(n int) ([]*netlab.Namespace, error) {
	var out []*netlab.Namespace
	for range n {
		ns, err := netlab.New()
		if err != nil {
			return nil, err
		}
		t.namespaces = append(t.namespaces, ns)
		out = append(out, ns)
	}
	return out, nil
}

// podAddrs are the addresses of a pod by family.
func podAddrs(nodeNumber, pod int) map[bool]netip.Addr {
	return map[bool]netip.Addr{
		false: node.PodAddr(nodeNumber, pod, false), true: node.PodAddr(nodeNumber, pod, true),
	}
}

func families() []bool { return []bool{false, true} }

// raw joins two namespaces by nothing but a veth pair.
func (t *topology) raw(name string) (Path, error) {
	ns, err := t.make(2)
	if err != nil {
		return Path{}, err
	}
	side := func(i int) netlab.Side {
		return netlab.Side{In: ns[i-1], Device: node.Device, Addrs: []netip.Prefix{
			netip.PrefixFrom(node.PodAddr(1, i, false), 24), netip.PrefixFrom(node.PodAddr(1, i, true), 64),
		}}
	}
	return Path{Name: name, client: ns[0], server: ns[1], addrs: podAddrs(1, 2)}, netlab.Join(side(1), side(2))
}

// gateway is a router's address on the link to a pod.
func gateway(pod int, is6 bool) netip.Prefix {
	if is6 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 2, 15: byte(pod)}), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 2, byte(pod)}), 32)
}

// hostDevice is the router's end of the pair of pod number.
func hostDevice(number int) string { return fmt.Sprintf("pod%d", number) }

// hang connects a pod to a router by a veth pair and routes.
func hang(router, pod *netlab.Namespace, nodeNumber, number int) error {
	host := hostDevice(number)
	sides := [2]netlab.Side{{In: router, Device: host}, {In: pod, Device: node.Device}}
	for _, is6 := range families() {
		addr := node.PodAddr(nodeNumber, number, is6)
		sides[0].Addrs = append(sides[0].Addrs, gateway(number, is6))
		sides[1].Addrs = append(sides[1].Addrs, netip.PrefixFrom(addr, addr.BitLen()))
	}
	if err := netlab.Join(sides[0], sides[1]); err != nil {
		return err
	}
	for _, is6 := range families() {
		addr, gw := node.PodAddr(nodeNumber, number, is6), gateway(number, is6).Addr()
		if err := router.AddRoute(host, netip.PrefixFrom(addr, addr.BitLen()), netip.Addr{}); err != nil {
			return err
		}
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if is6 {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if err := pod.AddRoute(node.Device, all, gw); err != nil {
			return err
		}
	}
	return nil
}

// routed joins two pods by a router, the kernel.
func (t *topology) routed(name, base string) (Path, error) {
	ns, err := t.make(3)
	if err != nil {
		return Path{}, err
	}
	if err := ns[2].Forwarding(); err != nil {
		return Path{}, err
	}
	for i, pod := range ns[:2] {
		if err := hang(ns[2], pod, 1, i+1); err != nil {
			return Path{}, err
		}
	}
	return Path{Name: name, Base: base, client: ns[0], server: ns[1], addrs: podAddrs(1, 2)}, nil
}

// limit joins two pods by programs that do nothing but redirect.
func (t *topology) limit(name, base string) (Path, error) {
	p, err := t.routed(name, base)
	if err != nil {
		return Path{}, err
	}
	router := t.namespaces[len(t.namespaces)-1]
	for i, pod := range []*netlab.Namespace{p.client, p.server} {
		mac, err := router.MAC(hostDevice(i + 1))
		if err != nil {
			return Path{}, err
		}
		for _, is6 := range families() {
			if err = pod.AddNeighbour(node.Device, gateway(i+1, is6).Addr(), mac); err != nil {
				return Path{}, err
			}
		}
		l, err := redirect(router, hostDevice(i+1), hostDevice(2-i))
		if err != nil {
			return Path{}, err
		}
		t.links = append(t.links, l)
	}
	return p, nil
}

// redirect makes all that comes in by one device go to the far end of another.
func redirect(in *netlab.Namespace, from, to string) (l link.Link, _ error) {
	spec, err := bpf.LoadBench()
	if err != nil {
		return nil, fmt.Errorf("read compiled object: %w", err)
	}
	err = in.Do(func() error {
		source, sourceErr := net.InterfaceByName(from)
		if sourceErr != nil {
			return sourceErr
		}
		target, targetErr := net.InterfaceByName(to)
		if targetErr != nil {
			return targetErr
		}
		if err = spec.Variables[bpf.BenchVarPeerIfindex].Set(uint32(target.Index)); err != nil {
			return err
		}
		coll, loadErr := ebpf.NewCollection(spec)
		if loadErr != nil {
			return loadErr
		}
		defer coll.Close()
		l, err = link.AttachTCX(link.TCXOptions{
			Interface: source.Index, Program: coll.Programs[bpf.BenchProgPeer], Attach: ebpf.AttachTCXIngress,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("redirect %s to %s: %w", from, to, err)
	}
	return l, nil
}

// local joins two pods of a group by one node of Placid's.
func (t *topology) local(name, base string, group node.Group) (Path, error) {
	ns, err := t.make(4)
	if err != nil {
		return Path{}, err
	}
	if err := netlab.Join(node.Side(ns[2], 1), node.Side(ns[3], 2)); err != nil {
		return Path{}, err
	}
	spec := node.Spec{
		Self: node.Describe(1), Device: node.Device, Group: group, Pods: []node.Pod{pod(ns[0], 1, 1), pod(ns[1], 1, 2)},
	}
	if err := t.spawn(ns[2], spec); err != nil {
		return Path{}, err
	}
	return Path{Name: name, Base: base, client: ns[0], server: ns[1], addrs: podAddrs(1, 2)}, nil
}

func pod(ns *netlab.Namespace, nodeNumber, number int) node.Pod {
	return node.Pod{
		Netns: ns.Path(), IPv4: node.PodAddr(nodeNumber, number, false), IPv6: node.PodAddr(nodeNumber, number, true),
	}
}

func (t *topology) spawn(in *netlab.Namespace, spec node.Spec) error {
	p, err := node.Spawn(in, spec, t.nodeArgs...)
	if err != nil {
		return err
	}
	t.nodes = append(t.nodes, p)
	return nil
}

// segment makes two nodes' namespaces on one segment, and a pod's for each.
func (t *topology) segment() (nodes, pods []*netlab.Namespace, err error) {
	ns, err := t.make(4)
	if err != nil {
		return nil, nil, err
	}
	return ns[:2], ns[2:], netlab.Join(node.Side(ns[0], 1), node.Side(ns[1], 2))
}

// apart joins pods of two nodes of Placid's.
func (t *topology) apart(name, base string, tunnel bool) (Path, error) {
	nodes, pods, err := t.segment()
	if err != nil {
		return Path{}, err
	}
	for i := range nodes {
		spec := node.Spec{
			Self: node.Describe(i + 1), Peers: []state.Node{node.Describe(2 - i)}, Device: node.Device, Tunnel: tunnel,
			Pods: []node.Pod{pod(pods[i], i+1, 1)},
		}
		if err := t.spawn(nodes[i], spec); err != nil {
			return Path{}, err
		}
	}
	return Path{Name: name, Base: base, client: pods[0], server: pods[1], addrs: podAddrs(2, 1)}, nil
}

// kernelApart joins pods of two nodes by the kernel's routing, through its own
// VXLAN when tunnel is set.
func (t *topology) kernelApart(name string, tunnel bool) (Path, error) {
	nodes, pods, err := t.segment()
	if err != nil {
		return Path{}, err
	}
	for i, n := range nodes {
		if err := n.Forwarding(); err != nil {
			return Path{}, err
		}
		if err := hang(n, pods[i], i+1, 1); err != nil {
			return Path{}, err
		}
		device, far := node.Device, node.Underlay
		if tunnel {
			device, far = "vxlan", farEnd
			if err := addVXLAN(n, device, i+1, 2-i); err != nil {
				return Path{}, err
			}
		}
		for j, cidr := range node.Describe(2 - i).PodCIDRs {
			if err := n.AddRoute(device, cidr, far(2-i, j == 1).Addr()); err != nil {
				return Path{}, err
			}
		}
	}
	return Path{Name: name, client: pods[0], server: pods[1], addrs: podAddrs(2, 1)}, nil
}

// farEnd is a node's address inside the kernel's tunnel.
func farEnd(i int, is6 bool) netip.Prefix { return gateway(100+i, is6) }

// addVXLAN makes a tunnel between two nodes that knows its one far end.
func addVXLAN(in *netlab.Namespace, device string, self, other int) error {
	under, err := in.Netlink().LinkByName(node.Device)
	if err != nil {
		return fmt.Errorf("find %s: %w", node.Device, err)
	}
	mac := func(i int) []byte { return []byte{2, 0, 0, 0, 1, byte(i)} }
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = device, mac(self)
	vxlan := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: 2, Port: 8472, VtepDevIndex: under.Attrs().Index,
		SrcAddr: node.Underlay(self, false).Addr().AsSlice(), Group: node.Underlay(other, false).Addr().AsSlice(),
	}
	if err := in.Netlink().LinkAdd(vxlan); err != nil {
		return fmt.Errorf("create %s: %w", device, err)
	}
	if err := in.Netlink().LinkSetUp(vxlan); err != nil {
		return fmt.Errorf("set %s up: %w", device, err)
	}
	for _, is6 := range families() {
		if err := in.AddNeighbour(device, farEnd(other, is6).Addr(), mac(other)); err != nil {
			return err
		}
	}
	return nil
}
