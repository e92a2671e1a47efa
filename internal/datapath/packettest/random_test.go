package packettest

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// The fuzzer of go test is led by the coverage of Go code, and does not see which
// branches of a BPF program a packet takes. This one knows what packets look like.
const randomPackets = 20_000

func testRandomPackets(t *testing.T, n *node) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same packets in every run
	var all [][]byte
	for _, frame := range sortedSeeds(t) {
		all = append(all, frame)
	}
	n.tallied(t, func(c *tally) {
		for range randomPackets {
			frame, sender, gso := randomPacket(r, all)
			if err := c.agree(pods[sender], frame, gso); err != nil {
				t.Fatalf("from %s, segments of %d: %v\nframe:\n%s", pods[sender].device, gso, err, indent(frame))
			}
		}
	})
}

// randomPacket changes one of the packets in one to four ways.
func randomPacket(r *rand.Rand, all [][]byte) (frame []byte, sender int, gso uint16) {
	frame = slices.Clone(all[r.IntN(len(all))])
	for range 1 + r.IntN(4) {
		frame = mutate(r, frame, all)
	}
	if r.IntN(8) == 0 {
		sender = r.IntN(len(pods))
	}
	if r.IntN(4) == 0 {
		gso = []uint16{1, 500, 1400, podMTU, gsoByFrags, uint16(r.IntN(maxSegment))}[r.IntN(6)]
	}
	return frame, sender, gso
}

func mutate(r *rand.Rand, frame []byte, all [][]byte) []byte {
	headers := min(len(frame), ethLen+ip6Len+64)
	switch r.IntN(8) {
	case 0: // any byte of the headers, any value
		frame[r.IntN(headers)] = byte(r.IntN(256))
	case 1: // a value that is often special
		frame[r.IntN(headers)] = []byte{0, 1, 2, 4, 5, 6, 8, 17, 43, 44, 51, 58, 60, 0x40, 0x7f, 0x80, 0xff}[r.IntN(17)]
	case 2: // lengths that agree
		frame = lengthsOf(frame)
	case 3: // cut
		frame = frame[:ethLen+r.IntN(len(frame)-ethLen+1)]
	case 4: // longer
		frame = append(frame, make([]byte, r.IntN(1+min(1600, maxFrame-len(frame))))...)
	case 5: // the end of another packet
		other := all[r.IntN(len(all))]
		at := ethLen + r.IntN(min(len(frame), len(other))-ethLen+1)
		frame = append(frame[:at:at], other[at:]...)
	case 6: // another destination
		addrs := []string{
			"10.0.0.11", "10.0.0.12", "10.0.0.99", "10.0.0.200", "192.0.2.1", "192.0.2.255", "10.1.0.1", "10.2.0.1", "10.3.0.1",
			"10.4.0.1", "224.0.0.1", "239.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "203.0.113.1",
		}
		copyAt(frame, ethLen+16, netip.MustParseAddr(addrs[r.IntN(len(addrs))]).AsSlice(), 0x08)
	case 7:
		addrs := []string{
			"fd00:10::b", "fd00:10::c", "fd00:10::99", "fd00:10::c8", "2001:db8::1", "2001:db8::", "fd00:1::1", "fd00:2::1", "fd00:3::1",
			"fd00:4::1", "ff02::1", "ff01::1", "ff05::1", "::", "::1", "fe80::1", "::ffff:10.0.0.11", "2001:db8:f::1",
		}
		to := netip.MustParseAddr(addrs[r.IntN(len(addrs))]).As16()
		copyAt(frame, ethLen+24, to[:], 0x86)
	}
	return frame
}

// copyAt writes into frames that are long enough and of the EtherType.
func copyAt(frame []byte, offset int, what []byte, kind byte) {
	if len(frame) >= offset+len(what) && frame[12] == kind {
		copy(frame[offset:], what)
	}
}
