package verdict

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// Ports is a set of ports, each of one protocol. Of ICMP and ICMPv6 they are the
// types, 0 to 255; other protocols that have no ports have all of them or none.
// The zero Ports is empty. It is in canonical form: equal sets have equal texts.
type Ports struct {
	spans []span
}

// span is the points first to last, both included.
type span struct{ first, last point }

// point is a protocol, and below it 16 bits of port.
type point uint32

const (
	portBits  = 16
	lastPort  = 1<<portBits - 1
	lastPoint = 1<<(8+portBits) - 1
	lastType  = 255 // of ICMP
)

func pointOf(p state.Protocol, port uint16) point { return point(p)<<portBits | point(port) }

func (p point) protocol() state.Protocol { return state.Protocol(p >> portBits) }

func (p point) port() uint16 { return uint16(p & lastPort) }

// everything is all protocols and ports: whatever has types has 256.
func everything() Ports {
	return Ports{[]span{
		{0, pointOf(state.ProtocolICMP, lastType)},
		{pointOf(state.ProtocolICMP+1, 0), pointOf(state.ProtocolICMPv6, lastType)},
		{pointOf(state.ProtocolICMPv6+1, 0), lastPoint},
	}}
}

// rangeOf is one range of ports; of ProtocolAny every protocol and port, whatever
// the range.
func rangeOf(p state.Protocol, first, last uint16) Ports {
	if p == state.ProtocolAny {
		return everything()
	}
	return Ports{[]span{{pointOf(p, first), pointOf(p, last)}}}.intersect(everything())
}

// Empty tells whether no port is in the set.
func (p Ports) Empty() bool { return len(p.spans) == 0 }

// Has tells whether the set has a port.
func (p Ports) Has(protocol state.Protocol, port uint16) bool {
	at := pointOf(protocol, port)
	return slices.ContainsFunc(p.spans, func(s span) bool { return s.first <= at && at <= s.last })
}

// Equal tells whether both sets have the same ports.
func (p Ports) Equal(o Ports) bool { return slices.Equal(p.spans, o.spans) }

// union gives what is in any of the sets.
func union(sets ...Ports) Ports {
	var all []span
	for _, p := range sets {
		all = append(all, p.spans...)
	}
	slices.SortFunc(all, func(a, b span) int { return int(a.first) - int(b.first) })
	var out []span
	for _, s := range all {
		if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return Ports{out}
}

// intersect gives what is in both sets.
func (p Ports) intersect(o Ports) Ports {
	var out []span
	for i, j := 0, 0; i < len(p.spans) && j < len(o.spans); {
		a, b := p.spans[i], o.spans[j]
		if s := (span{max(a.first, b.first), min(a.last, b.last)}); s.first <= s.last {
			out = append(out, s)
		}
		if a.last < b.last {
			i++
		} else {
			j++
		}
	}
	return Ports{out}
}

// minus gives what is in p and not in o.
func (p Ports) minus(o Ports) Ports {
	var out []span
	j := 0
	for _, s := range p.spans {
		for j < len(o.spans) && o.spans[j].last < s.first {
			j++
		}
		first := s.first
		for k := j; k < len(o.spans) && o.spans[k].first <= s.last; k++ {
			if o.spans[k].first > first {
				out = append(out, span{first, o.spans[k].first - 1})
			}
			first = o.spans[k].last + 1
		}
		if first <= s.last {
			out = append(out, span{first, s.last})
		}
	}
	return Ports{out}
}

// key is equal for equal sets alone.
func (p Ports) key() string {
	b := make([]byte, 0, 8*len(p.spans))
	for _, s := range p.spans {
		b = binary.BigEndian.AppendUint32(b, uint32(s.first))
		b = binary.BigEndian.AppendUint32(b, uint32(s.last))
	}
	return string(b)
}

// List gives the ranges as people write them: "80/TCP", "8000-8100/UDP", "SCTP" for
// all ports of it, "ICMP type 8", "other protocols" for those that have no name
// here. A set that is short by what it lacks is one text: "everything", or
// "everything but 80/TCP, SCTP".
func (p Ports) List() []string {
	if p.Empty() {
		return nil
	}
	list := p.ranges()
	without := everything().minus(p).ranges()
	switch {
	case len(without) == 0:
		return []string{"everything"}
	case len(without) < len(list):
		return []string{"everything but " + strings.Join(without, ", ")}
	}
	return list
}

// String gives List in one line; "nothing" for the empty set.
func (p Ports) String() string {
	if p.Empty() {
		return "nothing"
	}
	return strings.Join(p.List(), ", ")
}

// MarshalJSON gives List; an empty one for the empty set.
func (p Ports) MarshalJSON() ([]byte, error) {
	return json.Marshal(append([]string{}, p.List()...)) //nolint:wrapcheck // a list of strings
}

// ranges gives the texts of what is in the set.
func (p Ports) ranges() []string {
	var out []string
	rest := p
	for _, named := range namedProtocols() {
		whole := rangeOf(named, 0, lastPort)
		for _, s := range p.intersect(whole).spans {
			out = append(out, s.text(whole.spans[0]))
		}
		rest = rest.minus(whole)
	}
	if rest.Empty() {
		return out
	}
	unnamed := everything()
	for _, named := range namedProtocols() {
		unnamed = unnamed.minus(rangeOf(named, 0, lastPort))
	}
	if rest.Equal(unnamed) {
		return append(out, "other protocols")
	}
	for _, s := range rest.spans {
		out = append(out, s.protocols())
	}
	return out
}

func namedProtocols() []state.Protocol {
	return []state.Protocol{state.ProtocolTCP, state.ProtocolUDP, state.ProtocolSCTP, state.ProtocolICMP, state.ProtocolICMPv6}
}

// text gives a range of one protocol, of which whole is all.
func (s span) text(whole span) string {
	protocol := s.first.protocol()
	first, last := s.first.port(), s.last.port()
	icmp := protocol == state.ProtocolICMP || protocol == state.ProtocolICMPv6
	switch {
	case s == whole:
		return protocol.String()
	case icmp && first == last:
		return fmt.Sprintf("%s type %d", protocol, first)
	case icmp:
		return fmt.Sprintf("%s types %d-%d", protocol, first, last)
	case first == last:
		return fmt.Sprintf("%d/%s", first, protocol)
	}
	return fmt.Sprintf("%d-%d/%s", first, last, protocol)
}

// protocols gives protocols that have neither names nor ports.
func (s span) protocols() string {
	first, last := s.first.protocol(), s.last.protocol()
	if first == last {
		return fmt.Sprintf("protocol %d", first)
	}
	return fmt.Sprintf("protocols %d-%d", first, last)
}
