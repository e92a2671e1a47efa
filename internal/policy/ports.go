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

// ports is what a rule, or several, say of a peer: ranges, and what names stand
// for.
type ports struct {
	ranges []PortRange // normalised
	names  []portName  // sorted, each once
}

// portName is a port that pods give a number to.
type portName struct {
	protocol state.Protocol
	name     string
	deny     bool
}

// What covers all ranges that allow, and all ranges.
var (
	allowEverything = PortRange{Last: 65535}
	denyEverything  = PortRange{Last: 65535, Deny: true}
)

// allPorts is every protocol and port.
func allPorts() ports { return ports{ranges: []PortRange{allowEverything}} }

// portsOf gives what a rule's list is about. What is not valid is nothing, but in
// a rule that denies it is everything.
func portsOf(list []state.PolicyPort, deny bool) ports {
	if len(list) == 0 {
		return allPorts()
	}
	var p ports
	for _, x := range list {
		r, ok := rangeOf(x)
		switch {
		case x.Name != "" && hasPorts(x.Protocol) && x.ICMPType == nil:
			p.names = append(p.names, portName{protocol: x.Protocol, name: x.Name})
		case x.Name == "" && ok:
			p.ranges = append(p.ranges, r)
		case deny:
			return allPorts()
		}
	}
	return p.normal()
}

func hasPorts(p state.Protocol) bool {
	return p == state.ProtocolTCP || p == state.ProtocolUDP || p == state.ProtocolSCTP
}

// rangeOf gives what x is about when it has no name; false when it is not valid.
func rangeOf(x state.PolicyPort) (PortRange, bool) {
	noPort := x.Port == 0 && x.EndPort == 0
	whole := PortRange{Protocol: x.Protocol, Last: 65535}
	switch {
	case x.ICMPType != nil:
		of := uint16(*x.ICMPType)
		return PortRange{Protocol: x.Protocol, First: of, Last: of}, noPort && (x.Protocol == state.ProtocolICMP || x.Protocol == state.ProtocolICMPv6)
	case noPort:
		return whole, true
	}
	last := max(x.Port, x.EndPort)
	return PortRange{Protocol: x.Protocol, First: x.Port, Last: last}, hasPorts(x.Protocol) && x.Port != 0 && (x.EndPort == 0 || x.EndPort == last)
}

// flagged gives p, which has no flags yet, as a rule that denies says it, or one
// about addresses outside.
func (p ports) flagged(deny, outside bool) ports {
	if !deny && !outside {
		return p
	}
	out := ports{slices.Clone(p.ranges), slices.Clone(p.names)}
	for i := range out.ranges {
		out.ranges[i].Deny, out.ranges[i].Outside = deny, outside
	}
	for i := range out.names {
		out.names[i].deny = deny
	}
	return out
}

// normal gives p in canonical form.
func (p ports) normal() ports {
	out := ports{ranges: normalise(p.ranges)}
	if len(p.names) == 0 {
		return out
	}
	hidden := func(n portName) bool {
		return slices.Contains(out.ranges, denyEverything) || !n.deny && slices.Contains(out.ranges, allowEverything)
	}
	out.names = slices.Compact(slices.SortedFunc(slices.Values(p.names), func(a, b portName) int {
		return cmp.Or(compareBools(b.deny, a.deny), cmp.Compare(a.protocol, b.protocol), strings.Compare(a.name, b.name))
	}))
	out.names = slices.DeleteFunc(out.names, hidden)
	return out
}

// compareBools orders false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// normalise sorts ranges, those that deny first, and merges those of a kind that
// overlap or touch. It leaves out those that others make meaningless.
func normalise(ranges []PortRange) []PortRange {
	if len(ranges) < 2 {
		return slices.Clone(ranges)
	}
	sorted := slices.SortedFunc(slices.Values(ranges), PortRange.compare)
	var out []PortRange
	special := false
	for _, r := range sorted {
		special = special || r.Deny || r.Outside || r.Protocol == state.ProtocolAny
		if n := len(out); n > 0 && out[n-1].sameKind(r) && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	if !special || len(out) == 1 {
		return out
	}
	var clear []PortRange
	for _, r := range out {
		if !slices.ContainsFunc(out, func(x PortRange) bool { return x != r && x.hides(r) }) {
			clear = append(clear, r)
		}
	}
	return clear
}

func (r PortRange) compare(o PortRange) int {
	return cmp.Or(compareBools(o.Deny, r.Deny), compareBools(r.Outside, o.Outside),
		cmp.Compare(r.Protocol, o.Protocol), cmp.Compare(r.First, o.First), cmp.Compare(r.Last, o.Last))
}

func (r PortRange) sameKind(o PortRange) bool {
	return r.Deny == o.Deny && r.Outside == o.Outside && r.Protocol == o.Protocol
}

// contains tells whether r is about everything that o is about.
func (r PortRange) contains(o PortRange) bool {
	return (r.Protocol == state.ProtocolAny || r.Protocol == o.Protocol) && r.First <= o.First && o.Last <= r.Last && (!r.Outside || o.Outside)
}

// hides tells whether o means nothing beside r.
func (r PortRange) hides(o PortRange) bool { return r.contains(o) && (r.Deny || !o.Deny) }

// has tells whether r is about a flow, with a peer of state.IdentityWorld or not.
func (r PortRange) has(protocol state.Protocol, port uint16, world bool) bool {
	return (r.Protocol == state.ProtocolAny || r.Protocol == protocol) && r.First <= port && port <= r.Last && (!r.Outside || world)
}

func (p ports) empty() bool { return len(p.ranges) == 0 && len(p.names) == 0 }

// denies tells whether p denies anything.
func (p ports) denies() bool {
	return slices.ContainsFunc(p.ranges, func(r PortRange) bool { return r.Deny }) ||
		slices.ContainsFunc(p.names, func(n portName) bool { return n.deny })
}

// plus gives what both say.
func (p ports) plus(o ports) ports {
	return ports{slices.Concat(p.ranges, o.ranges), slices.Concat(p.names, o.names)}.normal()
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
				ranges = append(ranges, PortRange{Protocol: x.Protocol, First: x.Port, Last: x.Port, Deny: n.deny})
			}
		}
	}
	return ports{ranges: normalise(ranges)}
}

// covers tells whether p allows all that o does, and denies nothing that o does
// not deny.
func (p ports) covers(o ports) bool { return p.includes(o, false) && o.includes(p, true) }

// includes tells whether p allows all that o allows, or denies all that o denies.
// It may be false where several ranges of p together do.
func (p ports) includes(o ports, deny bool) bool {
	everything := PortRange{Last: 65535, Deny: deny}
	for _, n := range o.names {
		if n.deny == deny && !slices.Contains(p.names, n) && !slices.Contains(p.ranges, everything) {
			return false
		}
	}
	for _, r := range o.ranges {
		within := func(x PortRange) bool { return x.Deny == deny && x.contains(r) }
		if r.Deny == deny && !slices.ContainsFunc(p.ranges, within) {
			return false
		}
	}
	return true
}

// verdict is what ranges say of a flow. The greater one outweighs the other.
type verdict int

const (
	silent verdict = iota
	allowed
	denied
)

// judge gives what ranges say of a flow, with a peer of state.IdentityWorld or
// not.
func judge(ranges []PortRange, protocol state.Protocol, port uint16, world bool) verdict {
	v := silent
	for _, r := range ranges {
		switch {
		case !r.has(protocol, port, world):
		case r.Deny:
			return denied
		default:
			v = allowed
		}
	}
	return v
}

// String gives the canonical text, e.g. "80/TCP 8000-8100/UDP name:http/TCP";
// "all".
func (p ports) String() string {
	var out []string
	for _, r := range p.ranges {
		out = append(out, r.String())
	}
	for _, n := range p.names {
		deny := ""
		if n.deny {
			deny = "deny "
		}
		out = append(out, fmt.Sprintf("%sname:%s/%s", deny, plain(n.name), n.protocol.String()))
	}
	return strings.Join(out, " ")
}

// String gives e.g. "80/TCP", "8000-8100/UDP", "SCTP" for all ports of it, "8/ICMP"
// for a type, "all"; before it "deny" and "outside".
func (r PortRange) String() string {
	var out string
	if r.Deny {
		out = "deny "
	}
	if r.Outside {
		out += "outside "
	}
	switch {
	case r.Protocol == state.ProtocolAny:
		return out + "all"
	case r.First == 0 && r.Last == 65535:
		return out + r.Protocol.String()
	case r.First == r.Last:
		return fmt.Sprintf("%s%d/%s", out, r.First, r.Protocol.String())
	}
	return fmt.Sprintf("%s%d-%d/%s", out, r.First, r.Last, r.Protocol.String())
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
