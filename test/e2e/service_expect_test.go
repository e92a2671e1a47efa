package e2e

import (
	"net/netip"
	"slices"
)

// outcome is what a question should come to.
type outcome struct {
	answers []string // any of them
	refused bool     // at once
	silent  bool     // no answer at all
	// Of all three false and no answers it does not matter why there is none.
}

// expect is what should become of a caller's questions at a door, from Kubernetes'
// rules and where packets go: the node that translates is the caller's own, or the
// one whose address was asked, or led, the one that the outside host is led to.
func (s *served) expect(c caller, d door, f family, led string, nodes []host) outcome {
	outside := c.node == ""
	by := c.node // who translates
	switch {
	case d.node != "":
		by = d.node
	case outside:
		by = led
	}
	if outside && d.cluster {
		return outcome{refused: true}
	}
	if outside && d.balancer && s.refuses {
		return outcome{silent: true}
	}
	// At another node's port it comes from outside that node.
	local := s.nearby || (outside || d.node != "" && d.node != c.node) && s.externalLocal || !outside && d.cluster && s.internalLocal
	reached := slices.DeleteFunc(slices.Clone(s.backends), func(b backend) bool { return local && b.node != by })
	switch {
	case len(s.backends) == 0:
		return outcome{refused: true}
	case len(reached) == 0 && c.isNode:
		return outcome{} // its own stack sends it on, and somebody may say that this leads nowhere
	case len(reached) == 0:
		return outcome{silent: true}
	}
	var out outcome
	for _, b := range reached {
		out.answers = append(out.answers, seen(b.name, source(c, b, by, f, nodes)))
	}
	return out
}

// source is the address that the backend sees the caller with.
func source(c caller, b backend, by string, f family, nodes []host) netip.Addr {
	at := func(name string) netip.Addr {
		return nodes[slices.IndexFunc(nodes, func(h host) bool { return h.name == name })].addrs[f]
	}
	self := c.addrs == b.addrs && !c.isNode
	switch {
	case c.node == by && c.sockets && b.node != "": // it talks to the backend itself
		return c.addrs[f]
	case self, b.node == "": // answers would not come back by here; or it leaves the cluster
		return at(by)
	case c.node == by, b.node == by:
		return c.addrs[f]
	}
	return at(by)
}
