package packettest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
)

func TestRandomPolicy(t *testing.T) {
	suite{
		{"ToPodOpen", testRandomToPodOpen},
		{"FromPodClosed", testRandomFromPodClosed},
		{"FromPodIsolated", testRandomFromPodIsolated},
		{"ToPodIsolated", testRandomToPodIsolated},
	}.run(t, options{sizes: small()})
}

// rulebook is a set in the words of the oracle: what each identity may on which
// ports. No list at all is everything.
type rulebook map[uint32][]abi.CPortRange

// longList has as many ranges as a chain can hold; few of them are for ports that
// the packets begin with, at its start, at its end, and just over a record's end.
func longList(first, seventeenth, last abi.CPortRange) []abi.CPortRange {
	out := make([]abi.CPortRange, 256)
	for i := range out {
		out[i] = portRange([]uint8{protoTCP, protoUDP, protoSCTP}[i%3], uint16(20000+i*100), uint16(20000+i*100+i%7))
	}
	out[0], out[16], out[255] = first, seventeenth, last
	return out
}

func isolatingRules() rulebook {
	return rulebook{
		identityA:                             {portRange(protoUDP, 1000, 3000), portRange(protoTCP, 1, 79)},
		identityB:                             longList(portRange(protoTCP, 0, 80), portRange(protoSCTP, 3333, 3333), portRange(protoUDP, 2222, 2222)),
		identityC:                             {portRange(protoUDP, 0, 65535)},
		uint32(abi.CIdentityIDENTITY_HOST):    nil,
		uint32(abi.CIdentityIDENTITY_WORLD):   longList(portRange(protoSCTP, 1, 1), portRange(protoTCP, 81, 82), portRange(protoUDP, 2000, 2222)),
		uint32(abi.CIdentityIDENTITY_UNKNOWN): {portRange(protoUDP, 2223, 2223)}, // any peer
	}
}

// write puts the book into the tables.
func (b rulebook) write(t testing.TB, n *node, set uint64) {
	t.Helper()
	for peer, ranges := range b {
		ports := allPorts
		if ranges != nil {
			ports = list + uint64(peer)<<32
			n.ports(t, ports, ranges...)
		}
		n.allow(t, set, map[uint64]uint64{uint64(peer): ports})
	}
}

// allows is what the book says, read from its beginning to its end.
func (b rulebook) allows(peer uint32, proto byte, port uint16) bool {
	for _, who := range []uint32{peer, uint32(abi.CIdentityIDENTITY_UNKNOWN)} {
		ranges, known := b[who]
		if known && ranges == nil {
			return true
		}
		for _, r := range ranges {
			if r.Proto == proto && r.First <= port && port <= r.Last {
				return true
			}
		}
	}
	return false
}

// port is the destination's, 0 where the protocol has none that policy knows.
func (f facts) port() uint16 {
	if f.proto != protoTCP && f.proto != protoUDP && f.proto != protoSCTP {
		return 0
	}
	return binary.BigEndian.Uint16(f.l4[2:])
}

// judged is what becomes of a packet that the book is asked for.
func (b rulebook) judged(f facts, peer netip.Addr, after answer) answer {
	switch {
	case f.later:
		return dropped(abi.CReasonDROP_FRAGMENT_UNKNOWN) // no first was ever seen: see storm
	case b.allows(identityOf(peer), f.proto, f.port()):
		return after
	}
	return dropped(abi.CReasonDROP_POLICY)
}

// storm sends random packets. oracle gives what must become of each.
func (n *node) storm(t *testing.T, seed uint64, in func(p pod, frame []byte) input, oracle func(p pod, frame []byte, gso int) answer) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 8)) //nolint:gosec // the same packets in every run
	var all [][]byte
	for _, frame := range sortedSeeds(t) {
		all = append(all, frame)
	}
	fates := map[abi.CReason]int{}
	n.tallied(t, func(c *tally) {
		for range randomPackets {
			frame, sender, gso := randomPacket(r, all)
			p := pods[sender]
			if f, bad := read(frame, int(gso)); bad == 0 && f.later {
				n.clear(t, datapath.FragmentMap)
			}
			packet := in(p, frame)
			packet.gso = gso
			want := oracle(p, frame, int(gso))
			fates[want.reason]++
			if err := c.expect(packet, want); err != nil {
				t.Fatalf("%s on %s, segments of %d: %v\nframe:\n%s", packet.program, packet.device, gso, err, indent(frame))
			}
		}
	})
	t.Logf("packets by reason: %v", fates)
	if fates[abi.CReasonREASON_FORWARDED] < randomPackets/20 && fates[abi.CReasonDROP_POLICY] < randomPackets/20 {
		t.Error("hardly any packet was judged: the test has become useless")
	}
}

// toOther is the pod that most of the random packets are for, or another one.
func toOther(p pod) pod {
	i := slices.IndexFunc(pods, func(q pod) bool { return q.device == p.device })
	return pods[(i+1)%len(pods)]
}

func testRandomToPodOpen(t *testing.T, n *node) {
	for _, ingress := range []string{"", nativeDevice} {
		n.fresh(t)
		n.storm(t, 1,
			func(p pod, frame []byte) input { return toPod(toOther(p), ingress, frame) },
			func(p pod, frame []byte, gso int) answer { return oracleToPod(toOther(p), frame, gso) })
	}
}

func testRandomFromPodClosed(t *testing.T, n *node) {
	n.fresh(t)
	for _, p := range pods {
		n.under(t, p, security{ingress: closed, egress: closed})
	}
	n.storm(t, 2, fromPod, func(p pod, frame []byte, gso int) answer {
		f, a, decided := beforePolicy(p, frame, gso)
		if decided {
			return a
		}
		return rulebook{}.judged(f, f.dst, a)
	})
	for _, table := range []string{embryonic, tcpTable, anyTable} {
		if got := n.entries(t, table); got != 0 {
			t.Errorf("%d flows in %s, though nothing is allowed", got, table)
		}
	}
}

func testRandomFromPodIsolated(t *testing.T, n *node) {
	n.fresh(t)
	book := isolatingRules()
	book.write(t, n, rules)
	for _, p := range pods {
		n.under(t, p, security{egress: rules})
	}
	n.storm(t, 3, fromPod, func(p pod, frame []byte, gso int) answer {
		f, a, decided := beforePolicy(p, frame, gso)
		if decided {
			return a
		}
		return book.judged(f, f.dst, f.afterPolicy())
	})
}

// The node's own packets pass, unless they speak in the name of a pod.
func testRandomToPodIsolated(t *testing.T, n *node) {
	for _, ingress := range []string{"", nativeDevice} {
		n.fresh(t)
		book := isolatingRules()
		book.write(t, n, rules)
		for _, p := range pods {
			n.under(t, p, security{ingress: rules})
		}
		n.storm(t, 4,
			func(p pod, frame []byte) input { return toPod(toOther(p), ingress, frame) },
			func(p pod, frame []byte, gso int) answer {
				f, a, decided := beforeIngress(toOther(p), frame, gso)
				if decided || podOf(f.src) == nil && (ingress == "" || isNode(f.src)) {
					return a
				}
				return book.judged(f, f.src, a)
			})
	}
}
