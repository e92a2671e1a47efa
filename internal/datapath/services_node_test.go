package datapath

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// nodeConfig is that of a node with services, in a network namespace of its own.
func nodeConfig(t *testing.T, ns *testutil.Netns) Config {
	t.Helper()
	h := ns.Handle(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}); err != nil {
		t.Fatal(err)
	}
	addAddr(t, h, "192.0.2.1/24")
	l, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	return Config{
		NodeName: "node1", BPFRoot: testutil.BPFFS(t), IPv4: true, Devices: []string{"eth0"},
		ReconcileInterval: time.Minute, Log: slog.New(slog.DiscardHandler),
		Tables: TableSizes{
			TCP: 1024, Any: 1024, Embryonic: 1024, Policy: 1024,
			Service: 100, Backend: 200, Maglev: 10, Affinity: 300, SourceRange: 50, Sock: 400,
		},
		Services: ServiceConfig{
			Enabled: true, MaglevSize: 251, MaglevSeed: [12]byte{1, 2, 3}, NodePortFirst: 30000, NodePortLast: 32767,
		},
		Masquerade: MasqueradeConfig{IPv4: true, Native: prefixes("10.0.0.0/8")},
	}
}

func addAddr(t *testing.T, h *netlink.Handle, prefix string) {
	t.Helper()
	l, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	ip, ipNet, err := net.ParseCIDR(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: ipNet.Mask}}); err != nil {
		t.Fatal(err)
	}
}

// openNode opens what services need of the datapath of a node, as an agent does
// that starts.
func openNode(t *testing.T, ns *testutil.Netns, cfg Config) *Datapath {
	t.Helper()
	tables, err := state.NewTables()
	if err != nil {
		t.Fatal(err)
	}
	d := New(cfg, tables)
	t.Cleanup(func() { _ = d.Close() })
	ns.Do(t, func() {
		err = firstError(d.openDevices, d.readNodeAddrs, func() error {
			d.node.translation, err = openTranslation(cfg)
			return err
		}, func() error {
			d.loader, err = loader.Open(cfg.BPFRoot, d.node.constants(), cfg.Tables.sizes())
			return err
		}, d.openConntrack)
	})
	if err != nil {
		t.Fatal(err)
	}
	d.openServices()
	return d
}

// TestServicesOfNode: the maps of the programs have the sizes of the
// configuration, take services, and hand them on to the next agent.
func TestServicesOfNode(t *testing.T) {
	ns := testutil.NewNetns(t, "node")
	cfg := nodeConfig(t, ns)
	d := openNode(t, ns, cfg)
	p := testPort("a", 1, 1, 2, 3)
	p.Frontends = append(p.Frontends, loadbalance.Frontend{
		Addr: netip.MustParseAddrPort("192.0.2.1:30080"), Kind: loadbalance.KindNodePort,
		Outside: loadbalance.ReachAll, Cluster: loadbalance.ReachAll, Maglev: true,
	})
	address := p.Frontends[0].Addr.Addr()
	if _, err := d.SyncServices([]loadbalance.Port{p}, []netip.Addr{address}); err != nil {
		t.Fatal(err)
	}
	want := []ServiceTable{
		{AffinityMap, 0, 300}, {BackendMap, 3, 200}, {FrontendMap, 3, 100}, {MaglevMap, 1, 10}, {SockMap, 0, 400}, {SourceRangeMap, 0, 50},
	}
	if got := d.ServiceTables(); !slices.Equal(got, want) {
		t.Errorf("tables are %+v, want %+v", got, want)
	}
	if got := d.loader.Map(MaglevMap).Table.ValueSize(); got != 4*251 {
		t.Errorf("a Maglev table has %d bytes, want %d", got, 4*251)
	}
	counts, _, err := d.counter.Count()
	if err != nil || counts[FrontendMap] != 3 || counts[BackendMap] != 3 || counts[MaglevMap] != 2 { // with the seed's row
		t.Errorf("the kernel counts %v, %v", counts, err)
	}
	before, err := d.InspectServices()
	if err != nil || len(before) != 3 || !before[2].Outside.Maglev || len(before[2].Outside.Backends) != 3 {
		t.Errorf("frontends are %+v, %v", before, err)
	}
	if addrs, _ := d.NodeAddrs(); len(addrs) != 1 || addrs[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("addresses of node ports are %v", addrs)
	}
	if c := d.node.constants(); c.Services != 1 || c.NatPorts == 0 || c.HostNetns == 0 || c.Masquerade4 != 1 || c.MaglevSize != 251 {
		t.Errorf("constants are %+v", c)
	}
	if err = d.loader.Commit(); err != nil {
		t.Fatal(err)
	}
	if err = d.Close(); err != nil {
		t.Fatal(err)
	}
	next := openNode(t, ns, cfg)
	if n, syncErr := next.SyncServices([]loadbalance.Port{p}, []netip.Addr{address}); n != 0 || syncErr != nil {
		t.Errorf("the next agent changed %d rows: %v", n, syncErr)
	}
	after, err := next.InspectServices()
	if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("frontends are\n%+v, %v, want\n%+v", after, err, before)
	}
	// Off means removed.
	if _, err := next.SyncServices(nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := next.services.tidy(); err != nil {
		t.Fatal(err)
	}
	if left, err := next.InspectServices(); len(left) != 0 || err != nil {
		t.Errorf("without services there are %+v, %v", left, err)
	}
}

// TestNodeAddrsFollow: node ports are served at an address as soon as the node
// has it.
func TestNodeAddrsFollow(t *testing.T) {
	ns := testutil.NewNetns(t, "node")
	d := openNode(t, ns, nodeConfig(t, ns))
	_, changed := d.NodeAddrs()
	addAddr(t, ns.Handle(t), "192.0.2.77/24")
	var err error
	ns.Do(t, func() { err = d.readNodeAddrs() })
	if err != nil {
		t.Fatal(err)
	}
	<-changed
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.77")}
	if got, _ := d.NodeAddrs(); !slices.Equal(got, want) {
		t.Errorf("addresses are %v, want %v", got, want)
	}
}
