package datapath

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/policy"
)

// fakeSettings is the map of the settings in memory.
type fakeSettings struct {
	mu      sync.Mutex
	value   *abi.CSettings // nil: there is none
	fail    error
	written int
}

func (f *fakeSettings) Lookup(_, value any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	if f.value == nil {
		return ebpf.ErrKeyNotExist
	}
	*value.(*abi.CSettings) = *f.value
	return nil
}

func (f *fakeSettings) Put(_, value any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.value = new(*value.(*abi.CSettings))
	f.written++
	return nil
}

func (f *fakeSettings) set(fail error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *fakeSettings) epoch() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value.Epoch
}

func TestJiffies(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		hz   uint32
		d    time.Duration
		want uint32
	}{
		{100, 0, 1},
		{100, -time.Second, 1},
		{100, time.Nanosecond, 1},
		{100, 10 * time.Millisecond, 1},
		{100, 11 * time.Millisecond, 2},
		{100, time.Second, 100},
		{250, time.Second, 250},
		{250, 8000 * time.Second, 2_000_000},
		{300, time.Second / 3, 100},
		{1000, time.Second + time.Nanosecond, 1001},
		{1000, 30 * day, 30 * 86400 * 1000},
		{1000, 49 * day, 49 * 86400 * 1000},
		{1000, 50 * day, math.MaxUint32},
		{1000, math.MaxInt64, math.MaxUint32},
		{1, 90 * time.Second, 90},
	} {
		s := settings{hz: tc.hz}
		if got := s.jiffies(tc.d); got != tc.want {
			t.Errorf("%v at %d a second: %d jiffies, want %d", tc.d, tc.hz, got, tc.want)
		}
	}
}

func TestOpenSettings(t *testing.T) {
	table := &fakeSettings{value: &abi.CSettings{Epoch: 41, HasCidrs: 1, Hz: 100}}
	s, err := openSettings(table, 250, Timeouts{})
	if err != nil {
		t.Fatal(err)
	}
	v := table.value
	if v.Epoch != 41 || v.HasCidrs != 1 || v.Hz != 250 {
		t.Errorf("settings %+v, want the epoch and the prefixes that were found", v)
	}
	d := DefaultTimeouts()
	for i, want := range map[abi.CCtTimeout]time.Duration{
		abi.CCtTimeoutCT_TIMEOUT_TCP: d.TCP, abi.CCtTimeoutCT_TIMEOUT_TCP_SYN: d.TCPSyn, abi.CCtTimeoutCT_TIMEOUT_TCP_FIN: d.TCPFin,
		abi.CCtTimeoutCT_TIMEOUT_ANY: d.Any, abi.CCtTimeoutCT_TIMEOUT_SERVICE_TCP: d.ServiceTCP, abi.CCtTimeoutCT_TIMEOUT_SERVICE_ANY: d.ServiceAny,
	} {
		if v.Timeout[i] != uint32(want.Seconds())*250 {
			t.Errorf("timeout %d: %d jiffies, want %v", i, v.Timeout[i], want)
		}
	}
	written := table.written
	if err := errors.Join(s.setHasCIDRs(true), s.setTimeouts(d)); err != nil || table.written != written {
		t.Errorf("%d writes of what is there, %v", table.written-written, err)
	}
	if err := errors.Join(s.setHasCIDRs(false), s.bump()); err != nil || table.value.HasCidrs != 0 || table.value.Epoch != 42 {
		t.Errorf("settings %+v, %v", table.value, err)
	}
	// What could not be written is not taken for written.
	table.set(unix.EIO)
	if err := s.bump(); !errors.Is(err, unix.EIO) {
		t.Errorf("bump = %v", err)
	}
	table.set(nil)
	if err := s.bump(); err != nil || table.epoch() != 43 {
		t.Errorf("epoch %d, %v", table.epoch(), err)
	}
	table.set(unix.EIO)
	if _, err := openSettings(table, 250, Timeouts{}); !errors.Is(err, unix.EIO) {
		t.Errorf("openSettings = %v", err)
	}
	if _, err := openSettings(&fakeSettings{}, 250, Timeouts{}); err != nil {
		t.Errorf("openSettings without a row: %v", err)
	}
}

// TestBumpSoon: many that ask within bumpDelay get one move of the epoch, and one
// that fails is tried again.
func TestBumpSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &fakeSettings{}
		s, err := openSettings(table, 100, Timeouts{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var failed atomic.Int32
		done := make(chan error, 1)
		go func() { done <- s.run(ctx, func(error) { failed.Add(1) }) }()
		epoch := func(when string, want uint32) {
			t.Helper()
			synctest.Wait()
			if got := table.epoch(); got != want {
				t.Errorf("%s: epoch %d, want %d", when, got, want)
			}
		}
		s.bumpSoon()
		time.Sleep(bumpDelay / 2)
		epoch("too early", 0)
		s.bumpSoon()
		time.Sleep(bumpDelay / 2)
		epoch("once asked", 1)
		time.Sleep(bumpDelay)
		epoch("asked again meanwhile", 2)
		time.Sleep(10 * bumpDelay)
		epoch("not asked", 2)

		table.set(unix.EIO)
		s.bumpSoon()
		time.Sleep(3 * bumpDelay)
		table.set(nil)
		time.Sleep(2 * bumpDelay)
		epoch("after failures", 3)
		if failed.Load() == 0 {
			t.Error("no failure was told")
		}
		s.bumpSoon()
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Errorf("run = %v", err)
		}
		epoch("what was asked for before the end", 4)
	})
}

func TestTakesAway(t *testing.T) {
	base := endpointRow{Index: 20, Flags: 1, ID: 7, MAC: macA, Identity: 300, Ingress: 10, Egress: policy.SetOpen}
	with := func(change func(*endpointRow)) endpointRow {
		r := base
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name            string
		old             *endpointRow // nil: there is none
		row             endpointRow
		want, additiveW bool
	}{
		{"the same", &base, base, false, false},
		{"new and isolated", nil, base, true, true},
		{"new and open", nil, with(func(r *endpointRow) { r.Ingress = policy.SetOpen }), false, false},
		{"new, egress alone", nil, with(func(r *endpointRow) { r.Ingress, r.Egress = policy.SetOpen, 11 }), false, false},
		{"ingress set", &base, with(func(r *endpointRow) { r.Ingress = 11 }), true, false},
		{"egress set", &base, with(func(r *endpointRow) { r.Egress = 11 }), true, false},
		{"set and identity", &base, with(func(r *endpointRow) { r.Egress, r.Identity = 11, 301 }), true, true},
		{"identity", &base, with(func(r *endpointRow) { r.Identity = 301 }), true, true},
		{"flags", &base, with(func(r *endpointRow) { r.Flags = 3 }), true, true},
		{"device", &base, with(func(r *endpointRow) { r.Index = 21 }), true, true},
		{"MAC", &base, with(func(r *endpointRow) { r.MAC = macB }), true, true},
		{"another endpoint", &base, with(func(r *endpointRow) { r.ID = 8 }), true, true},
	} {
		var old endpointRow
		if tc.old != nil {
			old = *tc.old
		}
		for additive, want := range map[bool]bool{false: tc.want, true: tc.additiveW} {
			if got := takesAway(old, tc.old != nil, tc.row, additive); got != want {
				t.Errorf("%s, additive %t: %t", tc.name, additive, got)
			}
		}
	}
}

// TestEpochFollowsRows: the operations of the endpoint map and of the identity map
// move the epoch after the row, and only when flows may remember what is no
// longer so.
func TestEpochFollowsRows(t *testing.T) {
	k := newPolicyKernel(t, nil, 0)
	var additive atomic.Bool
	endpoints := endpointOps{k.endpointTable(), k.settings, &additive}
	identities := identityOps{
		tableOps[netip.Addr, uint32, abi.CIdentityKey, abi.CIdentityEntry]{IdentityMap, k.loader.Map(IdentityMap).Table, identityCodec()},
		k.settings, k.securities,
	}
	ctx, a := t.Context(), addr("10.1.1.5")
	open := endpointRow{Index: 20, ID: 7, MAC: macA, Identity: 300}
	isolated := open
	isolated.Ingress = 10
	step := func(what string, moved uint32, do func() error) {
		t.Helper()
		epoch := k.liveSettings(t).Epoch
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := k.liveSettings(t).Epoch - epoch; got != moved {
			t.Errorf("%s: the epoch moved by %d, want %d", what, got, moved)
		}
	}
	k.wrote = func(what string) {
		if row, ok, err := endpoints.get(a); err != nil || ok && row != isolated {
			t.Errorf("%s, and the row is still %+v, %v", what, row, err)
		}
	}
	step("open", 0, func() error { return endpoints.Update(ctx, a, open) })
	step("isolated", 1, func() error { return endpoints.Update(ctx, a, isolated) })
	step("again", 0, func() error { return endpoints.Update(ctx, a, isolated) })
	additive.Store(true)
	step("open, which only adds", 0, func() error { return endpoints.Update(ctx, a, open) })
	step("isolated, which others say only adds", 0, func() error { return endpoints.Update(ctx, a, isolated) })
	additive.Store(false)
	step("gone", 1, func() error { return endpoints.Delete(ctx, a) })
	step("was not there", 0, func() error { return endpoints.Delete(ctx, a) })

	k.wrote = func(string) {}
	soon := func() bool {
		select {
		case <-k.settings.soon:
			return true
		default:
			return false
		}
	}
	step("identity while nobody is isolated", 0, func() error {
		return errors.Join(identities.Update(ctx, a, 1), identities.Update(ctx, a, 2), identities.Delete(ctx, a))
	})
	if soon() {
		t.Error("a move of the epoch is asked for, although nobody is isolated")
	}
	k.securities.edit(7, func(s *Security) { s.Policy.Egress = 10 })
	step("new identity", 0, func() error { return identities.Update(ctx, a, 1) })
	step("the same identity", 0, func() error { return identities.Update(ctx, a, 1) })
	step("another identity", 1, func() error { return identities.Update(ctx, a, 2) })
	step("identity gone", 0, func() error { return identities.Delete(ctx, a) })
	if !soon() {
		t.Error("no move of the epoch is asked for")
	}
}

// TestSecurities: what is known of endpoints outlives nothing but Forget.
func TestSecurities(t *testing.T) {
	s := &securities{m: map[uint32]Security{}}
	if _, ok := s.get(7); ok || s.isolated() {
		t.Error("something is known at first")
	}
	s.adopt(endpointRows(nil, nil, []netip.Addr{addr("192.0.2.1")}))
	if len(s.all()) != 0 {
		t.Error("the node itself was adopted as an endpoint")
	}
	s.adopt(rowsOf(podA, Security{Identity: 300, Policy: policy.EndpointPolicy{Egress: 10, AuditIngress: true}}))
	if got, ok := s.get(podA.ID); !ok || got.Identity != 300 || got.Policy != (policy.EndpointPolicy{Egress: 10, AuditIngress: true}) || !s.isolated() {
		t.Errorf("adopted %+v, %t", got, ok)
	}
	s.edit(podA.ID, func(s *Security) { s.Policy.Egress = policy.SetOpen })
	if s.isolated() {
		t.Error("isolated, although under no set")
	}
	all := s.all()
	s.forget(podA.ID)
	if _, ok := s.get(podA.ID); ok || len(all) != 1 {
		t.Errorf("forgotten: %t; %v", ok, all)
	}
}
