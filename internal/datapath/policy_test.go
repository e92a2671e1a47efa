package datapath

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// cidrPeer is the peer that stands for prefix number n.
func cidrPeer(n int) policy.PeerID { return policy.PeerID(1<<63 | uint64(n)) }

// setOf makes a set that is named after its number, of peers and their lists.
func setOf(id policy.SetID, entries map[policy.PeerID]policy.PortsID) *policy.Set {
	s := &policy.Set{ID: id, Names: []string{"ns/" + hexID(uint64(id))}, Entries: map[policy.PeerID]policy.Entry{}}
	for peer, ports := range entries {
		s.Entries[peer] = policy.Entry{Ports: ports}
	}
	return s
}

// wide is a set of n identities, from 5000 on.
func wide(id policy.SetID, n int) *policy.Set {
	entries := map[policy.PeerID]policy.PortsID{}
	for i := range n {
		entries[policy.PeerID(5000+i)] = policy.PortsAll
	}
	return setOf(id, entries)
}

func setsOf(sets ...*policy.Set) map[policy.SetID]*policy.Set {
	out := map[policy.SetID]*policy.Set{}
	for _, s := range sets {
		out[s.ID] = s
	}
	return out
}

// ingress puts endpoints under one set each.
func ingress(of map[uint32]policy.SetID) map[uint32]policy.EndpointPolicy {
	out := map[uint32]policy.EndpointPolicy{}
	for id, set := range of {
		out[id] = policy.EndpointPolicy{Ingress: set}
	}
	return out
}

// ranges are n of them.
func ranges(n int) []policy.PortRange {
	out := make([]policy.PortRange, n)
	for i := range out {
		out[i] = policy.PortRange{Protocol: state.ProtocolTCP, First: uint16(2 * i), Last: uint16(2*i) + 1}
	}
	return out
}

func (k *policyKernel) apply(t *testing.T, u policy.Update) {
	t.Helper()
	noError(t, k.ApplyPolicy(t.Context(), u))
}

func (k *policyKernel) sync(t *testing.T, tables policy.Tables) {
	t.Helper()
	noError(t, k.SyncPolicy(t.Context(), tables))
}

// under checks what the rows of endpoints say in the kernel.
func (k *policyKernel) under(t *testing.T, when string, want map[uint32]policy.SetID) {
	t.Helper()
	got := k.inKernel(t).Endpoints
	for id, set := range want {
		if got[id].Ingress != set {
			t.Errorf("%s: endpoint %d is under set %x, want %x", when, id, got[id].Ingress, set)
		}
	}
}

// problem checks that there is one problem, of that set and for those endpoints.
func (k *policyKernel) problem(t *testing.T, when string, set policy.SetID, endpoints ...uint32) PolicyProblem {
	t.Helper()
	p := k.PolicyProblems()
	if len(p) != 1 || p[0].Set != set || !slices.Equal(p[0].Endpoints, endpoints) || p[0].Err == nil {
		t.Fatalf("%s: problems %+v, want one of set %x for endpoints %d", when, p, set, endpoints)
	}
	return p[0]
}

func (k *policyKernel) noProblem(t *testing.T, when string) {
	t.Helper()
	if p := k.PolicyProblems(); len(p) != 0 {
		t.Errorf("%s: problems %+v", when, p)
	}
}

// TestRefusedSet: nothing of a set that does not fit is written, and its endpoints
// stay under what they had.
func TestRefusedSet(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PolicyMap: 16}, 4)
	ballast, old, big := wide(10, 6), setOf(20, map[policy.PeerID]policy.PortsID{1001: 7}), wide(30, 10)
	lists := map[policy.PortsID][]policy.PortRange{7: ranges(20)}
	k.apply(t, policy.Update{
		Ports: lists, Sets: setsOf(ballast, old), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 20}), Revokes: true,
	})
	full := policy.Tables{Ports: lists, Sets: setsOf(ballast, old), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 20})}
	k.holds(t, "at first", full)

	k.wrote = func(what string) {
		if strings.Contains(what, "{30 ") || strings.HasPrefix(what, "delete") {
			t.Errorf("%s, although the set does not fit", what)
		}
	}
	k.apply(t, policy.Update{
		Sets: setsOf(big), Endpoints: ingress(map[uint32]policy.SetID{2: 30, 3: 30}), Revokes: true,
		DroppedSets: []policy.SetID{20}, DroppedPorts: []policy.PortsID{7},
	})
	k.apply(t, policy.Update{Grown: map[policy.EntryKey]policy.Entry{{Set: 30, Peer: 6000}: {}}})
	want := full
	want.Endpoints = ingress(map[uint32]policy.SetID{1: 10, 2: 20, 3: policy.SetClosed})
	k.holds(t, "refused", want)
	p := k.problem(t, "refused", 30, 2, 3)
	if !errors.Is(p.Err, ErrNoRoom) || !slices.Equal(p.Names, []string{"ns/1e"}) || !strings.Contains(p.Err.Error(), "10 entries and 9 of 16 are free; raise bpf-policy-map-max") {
		t.Errorf("problem %+v", p)
	}
	if s, _ := k.SecurityOf(2); s.Policy.Ingress != 20 {
		t.Errorf("SecurityOf(2) = %+v", s)
	}

	desired := policy.Tables{Sets: setsOf(ballast, big), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 30, 3: 30})}
	k.wrote = func(string) {}
	k.sync(t, desired)
	k.holds(t, "synced without room", want)
	k.problem(t, "synced without room", 30, 2, 3)

	// Another is not to be under it any more, and room appears.
	k.apply(t, policy.Update{Endpoints: ingress(map[uint32]policy.SetID{3: policy.SetOpen})})
	k.problem(t, "one fewer", 30, 2)
	k.apply(t, policy.Update{DroppedEndpoints: []uint32{2}})
	k.problem(t, "two fewer", 30)
	k.apply(t, policy.Update{Endpoints: ingress(map[uint32]policy.SetID{1: policy.SetOpen, 2: 30}), DroppedSets: []policy.SetID{10}})
	k.problem(t, "back", 30, 2)
	desired = policy.Tables{Sets: setsOf(big), Endpoints: ingress(map[uint32]policy.SetID{2: 30, 3: 30})}
	k.sync(t, desired)
	k.holds(t, "room appeared", desired)
	k.noProblem(t, "room appeared")
}

// TestKernelHasNoRoom: the table has less room than it should, because of a row
// that the writer does not know.
func TestKernelHasNoRoom(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PolicyMap: 4}, 1)
	stray := policy.EntryKey{Set: 99, Peer: 1}
	noError(t, k.policy.entries.Update(t.Context(), stray, policy.PortsAll))
	desired := policy.Tables{Sets: setsOf(wide(10, 4)), Endpoints: ingress(map[uint32]policy.SetID{1: 10})}
	err := k.ApplyPolicy(t.Context(), policy.Update{Sets: desired.Sets, Endpoints: desired.Endpoints, Revokes: true})
	if !errors.Is(err, ErrNoRoom) || !errors.Is(err, unix.E2BIG) {
		t.Errorf("ApplyPolicy = %v", err)
	}
	k.under(t, "full", map[uint32]policy.SetID{1: policy.SetClosed})
	k.problem(t, "full", 10, 1)
	k.sync(t, desired) // removes the stray, too late for the set
	k.sync(t, desired)
	k.holds(t, "in the end", desired)
	k.noProblem(t, "in the end")
}

// TestSetInForceLacksEntry: what does not fit into a set in force is left out and
// named; the set takes endpoints as before.
func TestSetInForceLacksEntry(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PolicyMap: 4}, 3)
	k.apply(t, policy.Update{Sets: setsOf(wide(10, 3), wide(20, 1)), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 3: 20}), Revokes: true})
	key := policy.EntryKey{Set: 10, Peer: 5003}
	if err := k.ApplyPolicy(t.Context(), policy.Update{Grown: map[policy.EntryKey]policy.Entry{key: {}}}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("ApplyPolicy = %v", err)
	}
	if p := k.problem(t, "grown", 10); !errors.Is(p.Err, ErrNoRoom) {
		t.Errorf("problem %+v", p)
	}
	k.apply(t, policy.Update{Endpoints: ingress(map[uint32]policy.SetID{2: 10}), Revokes: true})
	k.under(t, "an endpoint more", map[uint32]policy.SetID{1: 10, 2: 10})

	k.apply(t, policy.Update{Endpoints: ingress(map[uint32]policy.SetID{2: policy.SetOpen})})
	k.sync(t, policy.Tables{Sets: setsOf(wide(10, 4), wide(20, 1)), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 10, 3: 20})})
	k.under(t, "an endpoint more by SyncPolicy", map[uint32]policy.SetID{1: 10, 2: 10, 3: 20})
	k.problem(t, "synced without room", 10)
	if n := len(k.inKernel(t).Sets[10].Entries); n != 3 {
		t.Errorf("%d entries of the set are left", n)
	}
	// Entries come and go as in every set in force.
	k.apply(t, policy.Update{Shrunk: []policy.EntryKey{{Set: 10, Peer: 5001}}, Revokes: true})
	k.apply(t, policy.Update{Grown: map[policy.EntryKey]policy.Entry{key: {}}})
	e := k.inKernel(t).Sets[10].Entries
	if _, ok := e[key.Peer]; !ok || len(e) != 3 {
		t.Errorf("entries %v", e)
	}

	desired := policy.Tables{Sets: setsOf(wide(10, 4)), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 10, 3: policy.SetOpen})}
	k.sync(t, desired) // set 20 goes
	k.sync(t, desired)
	k.holds(t, "room appeared", desired)
	k.noProblem(t, "room appeared")
}

// TestListsDoNotFit: a set whose lists of ports are not in the kernel is refused,
// and an entry of a set in force left out.
func TestListsDoNotFit(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PortMap: 3}, 2)
	k.apply(t, policy.Update{
		Ports: map[policy.PortsID][]policy.PortRange{7: ranges(17)}, Sets: setsOf(setOf(10, map[policy.PeerID]policy.PortsID{1002: 7})),
		Endpoints: ingress(map[uint32]policy.SetID{1: 10}), Revokes: true,
	})
	u := policy.Update{
		Ports: map[policy.PortsID][]policy.PortRange{8: ranges(33)}, Sets: setsOf(setOf(20, map[policy.PeerID]policy.PortsID{1001: 8})),
		Grown: map[policy.EntryKey]policy.Entry{{Set: 10, Peer: 1003}: {Ports: 8}}, Endpoints: ingress(map[uint32]policy.SetID{2: 20}), Revokes: true,
	}
	if err := k.ApplyPolicy(t.Context(), u); !errors.Is(err, ErrNoRoom) {
		t.Errorf("ApplyPolicy = %v", err)
	}
	k.holds(t, "full", policy.Tables{
		Ports: map[policy.PortsID][]policy.PortRange{7: ranges(17)}, Sets: setsOf(setOf(10, map[policy.PeerID]policy.PortsID{1002: 7})),
		Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: policy.SetClosed}),
	})
	p := k.PolicyProblems()
	if len(p) != 2 || p[0].Set != 10 || len(p[0].Endpoints) != 0 || p[1].Set != 20 || !slices.Equal(p[1].Endpoints, []uint32{2}) {
		t.Errorf("problems %+v", p)
	}
	desired := policy.Tables{Ports: u.Ports, Sets: u.Sets, Endpoints: ingress(map[uint32]policy.SetID{2: 20})}
	k.apply(t, policy.Update{
		Endpoints: ingress(map[uint32]policy.SetID{1: policy.SetOpen}), DroppedSets: []policy.SetID{10}, DroppedPorts: []policy.PortsID{7},
	})
	k.sync(t, desired)
	k.holds(t, "room appeared", desired)
	k.noProblem(t, "room appeared")
}

// blocks is a set that allows 10.0.0.0/8 but not 10.1.0.0/16, and its prefixes.
func blocks(id policy.SetID, ports policy.PortsID) (*policy.Set, map[netip.Prefix]policy.PeerID) {
	return setOf(id, map[policy.PeerID]policy.PortsID{cidrPeer(1): ports}),
		map[netip.Prefix]policy.PeerID{prefix("10.0.0.0/8"): cidrPeer(1), prefix("10.1.0.0/16"): cidrPeer(2)}
}

// asksFor is the first packet of a flow from an address that is no pod's.
func asksFor(endpoint uint32, peer string) policy.Query {
	return policy.Query{Endpoint: endpoint, Peer: addr(peer), Identity: state.IdentityWorld, Protocol: state.ProtocolTCP, Port: 1}
}

// TestCIDRsDoNotFit: where a prefix that narrows another cannot be written, new
// sets of prefixes are refused.
func TestCIDRsDoNotFit(t *testing.T) {
	for _, refused := range []string{"10.0.0.0/8", "10.1.0.0/16"} {
		t.Run(refused, func(t *testing.T) {
			k := newPolicyKernel(t, nil, 2)
			k.before = func(what string) error {
				if what == "write CIDR "+refused {
					return unix.ENOSPC
				}
				return nil
			}
			set, cidrs := blocks(10, policy.PortsAll)
			desired := policy.Tables{Sets: setsOf(set, wide(20, 1)), CIDRs: cidrs, Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 20})}
			err := k.ApplyPolicy(t.Context(), policy.Update{Sets: desired.Sets, CIDRs: cidrs, Endpoints: desired.Endpoints, Revokes: true})
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("ApplyPolicy = %v", err)
			}
			k.under(t, "full", map[uint32]policy.SetID{1: policy.SetClosed, 2: 20})
			k.problem(t, "full", 10, 1)
			if got := k.inKernel(t); got.Judge(asksFor(1, "10.1.0.1")).Allowed {
				t.Error("the exception is allowed")
			}
			k.before = func(string) error { return nil }
			k.sync(t, desired)
			k.holds(t, "room appeared", desired)
			k.noProblem(t, "room appeared")
		})
	}
}

// TestKeptSetOpensNothing: an endpoint whose new set does not fit is under its
// last one. Prefixes that nobody else speaks of go; what they narrowed must not
// open by it.
func TestKeptSetOpensNothing(t *testing.T) {
	for _, tc := range []struct {
		name    string
		keep    policy.PortsID // of another set for 10.0.0.0/8; 0: there is none
		allowed bool           // 10.2.0.1 in the end
	}{{"wider prefix stays", 8, false}, {"both go", 0, false}} {
		t.Run(tc.name, func(t *testing.T) {
			k := newPolicyKernel(t, loader.Sizes{PolicyMap: 4}, 2)
			old, cidrs := blocks(10, 7)
			u := policy.Update{
				Ports: map[policy.PortsID][]policy.PortRange{7: ranges(1)}, Sets: setsOf(old), CIDRs: cidrs,
				Endpoints: ingress(map[uint32]policy.SetID{1: 10}), Revokes: true,
			}
			dropped := slices.Collect(maps.Keys(cidrs))
			if tc.keep != 0 {
				u.Ports[tc.keep] = ranges(2)
				u.Sets[20] = setOf(20, map[policy.PeerID]policy.PortsID{cidrPeer(1): tc.keep, cidrPeer(2): tc.keep})
				u.Endpoints[2] = policy.EndpointPolicy{Ingress: 20}
				dropped = []netip.Prefix{prefix("10.1.0.0/16")}
			}
			k.apply(t, u)
			if got := k.inKernel(t); got.Judge(asksFor(1, "10.1.0.1")).Allowed || !got.Judge(asksFor(1, "10.2.0.1")).Allowed {
				t.Fatal("the old set is not as it should be")
			}
			k.wrote = func(what string) {
				if k.inKernel(t).Judge(asksFor(1, "10.1.0.1")).Allowed {
					t.Errorf("%s: the exception of the set that is kept is allowed", what)
				}
			}
			k.apply(t, policy.Update{
				Sets: setsOf(wide(30, 4)), Endpoints: ingress(map[uint32]policy.SetID{1: 30}), Revokes: true,
				DroppedCIDRs: dropped, DroppedSets: []policy.SetID{10}, DroppedPorts: []policy.PortsID{7},
			})
			k.under(t, "kept", map[uint32]policy.SetID{1: 10})
			got := k.inKernel(t)
			if got.Judge(asksFor(1, "10.2.0.1")).Allowed != tc.allowed {
				t.Errorf("10.2.0.1: allowed is %t", !tc.allowed)
			}
			if q := asksFor(2, "10.1.0.1"); tc.keep != 0 && !got.Judge(q).Allowed {
				t.Error("the other set lost what it allows")
			}
		})
	}
}

// TestKeptSetGoes: what is kept goes as soon as nobody is under it, and stays when
// it is wanted again.
func TestKeptSetGoes(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PolicyMap: 4}, 1)
	lists := map[policy.PortsID][]policy.PortRange{7: ranges(17)}
	old := setOf(10, map[policy.PeerID]policy.PortsID{1001: 7, 1002: policy.PortsAll})
	before := policy.Tables{Ports: lists, Sets: setsOf(old), Endpoints: ingress(map[uint32]policy.SetID{1: 10})}
	replace := policy.Update{
		Sets: setsOf(wide(30, 4)), Endpoints: ingress(map[uint32]policy.SetID{1: 30}), Revokes: true,
		DroppedSets: []policy.SetID{10}, DroppedPorts: []policy.PortsID{7},
	}
	k.apply(t, policy.Update{Ports: lists, Sets: before.Sets, Endpoints: before.Endpoints, Revokes: true})
	k.apply(t, replace)
	k.holds(t, "kept", before)
	k.apply(t, policy.Update{
		Ports: lists, Sets: before.Sets, Endpoints: before.Endpoints, Revokes: true, DroppedSets: []policy.SetID{30},
	})
	k.holds(t, "wanted again", before)
	k.noProblem(t, "wanted again")
	k.apply(t, replace)
	k.apply(t, policy.Update{
		Sets: setsOf(wide(40, 1)), Endpoints: ingress(map[uint32]policy.SetID{1: 40}), Revokes: true, DroppedSets: []policy.SetID{30},
	})
	k.holds(t, "replaced", policy.Tables{Sets: setsOf(wide(40, 1)), Endpoints: ingress(map[uint32]policy.SetID{1: 40})})
	k.noProblem(t, "replaced")
}

// TestWritesRefused: whatever write the kernel refuses, SyncPolicy completes the
// update, and before that nothing is allowed that neither side of it allows.
func TestWritesRefused(t *testing.T) {
	k := newPolicyKernel(t, nil, 2)
	old, cidrs := blocks(10, 7)
	before := policy.Tables{
		Ports: map[policy.PortsID][]policy.PortRange{7: ranges(17)}, Sets: setsOf(old), CIDRs: cidrs,
		Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: policy.SetOpen}),
	}
	after := policy.Tables{
		Ports: map[policy.PortsID][]policy.PortRange{8: ranges(33)}, Sets: setsOf(setOf(20, map[policy.PeerID]policy.PortsID{cidrPeer(3): 8, 5000: 8})),
		CIDRs:     map[netip.Prefix]policy.PeerID{prefix("10.1.0.0/16"): cidrPeer(2), prefix("10.0.0.0/7"): cidrPeer(3)},
		Endpoints: ingress(map[uint32]policy.SetID{1: 20, 2: 20}),
	}
	u := policy.Update{
		Ports: after.Ports, Sets: after.Sets, CIDRs: map[netip.Prefix]policy.PeerID{prefix("10.0.0.0/7"): cidrPeer(3)},
		Endpoints: after.Endpoints, Revokes: true,
		DroppedSets: []policy.SetID{10}, DroppedPorts: []policy.PortsID{7}, DroppedCIDRs: []netip.Prefix{prefix("10.0.0.0/8")},
	}
	var queries []policy.Query
	for _, peer := range []string{"10.1.0.1", "10.2.0.1", "11.0.0.1", "12.0.0.1"} {
		queries = append(queries, asksFor(1, peer), asksFor(2, peer))
	}
	refused := 0
	for n := 0; ; n++ {
		k.sync(t, before)
		k.holds(t, "at first", before)
		count, what := 0, ""
		k.before = func(write string) error {
			if count++; count == n+1 {
				what = write
				return unix.EIO
			}
			return nil
		}
		err := k.ApplyPolicy(t.Context(), u)
		k.before = func(string) error { return nil }
		if what == "" {
			break
		}
		refused++
		// The endpoints' rows have a loop of their own that tries again.
		if !errors.Is(err, unix.EIO) && !strings.HasPrefix(what, "endpoint ") {
			t.Errorf("%s is refused: ApplyPolicy = %v", what, err)
		}
		now := k.inKernel(t)
		for _, q := range queries {
			if now.Judge(q).Allowed && !before.Judge(q).Allowed && !after.Judge(q).Allowed {
				t.Errorf("%s is refused: %+v is allowed", what, q)
			}
		}
		k.sync(t, after)
		k.rows(t)
		k.holds(t, what+" was refused", after)
		k.noProblem(t, what+" was refused")
	}
	if refused < 12 {
		t.Errorf("only %d writes could be refused", refused)
	}
}

// rows writes all endpoints' rows again, as their loop does.
func (k *policyKernel) rows(t *testing.T) {
	t.Helper()
	eps, _, err := k.tables.Endpoints()
	noError(t, err)
	for _, ep := range eps {
		noError(t, k.applyEndpoint(t.Context(), ep))
	}
}

func TestSyncPolicyMends(t *testing.T) {
	k := newPolicyKernel(t, nil, 2)
	set, cidrs := blocks(10, 7)
	set.Entries[1002], set.Entries[1003] = policy.Entry{Ports: 9}, policy.Entry{}
	desired := policy.Tables{
		Ports: map[policy.PortsID][]policy.PortRange{7: ranges(40), 9: ranges(1), 11: {}}, CIDRs: cidrs,
		Sets:      setsOf(set, setOf(20, map[policy.PeerID]policy.PortsID{policy.PeerAny: 11})),
		Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 20}),
	}
	ctx, w := t.Context(), k.policy
	entry := func(set policy.SetID, peer policy.PeerID) policy.EntryKey {
		return policy.EntryKey{Set: set, Peer: peer}
	}
	record := func(key, more uint64) error {
		return w.ports.Update(ctx, key, abi.CPortList{More: more, Count: 1, Ranges: [16]abi.CPortRange{{First: 1, Last: 9, Proto: 6}}})
	}
	k.sync(t, desired)
	for _, tc := range []struct {
		name    string
		damage  func() error
		revokes bool // it may have allowed something
	}{
		{"nothing", func() error { return nil }, false},
		{"stray entry of a set in force", func() error { return w.entries.Update(ctx, entry(10, 4000), policy.PortsAll) }, true},
		{"stray set", func() error { return w.entries.Update(ctx, entry(77, 4000), 7) }, false},
		{"missing entry", func() error { return w.entries.Delete(ctx, entry(10, 1002)) }, false},
		{"altered entry", func() error { return w.entries.Update(ctx, entry(10, 1002), policy.PortsAll) }, true},
		{"all entries missing", func() error { return w.entries.Delete(ctx, entry(20, policy.PeerAny)) }, false},
		{"stray prefix", func() error { return w.cidrs.Update(ctx, prefix("172.16.0.0/12"), cidrPeer(1)) }, true},
		{"missing prefix", func() error { return w.cidrs.Delete(ctx, prefix("10.1.0.0/16")) }, true},
		{"altered prefix", func() error { return w.cidrs.Update(ctx, prefix("10.1.0.0/16"), cidrPeer(1)) }, true},
		{"first record missing", func() error { return w.ports.Delete(ctx, 7) }, false},
		{"last record missing", func() error { return w.ports.Delete(ctx, recordKey(7, 2)) }, false},
		{"altered first record", func() error { return record(7, recordKey(7, 1)) }, true},
		{"altered last record", func() error { return record(recordKey(7, 2), 0) }, true},
		{"chain cut", func() error { return record(7, 0) }, true},
		{"chain led into another", func() error { return record(recordKey(7, 2), 9) }, true},
		{"list that allows nothing missing", func() error { return w.ports.Delete(ctx, 11) }, false},
		{"stray list", func() error { return record(500, 0) }, false},
		{"stray list that leads into another", func() error { return record(500, 9) }, false},
		{"stray list that leads nowhere", func() error { return record(500, 501) }, false},
		{"stray circle", func() error { return errors.Join(record(500, 501), record(501, 500)) }, false},
		{"endpoint under another set", func() error { return k.assign(ctx, 1, policy.EndpointPolicy{Ingress: 20}) }, true},
		{"endpoint not audited", func() error { return k.assign(ctx, 1, policy.EndpointPolicy{Ingress: 10, AuditEgress: true}) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			noError(t, tc.damage())
			epoch := k.liveSettings(t).Epoch
			k.sync(t, desired)
			k.holds(t, "mended", desired)
			if moved := k.liveSettings(t).Epoch != epoch; moved != tc.revokes {
				t.Errorf("the epoch moved: %t", moved)
			}
			k.noProblem(t, "mended")
			k.wrote = func(what string) { t.Errorf("%s, although nothing is wrong any more", what) }
			k.sync(t, desired)
			k.wrote = func(string) {}
		})
	}
	k.sync(t, policy.Tables{Endpoints: ingress(map[uint32]policy.SetID{1: 0, 2: 0})})
	k.holds(t, "emptied", policy.Tables{})
	if k.liveSettings(t).HasCidrs != 0 {
		t.Error("the programs look for prefixes, and there are none")
	}
}

// TestAdoptPolicy: the next agent finds everything, and has nothing to write.
func TestAdoptPolicy(t *testing.T) {
	k := newPolicyKernel(t, nil, 2)
	set, cidrs := blocks(10, 7)
	desired := policy.Tables{
		Ports: map[policy.PortsID][]policy.PortRange{7: ranges(40)}, CIDRs: cidrs, Sets: setsOf(set),
		Endpoints: map[uint32]policy.EndpointPolicy{1: {Ingress: 10, Egress: policy.SetClosed, AuditEgress: true}, 2: {Egress: 10}},
	}
	k.sync(t, desired)
	noError(t, k.loader.Commit())
	next := openPolicyKernel(t, k.node.cfg, k.tables, nil)
	if s, ok := next.SecurityOf(1); !ok || s != (Security{Identity: 1001, Policy: desired.Endpoints[1]}) {
		t.Errorf("SecurityOf(1) = %+v, %t", s, ok)
	}
	next.holds(t, "adopted", desired)
	next.wrote = func(what string) { t.Errorf("%s, although all is as it should be", what) }
	next.sync(t, desired)
	next.wrote = func(string) {}
	next.sync(t, policy.Tables{Endpoints: map[uint32]policy.EndpointPolicy{1: {}, 2: {}}})
	next.holds(t, "emptied", policy.Tables{})
}

// TestSyncPolicyCannotRead: what was wrong stays known.
func TestSyncPolicyCannotRead(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PolicyMap: 4}, 1)
	k.apply(t, policy.Update{Sets: setsOf(wide(10, 5)), Endpoints: ingress(map[uint32]policy.SetID{1: 10}), Revokes: true})
	readable := k.policy.cidrs
	k.policy.cidrs = unreadable{readable}
	if err := k.SyncPolicy(t.Context(), policy.Tables{}); !errors.Is(err, unix.EIO) {
		t.Errorf("SyncPolicy = %v", err)
	}
	k.problem(t, "unreadable", 10, 1)
	k.policy.cidrs = readable
	k.sync(t, policy.Tables{})
	k.noProblem(t, "nothing wanted")
}

// unreadable is a table that cannot be listed.
type unreadable struct {
	rowTable[netip.Prefix, policy.PeerID]
}

func (unreadable) list() (map[netip.Prefix]policy.PeerID, error) { return nil, unix.EIO }
