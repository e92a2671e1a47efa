package nstest

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/testutil"
)

const ipv4Headers, ipv6Headers = 28, 48 // with ICMP's

// TestConnectivity is the basic promise: everybody reaches everybody, in every
// mode, with packets of every size.
func TestConnectivity(t *testing.T) {
	for _, mode := range []struct {
		name string
		opts options
		mtu  int // of routes between pods
		only int // 6: the segment has no IPv4, and so no way out for it
	}{
		{"native", options{}, 1500, 0},
		{"native jumbo", options{mtu: 9000}, 9000, 0},
		{"tunnel", options{tunnel: true}, 1450, 0},
		{"tunnel over IPv6", options{tunnel: true, only6: true}, 1430, 6},
	} {
		t.Run(mode.name, func(t *testing.T) {
			c := newCluster(t, mode.opts)
			c.start(t)
			a, b := c.nodes[0].addPod(t), c.nodes[0].addPod(t)
			far := c.nodes[1].addPod(t)
			for _, is6 := range []bool{false, true} {
				t.Run(family(is6), func(t *testing.T) {
					paths := []path{
						{"pod to pod of the same node", a.Netns, b.Netns, b.addr(is6)},
						{"pod to pod of the other node", a.Netns, far.Netns, far.addr(is6)},
						{"other node's pod to pod", far.Netns, a.Netns, a.addr(is6)},
					}
					if is6 || mode.only == 0 {
						paths = append(paths,
							path{"pod to own node", a.Netns, c.nodes[0].Netns, underlayAddr(1, is6)},
							path{"pod to other node", a.Netns, c.nodes[1].Netns, underlayAddr(2, is6)},
							path{"node to own pod", c.nodes[0].Netns, a.Netns, a.addr(is6)},
							path{"node to pod of the other node", c.nodes[0].Netns, far.Netns, far.addr(is6)},
							path{"pod to outside", a.Netns, c.outside, underlayAddr(outsideHost, is6)},
							path{"outside to pod", c.outside, a.Netns, a.addr(is6)},
						)
					}
					for _, p := range paths {
						t.Run(p.name, func(t *testing.T) { p.check(t, mode.mtu) })
					}
				})
			}
			for _, n := range c.nodes {
				for name, count := range n.counts(t) {
					t.Logf("%s: %s: %d", n.row.Name, name, count)
				}
			}
		})
	}
}

func family(is6 bool) string {
	if is6 {
		return "IPv6"
	}
	return "IPv4"
}

// path is one way between two namespaces.
type path struct {
	name     string
	from, to *testutil.Netns
	addr     netip.Addr
}

// check sends small, full-sized and large payloads both ways.
func (p path) check(t *testing.T, mtu int) {
	full := mtu - ipv4Headers
	if p.addr.Is6() {
		full = mtu - ipv6Headers
	}
	ping(t, p.from, p.addr, 56)
	ping(t, p.from, p.addr, full)
	exchangeUDP(t, p.from, p.to, p.addr, 100)
	exchangeUDP(t, p.from, p.to, p.addr, full)
	exchangeTCP(t, p.from, p.to, p.addr, 1)
	exchangeTCP(t, p.from, p.to, p.addr, 4<<20)
}
