package preflight

import (
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// Who is no group, by their place in a set of peers.
const (
	peerHost = iota
	peerRemoteNode
	peerInit
	peerAddresses // the regions begin here
)

// peers are sets of who may be at the other end: nodes, pods without an identity,
// addresses outside of the cluster by region, addresses inside of it by region, and
// groups.
type peers struct {
	index   *index
	regions *regions
	how     selecting // of selectors
	// blocksOutside is set where no block means pods or nodes.
	blocksOutside bool
}

func (p *peers) size() int { return p.groupsAt() + len(p.index.groups) }

func (p *peers) insideAt() int { return peerAddresses + len(p.regions.prefixes) }

func (p *peers) groupsAt() int { return p.insideAt() + len(p.regions.prefixes) }

func (p *peers) everybody() set {
	s := newSet(p.size())
	s.fill(0, p.size())
	return s
}

// of gives the peers of a rule whose references are replaced. Who cannot be told is
// nobody, and everybody in a rule that denies.
func (p *peers) of(namespace string, list []state.PolicyPeer, deny bool) set {
	if len(list) == 0 {
		return p.everybody()
	}
	s := newSet(p.size())
	for i := range list {
		p.add(s, namespace, &list[i], deny)
	}
	return s
}

func (p *peers) add(s set, namespace string, x *state.PolicyPeer, deny bool) {
	if t, ok := peerTerms(namespace, x); ok {
		if deny && p.how == strictly && p.index.filtered(t) != "" {
			s.addAll(p.everybody())
			return
		}
		for i := range p.index.selected(t, p.how).all() {
			s.add(p.groupsAt() + i)
		}
		return
	}
	switch {
	case x.Block != nil:
		p.regions.add(s, peerAddresses, x.Block)
		if !x.Block.Outside && !p.blocksOutside {
			p.regions.add(s, p.insideAt(), x.Block)
		}
	case x.Entity != "":
		p.entity(s, x.Entity, deny)
	case deny && (x.Nodes != nil || x.Service != nil || x.CIDRGroup != nil): // were not replaced
		s.addAll(p.everybody())
	}
}

func (p *peers) entity(s set, e state.Entity, deny bool) {
	outside := func(addr netip.Addr) {
		p.regions.add(s, peerAddresses, &state.IPBlock{CIDR: netip.PrefixFrom(addr, 0)})
	}
	switch e {
	case state.EntityAll:
		s.addAll(p.everybody())
	case state.EntityWorld:
		s.fill(peerAddresses, p.insideAt())
	case state.EntityWorldIPv4:
		outside(netip.IPv4Unspecified())
	case state.EntityWorldIPv6:
		outside(netip.IPv6Unspecified())
	case state.EntityHost:
		s.add(peerHost)
	case state.EntityRemoteNode:
		s.add(peerRemoteNode)
	case state.EntityInit:
		s.add(peerInit)
	case state.EntityCluster:
		s.fill(peerHost, peerAddresses)
		s.fill(p.groupsAt(), p.size())
	case state.EntityKubeAPIServer:
		if deny { // was not replaced
			s.addAll(p.everybody())
		}
	default: // nobody that there is
	}
}

// groups gives those of a set of peers.
func (p *peers) groups(s set) set {
	out := newSet(len(p.index.groups))
	for i := range p.index.groups {
		if s.has(p.groupsAt() + i) {
			out.add(i)
		}
	}
	return out
}

// onlyGroups tells whether nobody else is in a set of peers.
func (p *peers) onlyGroups(s set) bool {
	for i := range s.all() {
		return i >= p.groupsAt()
	}
	return true
}
