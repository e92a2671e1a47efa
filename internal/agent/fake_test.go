package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/ipam"
	"github.com/placid-net/placid/internal/state"
)

var errFake = errors.New("fake kernel says no")

// Steps of the fake kernel that can fail, or be watched.
const (
	stepConnect    = "connect"     // before anything is made
	stepMade       = "made"        // the device exists
	stepRecorded   = "recorded"    // and the endpoint's file
	stepDisconnect = "disconnect"  // before anything is removed
	stepGone       = "device gone" // the device is removed
	stepCheck      = "check"
	stepExists     = "exists"
)

// fakeKernel is a connector: the devices that exist, by name. It fails the test
// when two devices have the same address at the same time.
type fakeKernel struct {
	t      testing.TB
	tables *state.Tables

	mu      sync.Mutex
	devices map[string]state.Endpoint
	made    int
	fail    map[string]bool   // steps that fail
	at      func(step string) // called at each step, without the lock
}

func newFakeKernel(t testing.TB) *fakeKernel {
	return &fakeKernel{t: t, devices: map[string]state.Endpoint{}, fail: map[string]bool{}}
}

func (k *fakeKernel) step(name string) error {
	k.mu.Lock()
	at, fail := k.at, k.fail[name]
	k.mu.Unlock()
	if at != nil {
		at(name)
	}
	if fail {
		return fmt.Errorf("%s: %w", name, errFake)
	}
	return nil
}

// Connect implements connector.
func (k *fakeKernel) Connect(ctx context.Context, ep state.Endpoint, record func(state.Endpoint) error) (state.Endpoint, error) {
	if err := k.step(stepConnect); err != nil {
		return state.Endpoint{}, err
	}
	k.mu.Lock()
	k.made++
	ep.HostIfName, ep.HostIndex, ep.MAC = fmt.Sprintf("plc%08x", k.made), k.made, state.MAC{2, 0, 0, 0, byte(k.made >> 8), byte(k.made)}
	for _, other := range k.devices {
		for _, a := range ep.Addrs() {
			if a == other.IPv4 || a == other.IPv6 {
				k.t.Errorf("%s is given to %s while %s has it", a, ep.Attachment, other.Attachment)
			}
		}
	}
	k.devices[ep.HostIfName] = ep
	k.mu.Unlock()

	err := k.step(stepMade)
	if err == nil {
		err = record(ep)
	}
	if err == nil {
		err = k.step(stepRecorded)
	}
	if err == nil {
		err = k.tables.UpsertEndpoint(ep)
	}
	if err != nil {
		k.mu.Lock()
		delete(k.devices, ep.HostIfName)
		k.mu.Unlock()
		return state.Endpoint{}, errors.Join(err, k.tables.DeleteEndpoint(ep.ID))
	}
	return ep, ctx.Err()
}

// Disconnect implements connector.
func (k *fakeKernel) Disconnect(_ context.Context, ep state.Endpoint) error {
	if err := k.tables.DeleteEndpoint(ep.ID); err != nil {
		return err
	}
	if err := k.step(stepDisconnect); err != nil {
		return err
	}
	k.mu.Lock()
	delete(k.devices, ep.HostIfName)
	k.mu.Unlock()
	return k.step(stepGone)
}

// Check implements connector.
func (k *fakeKernel) Check(_ context.Context, ep state.Endpoint) error {
	if ok, _ := k.Exists(ep); !ok {
		return errFake
	}
	return k.step(stepCheck)
}

// Exists implements connector.
func (k *fakeKernel) Exists(ep state.Endpoint) (bool, error) {
	if err := k.step(stepExists); err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.devices[ep.HostIfName]
	return ok, nil
}

// failing makes exactly these steps fail.
func (k *fakeKernel) failing(steps ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.fail)
	for _, s := range steps {
		k.fail[s] = true
	}
}

// clone is the kernel as another agent finds it; devices without an endpoint
// are removed, as the datapath does when it starts.
func (k *fakeKernel) clone() *fakeKernel {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := newFakeKernel(k.t)
	out.devices, out.made = maps.Clone(k.devices), k.made
	return out
}

// fakeSecurity is an admitter: it knows which endpoints there are.
type fakeSecurity struct {
	mu      sync.Mutex
	members map[uint32]bool
	err     error // of Admit
}

func newFakeSecurity() *fakeSecurity { return &fakeSecurity{members: map[uint32]bool{}} }

// Restore implements admitter.
func (s *fakeSecurity) Restore(ep state.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[ep.ID] = true
}

// Admit implements admitter.
func (s *fakeSecurity) Admit(_ context.Context, ep state.Endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.members[ep.ID] = true
	}
	return s.err
}

// Forget implements admitter.
func (s *fakeSecurity) Forget(endpoint uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, endpoint)
}

const reuseDelay = time.Minute

// fakeNode is one agent's endpoint manager with a fake kernel, a fake clock and
// a real folder.
type fakeNode struct {
	*endpoints
	kernel *fakeKernel
	admits *fakeSecurity
	dir    string
	clock  *time.Time
	events *[]string
}

var (
	testCIDR4 = netip.MustParsePrefix("10.1.0.0/28") // 14 addresses
	testCIDR6 = netip.MustParsePrefix("fd00::/64")
)

// startNode is what Agent.New and Run do for the endpoint manager.
func startNode(t testing.TB, kernel *fakeKernel, dir string, clock *time.Time) *fakeNode {
	t.Helper()
	tables, err := state.NewTables()
	must(t, err)
	kernel.tables = tables
	n := &fakeNode{kernel: kernel, admits: newFakeSecurity(), dir: dir, clock: clock, events: &[]string{}}
	var mu sync.Mutex // of the clock and the events
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return *clock
	}
	st, err := openStore(dir)
	must(t, err)
	n.endpoints = &endpoints{
		tables: tables, datapath: kernel, security: n.admits, store: st, now: now, log: slog.New(slog.DiscardHandler),
		addresses: &addresses{alloc: ipam.NewAllocator(reuseDelay), families: ipam.IPv4 | ipam.IPv6, store: st, now: now},
		locks:     map[state.AttachmentID]*attachmentLock{},
		report: func(pod state.PodRef, reason, message string) {
			mu.Lock()
			defer mu.Unlock()
			*n.events = append(*n.events, pod.String()+" "+reason+": "+message)
		},
	}
	must(t, n.restore())
	must(t, n.addresses.alloc.SetCIDRs([]netip.Prefix{testCIDR4, testCIDR6}, now()))
	n.sweepDevices(t)
	return n
}

func newFakeNode(t testing.TB, dir string) *fakeNode {
	t.Helper()
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return startNode(t, newFakeKernel(t), dir, &clock)
}

// sweepDevices removes what no endpoint has, as the datapath's audit does.
func (n *fakeNode) sweepDevices(t testing.TB) {
	t.Helper()
	known := map[string]bool{}
	for _, ep := range n.list(t) {
		known[ep.HostIfName] = true
	}
	n.kernel.mu.Lock()
	defer n.kernel.mu.Unlock()
	maps.DeleteFunc(n.kernel.devices, func(name string, _ state.Endpoint) bool { return !known[name] })
}

func (n *fakeNode) list(t testing.TB) []state.Endpoint {
	t.Helper()
	eps, _, err := n.tables.Endpoints()
	must(t, err)
	return eps
}

// consistent checks that table, files, devices and allocator agree.
func (n *fakeNode) consistent(t testing.TB) {
	t.Helper()
	eps := n.list(t)
	files, junk, err := n.store.loadEndpoints()
	must(t, err)
	if len(junk) > 0 || len(files) != len(eps) {
		t.Errorf("%d endpoint files (junk: %v), want %d", len(files), junk, len(eps))
	}
	n.kernel.mu.Lock()
	devices := maps.Clone(n.kernel.devices)
	n.kernel.mu.Unlock()
	if len(devices) != len(eps) {
		t.Errorf("%d devices, want %d: %v", len(devices), len(eps), devices)
	}
	for _, ep := range eps {
		if devices[ep.HostIfName].ID != ep.ID {
			t.Errorf("endpoint %d has no device", ep.ID)
		}
		for _, a := range ep.Addrs() {
			if owner, ok := n.addresses.alloc.Owner(a); !ok || owner != ep.Attachment.String() {
				t.Errorf("%s of endpoint %d is held by %q", a, ep.ID, owner)
			}
		}
	}
	if owners := n.addresses.alloc.Owners(); len(owners) != len(eps) {
		t.Errorf("addresses are held by %v, want %d owners", owners, len(eps))
	}
	n.admits.mu.Lock()
	defer n.admits.mu.Unlock()
	for _, ep := range eps {
		if !n.admits.members[ep.ID] {
			t.Errorf("endpoint %d is under no policies", ep.ID)
		}
	}
	if len(n.admits.members) != len(eps) {
		t.Errorf("policies know the endpoints %v, want %d", n.admits.members, len(eps))
	}
	if len(n.locks) != 0 {
		t.Errorf("%d locks are left", len(n.locks))
	}
}

func request(i int) agentapi.CNIRequest {
	return agentapi.CNIRequest{
		Attachment: state.AttachmentID{ContainerID: fmt.Sprintf("container-%d", i), IfName: "eth0"},
		Netns:      fmt.Sprintf("/run/netns/%d", i),
		Pod:        state.PodRef{Namespace: "default", Name: fmt.Sprintf("pod-%d", i), UID: fmt.Sprintf("uid-%d", i)},
	}
}

func (n *fakeNode) mustAdd(t testing.TB, i int) state.Endpoint {
	t.Helper()
	res, err := n.add(t.Context(), request(i))
	must(t, err)
	return res.Endpoint
}

// copyDir copies a state folder.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	must(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		rel, _ := filepath.Rel(from, path) // path is below from
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	}))
	return to
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
