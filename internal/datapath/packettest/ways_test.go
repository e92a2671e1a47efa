package packettest

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// wayTo is how packets leave that are for an address.
func (n *node) wayTo(a netip.Addr) abi.CCtWay {
	switch p := podOf(a); {
	case isNode(a):
		return abi.CCtWay{Kind: uint8(abi.CWayKindWAY_STACK)}
	case p != nil:
		w := abi.CCtWay{
			Kind: uint8(abi.CWayKindWAY_PEER), Ifindex: uint32(n.index[p.device]), Mtu: podMTU, Dmac: [6]byte(p.mac), Smac: [6]byte(routerMAC),
		}
		if p.flags&abi.CEndpointFlagsENDPOINT_SHAPED != 0 {
			w.Kind = uint8(abi.CWayKindWAY_DEVICE)
		}
		return w
	case n.cfg.Tunnel != 0:
		return abi.CCtWay{
			Kind: uint8(abi.CWayKindWAY_TUNNEL), Ifindex: uint32(n.index[overlayDevice]), Mtu: overlayMTU,
			Dmac: [6]byte(routerMAC), Smac: [6]byte(routerMAC),
		}
	}
	return abi.CCtWay{
		Kind: uint8(abi.CWayKindWAY_NETWORK), Ifindex: uint32(n.index[nativeDevice]), Mtu: 1500, Dmac: [6]byte(nextMAC), Smac: [6]byte(nativeMAC),
	}
}

func identityOf(a netip.Addr) uint32 {
	for i, p := range pods {
		if a == p.ip4 || a == p.ip6 {
			return uint32(identityA + i)
		}
	}
	switch {
	case isNode(a):
		return uint32(abi.CIdentityIDENTITY_HOST)
	case a == far4, a == far6:
		return identityFar
	}
	return uint32(abi.CIdentityIDENTITY_WORLD)
}

// An entry says who the two are and how packets reach them.
func testDescribed(t *testing.T, n *node) {
	for _, k := range n.talks(overTCP) {
		t.Run(k.name, func(t *testing.T) {
			n.fresh(t)
			n.change(t, func(s *abi.CSettings) { s.Epoch = 42 })
			n.establish(t, k.talk)
			n.passes(t, "answer", k.answers(t, n, "A"))
			r := n.find(t, k.talk)
			if r.Epoch != 42 {
				t.Errorf("judged in epoch %d, want 42", r.Epoch)
			}
			for side, a := range map[int]netip.Addr{r.a: k.a.Addr(), r.a ^ 1: k.b.Addr()} {
				got, want := r.Way[side], n.wayTo(a)
				if got.Kind < uint8(abi.CWayKindWAY_NETWORK) {
					got.FoundAt = 0
				} else if r.Last-got.FoundAt > margin {
					t.Errorf("the way to %s was found at %d, the last packet passed at %d", a, got.FoundAt, r.Last)
				}
				got.FoundAt = 0
				if want.Kind == uint8(abi.CWayKindWAY_STACK) {
					got = abi.CCtWay{Kind: got.Kind}
				}
				if got != want {
					t.Errorf("the way to %s is %+v, want %+v", a, got, want)
				}
				if r.Identity[side] != identityOf(a) {
					t.Errorf("identity of %s is %d, want %d", a, r.Identity[side], identityOf(a))
				}
			}
		})
	}
}

func TestWays(t *testing.T) {
	suite{
		{"WayIsRemembered", testWayIsRemembered},
		{"WayToAPodIsKept", testWayToAPodIsKept},
		{"WayOfAnswers", testWayOfAnswers},
	}.run(t, options{sizes: small(), wayJiffies: 1 << 20})
}

func TestWaysTunnel(t *testing.T) {
	suite{{"TunnelIsRemembered", testTunnelIsRemembered}}.run(t, options{sizes: small(), tunnel: true, wayJiffies: 1 << 20})
}

// neighbour changes the MAC of the next hop.
func (n *node) neighbour(t *testing.T, a string, mac []byte) {
	t.Helper()
	if err := n.ns.Handle(t).NeighSet(&netlink.Neigh{
		LinkIndex: n.index[nativeDevice], State: netlink.NUD_PERMANENT, IP: netip.MustParseAddr(a).AsSlice(), HardwareAddr: mac,
	}); err != nil {
		t.Fatalf("set neighbour %s: %v", a, err)
	}
}

// leaves tells the MAC that a packet leaves to.
func (n *node) leavesTo(t *testing.T, what string, in input, mac []byte) {
	t.Helper()
	f := n.passes(t, what, in)
	if got := f.frame[:6]; string(got) != string(mac) {
		t.Errorf("%s: it leaves to % x, want % x", what, got, mac)
	}
}

// The way by the routing table is looked up once in a time: here, the neighbour
// gets another MAC meanwhile.
func testWayIsRemembered(t *testing.T, n *node) {
	otherMAC := []byte{2, 0, 0, 0, 0xe0, 0x33}
	for _, c := range []struct {
		k    talk
		next string
	}{
		{talk{overTCP, at(podA.ip4, 40000), at(remote4, 80)}, "192.0.2.2"},
		{talk{overUDP, at(podA.ip6, 40000), at(remote6, 80)}, "2001:db8::2"},
	} {
		n.fresh(t)
		k := c.k
		n.leavesTo(t, "first", k.says(t, n, "S"), nextMAC)
		n.neighbour(t, c.next, otherMAC)
		n.leavesTo(t, "within the time", k.says(t, n, "S"), nextMAC)
		n.passes(t, "answer", k.answers(t, n, "SA"))
		n.leavesTo(t, "established, within the time", k.says(t, n, "A"), nextMAC)
		n.leavesTo(t, "by the fast path, within the time", k.says(t, n, "A"), nextMAC)
		n.edit(t, k, func(e *abi.CCtEntry) {
			for i := range e.Way {
				e.Way[i].FoundAt -= 1 << 20
			}
		})
		n.leavesTo(t, "after the time", k.says(t, n, "A"), otherMAC)
		n.neighbour(t, c.next, nextMAC)
		n.leavesTo(t, "found just now", k.says(t, n, "A"), otherMAC)
		n.bump(t)
		n.leavesTo(t, "in the next epoch", k.says(t, n, "A"), nextMAC)
	}
}

// What follows from the endpoint's row stays until the epoch moves.
func testWayToAPodIsKept(t *testing.T, n *node) {
	n.fresh(t)
	k := tcpTalk()
	n.establish(t, k)
	other := podB
	other.mac = []byte{2, 0, 0, 0, 0x0b, 0x77}
	n.under(t, other, security{})
	n.edit(t, k, func(e *abi.CCtEntry) {
		for i := range e.Way {
			e.Way[i].FoundAt -= 1 << 21
		}
	})
	n.leavesTo(t, "in the same epoch", k.says(t, n, "A"), podB.mac)
	n.bump(t)
	n.leavesTo(t, "in the next epoch", k.says(t, n, "A"), other.mac)
}

// A flow from outside finds the way back with its first answer.
func testWayOfAnswers(t *testing.T, n *node) {
	n.fresh(t)
	k := talk{overTCP, at(remote4, 40000), at(podB.ip4, 80)}
	n.leavesTo(t, "SYN", k.says(t, n, "S"), podB.mac)
	if r := n.find(t, k); r.Way[r.a].Kind != uint8(abi.CWayKindWAY_UNKNOWN) {
		t.Errorf("before the first answer, the way back is of kind %d", r.Way[r.a].Kind)
	}
	n.leavesTo(t, "SYN, ACK", k.answers(t, n, "SA"), nextMAC)
	if r := n.find(t, k); r.Way[r.a].Kind != uint8(abi.CWayKindWAY_NETWORK) {
		t.Errorf("after the first answer, the way back is of kind %d", r.Way[r.a].Kind)
	}
	n.leavesTo(t, "ACK", k.says(t, n, "A"), podB.mac)
	n.leavesTo(t, "data", k.answers(t, n, "A"), nextMAC)
}

// A range that leaves the ipcache is reached by the tunnel as long as flows
// remember it, and no longer.
func testTunnelIsRemembered(t *testing.T, n *node) {
	n.fresh(t)
	k := talk{overTCP, at(podA.ip4, 40000), at(far4, 80)}
	n.establish(t, k)
	n.clear(t, "ipcache_map")
	t.Cleanup(func() { n.fillTables(t) })
	n.leavesTo(t, "within the time", k.says(t, n, "A"), routerMAC)
	n.edit(t, k, func(e *abi.CCtEntry) {
		for i := range e.Way {
			e.Way[i].FoundAt -= 1 << 20
		}
	})
	if f := n.send(t, k.says(t, n, "A")); f.reason != abi.CReasonREASON_TO_STACK {
		t.Errorf("after the time: %s; want it to go by the routing table, which has no way", f)
	}
}
