package packettest

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/testutil"
)

// pod is one endpoint of the node under test.
type pod struct {
	device    string // host side of its pair
	mac       net.HardwareAddr
	ip4, ip6  netip.Addr
	linkLocal netip.Addr
	flags     abi.CEndpointFlags
}

// The node under test: a and b are ordinary pods, c has an ingress limit.
var (
	podA = pod{
		device: "poda", mac: net.HardwareAddr{2, 0, 0, 0, 0x0a, 1},
		ip4: netip.MustParseAddr("10.0.0.10"), ip6: netip.MustParseAddr("fd00:10::a"), linkLocal: netip.MustParseAddr("fe80::a"),
	}
	podB = pod{
		device: "podb", mac: net.HardwareAddr{2, 0, 0, 0, 0x0b, 1},
		ip4: netip.MustParseAddr("10.0.0.11"), ip6: netip.MustParseAddr("fd00:10::b"), linkLocal: netip.MustParseAddr("fe80::b"),
	}
	podC = pod{
		device: "podc", mac: net.HardwareAddr{2, 0, 0, 0, 0x0c, 1},
		ip4: netip.MustParseAddr("10.0.0.12"), ip6: netip.MustParseAddr("fd00:10::c"), linkLocal: netip.MustParseAddr("fe80::c"),
		flags: abi.CEndpointFlagsENDPOINT_SHAPED,
	}
	pods = []pod{podA, podB, podC}

	routerMAC = net.HardwareAddr{2, 0, 0, 0, 0xff, 1} // of every pod's gateway
	nativeMAC = net.HardwareAddr{2, 0, 0, 0, 0xe0, 1}
	nextMAC   = net.HardwareAddr{2, 0, 0, 0, 0xe0, 2} // of the neighbour that is known

	node4 = netip.MustParseAddr("192.0.2.1")
	node6 = netip.MustParseAddr("2001:db8::1")
)

const (
	nativeDevice  = "eth0"
	overlayDevice = "overlay0"

	podMTU      = 1500
	overlayMTU  = 1450
	routeMTU    = 1300 // of the one route that says so
	vni         = 2
	gsoByFrags  = 0xffff
	pairPeerTag = "x"
)

// outcome is what the node's routing table has for a range of addresses.
type outcome int

const (
	noRoute     outcome = iota
	viaKnown            // by the native device; the next hop's MAC is known
	viaUnknown          // the same; it is not known
	viaNarrow           // as viaKnown, with routeMTU
	blackhole           // this node's range: an address that no pod has
	unreachable         // an address that a pod gave back
	prohibited
	localAddr // an address of the node itself, or a broadcast address
)

// fibEntry is one route. Both the kernel and the oracle are given the list.
type fibEntry struct {
	dst netip.Prefix
	outcome
	via netip.Addr
}

func fib() []fibEntry {
	known4, unknown4 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	known6, unknown6 := netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::3")
	return []fibEntry{
		{netip.MustParsePrefix("10.0.0.0/24"), blackhole, netip.Addr{}},
		{netip.MustParsePrefix("10.0.0.200/32"), unreachable, netip.Addr{}},
		{netip.MustParsePrefix("10.1.0.0/24"), viaKnown, known4},
		{netip.MustParsePrefix("10.2.0.0/24"), viaUnknown, unknown4},
		{netip.MustParsePrefix("10.3.0.0/24"), prohibited, netip.Addr{}},
		{netip.MustParsePrefix("10.4.0.0/24"), viaNarrow, known4},
		{netip.MustParsePrefix("fd00:10::/64"), blackhole, netip.Addr{}},
		{netip.MustParsePrefix("fd00:10::c8/128"), unreachable, netip.Addr{}},
		{netip.MustParsePrefix("fd00:1::/64"), viaKnown, known6},
		{netip.MustParsePrefix("fd00:2::/64"), viaUnknown, unknown6},
		{netip.MustParsePrefix("fd00:3::/64"), prohibited, netip.Addr{}},
		{netip.MustParsePrefix("fd00:4::/64"), viaNarrow, known6},
	}
}

// options are the configurations that the node comes in.
type options struct {
	tunnel, underlay6 bool
	defaultRoute      bool
	wayJiffies        uint32 // how long flows remember ways by the routing table
	sizes             loader.Sizes
	services          bool // services and masquerading are on, with natPorts source ports
	// found is called with the BPF file system before programs are loaded: it leaves
	// what an earlier agent did.
	found func(root string)
}

// node is a network namespace with devices, routes and the loaded programs.
type node struct {
	ns      *testutil.Netns
	root    string // of the BPF file system
	loader  *loader.Loader
	cfg     abi.CConfig
	index   map[string]int // of the devices
	watched *watched
	cut     map[string]*ebpf.Program // preludes that shorten the packet
	// tunnelled is the prelude of what came through the tunnel.
	tunnelled *ebpf.Program
}

func requireDatapath(t testing.TB) {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.RequireKernel(t, "tcx programs", "6.6", func() error {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, Instructions: exitWith(0), License: "GPL",
		})
		if err != nil {
			return err
		}
		return p.Close()
	})
}

// newNode sets everything up, and takes it down when the test ends.
func newNode(t testing.TB, o options) *node {
	t.Helper()
	requireDatapath(t)
	n := &node{ns: testutil.NewNetns(t, "packet"), index: map[string]int{}}
	h := n.ns.Handle(t)
	n.ns.Sysctl(t, "net/ipv4/ip_forward", "1")
	n.ns.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	n.addPair(t, h, nativeDevice, nativeMAC)
	for _, p := range pods {
		n.addPair(t, h, p.device, routerMAC)
	}
	n.addLink(t, h, &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: overlayDevice, HardwareAddr: routerMAC}, FlowBased: true, Port: 8472,
	}, overlayDevice)
	n.addRoutes(t, h, o.defaultRoute)
	n.load(t, o)
	n.fillTables(t)
	n.watched = newWatched(t, n)
	n.cut = map[string]*ebpf.Program{}
	for _, name := range n.programs() {
		n.cut[name] = prelude(t, n, name, cutTail())
	}
	if o.tunnel {
		n.tunnelled = prelude(t, n, loader.FromOverlay, setTunnelKey(tunnelKey{id: vni, remote: farEnd(o.underlay6)}))
	}
	return n
}

// programs are those that packets pass. Others are for sockets.
func (n *node) programs() []string {
	return slices.DeleteFunc(n.loader.Programs(), func(name string) bool { return n.loader.Program(name).Type() != ebpf.SchedCLS })
}

func (n *node) addPair(t testing.TB, h *netlink.Handle, name string, mac net.HardwareAddr) {
	t.Helper()
	peer := name + pairPeerTag
	n.addLink(t, h, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: mac}, PeerName: peer}, peer, name)
}

// addLink makes a device, and waits until what names lists can carry packets:
// before, IPv6 takes no route by it.
func (n *node) addLink(t testing.TB, h *netlink.Handle, link netlink.Link, names ...string) {
	t.Helper()
	if err := h.LinkAdd(link); err != nil {
		t.Fatalf("add device %s: %v", link.Attrs().Name, err)
	}
	for _, name := range names {
		l, err := h.LinkByName(name)
		if err != nil {
			t.Fatalf("find device %s: %v", name, err)
		}
		if err := h.LinkSetUp(l); err != nil {
			t.Fatalf("set device %s up: %v", name, err)
		}
		n.index[name] = l.Attrs().Index
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		l, err := h.LinkByIndex(n.index[link.Attrs().Name])
		if err != nil {
			t.Fatalf("find device %s: %v", link.Attrs().Name, err)
		}
		if s := l.Attrs().OperState; s == netlink.OperUp || s == netlink.OperUnknown {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("device %s is %s after 10 s, want up", l.Attrs().Name, l.Attrs().OperState)
		}
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (n *node) addRoutes(t testing.TB, h *netlink.Handle, defaultRoute bool) {
	t.Helper()
	native := n.index[nativeDevice]
	link, err := h.LinkByIndex(native)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []netip.Prefix{netip.PrefixFrom(node4, 24), netip.PrefixFrom(node6, 64)} {
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}); err != nil {
			t.Fatalf("add address %s: %v", p, err)
		}
	}
	entries := fib()
	if defaultRoute {
		entries = append(entries,
			fibEntry{netip.MustParsePrefix("0.0.0.0/0"), viaKnown, netip.MustParseAddr("192.0.2.2")},
			fibEntry{netip.MustParsePrefix("::/0"), viaKnown, netip.MustParseAddr("2001:db8::2")})
	}
	kinds := map[outcome]int{
		blackhole: unix.RTN_BLACKHOLE, unreachable: unix.RTN_UNREACHABLE, prohibited: unix.RTN_PROHIBIT,
	}
	for _, e := range entries {
		r := &netlink.Route{Dst: ipNet(e.dst), Type: kinds[e.outcome]}
		if r.Type == 0 {
			r.LinkIndex, r.Gw = native, e.via.AsSlice()
		}
		if e.outcome == viaNarrow {
			r.MTU, r.MTULock = routeMTU, true // without lock it is for the node's own packets only
		}
		if err := h.RouteAdd(r); err != nil {
			t.Fatalf("add route %s: %v", e.dst, err)
		}
		if e.outcome != viaKnown {
			continue
		}
		if err := h.NeighSet(&netlink.Neigh{
			LinkIndex: native, State: netlink.NUD_PERMANENT, IP: e.via.AsSlice(), HardwareAddr: nextMAC,
		}); err != nil {
			t.Fatalf("add neighbour %s: %v", e.via, err)
		}
	}
}

// config gives the load-time constants of the node. Unless told otherwise, flows
// remember no way by the routing table, which some tests change.
func config(o options, overlayIndex int) abi.CConfig {
	c := abi.CConfig{
		RouterIp4: netorder.Addr(node4), RouterIp6: netorder.Addr(node6), RouterMac: [6]byte(routerMAC),
		PodMtu: podMTU, OverlayMtu: overlayMTU, OverlayIfindex: uint32(overlayIndex), TunnelVni: vni,
		WayJiffies: o.wayJiffies,
	}
	if o.tunnel {
		c.Tunnel = 1
	}
	if o.underlay6 {
		c.TunnelUnderlay6 = 1
	}
	if o.services {
		c.Services, c.Reject, c.Masquerade4, c.Masquerade6 = 1, 1, 1, 1
		c.NatPortFirst, c.NatPorts = natPortFirst, natPorts
		c.MasqueradeIp4, c.MasqueradeIp6 = c.RouterIp4, c.RouterIp6
		c.SyncJiffies = 1 << 30 // unless state changes, twins tell each other nothing
		c.HashSeed = hashSeed
		c.MaglevSize, c.MaglevSeed4, c.MaglevSeed6 = maglevSize, maglevSeed().IPv4(), maglevSeed().IPv6()
	}
	return c
}

func (n *node) load(t testing.TB, o options) {
	t.Helper()
	n.cfg = config(o, n.index[overlayDevice])
	root := testutil.BPFFS(t)
	if o.found != nil {
		o.found(root)
	}
	l, err := loader.Open(root, n.cfg, o.sizes)
	if err != nil {
		t.Fatalf("load programs: %+v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	n.root, n.loader = root, l
}

// settings are the live settings: every timeout is long.
func settings() abi.CSettings {
	s := abi.CSettings{Hz: 1000}
	for i := range s.Timeout {
		s.Timeout[i] = 1 << 30
	}
	return s
}

// Ranges of other nodes, by the tunnel's far end.
var (
	remoteRange4 = netip.MustParsePrefix("10.9.0.0/16")
	remoteRange6 = netip.MustParsePrefix("fd00:9::/64")
	farEnd4      = netip.MustParseAddr("198.51.100.9")
	farEnd6      = netip.MustParseAddr("2001:db8:9::9")
)

func (n *node) fillTables(t testing.TB) {
	t.Helper()
	put := func(a netip.Addr, e abi.CEndpoint) {
		key := abi.CEndpointKey{Addr: netorder.Addr(a)}
		if err := n.loader.Map(datapath.EndpointMap).Table.Put(&key, &e); err != nil {
			t.Fatalf("fill endpoint map: %v", err)
		}
	}
	for i, p := range pods {
		e := abi.CEndpoint{Ifindex: uint32(n.index[p.device]), Flags: uint32(p.flags), Id: uint32(i + 1), Mac: [6]byte(p.mac)}
		put(p.ip4, e)
		put(p.ip6, e)
		e.Flags |= uint32(abi.CEndpointFlagsENDPOINT_LINK_LOCAL)
		put(p.linkLocal, e)
	}
	live := settings()
	if err := n.loader.Map(datapath.SettingsMap).Table.Put(uint32(0), &live); err != nil {
		t.Fatalf("fill settings: %v", err)
	}
	put(node4, abi.CEndpoint{Flags: uint32(abi.CEndpointFlagsENDPOINT_HOST)})
	put(node6, abi.CEndpoint{Flags: uint32(abi.CEndpointFlagsENDPOINT_HOST)})

	far := farEnd4
	if n.cfg.TunnelUnderlay6 == 1 {
		far = farEnd6
	}
	for _, p := range []netip.Prefix{remoteRange4, remoteRange6} {
		key := abi.CIpcacheKey{PrefixLen: uint32(p.Bits() + 128 - p.Addr().BitLen()), Addr: netorder.Addr(p.Addr())}
		value := abi.CIpcacheEntry{TunnelEndpoint: netorder.Addr(far)}
		if err := n.loader.Map(datapath.IPCacheMap).Table.Put(&key, &value); err != nil {
			t.Fatalf("fill ipcache: %v", err)
		}
	}
}

// refillICMP gives every CPU its whole allowance of ICMP errors.
func (n *node) refillICMP() error {
	full := make([]abi.CIcmpBudget, ebpf.MustPossibleCPU())
	return n.loader.Map(datapath.ICMPBudgetMap).Table.Put(uint32(0), full) // refilled at boot: long ago
}

// counter names one slot of the metrics map.
type counter struct {
	hook   abi.CHook
	reason abi.CReason
}

// counters reads the whole metrics map, summed over CPUs.
func (n *node) counters() (map[counter]abi.CMetricsValue, error) {
	m := n.loader.Map(datapath.MetricsMap).Table.Map()
	cpus := ebpf.MustPossibleCPU()
	keys := make([]uint32, m.MaxEntries())
	values := make([]abi.CMetricsValue, len(keys)*cpus)
	var cursor ebpf.MapBatchCursor
	count, err := m.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, err
	}
	out := map[counter]abi.CMetricsValue{}
	for i := range count {
		var sum abi.CMetricsValue
		for _, v := range values[i*cpus : (i+1)*cpus] {
			sum.Packets += v.Packets
			sum.Bytes += v.Bytes
		}
		if sum.Packets > 0 || sum.Bytes > 0 {
			reasons := uint32(abi.CReasonREASON_COUNT)
			out[counter{abi.CHook(keys[i] / reasons), abi.CReason(keys[i] % reasons)}] = sum
		}
	}
	return out, nil
}
