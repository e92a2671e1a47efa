package socktest

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/testutil"
)

const (
	servicePort = 80
	backendPort = 8080
	closed      = uint32(abi.CFrontendFlagsFRONTEND_CLOSED)
	sticky      = uint32(abi.CFrontendFlagsFRONTEND_AFFINITY)
	silent      = uint32(abi.CFrontendFlagsFRONTEND_SILENT_CLUSTER)
)

// world is one node: a cgroup, a namespace, and programs with maps.
type world struct {
	bpffs, cgroup string
	ns            *testutil.Netns
	loader        *loader.Loader

	lastList, lastService uint32
	lastVIP               byte
}

// rejecting is the usual configuration.
func rejecting() abi.CConfig { return abi.CConfig{Services: 1, Reject: 1} }

func sizes() loader.Sizes {
	out := loader.Sizes{"policy_map": 64, "ct_tcp_map": 64, "ct_any_map": 64, "ct_new_map": 64}
	for _, name := range []string{"frontend_map", "backend_map", "affinity_map", "source_range_map", "native_map", "maglev_map", "sock_map"} {
		out[name] = 1024
	}
	return out
}

// newWorld runs the programs with cfg. Nothing is served yet.
func newWorld(t testing.TB, cfg abi.CConfig) *world {
	t.Helper()
	w := newNode(t)
	w.start(t, cfg)
	return w
}

// newNode has all but the programs.
func newNode(t testing.TB) *world {
	t.Helper()
	return &world{bpffs: testutil.BPFFS(t), cgroup: testutil.NewCgroup(t), ns: newNamespace(t, "node")}
}

// newNamespace has every backend's address.
func newNamespace(t testing.TB, hint string) *testutil.Netns {
	t.Helper()
	ns := testutil.NewNetns(t, hint)
	h := ns.Handle(t)
	lo, err := h.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		for _, v6 := range []bool{false, true} {
			a := backend(v6, i).Addr()
			if err := h.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(a.AsSlice())}); err != nil {
				t.Fatalf("add %s: %v", a, err)
			}
		}
	}
	return ns
}

// start opens the maps and makes the programs run.
func (w *world) start(t testing.TB, cfg abi.CConfig) {
	t.Helper()
	w.open(t, cfg)
	w.attach(t)
}

func (w *world) open(t testing.TB, cfg abi.CConfig) {
	t.Helper()
	l, err := openLoader(w.bpffs, w.cgroup, cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.loader = l
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) attach(t testing.TB) {
	t.Helper()
	if err := attach(w.loader); err != nil {
		t.Fatal(err)
	}
}

func openLoader(bpffs, cgroup string, cfg abi.CConfig) (*loader.Loader, error) {
	l, err := loader.Open(bpffs, cfg, sizes())
	if err != nil {
		return nil, err
	}
	hz, err := conntrack.HZ()
	err = errors.Join(err, l.OpenCgroup(cgroup), l.Map("settings_map").Table.Put(uint32(0), abi.CSettings{Hz: hz}))
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func attach(l *loader.Loader) error {
	for key, id := range l.SocketLinks() {
		if err := l.Links().Update(context.Background(), key, id); err != nil {
			return err
		}
	}
	return l.Commit()
}

func (w *world) table(name string) *ebpf.Map { return w.loader.Map(name).Table.Map() }

func (w *world) put(t testing.TB, table string, key, value any) {
	t.Helper()
	if err := w.table(table).Put(key, value); err != nil {
		t.Fatalf("write %s: %v", table, err)
	}
}

// serve makes addr a frontend of a new service with these backends, and returns
// the service's id. Clients outside the cluster have a list without any.
func (w *world) serve(t testing.TB, addr netip.AddrPort, proto uint8, flags uint32, backends ...netip.AddrPort) uint32 {
	t.Helper()
	w.lastService++
	w.frontend(t, addr, proto, flags, w.lastService, backends...)
	return w.lastService
}

// frontend is serve for a service that exists: it gets a new list.
func (w *world) frontend(t testing.TB, addr netip.AddrPort, proto uint8, flags, service uint32, backends ...netip.AddrPort) {
	t.Helper()
	w.lastList++
	for slot, b := range backends {
		id := idOf(b)
		value := abi.CBackend{Addr: netorder.Addr(b.Addr()), Port: netorder.Port(b.Port()), Id: id}
		w.put(t, "backend_map", abi.CBackendKey{List: w.lastList, Slot: uint32(slot)}, value)
		if flags&sticky != 0 {
			w.put(t, "backend_map", abi.CBackendKey{List: w.lastList, Slot: uint32(abi.CBackendConstantsBACKEND_BY_ID) | id}, value)
		}
	}
	f := abi.CFrontend{Service: service, Flags: flags, Affinity: 3600}
	f.List[abi.CFrontendScopeSCOPE_CLUSTER] = abi.CBackendList{Id: w.lastList, Count: uint32(len(backends))}
	w.put(t, "frontend_map", abi.CFrontendKey{Addr: netorder.Addr(addr.Addr()), Port: netorder.Port(addr.Port()), Proto: proto}, f)
}

// idOf is the id of the backend at an address.
func idOf(a netip.AddrPort) uint32 { return uint32(a.Addr().As16()[15]) }

// newVIP is an address and port for a service that nobody has yet.
func (w *world) newVIP(v6 bool) netip.AddrPort {
	w.lastVIP++
	if v6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 0x96, 15: w.lastVIP}), servicePort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, w.lastVIP}), servicePort)
}

// serviceOf is the id of the service at a frontend.
func (w *world) serviceOf(t testing.TB, addr netip.AddrPort, p proto) uint32 {
	t.Helper()
	var f abi.CFrontend
	key := abi.CFrontendKey{Addr: netorder.Addr(addr.Addr()), Port: netorder.Port(addr.Port()), Proto: p.number}
	if err := w.table("frontend_map").Lookup(key, &f); err != nil {
		t.Fatalf("look up frontend %s: %v", addr, err)
	}
	return f.Service
}

// backend is the address and port of a backend that may serve; its id is i + 1.
func backend(v6 bool, i int) netip.AddrPort {
	if v6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 0x01, 15: byte(i + 1)}), backendPort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), backendPort)
}
