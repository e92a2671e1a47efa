package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// MaxRanges is the most ranges that one list of ports can have.
const MaxRanges = 256

// ports is what a rule allows: everything, or ranges and what names stand for.
type ports struct {
	all    bool
	ranges []PortRange // normalised
	names  []portName  // sorted, each once
}

// portName is a port that pods give a number to.
type portName struct {
	protocol state.Protocol
	name     string
}

// portsOf gives what a rule's list says. What is not valid allows nothing.
func portsOf(list []state.PolicyPort) ports {
	if len(list) == 0 {
		return ports{all: true}
	}
	var p ports
	for _, x := range list {
		if x.Protocol != state.ProtocolTCP && x.Protocol != state.ProtocolUDP && x.Protocol != state.ProtocolSCTP {
			continue
		}
		last := max(x.Port, x.EndPort)
		switch {
		case x.Name != "":
			p.names = append(p.names, portName{x.Protocol, x.Name})
		case x.Port == 0 && x.EndPort == 0:
			p.ranges = append(p.ranges, PortRange{Protocol: x.Protocol, Last: 65535})
		case x.Port != 0 && (x.EndPort == 0 || x.EndPort == last):
			p.ranges = append(p.ranges, PortRange{Protocol: x.Protocol, First: x.Port, Last: last})
		}
	}
	return p.normal()
}

// normal gives p in canonical form.
func (p ports) normal() ports {
	if p.all {
		return ports{all: true}
	}
	names := slices.SortedFunc(slices.Values(p.names), func(a, b portName) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), strings.Compare(a.name, b.name))
	})
	return ports{ranges: normalise(p.ranges), names: slices.Compact(names)}
}

// normalise sorts ranges and merges those of a protocol that overlap or touch.
func normalise(ranges []PortRange) []PortRange {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var out []PortRange
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].Protocol == r.Protocol && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (p ports) empty() bool { return !p.all && len(p.ranges) == 0 && len(p.names) == 0 }

// plus gives what either allows.
func (p ports) plus(o ports) ports {
	return ports{p.all || o.all, slices.Concat(p.ranges, o.ranges), slices.Concat(p.names, o.names)}.normal()
}

// resolved replaces names by the numbers that a pod gives to them.
func (p ports) resolved(named []state.NamedPort) ports {
	if len(p.names) == 0 {
		return p
	}
	ranges := slices.Clone(p.ranges)
	for _, n := range p.names {
		for _, x := range named {
			if x.Name == n.name && x.Protocol == n.protocol {
				ranges = append(ranges, PortRange{Protocol: x.Protocol, First: x.Port, Last: x.Port})
			}
		}
	}
	return ports{ranges: normalise(ranges)}
}

// covers tells whether p allows all that o does.
func (p ports) covers(o ports) bool {
	if p.all || o.all {
		return p.all
	}
	for _, n := range o.names {
		if !slices.Contains(p.names, n) {
			return false
		}
	}
	for _, r := range o.ranges {
		within := func(x PortRange) bool { return x.Protocol == r.Protocol && x.First <= r.First && r.Last <= x.Last }
		if !slices.ContainsFunc(p.ranges, within) {
			return false
		}
	}
	return true
}

// allows tells whether p, without its names, allows a port.
func (p ports) allows(protocol state.Protocol, port uint16) bool {
	return p.all || allowed(p.ranges, protocol, port)
}

// allowed tells whether a range has the port.
func allowed(ranges []PortRange, protocol state.Protocol, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r PortRange) bool {
		return r.Protocol == protocol && r.First <= port && port <= r.Last
	})
}

// String gives the canonical text, e.g. "80/TCP 8000-8100/UDP http/TCP"; "all".
func (p ports) String() string {
	if p.all {
		return "all"
	}
	var out []string
	for _, r := range p.ranges {
		out = append(out, r.String())
	}
	for _, n := range p.names {
		out = append(out, fmt.Sprintf("name:%s/%s", plain(n.name), n.protocol.String()))
	}
	return strings.Join(out, " ")
}

// String gives e.g. "80/TCP", "8000-8100/UDP", "SCTP" for all ports of it.
func (r PortRange) String() string {
	switch {
	case r.First == 0 && r.Last == 65535:
		return r.Protocol.String()
	case r.First == r.Last:
		return fmt.Sprintf("%d/%s", r.First, r.Protocol.String())
	}
	return fmt.Sprintf("%d-%d/%s", r.First, r.Last, r.Protocol.String())
}

// digest is the first eight bytes of SHA-256 of a text.
func digest(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:])
}

// named gives the number of a text: its digest, but none of the lowest
// `reserved` ones, which are not made of texts.
func (e *Engine) named(text string, reserved uint64) uint64 {
	id := e.digest(text)
	for id < reserved {
		text += "\n"
		id = e.digest(text)
	}
	return id
}
