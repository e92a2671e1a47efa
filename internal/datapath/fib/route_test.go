package fib

import (
	"context"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

func TestRoutes(t *testing.T) {
	ns := testutil.NewNetns(t, "fib")
	ns.MustRun(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	for _, args := range [][]string{
		{"link", "set", "eth0", "up"},
		{"link", "set", "eth1", "up"},
		{"addr", "add", "192.0.2.1/24", "dev", "eth0"},
		{"addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad"},
		{"route", "add", "10.9.0.0/16", "via", "192.0.2.7"}, // somebody else's
	} {
		ns.MustRun(t, "ip", args...)
	}
	index := indexOf(t, ns, "eth0")
	want := map[netip.Prefix]Route{
		netip.MustParsePrefix("10.1.0.0/24"):   {Kind: Unicast, Index: index, Gateway: netip.MustParseAddr("192.0.2.2"), MTU: 1400},
		netip.MustParsePrefix("10.1.1.0/24"):   {Kind: Blackhole},
		netip.MustParsePrefix("10.1.2.0/24"):   {Kind: Unreachable},
		netip.MustParsePrefix("10.1.3.1/32"):   {Kind: Unicast, Index: index, Source: netip.MustParseAddr("192.0.2.1")},
		netip.MustParsePrefix("fd00::/64"):     {Kind: Unicast, Index: index, Gateway: netip.MustParseAddr("2001:db8::2")},
		netip.MustParsePrefix("fd00:1::/64"):   {Kind: Blackhole},
		netip.MustParsePrefix("fd00:2::/64"):   {Kind: Unreachable},
		netip.MustParsePrefix("fd00:3::1/128"): {Kind: Unicast, Index: index, Source: netip.MustParseAddr("2001:db8::1"), MTU: 1400},
	}
	ns.Do(t, func() {
		o, err := NewRoutes(ProtocolNodes)
		must(t, err)
		defer o.h.Close()
		prune := func(repaired int) {
			t.Helper()
			got, pruneErr := o.Prune(t.Context(), want)
			if pruneErr != nil || got != repaired {
				t.Fatalf("Prune mends %d, %v; want %d", got, pruneErr, repaired)
			}
		}
		prune(len(want))
		prune(0) // what was written is what is read
		for dst, r := range want {
			changed := r
			changed.Kind, changed.Index, changed.Gateway, changed.Source, changed.MTU = Blackhole, 0, netip.Addr{}, netip.Addr{}, 0
			if r.Kind == Blackhole {
				changed.Kind = Unreachable
			}
			must(t, o.Update(t.Context(), dst, changed))
			prune(1)
			must(t, o.Update(t.Context(), dst, r))
			prune(0)
			for range 2 { // what is absent is success
				must(t, o.Delete(t.Context(), dst))
			}
			prune(1)
		}
		must(t, RemoveAll())
		left, err := o.list()
		if err != nil || len(left) > 0 {
			t.Errorf("after RemoveAll: %v, %v", left, err)
		}
		routes, err := o.h.RouteGet([]byte{10, 9, 0, 1})
		if err != nil || routes[0].Gw.String() != "192.0.2.7" {
			t.Errorf("somebody else's route: %v, %v", routes, err)
		}
	})
}

func TestNeighbours(t *testing.T) {
	ns := testutil.NewNetns(t, "fib")
	ns.MustRun(t, "ip", "link", "add", "plc0", "type", "veth", "peer", "name", "eth1")
	ns.MustRun(t, "ip", "link", "set", "plc0", "up")
	ns.MustRun(t, "ip", "link", "set", "eth1", "up")
	ns.MustRun(t, "ip", "neigh", "add", "192.0.2.7", "lladdr", "02:00:00:00:00:07", "dev", "eth1") // somebody else's
	index := indexOf(t, ns, "plc0")
	mac := state.MAC{2, 0, 0, 0, 0, 1}
	want := map[NeighbourKey]state.MAC{
		{index, netip.MustParseAddr("10.1.1.2")}: mac, {index, netip.MustParseAddr("fd00::2")}: mac,
	}
	ns.Do(t, func() {
		o, err := NewNeighbours(func() (map[int]bool, error) { return map[int]bool{index: true}, nil })
		must(t, err)
		defer o.h.Close()
		prune := func(repaired int) {
			t.Helper()
			got, pruneErr := o.Prune(t.Context(), want)
			if pruneErr != nil || got != repaired {
				t.Fatalf("Prune mends %d, %v; want %d", got, pruneErr, repaired)
			}
		}
		prune(2)
		prune(0)
		for key := range want {
			must(t, o.Update(t.Context(), key, state.MAC{2, 0, 0, 0, 0, 9}))
			prune(1)
			for range 2 {
				must(t, o.Delete(t.Context(), key))
			}
			prune(1)
		}
		clear(want)
		prune(2)
		must(t, o.Delete(context.Background(), NeighbourKey{index + 99, netip.MustParseAddr("10.1.1.2")})) // the device is gone
		if left, err := o.h.NeighList(indexOf(t, ns, "eth1"), netlink.FAMILY_V4); err != nil || len(left) != 1 {
			t.Errorf("somebody else's neighbour: %v, %v", left, err)
		}
	})
}

func indexOf(t *testing.T, ns *testutil.Netns, name string) int {
	t.Helper()
	l, err := ns.Handle(t).LinkByName(name)
	must(t, err)
	return l.Attrs().Index
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
