package policy

import (
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// Query is the first packet of a flow, as the datapath judges it for one pod.
type Query struct {
	Endpoint uint32 // the pod that is judged
	Egress   bool   // the pod began the flow
	Peer     netip.Addr
	Identity uint32 // of the peer
	Protocol state.Protocol
	Port     uint16 // destination port; of ICMP the type; 0 for protocols without
}

// Verdict is the answer to a Query.
type Verdict struct {
	Allowed bool
	// Audited is true when it is allowed only because a drop is counted instead.
	Audited bool
	// Denied is true when a rule denies it, and not just none allows it.
	Denied bool
	// Set is the set that was asked; Peer is what of it denies the flow when Denied
	// is true, and otherwise what of it allows the flow, when Allowed is true and
	// it is a set of rules.
	Set  SetID
	Peer PeerID
}

// Judge decides as the datapath does, on these tables alone. A pod that they do
// not know is allowed nothing.
func (t Tables) Judge(q Query) Verdict {
	if !q.Egress && q.Identity == state.IdentityHost {
		return Verdict{Allowed: true}
	}
	under, known := t.Endpoints[q.Endpoint]
	if !known {
		return Verdict{Set: SetClosed}
	}
	id, audit := under.Ingress, under.AuditIngress
	if q.Egress {
		id, audit = under.Egress, under.AuditEgress
	}
	if id == SetOpen {
		return Verdict{Allowed: true}
	}
	said, peer := t.judge(id, q)
	ok := said == allowed
	return Verdict{Allowed: ok || audit, Audited: !ok && audit, Denied: said == denied, Set: id, Peer: peer}
}

// judge gives what a set says of a flow, and the first peer whose entry says so:
// one that denies it outweighs all others.
func (t Tables) judge(id SetID, q Query) (said verdict, by PeerID) {
	s := t.Sets[id]
	if s == nil {
		return silent, 0
	}
	peers := []PeerID{PeerAny}
	if q.Identity != state.IdentityUnknown {
		peers = append(peers, PeerID(q.Identity))
	}
	if p, ok := t.prefixOf(q.Peer); ok {
		peers = append(peers, p)
	}
	for _, p := range peers {
		x, ok := s.Entries[p]
		if !ok {
			continue
		}
		v := allowed
		if x.Ports != PortsAll {
			v = judge(t.Ports[x.Ports], q.Protocol, q.Port, q.Identity == state.IdentityWorld)
		}
		if v > said {
			said, by = v, p
		}
	}
	return said, by
}

// prefixOf gives the longest prefix that an address is in. As in the datapath's
// table, prefixes of IPv4 are inside of IPv6.
func (t Tables) prefixOf(a netip.Addr) (PeerID, bool) {
	if len(t.CIDRs) == 0 || !a.IsValid() {
		return 0, false
	}
	a = a.Unmap()
	if p, ok := t.longest(a, a.BitLen()); ok || a.Is6() {
		return p, ok
	}
	return t.longest(netip.AddrFrom16(a.As16()), 95)
}

// longest looks for prefixes of at most so many bits.
func (t Tables) longest(a netip.Addr, bits int) (PeerID, bool) {
	for ; bits >= 0; bits-- {
		if p, ok := t.CIDRs[netip.PrefixFrom(a, bits).Masked()]; ok {
			return p, true
		}
	}
	return 0, false
}
