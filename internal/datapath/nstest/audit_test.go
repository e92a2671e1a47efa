package nstest

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// TestAudit damages the kernel by hand, one thing at a time. The next audit
// mends it, counts one repair, and leaves all else as it is.
func TestAudit(t *testing.T) {
	c := newCluster(t, options{tunnel: true})
	c.start(t)
	n := c.nodes[0]
	a, far := n.addPod(t), c.nodes[1].addPod(t)
	n.settle(t)
	h := n.Handle(t)
	host, err := h.LinkByName(a.ep.HostIfName)
	must(t, err)
	linkPin := filepath.Join(n.cfg.BPFRoot, loader.Folder, "links", a.ep.HostIfName+":"+loader.FromPod)

	for _, tc := range []struct {
		name, controller string
		damage           func(t *testing.T)
		newLink          bool // the pod's link is made anew
	}{
		{"endpoint entry deleted", "endpoints", func(t *testing.T) {
			table := n.table(t, datapath.EndpointMap)
			must(t, table.Delete(abi.CEndpointKey{Addr: netorder.Addr(a.ep.IPv4)}))
		}, false},
		{"endpoint entry changed", "endpoints", func(t *testing.T) {
			table := n.table(t, datapath.EndpointMap)
			must(t, table.Put(abi.CEndpointKey{Addr: netorder.Addr(a.ep.IPv6)}, abi.CEndpoint{Ifindex: 1}))
		}, false},
		{"endpoint entry too many", "endpoints", func(t *testing.T) {
			table := n.table(t, datapath.EndpointMap)
			must(t, table.Put(abi.CEndpointKey{Addr: netorder.Addr(nth(n.row.PodCIDRs[0], 99))}, abi.CEndpoint{Ifindex: 1}))
		}, false},
		{"ipcache entry deleted", "ipcache", func(t *testing.T) {
			table := n.table(t, datapath.IPCacheMap)
			p := c.nodes[1].row.PodCIDRs[0]
			must(t, table.Delete(abi.CIpcacheKey{PrefixLen: uint32(96 + p.Bits()), Addr: netorder.Addr(p.Addr())}))
		}, false},
		{"route to a node deleted", "node-routes", func(t *testing.T) {
			n.MustRun(t, "ip", "route", "del", c.nodes[1].row.PodCIDRs[0].String())
		}, false},
		{"route to a node replaced", "node-routes", func(t *testing.T) {
			n.MustRun(t, "ip", "-6", "route", "replace", c.nodes[1].row.PodCIDRs[1].String(),
				"dev", "eth0", "proto", "80")
		}, false},
		{"route to a pod deleted", "pod-routes", func(t *testing.T) {
			must(t, h.RouteDel(&netlink.Route{Dst: ipNet(netip.PrefixFrom(a.ep.IPv6, 128)), LinkIndex: a.ep.HostIndex}))
		}, false},
		{"neighbour deleted", "neighbours", func(t *testing.T) {
			must(t, h.NeighDel(&netlink.Neigh{LinkIndex: a.ep.HostIndex, IP: a.ep.IPv4.AsSlice()}))
		}, false},
		{"neighbour changed", "neighbours", func(t *testing.T) {
			must(t, h.NeighSet(&netlink.Neigh{
				LinkIndex: a.ep.HostIndex, IP: a.ep.IPv6.AsSlice(), State: netlink.NUD_PERMANENT,
				HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
			}))
		}, false},
		{"link detached", "links", func(t *testing.T) {
			l, err := link.LoadPinnedLink(linkPin, nil)
			must(t, err)
			defer l.Close()
			must(t, l.Detach())
		}, true},
		{"link's pin removed", "links", func(t *testing.T) {
			l, err := link.LoadPinnedLink(linkPin, nil)
			must(t, err)
			defer l.Close()
			must(t, l.Unpin())
		}, true},
		{"interface that nobody asked for", "interfaces", func(t *testing.T) {
			must(t, h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "plcffffffff"}, PeerName: "plpffffffff"}))
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			links, _, tables := n.kernelIDs(t)
			before := n.status(t).Controllers
			tc.damage(t)
			waitFor(t, "the repair", func() bool { return n.controller(t, tc.controller).Repaired > repaired(before, tc.controller) })
			n.must(t, "Check", a.ep)
			ping(t, a.Netns, far.addr(false), 56)
			ping(t, a.Netns, far.addr(true), 56)
			ping(t, n.Netns, a.addr(false), 56)
			ping(t, n.Netns, a.addr(true), 56)
			for _, ctl := range n.status(t).Controllers {
				want := repaired(before, ctl.Name)
				if ctl.Name == tc.controller {
					want++
				}
				if ctl.Repaired != want || ctl.Failing != 0 {
					t.Errorf("%+v, want %d repaired in all and none failing", ctl, want)
				}
			}
			if tc.newLink {
				delete(links, filepath.Base(linkPin))
			}
			n.sameKernel(t, links, tables, true)
			if l, err := h.LinkByName(a.ep.HostIfName); err != nil || l.Attrs().Index != host.Attrs().Index {
				t.Errorf("the pod's interface changed: %v, %v", l, err)
			}
		})
	}
	if _, err := h.LinkByName("plcffffffff"); err == nil {
		t.Error("the foreign interface is still there")
	}
	t.Run("what is not Placid's stays", func(t *testing.T) {
		n.MustRun(t, "ip", "route", "add", "198.18.0.0/15", "via", underlayAddr(outsideHost, false).String())
		n.MustRun(t, "ip", "neigh", "add", underlayAddr(77, false).String(), "lladdr", "02:00:00:00:00:77", "dev", "eth0")
		n.quietSince(t, n.status(t).Controllers)
		n.MustRun(t, "ip", "route", "get", "198.18.0.1")
		if out := n.MustRun(t, "ip", "neigh", "show", "nud", "permanent", "dev", "eth0"); len(out) == 0 {
			t.Error("a permanent neighbour of somebody else was removed")
		}
	})
	t.Run("address of the node", func(t *testing.T) {
		n.MustRun(t, "ip", "addr", "add", "203.0.113.5/32", "dev", "eth0")
		waitFor(t, "the new address to be the node's", func() bool {
			var value abi.CEndpoint
			table := n.table(t, datapath.EndpointMap)
			key := abi.CEndpointKey{Addr: netorder.Addr(netip.MustParseAddr("203.0.113.5"))}
			return table.Lookup(key, &value) == nil && value.Flags == uint32(abi.CEndpointFlagsENDPOINT_HOST)
		})
		ping(t, a.Netns, netip.MustParseAddr("203.0.113.5"), 56)
	})
}

// table opens the current table of a pinned map, for the length of the test.
func (n *node) table(t testing.TB, name string) *ebpf.Map {
	t.Helper()
	outer, err := ebpf.LoadPinnedMap(filepath.Join(n.cfg.BPFRoot, loader.Folder, "maps", name), nil)
	must(t, err)
	defer outer.Close()
	var id ebpf.MapID
	must(t, outer.Lookup(uint32(abi.CTableSlotTABLE_CURRENT), &id))
	table, err := ebpf.NewMapFromID(id)
	must(t, err)
	t.Cleanup(func() { _ = table.Close() })
	return table
}

func repaired(all []controller, name string) uint64 {
	i := slices.IndexFunc(all, func(c controller) bool { return c.Name == name })
	if i < 0 {
		return 0
	}
	return all[i].Repaired
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
