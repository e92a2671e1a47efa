package datapath

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// denyList is a list of ports that denies one and allows another.
func denyList() []policy.PortRange {
	return []policy.PortRange{
		{Protocol: state.ProtocolTCP, First: 90, Last: 90}, {Protocol: state.ProtocolTCP, First: 80, Last: 80, Deny: true},
	}
}

func (k *policyKernel) hasDenies(t *testing.T, when string, want uint16) {
	t.Helper()
	if got := k.liveSettings(t).HasDenies; got != want {
		t.Errorf("%s: has-denies is %d, want %d", when, got, want)
	}
}

// TestDeniesAreKnown: the programs know that something may be denied before it is
// there, and until it is gone; an agent that adopts the tables knows it too.
func TestDeniesAreKnown(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{}, 1)
	set := setOf(10, map[policy.PeerID]policy.PortsID{policy.PeerAny: policy.PortsAll, 1001: 7})
	k.hasDenies(t, "at first", 0)
	k.wrote = func(what string) {
		if what != "epoch 0" && k.liveSettings(t).HasDenies == 0 {
			t.Errorf("%s before the programs know of denies", what)
		}
	}
	tables := policy.Tables{
		Ports: map[policy.PortsID][]policy.PortRange{7: denyList()}, Sets: setsOf(set), Endpoints: ingress(map[uint32]policy.SetID{1: 10}),
	}
	k.apply(t, policy.Update{Ports: tables.Ports, Sets: tables.Sets, Endpoints: tables.Endpoints, Revokes: true})
	k.wrote = func(string) {}
	k.hasDenies(t, "with a list that denies", 1)
	records, err := k.policy.read()
	noError(t, err)
	if first := records[7].Ranges[0]; first.Flags&portDeny == 0 || first.First != 80 {
		t.Errorf("the first range is %+v, want the one that denies", first)
	}
	k.sync(t, tables)
	k.hasDenies(t, "after a comparison", 1)
	k.apply(t, policy.Update{Endpoints: ingress(map[uint32]policy.SetID{1: 0}), DroppedSets: []policy.SetID{10}, DroppedPorts: []policy.PortsID{7}, Revokes: true})
	k.hasDenies(t, "without one", 0)
}

// TestDenyWithoutRoom: the endpoints of a set that cannot have one of its denies are
// under the closed set until it can.
func TestDenyWithoutRoom(t *testing.T) {
	for name, late := range map[string]policy.PortsID{"a deny": 7, "no deny": 8} {
		t.Run(name, func(t *testing.T) {
			k := newPolicyKernel(t, loader.Sizes{PolicyMap: 8}, 2)
			lists := map[policy.PortsID][]policy.PortRange{7: denyList(), 8: ranges(1)}
			ballast := wide(30, 7)
			set := setOf(10, map[policy.PeerID]policy.PortsID{policy.PeerAny: policy.PortsAll})
			k.apply(t, policy.Update{
				Ports: lists, Sets: setsOf(set, ballast), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 30}), Revokes: true,
			})
			k.noProblem(t, "at first")
			u := policy.Update{Grown: map[policy.EntryKey]policy.Entry{{Set: 10, Peer: 1002}: {Ports: late}}, Revokes: true}
			if err := k.ApplyPolicy(t.Context(), u); err == nil {
				t.Fatal("an entry that has no room is no error")
			}
			under, endpoints := policy.SetID(10), []uint32(nil)
			if late == 7 {
				under, endpoints = policy.SetClosed, []uint32{1}
			}
			k.under(t, "without room", map[uint32]policy.SetID{1: under, 2: 30})
			k.problem(t, "without room", 10, endpoints...)

			whole := setOf(10, map[policy.PeerID]policy.PortsID{policy.PeerAny: policy.PortsAll, 1002: late})
			want := policy.Tables{Ports: lists, Sets: setsOf(whole, ballast), Endpoints: ingress(map[uint32]policy.SetID{1: 10, 2: 30})}
			k.sync(t, want)
			k.under(t, "still without room", map[uint32]policy.SetID{1: under, 2: 30})
			k.problem(t, "still without room", 10, endpoints...)

			delete(want.Sets, 30)
			want.Endpoints[2] = policy.EndpointPolicy{}
			k.sync(t, want)
			k.sync(t, want) // what was closed was so when the first one began
			k.under(t, "with room", map[uint32]policy.SetID{1: 10, 2: 0})
			k.noProblem(t, "with room")
		})
	}
}

// TestKeptDenyOfAPrefix: a set that is kept, as the next one does not fit, is closed
// when a prefix goes to whose addresses it denied something.
func TestKeptDenyOfAPrefix(t *testing.T) {
	k := newPolicyKernel(t, loader.Sizes{PolicyMap: 8}, 1)
	lists := map[policy.PortsID][]policy.PortRange{7: denyList()}
	narrow := netip.MustParsePrefix("10.2.0.0/16")
	old := setOf(10, map[policy.PeerID]policy.PortsID{policy.PeerAny: policy.PortsAll, cidrPeer(1): 7})
	k.apply(t, policy.Update{
		Ports: lists, Sets: setsOf(old), CIDRs: map[netip.Prefix]policy.PeerID{narrow: cidrPeer(1)},
		Endpoints: ingress(map[uint32]policy.SetID{1: 10}), Revokes: true,
	})
	k.under(t, "at first", map[uint32]policy.SetID{1: 10})
	k.apply(t, policy.Update{
		Sets: setsOf(wide(40, 20)), Endpoints: ingress(map[uint32]policy.SetID{1: 40}), DroppedSets: []policy.SetID{10},
		DroppedCIDRs: []netip.Prefix{narrow}, DroppedPorts: []policy.PortsID{7}, Revokes: true,
	})
	k.under(t, "after the prefix went", map[uint32]policy.SetID{1: policy.SetClosed})
}
