package preflight

import (
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// checkBlocks tells of CIDRs that have pods or nodes in them.
func (s *scene) checkBlocks() {
	ranges, nodes, pods := s.addresses()
	if len(ranges)+len(nodes)+len(pods) == 0 {
		return
	}
	around := hulls(ranges)
	for _, p := range s.policies {
		for _, rules := range p.rules {
			for _, r := range rules {
				for i := range r.written.Peers {
					if b := r.written.Peers[i].Block; b != nil && !r.refused && b.CIDR.IsValid() {
						h := hits{podsIn: count(b, pods), nodesIn: count(b, nodes)}
						h.inPods = within(b, ranges) || h.podsIn > 0 && within(b, around)
						s.checkBlock(r, i, b, h)
					}
				}
			}
		}
	}
}

// addresses gives the ranges that addresses of pods come from, and the addresses of
// nodes and pods, sorted.
func (s *scene) addresses() (ranges []netip.Prefix, nodes, pods []netip.Addr) {
	for _, n := range s.in.Nodes {
		ranges = append(ranges, n.PodCIDRs...)
		for _, a := range n.Addrs {
			nodes = append(nodes, a.Unmap())
		}
	}
	for i := range s.in.Pods {
		if !s.in.Pods[i].HostNetwork {
			for _, a := range s.in.Pods[i].Addrs {
				pods = append(pods, a.Unmap())
			}
		}
	}
	slices.SortFunc(nodes, netip.Addr.Compare)
	slices.SortFunc(pods, netip.Addr.Compare)
	return ranges, slices.Compact(nodes), slices.Compact(pods)
}

// hulls gives for each family the prefix around all ranges, as wide as people write
// it; none where the ranges are too far apart to be one.
func hulls(ranges []netip.Prefix) []netip.Prefix {
	const whole4, whole6 = 16, 48   // what clusters usually get
	const widest4, widest6 = 12, 40 // more is not one range any more
	var out []netip.Prefix
	for _, is4 := range []bool{true, false} {
		var hull netip.Prefix
		for _, p := range ranges {
			p = plainPrefix(p)
			switch {
			case p.Addr().Is4() != is4:
			case !hull.IsValid():
				hull = p
			default:
				for !hull.Overlaps(p) || p.Bits() < hull.Bits() {
					hull = netip.PrefixFrom(hull.Addr(), hull.Bits()-1).Masked()
				}
			}
		}
		whole, widest := whole4, widest4
		if !is4 {
			whole, widest = whole6, widest6
		}
		if hull.IsValid() && hull.Bits() >= widest {
			out = append(out, netip.PrefixFrom(hull.Addr(), min(hull.Bits(), whole)).Masked())
		}
	}
	return out
}

// hits are what a block has in it.
type hits struct {
	inPods          bool // all of it is in the range of pods
	podsIn, nodesIn int
}

func within(b *state.IPBlock, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return inside(plainPrefix(b.CIDR), plainPrefix(r)) })
}

// count counts the addresses that are in a block.
func count(b *state.IPBlock, sorted []netip.Addr) int {
	n := countIn(plainPrefix(b.CIDR), sorted)
	var outer []netip.Prefix
	for _, e := range b.Except {
		e = plainPrefix(e)
		if !slices.ContainsFunc(outer, func(o netip.Prefix) bool { return inside(e, o) }) {
			outer = slices.DeleteFunc(outer, func(o netip.Prefix) bool { return inside(o, e) })
			outer = append(outer, e)
		}
	}
	for _, e := range outer {
		n -= countIn(e, sorted)
	}
	return max(n, 0)
}

func countIn(p netip.Prefix, sorted []netip.Addr) int {
	first, _ := slices.BinarySearchFunc(sorted, p.Addr(), netip.Addr.Compare)
	n := 0
	for _, a := range sorted[first:] {
		if !p.Contains(a) {
			break
		}
		n++
	}
	return n
}

func (s *scene) checkBlock(r *ruleView, i int, b *state.IPBlock, h hits) {
	if b.CIDR.Bits() == 0 { // everything, which is what is meant
		return
	}
	never := b.Outside || s.byIdentity
	single := b.CIDR.IsSingleIP() && h.podsIn+h.nodesIn > 0
	switch {
	case never && (h.inPods || single):
		s.found(r.policy, BlockOfPods, r.peerField(i), "%s is %s, and CIDR rules never match those, so nobody is selected; use a selector of pods, or the entities host and remote-node", b.CIDR, ofWhat(h))
	case h.podsIn+h.nodesIn == 0 && !h.inPods:
	case never:
		s.found(r.policy, BlockHasPods, r.peerField(i), "%s has the addresses of %s in it, which it does not mean: CIDR rules are about addresses outside the cluster alone", b.CIDR, amounts(h))
	case h.inPods:
		s.found(r.policy, BlockHasPods, r.peerField(i), "%s is in the range of pods; addresses of pods change, and other networks (Cilium) do not match pods by them: use a podSelector", b.CIDR)
	default:
		s.found(r.policy, BlockHasPods, r.peerField(i), "%s has the addresses of %s in it, and means them too; leave their range out with except unless that is wanted (Cilium would not match them)", b.CIDR, amounts(h))
	}
}

func ofWhat(h hits) string {
	if h.nodesIn > 0 && !h.inPods && h.podsIn == 0 {
		return "the address of a node"
	}
	return "in the range of pods"
}

func amounts(h hits) string {
	switch {
	case h.nodesIn == 0:
		return plural(h.podsIn, "pod")
	case h.podsIn == 0:
		return plural(h.nodesIn, "node address")
	}
	return plural(h.podsIn, "pod") + " and " + plural(h.nodesIn, "node address")
}
