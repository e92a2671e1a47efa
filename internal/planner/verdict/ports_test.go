package verdict

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/state"
)

// slowPorts is a set of ports as a map of all that are in it.
type slowPorts map[point]bool

// interesting are the points at which sets of drawPorts may change.
func interesting() []point {
	var out []point
	for _, protocol := range []state.Protocol{0, 1, 2, 6, 17, 57, 58, 59, 132, 255} {
		last := uint16(lastPort)
		if protocol == state.ProtocolICMP || protocol == state.ProtocolICMPv6 {
			last = lastType
		}
		for _, port := range []uint16{0, 1, 79, 80, 81, 254, 255, 256, 65534, 65535} {
			if port <= last {
				out = append(out, pointOf(protocol, port))
			}
		}
	}
	return out
}

// drawPorts gives a set twice: one range added after another.
func drawPorts(t *rapid.T, name string) (Ports, slowPorts) {
	protocols := rapid.SampledFrom([]state.Protocol{state.ProtocolAny, 1, 2, 6, 17, 58, 59, 132, 255})
	numbers := rapid.SampledFrom([]uint16{0, 1, 80, 81, 255, 65535})
	var set Ports
	slow := slowPorts{}
	for range rapid.IntRange(0, 5).Draw(t, name) {
		p, a, b := protocols.Draw(t, "protocol"), numbers.Draw(t, "first"), numbers.Draw(t, "last")
		first, last := min(a, b), max(a, b)
		set = union(set, rangeOf(p, first, last))
		for _, x := range interesting() {
			if p == state.ProtocolAny || x.protocol() == p && first <= x.port() && x.port() <= last {
				slow[x] = true
			}
		}
	}
	return set, slow
}

// TestPortsAlgebra compares the operations with those on lists of points.
func TestPortsAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, slowA := drawPorts(t, "a")
		b, slowB := drawPorts(t, "b")
		or, and, not := union(a, b), a.intersect(b), a.minus(b)
		for _, x := range interesting() {
			has := func(p Ports) bool { return p.Has(x.protocol(), x.port()) }
			if has(a) != slowA[x] || has(or) != (slowA[x] || slowB[x]) || has(and) != (slowA[x] && slowB[x]) || has(not) != (slowA[x] && !slowB[x]) {
				t.Fatalf("at %s %d: a %v, b %v, or %v, and %v, minus %v; want %v, %v", x.protocol(), x.port(), a, b, or, and, not, slowA[x], slowB[x])
			}
		}
		if !union(and, not).Equal(a) || !and.intersect(not).Empty() || union(and, not).key() != a.key() {
			t.Fatalf("(a and b) or (a minus b) is not a: %v and %v of %v", and, not, a)
		}
		for _, p := range []Ports{a, b, or, and, not} {
			for i, s := range p.spans {
				if s.first > s.last || i > 0 && s.first <= p.spans[i-1].last+1 {
					t.Fatalf("%v is not canonical: %v", p, p.spans)
				}
			}
		}
	})
}

func TestPortsText(t *testing.T) {
	tcp := func(first, last uint16) Ports { return rangeOf(state.ProtocolTCP, first, last) }
	for want, p := range map[string]Ports{
		"nothing":                        {},
		"everything":                     everything(),
		"80/TCP":                         tcp(80, 80),
		"80-81/TCP, 443/TCP":             union(tcp(443, 443), tcp(80, 80), tcp(81, 81)),
		"TCP, 53/UDP":                    union(tcp(0, 65535), rangeOf(state.ProtocolUDP, 53, 53)),
		"ICMP type 8":                    rangeOf(state.ProtocolICMP, 8, 8),
		"ICMP":                           rangeOf(state.ProtocolICMP, 0, 65535),
		"ICMPv6 types 128-129":           rangeOf(state.ProtocolICMPv6, 128, 129),
		"protocol 47":                    rangeOf(47, 0, 65535),
		"protocols 50-51":                union(rangeOf(50, 0, 65535), rangeOf(51, 0, 65535)),
		"everything but 80/TCP":          everything().minus(tcp(80, 80)),
		"everything but 80/TCP, SCTP":    everything().minus(tcp(80, 80)).minus(rangeOf(state.ProtocolSCTP, 0, 65535)),
		"other protocols":                everything().minus(named()),
		"everything but other protocols": named(),
		"everything but TCP, UDP":        everything().minus(tcp(0, 65535)).minus(rangeOf(state.ProtocolUDP, 0, 65535)),
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, c := range []struct {
		ports Ports
		want  string
	}{{Ports{}, "[]"}, {union(tcp(80, 80), tcp(90, 91)), `["80/TCP","90-91/TCP"]`}} {
		if got, err := json.Marshal(c.ports); err != nil || string(got) != c.want {
			t.Errorf("%v as JSON is %s (%v), want %s", c.ports, got, err, c.want)
		}
	}
}

func named() Ports {
	var p Ports
	for _, x := range namedProtocols() {
		p = union(p, rangeOf(x, 0, lastPort))
	}
	return p
}

func TestPortSets(t *testing.T) {
	p := newPortSets()
	a, b := p.id(rangeOf(state.ProtocolTCP, 1, 100)), p.id(rangeOf(state.ProtocolTCP, 50, 200))
	want := p.id(rangeOf(state.ProtocolTCP, 50, 100))
	for _, c := range [][3]portsID{{a, b, want}, {b, a, want}, {a, a, a}, {a, allPorts, a}, {allPorts, b, b}, {noPorts, a, noPorts}, {want, p.id(rangeOf(17, 1, 1)), noPorts}} {
		if got := p.both(c[0], c[1]); got != c[2] {
			t.Errorf("both(%v, %v) = %v, want %v", p.sets[c[0]], p.sets[c[1]], p.sets[got], p.sets[c[2]])
		}
	}
	if !slices.Equal(p.sets[allPorts].spans, everything().spans) || !p.sets[noPorts].Empty() {
		t.Error("the first two numbers are not nothing and everything")
	}
}
