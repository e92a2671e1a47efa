package verdict

import (
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// Flow is a connection by the side that began it. Identities count for addresses
// that no pod of the cluster has: state.IdentityHost, IdentityRemoteNode, or the
// rest of the world.
type Flow struct {
	From, To                 netip.Addr
	FromIdentity, ToIdentity uint32
	Protocol                 state.Protocol
	Port                     uint16 // of To; of ICMP the type
}

// Cut is a flow that the old side allows and the new one does not.
type Cut struct {
	Flow   int     `json:"flow"` // index in Options.Flows
	Causes []Cause `json:"causes"`
}

// finder finds peers by addresses.
type finder struct {
	comparer *comparer
	byAddr   map[netip.Addr]int // groups
}

func (c *comparer) finder() *finder {
	f := &finder{c, map[netip.Addr]int{}}
	for i, g := range c.peers[:c.groups] {
		for _, p := range g.pods {
			for _, a := range c.cluster.Pods[p].Addrs {
				f.byAddr[a.Unmap()] = i
			}
		}
	}
	return f
}

// peer gives who has an address; false when nobody is known to.
func (f *finder) peer(a netip.Addr, id uint32) (int, bool) {
	a = a.Unmap()
	if i, ok := f.byAddr[a]; ok {
		return i, true
	}
	kinds := []PeerKind{Region, World}
	switch id {
	case state.IdentityHost:
		kinds = []PeerKind{Host}
	case state.IdentityRemoteNode:
		kinds = []PeerKind{RemoteNode}
	case state.IdentityInit:
		kinds = []PeerKind{Init}
	}
	best, longest := 0, -1
	for i, p := range f.comparer.peers[f.comparer.groups:] {
		bits := 0
		if p.Prefix.IsValid() {
			bits = p.Prefix.Bits() + 1
		}
		if slices.Contains(kinds, p.Kind) && p.place[familyOf(a)] != absent && (bits == 0 || p.Prefix.Contains(a)) && bits > longest {
			best, longest = f.comparer.groups+i, bits
		}
	}
	return best, longest >= 0
}

// cut gives those of the flows that are closed.
func (c *comparer) cut(flows []Flow) []Cut {
	if len(flows) == 0 {
		return nil
	}
	var out []Cut
	f := c.finder()
	c.forget()
	for i, x := range flows {
		from, known := f.peer(x.From, x.FromIdentity)
		to, alsoKnown := f.peer(x.To, x.ToIdentity)
		if !known || !alsoKnown {
			continue
		}
		d, changed := c.between(c.classOf[from], c.classOf[to], familyOf(x.To))
		c.forget()
		if !changed {
			continue
		}
		if old, now := c.sets.sets[d.ports[before]], c.sets.sets[d.ports[after]]; old.Has(x.Protocol, x.Port) && !now.Has(x.Protocol, x.Port) {
			out = append(out, Cut{Flow: i, Causes: c.explain(from, to, d).Causes})
		}
	}
	return out
}
