package datapath

import (
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// This file is pure: from a port to the rows that it takes.

// backendKey names what has one id on the node, whichever lists have it.
type backendKey struct {
	addr  netip.AddrPort
	proto state.Protocol
}

// lastingList is the list, never a frontend's, that holds by their ids the
// backends which no frontend leads to, but flows still do: they drain, or they
// are gone and their flows are not ended yet. What an agent knows of them so
// outlives it. The same number in the Maglev table holds the seed.
const lastingList = 0

// maxBackendID leaves the highest bit to BACKEND_BY_ID.
const maxBackendID = uint32(abi.CBackendConstantsBACKEND_BY_ID) - 1

func frontendKey(at netip.AddrPort, proto state.Protocol) abi.CFrontendKey {
	addr, port := netorder.AddrPort(at)
	return abi.CFrontendKey{Addr: addr, Port: port, Proto: uint8(proto)}
}

// addressKey is the key of what says that an address is one of services.
func addressKey(addr netip.Addr) abi.CFrontendKey { return abi.CFrontendKey{Addr: netorder.Addr(addr)} }

// closedFrontend is its value.
func closedFrontend() abi.CFrontend {
	return abi.CFrontend{Flags: uint32(abi.CFrontendFlagsFRONTEND_CLOSED)}
}

func backendValue(at netip.AddrPort, id uint32) abi.CBackend {
	addr, port := netorder.AddrPort(at)
	return abi.CBackend{Addr: addr, Port: port, Id: id}
}

// lastingValue says of which protocol the backend is, which no frontend does.
func lastingValue(key backendKey, id uint32) abi.CBackend {
	v := backendValue(key.addr, id)
	v.Pad = uint16(key.proto)
	return v
}

func lastingKey(id uint32) abi.CBackendKey { return abi.CBackendKey{List: lastingList, Slot: id} }

// addrOf is the address and port of a backend.
func addrOf(v abi.CBackend) netip.AddrPort { return netorder.HostAddrPort(v.Addr, v.Port) }

func sourceRangeKey(service uint32, p netip.Prefix) abi.CSourceRangeKey {
	const serviceBits = 32
	return abi.CSourceRangeKey{PrefixLen: serviceBits + prefixBits(p), Service: service, Addr: netorder.Addr(p.Masked().Addr())}
}

// wantedList is one list that a port needs.
type wantedList struct {
	backends []loadbalance.Backend
	byID     bool // also by the backends' ids, for affinity
	maglev   bool
}

// rows are the entries of the backend table that it takes.
func (l wantedList) rows() int {
	if l.byID {
		return 2 * len(l.backends)
	}
	return len(l.backends)
}

// noList is where a reach leads to nobody.
const noList = -1

// wantedLists gives the lists that a port needs, and which of them each reach
// leads to. Lists that no frontend reaches are left out, and equal ones are one.
func wantedLists(p *loadbalance.Port) (lists []wantedList, all, local int) {
	add := func(reach loadbalance.Reach) int {
		backends := p.Backends(reach)
		reached, maglev := false, false
		for _, f := range p.Frontends {
			reached = reached || f.Outside == reach || f.Cluster == reach
			maglev = maglev || f.Maglev && f.Outside == reach
		}
		if !reached || len(backends) == 0 {
			return noList
		}
		if len(lists) > 0 && slices.Equal(lists[0].backends, backends) {
			lists[0].maglev = lists[0].maglev || maglev
			return 0
		}
		lists = append(lists, wantedList{backends: backends, byID: p.Affinity > 0, maglev: maglev})
		return len(lists) - 1
	}
	all = add(loadbalance.ReachAll)
	local = add(loadbalance.ReachLocal)
	return lists, all, local
}

// wantedRanges gives the source ranges that a port needs, each once.
func wantedRanges(p *loadbalance.Port) []netip.Prefix {
	if !slices.ContainsFunc(p.Frontends, func(f loadbalance.Frontend) bool { return f.SourceRanges }) {
		return nil
	}
	var out []netip.Prefix
	for _, r := range p.SourceRanges {
		if r = r.Masked(); r.IsValid() && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// reachLists are the lists that each reach leads to, as the kernel has them.
type reachLists struct{ all, local abi.CBackendList }

func (l reachLists) of(r loadbalance.Reach) abi.CBackendList {
	switch r {
	case loadbalance.ReachAll:
		return l.all
	case loadbalance.ReachLocal:
		return l.local
	case loadbalance.ReachNone:
	}
	return abi.CBackendList{}
}

// frontendValue is the row of one frontend of a port.
func frontendValue(p *loadbalance.Port, f loadbalance.Frontend, service uint32, lists reachLists) abi.CFrontend {
	v := abi.CFrontend{Service: service}
	v.List[abi.CFrontendScopeSCOPE_OUTSIDE] = lists.of(f.Outside)
	v.List[abi.CFrontendScopeSCOPE_CLUSTER] = lists.of(f.Cluster)
	flag := func(when bool, flag abi.CFrontendFlags) {
		if when {
			v.Flags |= uint32(flag)
		}
	}
	elsewhere := len(p.Local) == 0 && len(p.All) > 0
	flag(p.Affinity > 0, abi.CFrontendFlagsFRONTEND_AFFINITY)
	flag(f.SourceRanges, abi.CFrontendFlagsFRONTEND_SOURCE_RANGES)
	flag(f.Maglev && v.List[abi.CFrontendScopeSCOPE_OUTSIDE].Count > 0, abi.CFrontendFlagsFRONTEND_MAGLEV)
	flag(f.Outside == loadbalance.ReachNone, abi.CFrontendFlagsFRONTEND_CLUSTER_ONLY)
	flag(elsewhere && f.Outside == loadbalance.ReachLocal, abi.CFrontendFlagsFRONTEND_SILENT_OUTSIDE)
	flag(elsewhere && f.Cluster == loadbalance.ReachLocal, abi.CFrontendFlagsFRONTEND_SILENT_CLUSTER)
	v.Affinity = p.Affinity
	return v
}

// samePort tells whether two ports are served in the same way.
func samePort(a, b *loadbalance.Port) bool {
	return a.Key == b.Key && a.Affinity == b.Affinity && slices.Equal(a.Frontends, b.Frontends) &&
		slices.Equal(a.All, b.All) && slices.Equal(a.Local, b.Local) && slices.Equal(a.Draining, b.Draining) &&
		slices.Equal(a.SourceRanges, b.SourceRanges)
}
