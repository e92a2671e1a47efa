package nstest

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// cluster is two nodes and an outside host on one segment. The outside host is
// the nodes' default router and knows the way to their pods.
type cluster struct {
	underlay *testutil.Netns
	outside  *testutil.Netns
	nodes    []*node
	lastID   int
}

// options of a cluster.
type options struct {
	tunnel bool
	mtu    int  // of the segment; 0 is 1500
	only6  bool // no IPv4 on the segment
	change func(*datapath.Config)
}

const (
	nodeCount = 2
	// auditInterval is short, so that a test need not wait long for an audit.
	auditInterval = time.Second
	outsideHost   = 9
)

func underlayAddr(host int, is6 bool) netip.Addr {
	if is6 {
		return nth(netip.MustParsePrefix("2001:db8::/64"), host)
	}
	return nth(netip.MustParsePrefix("192.0.2.0/24"), host)
}

// newCluster builds the network; nodes are not started.
func newCluster(t testing.TB, o options) *cluster {
	t.Helper()
	testutil.RequireRoot(t)
	if o.mtu == 0 {
		o.mtu = 1500
	}
	c := &cluster{underlay: testutil.NewNetns(t, "underlay"), outside: testutil.NewNetns(t, "outside")}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", MTU: o.mtu}}
	h := c.underlay.Handle(t)
	must(t, h.LinkAdd(bridge))
	must(t, h.LinkSetUp(bridge))
	c.plug(t, h, c.outside, outsideHost, o)
	for i := 1; i <= nodeCount; i++ {
		c.nodes = append(c.nodes, c.newNode(t, h, i, o))
	}
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		c.outside.Sysctl(t, key, "1")
	}
	for _, n := range c.nodes {
		for _, p := range n.row.PodCIDRs {
			if via := n.row.Addr(p.Addr().Is6()); via.IsValid() {
				c.outside.MustRun(t, "ip", "route", "add", p.String(), "via", via.String())
			}
		}
	}
	return c
}

func (c *cluster) newNode(t testing.TB, underlay *netlink.Handle, i int, o options) *node {
	t.Helper()
	n := &node{
		Netns: testutil.NewNetns(t, "node"+strconv.Itoa(i)), cluster: c, log: &syncBuffer{},
		row: state.Node{
			Name: fmt.Sprintf("node-%d", i),
			PodCIDRs: []netip.Prefix{
				netip.MustParsePrefix(fmt.Sprintf("10.1.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:1:%d::/64", i)),
			},
		},
	}
	n.cfg = datapath.Config{
		NodeName: n.row.Name, BPFRoot: testutil.BPFFS(t), IPv4: true, IPv6: true, Tunnel: o.tunnel,
		TunnelPort: 8472, AutoDirectRoutes: true, ReconcileInterval: auditInterval,
	}
	if o.change != nil {
		o.change(&n.cfg)
	}
	c.plug(t, underlay, n.Netns, i, o)
	for _, is6 := range []bool{false, true} {
		if is6 || !o.only6 {
			n.MustRun(t, "ip", "route", "add", "default", "via", underlayAddr(outsideHost, is6).String())
			n.row.Addrs = append(n.row.Addrs, underlayAddr(i, is6))
		}
	}
	t.Cleanup(func() {
		n.kill(t)
		n.logOnFailure(t)
	})
	return n
}

// plug joins a namespace to the segment as its eth0.
func (c *cluster) plug(t testing.TB, underlay *netlink.Handle, ns *testutil.Netns, host int, o options) {
	t.Helper()
	port := fmt.Sprintf("port%d", host)
	peer, err := netns.GetFromPath(ns.Path)
	must(t, err)
	defer peer.Close()
	must(t, underlay.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port, MTU: o.mtu},
		PeerName:  "eth0", PeerMTU: uint32(o.mtu), PeerNamespace: netlink.NsFd(peer),
	}))
	bridge, err := underlay.LinkByName("br0")
	must(t, err)
	link, err := underlay.LinkByName(port)
	must(t, err)
	must(t, underlay.LinkSetMaster(link, bridge))
	must(t, underlay.LinkSetUp(link))
	// Otherwise nobody speaks IPv6 for a second.
	ns.Sysctl(t, "net/ipv6/conf/eth0/accept_dad", "0")
	ns.MustRun(t, "ip", "link", "set", "eth0", "up")
	if !o.only6 {
		ns.MustRun(t, "ip", "addr", "add", underlayAddr(host, false).String()+"/24", "dev", "eth0")
	}
	ns.MustRun(t, "ip", "addr", "add", underlayAddr(host, true).String()+"/64", "dev", "eth0", "nodad")
}

func (c *cluster) start(t testing.TB) {
	t.Helper()
	for _, n := range c.nodes {
		n.start(t)
	}
}

func (c *cluster) rows() []state.Node {
	var out []state.Node
	for _, n := range c.nodes {
		out = append(out, n.row)
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
