package datapath

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// policyKernel is what of a Datapath writes policies, over tables of a kernel of
// its own. Nothing else writes them.
type policyKernel struct {
	*Datapath
	// wrote is called after each write to the kernel, with what it was.
	wrote func(string)
	// before may refuse a write.
	before func(string) error
}

// newPolicyKernel makes tables of those sizes, and endpoints 1 to n with one
// address each.
func newPolicyKernel(t *testing.T, sizes loader.Sizes, n int) *policyKernel {
	t.Helper()
	tables, err := state.NewTables()
	noError(t, err)
	k := openPolicyKernel(t, Config{
		BPFRoot: testutil.BPFFS(t), ReconcileInterval: time.Hour, Log: slog.New(slog.DiscardHandler),
	}, tables, sizes)
	for id := range uint32(n) {
		k.connect(t, id+1)
	}
	return k
}

// openPolicyKernel adopts what is pinned.
func openPolicyKernel(t *testing.T, cfg Config, tables *state.Tables, sizes loader.Sizes) *policyKernel {
	t.Helper()
	k := &policyKernel{Datapath: New(cfg, tables), wrote: func(string) {}, before: func(string) error { return nil }}
	var err error
	k.loader, err = loader.Open(cfg.BPFRoot, abi.CConfig{}, sizes)
	noError(t, err)
	t.Cleanup(func() { noError(t, k.loader.Close()) })
	k.settings, err = openSettings(watchedSettings{k.loader.Map(SettingsMap).Table.Map(), k}, 100, Timeouts{})
	noError(t, err)
	ops := endpointOps{k.endpointTable(), k.settings, &k.additive}
	k.endpoints, err = newLoop(k.Datapath, "endpoints", watchedEndpoints{ops, k}, k.desiredEndpoints)
	noError(t, err)
	noError(t, k.openPolicy())
	w := k.policy
	w.entries = watched[policy.EntryKey, policy.PortsID]{w.entries, "entry", k}
	w.cidrs = watched[netip.Prefix, policy.PeerID]{w.cidrs, "CIDR", k}
	w.ports = watched[uint64, abi.CPortList]{w.ports, "ports", k}
	wait := w.wait
	w.wait = func() error { k.wrote("wait"); return wait() }
	return k
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect adds an endpoint and its row.
func (k *policyKernel) connect(t *testing.T, id uint32) {
	t.Helper()
	ep := state.Endpoint{
		ID: id, HostIfName: fmt.Sprintf("plc%d", id), HostIndex: int(100 + id), IPv4: netip.AddrFrom4([4]byte{10, 1, byte(id >> 8), byte(id)}),
		Attachment: state.AttachmentID{ContainerID: fmt.Sprint(id), IfName: "eth0"},
	}
	noError(t, k.tables.UpsertEndpoint(ep))
	noError(t, k.SetIdentity(t.Context(), id, 1000+id))
}

// watched is a table whose writes are told to the kernel's watcher.
type watched[K comparable, V any] struct {
	rowTable[K, V]
	name   string
	kernel *policyKernel
}

func (o watched[K, V]) Update(ctx context.Context, key K, value V) error {
	what := fmt.Sprintf("write %s %v", o.name, key)
	return o.kernel.watch(what, func() error { return o.rowTable.Update(ctx, key, value) })
}

func (o watched[K, V]) Delete(ctx context.Context, key K) error {
	what := fmt.Sprintf("delete %s %v", o.name, key)
	return o.kernel.watch(what, func() error { return o.rowTable.Delete(ctx, key) })
}

func (k *policyKernel) watch(what string, write func() error) error {
	if err := k.before(what); err != nil {
		return err
	}
	err := write()
	k.wrote(what)
	return err
}

// watchedEndpoints are the operations of the endpoint map.
type watchedEndpoints struct {
	endpointOps
	kernel *policyKernel
}

func (o watchedEndpoints) Update(ctx context.Context, addr netip.Addr, row endpointRow) error {
	return o.kernel.watch("endpoint "+addr.String(), func() error { return o.endpointOps.Update(ctx, addr, row) })
}

type watchedSettings struct {
	settingsTable
	kernel *policyKernel
}

func (s watchedSettings) Put(key, value any) error {
	what := fmt.Sprintf("epoch %d", value.(*abi.CSettings).Epoch)
	return s.kernel.watch(what, func() error { return s.settingsTable.Put(key, value) })
}

// inKernel reads what is in the kernel, as the programs would find it: lists of
// ports by their chains, prefixes only when the programs look for them.
func (k *policyKernel) inKernel(t testing.TB) policy.Tables {
	t.Helper()
	out := policy.Tables{
		Sets: map[policy.SetID]*policy.Set{}, Endpoints: map[uint32]policy.EndpointPolicy{}, CIDRs: map[netip.Prefix]policy.PeerID{},
		Ports: map[policy.PortsID][]policy.PortRange{},
	}
	records, err := k.policy.ports.list()
	noError(t, err)
	entries, err := k.policy.entries.list()
	noError(t, err)
	for key, ports := range entries {
		if out.Sets[key.Set] == nil {
			out.Sets[key.Set] = &policy.Set{ID: key.Set, Entries: map[policy.PeerID]policy.Entry{}}
		}
		out.Sets[key.Set].Entries[key.Peer] = policy.Entry{Ports: ports}
		out.Ports[ports] = chain(records, uint64(ports))
	}
	delete(out.Ports, policy.PortsAll)
	if k.liveSettings(t).HasCidrs != 0 {
		out.CIDRs, err = k.policy.cidrs.list()
		noError(t, err)
	}
	rows, err := k.endpointTable().list()
	noError(t, err)
	for _, r := range rows {
		out.Endpoints[r.ID] = r.security().Policy
	}
	return out
}

// chain follows a list of ports as the programs do.
func chain(records map[uint64]abi.CPortList, key uint64) []policy.PortRange {
	var out []policy.PortRange
	for range abi.CPolicyConstantsPOLICY_LISTS {
		r, ok := records[key]
		if !ok {
			break
		}
		for _, p := range r.Ranges[:r.Count] {
			out = append(out, policy.PortRange{
				Protocol: state.Protocol(p.Proto), First: p.First, Last: p.Last,
				Deny: p.Flags&portDeny != 0, Outside: p.Flags&portOutside != 0,
			})
		}
		if key = r.More; key == 0 {
			break
		}
	}
	return out
}

func (k *policyKernel) liveSettings(t testing.TB) abi.CSettings {
	t.Helper()
	var s abi.CSettings
	noError(t, k.settings.table.Lookup(uint32(0), &s))
	return s
}

// holds compares the kernel with what should be in it, to the last row.
func (k *policyKernel) holds(t testing.TB, when string, want policy.Tables) {
	t.Helper()
	got := k.inKernel(t)
	open := func(_ uint32, p policy.EndpointPolicy) bool { return p == policy.EndpointPolicy{} }
	want.Endpoints, want.Sets = maps.Clone(want.Endpoints), maps.Clone(want.Sets)
	maps.DeleteFunc(want.Endpoints, open)
	maps.DeleteFunc(got.Endpoints, open)
	maps.DeleteFunc(want.Sets, func(_ policy.SetID, s *policy.Set) bool { return len(s.Entries) == 0 })
	if want.Ports == nil {
		want.Ports = map[policy.PortsID][]policy.PortRange{}
	}
	opts := []cmp.Option{
		cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}),
		cmpopts.IgnoreFields(policy.Set{}, "Names", "Rules", "Egress"), cmpopts.IgnoreFields(policy.Entry{}, "Rules"),
	}
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Fatalf("%s: the kernel (-want +got):\n%s", when, d)
	}
	records, err := k.policy.ports.list()
	noError(t, err)
	n := 0
	for id, ranges := range want.Ports {
		keys, _, err := portRecords(id, ranges)
		noError(t, err)
		n += len(keys)
	}
	if len(records) != n {
		t.Fatalf("%s: %d records of port lists, want %d", when, len(records), n)
	}
}
