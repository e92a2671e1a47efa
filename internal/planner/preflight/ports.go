package preflight

import (
	"cmp"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// portClass is ports that no policy tells apart, or the name of one.
type portClass struct {
	protocol    state.Protocol
	first, last uint16
	name        string
}

// portClasses divide all ports of all protocols.
type portClasses struct {
	list []portClass
	at   map[state.Protocol][2]int // where those of a protocol begin and end
}

// otherProtocol stands for those that no policy names.
const otherProtocol = state.Protocol(255)

const lastPort = 65535

// newPortClasses divides by the ports that policies name.
func newPortClasses(named []state.PolicyPort) *portClasses {
	cuts := map[state.Protocol]map[int]bool{}
	names := map[state.Protocol]map[string]bool{}
	for _, p := range []state.Protocol{
		state.ProtocolTCP, state.ProtocolUDP, state.ProtocolSCTP, state.ProtocolICMP, state.ProtocolICMPv6, otherProtocol,
	} {
		cuts[p], names[p] = map[int]bool{}, map[string]bool{}
	}
	for _, p := range named {
		if cuts[p.Protocol] == nil {
			cuts[p.Protocol], names[p.Protocol] = map[int]bool{}, map[string]bool{}
		}
		if p.Name != "" {
			names[p.Protocol][p.Name] = true
			continue
		}
		first, last := rangeOf(p)
		cuts[p.Protocol][int(first)], cuts[p.Protocol][int(last)+1] = true, true
	}
	c := &portClasses{at: map[state.Protocol][2]int{}}
	for _, p := range slices.SortedFunc(keysIn(cuts), cmp.Compare[state.Protocol]) {
		begin, from := len(c.list), 0
		cuts[p][lastPort+1] = true
		for _, cut := range slices.Sorted(keysIn(cuts[p])) {
			if cut > from {
				c.list = append(c.list, portClass{protocol: p, first: uint16(from), last: uint16(cut - 1)})
				from = cut
			}
		}
		for _, name := range slices.Sorted(keysIn(names[p])) {
			c.list = append(c.list, portClass{protocol: p, name: name})
		}
		c.at[p] = [2]int{begin, len(c.list)}
	}
	return c
}

// rangeOf gives the ports, or ICMP types, of one that has no name.
func rangeOf(p state.PolicyPort) (first, last uint16) {
	switch {
	case p.ICMPType != nil:
		return uint16(*p.ICMPType), uint16(*p.ICMPType)
	case p.Port == 0:
		return 0, lastPort
	}
	return p.Port, max(p.Port, p.EndPort)
}

// of gives the classes of a rule's list; of an empty one all.
func (c *portClasses) of(list []state.PolicyPort) set {
	s := newSet(len(c.list))
	if len(list) == 0 {
		s.fill(0, len(c.list))
	}
	for _, p := range list {
		c.add(s, p)
	}
	return s
}

func (c *portClasses) add(s set, p state.PolicyPort) {
	if p.Protocol == state.ProtocolAny {
		s.fill(0, len(c.list))
		return
	}
	span := c.at[p.Protocol]
	first, last := rangeOf(p)
	for i := span[0]; i < span[1]; i++ {
		x := c.list[i]
		switch {
		case p.Name != "":
			if x.name == p.Name {
				s.add(i)
			}
		case x.name != "":
			if first == 0 && last == lastPort {
				s.add(i)
			}
		case x.first >= first && x.last <= last:
			s.add(i)
		}
	}
}

// has tells whether a port is in a set; a name in it counts as any port.
func (c *portClasses) has(s set, protocol state.Protocol, port uint16) bool {
	span := c.at[protocol]
	for i := span[0]; i < span[1]; i++ {
		x := c.list[i]
		if s.has(i) && (x.name != "" || x.first <= port && port <= x.last) {
			return true
		}
	}
	return false
}
