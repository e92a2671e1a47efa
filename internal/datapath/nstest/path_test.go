package nstest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/placid-net/placid/internal/testutil"
)

// TestPathMTU sends large packets along paths with a narrow place: pods are
// told the size that fits, and TCP goes on with it.
func TestPathMTU(t *testing.T) {
	c := newCluster(t, options{mtu: 9000})
	c.start(t)
	n := c.nodes[0]
	a := n.addPod(t)
	beyond := c.addBeyond(t, 1500)
	for _, is6 := range []bool{false, true} {
		t.Run(family(is6), func(t *testing.T) {
			narrow := nth(netip.MustParsePrefix("198.51.100.0/24"), 1)
			if is6 {
				narrow = nth(netip.MustParsePrefix("2001:db8:1::/64"), 1)
			}
			c.outside.MustRun(t, "ip", "addr", "add", netip.PrefixFrom(narrow, narrow.BitLen()).String(), "dev", "lo")
			n.MustRun(t, "ip", "route", "add", netip.PrefixFrom(narrow, narrow.BitLen()).String(),
				"via", underlayAddr(outsideHost, is6).String(), "mtu", "lock", "1400")
			t.Run("a route of the node", func(t *testing.T) {
				before := n.counts(t)
				tooBig(t, a, narrow, 5000, "1400")
				key := "from_pod Fragmentation needed"
				if got := n.counts(t)[key] - before[key]; got == 0 {
					t.Errorf("nothing was counted as %q", key)
				}
				exchangeTCP(t, a.Netns, c.outside, narrow, 1<<20)
			})
			t.Run("a link beyond the node", func(t *testing.T) {
				tooBig(t, a, beyondAddr(is6), 5000, "1500")
				exchangeTCP(t, a.Netns, beyond, beyondAddr(is6), 1<<20)
			})
		})
	}
}

// TestTunnelMTU bypasses the route's MTU in the pod, so that the tunnel itself
// has to say what fits.
func TestTunnelMTU(t *testing.T) {
	c := newCluster(t, options{tunnel: true})
	c.start(t)
	a, far := c.nodes[0].addPod(t), c.nodes[1].addPod(t)
	for _, is6 := range []bool{false, true} {
		t.Run(family(is6), func(t *testing.T) {
			gw := "169.254.1.1"
			if is6 {
				gw = "fe80::1"
			}
			a.MustRun(t, "ip", "route", "replace", "default", "via", gw, "dev", "eth0", "onlink")
			tooBig(t, a, far.addr(is6), 1500-ipv6Headers, "1450")
			exchangeTCP(t, a.Netns, far.Netns, far.addr(is6), 1<<20)
		})
	}
}

// tooBig sends one large packet and expects to be told the size that fits.
func tooBig(t testing.TB, p *pod, to netip.Addr, size int, mtu string) {
	t.Helper()
	out, err := tryPing(t, p.Netns, to, size)
	if err == nil {
		t.Errorf("a packet of %d bytes passed where %s is the limit\n%s", size, mtu, out)
	}
	if !strings.Contains(strings.ToLower(out), "mtu="+mtu) && !strings.Contains(out, "mtu: "+mtu) && !strings.Contains(out, "mtu = "+mtu) {
		t.Errorf("%s was not told the MTU %s of the way to %s:\n%s", p.Name, mtu, to, out)
	}
}

func beyondAddr(is6 bool) netip.Addr {
	if is6 {
		return netip.MustParseAddr("2001:db8:2::2")
	}
	return netip.MustParseAddr("203.0.113.2")
}

// addBeyond puts a host behind the outside one, on a link with that MTU.
func (c *cluster) addBeyond(t testing.TB, mtu int) *testutil.Netns {
	t.Helper()
	ns := testutil.NewNetns(t, "beyond")
	peer, err := netns.GetFromPath(ns.Path)
	must(t, err)
	defer peer.Close()
	h := c.outside.Handle(t)
	must(t, h.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "beyond", MTU: mtu},
		PeerName:  "eth0", PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(peer),
	}))
	for _, f := range []struct{ router, host, bits string }{{"203.0.113.1", "203.0.113.2", "/24"}, {"2001:db8:2::1", "2001:db8:2::2", "/64"}} {
		c.outside.MustRun(t, "ip", "addr", "add", f.router+f.bits, "dev", "beyond", "nodad")
		c.outside.MustRun(t, "ip", "link", "set", "beyond", "up")
		ns.MustRun(t, "ip", "addr", "add", f.host+f.bits, "dev", "eth0", "nodad")
		ns.MustRun(t, "ip", "link", "set", "eth0", "up")
		ns.MustRun(t, "ip", "route", "add", "default", "via", f.router)
	}
	return ns
}

// TestHopLimit does what traceroute does: a packet whose hops are used up is
// answered by the node, with the node's address.
func TestHopLimit(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		name := "native"
		if tunnel {
			name = "tunnel"
		}
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, options{tunnel: tunnel})
			c.start(t)
			n := c.nodes[0]
			a, b, far := n.addPod(t), n.addPod(t), c.nodes[1].addPod(t)
			for _, is6 := range []bool{false, true} {
				for _, hop := range []struct {
					name string
					to   netip.Addr
					ttl  string
					by   netip.Addr
				}{
					{"pod of the same node", b.addr(is6), "1", underlayAddr(1, is6)},
					{"pod of the other node", far.addr(is6), "1", underlayAddr(1, is6)},
					{"second hop to it", far.addr(is6), "2", underlayAddr(2, is6)},
					{"outside", underlayAddr(outsideHost, is6), "1", underlayAddr(1, is6)},
				} {
					t.Run(family(is6)+" "+hop.name, func(t *testing.T) {
						out, err := a.Run(t, "ping", "-n", "-c", "1", "-W", "2", "-t", hop.ttl, hop.to.String())
						if err == nil || !strings.Contains(out, "rom "+hop.by.String()) ||
							!strings.Contains(out, "Time to live exceeded") && !strings.Contains(out, "Hop limit") {
							t.Errorf("want %s to say that the hops are used up: %v\n%s", hop.by, err, out)
						}
					})
				}
			}
		})
	}
}
