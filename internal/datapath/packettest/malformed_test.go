package packettest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/loader"
)

// testTruncated cuts every sound packet at every byte, once as it is and once
// with lengths that agree with the cut, and sends it from a pod.
func testTruncated(t *testing.T, n *node) {
	for name, frame := range sortedSeeds(t) {
		n.tallied(t, func(c *tally) {
			for size := ethLen; size < min(len(frame), 320); size++ {
				cut := frame[:size:size]
				if err := c.agree(podA, cut, 0); err != nil {
					t.Errorf("%s cut to %d bytes: %v", name, size, err)
				}
				if err := c.agree(podA, lengthsOf(cut), 0); err != nil {
					t.Errorf("%s cut to %d bytes, lengths to match: %v", name, size, err)
				}
			}
		})
	}
}

// tallied runs f in the node's namespace, and checks that what f sent was
// counted just as it saw.
func (n *node) tallied(t *testing.T, f func(*tally)) {
	t.Helper()
	n.ns.Do(t, func() {
		c, err := n.newTally()
		if err != nil {
			t.Fatal(err)
		}
		f(c)
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
}

func sortedSeeds(t *testing.T) func(func(string, []byte) bool) {
	all := seeds(t)
	return func(yield func(string, []byte) bool) {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if !yield(name, all[name]) {
				return
			}
		}
	}
}

// lengthsOf makes the IP header's length that of the frame.
func lengthsOf(frame []byte) []byte {
	out := slices.Clone(frame)
	switch kind := binary.BigEndian.Uint16(out[12:]); {
	case kind == 0x0800 && len(out) >= ethLen+4:
		binary.BigEndian.PutUint16(out[ethLen+2:], uint16(len(out)-ethLen))
	case kind == 0x86dd && len(out) >= ethLen+ip6Len:
		binary.BigEndian.PutUint16(out[ethLen+4:], uint16(len(out)-ethLen-ip6Len))
	}
	return out
}

// testHeaderFields puts odd values into every byte of the headers of every sound
// packet: versions, lengths, offsets, protocols, flags, addresses.
func testHeaderFields(t *testing.T, n *node) {
	for name, frame := range sortedSeeds(t) {
		n.tallied(t, func(c *tally) {
			for offset := range min(len(frame), ethLen+ip6Len+40) {
				was := frame[offset]
				for _, value := range []byte{0, 0xff, was + 1, was - 1, was ^ 0x10, was ^ 0x80} {
					if err := c.agree(podA, patched(frame, offset, value), 0); err != nil {
						t.Errorf("%s, byte %d is %#02x: %v", name, offset, value, err)
					}
				}
			}
		})
	}
}

// testLengthFields goes through every value of the fields that say how long
// something is.
func testLengthFields(t *testing.T, n *node) {
	all := seeds(t)
	tcp4, udp4, tcp6 := all["IPv4 TCP"], all["IPv4 UDP"], all["IPv6 TCP"]
	n.tallied(t, func(c *tally) {
		try := func(what string, frame []byte) {
			if err := c.agree(podA, frame, 0); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		for v := range 256 {
			try(fmt.Sprintf("version and header length %#02x", v), patched(tcp4, ethLen, byte(v)))
			try(fmt.Sprintf("TCP data offset %#02x", v), patched(tcp4, ethLen+ip4Len+12, byte(v)))
			try(fmt.Sprintf("TCP data offset %#02x, IPv6", v), patched(tcp6, ethLen+ip6Len+12, byte(v)))
			try(fmt.Sprintf("version %#02x, IPv6", v), patched(tcp6, ethLen, byte(v)))
			try(fmt.Sprintf("total length %d", v), patched(tcp4, ethLen+2, 0, byte(v)))
			try(fmt.Sprintf("payload length %d", v), patched(tcp6, ethLen+4, 0, byte(v)))
			try(fmt.Sprintf("UDP length %d", v), patched(udp4, ethLen+ip4Len+4, 0, byte(v)))
			try(fmt.Sprintf("protocol %d", v), patched(tcp4, ethLen+9, byte(v)))
			try(fmt.Sprintf("next header %d", v), patched(tcp6, ethLen+6, byte(v)))
			for _, name := range []string{"hop-by-hop", "destination", "AH", "routing type 2", "all headers", "later fragment"} {
				frame := all["IPv6 "+name]
				try(fmt.Sprintf("next header %d after %s", v, name), patched(frame, ethLen+ip6Len, byte(v)))
				try(fmt.Sprintf("header length %d of %s", v, name), patched(frame, ethLen+ip6Len+1, byte(v)))
			}
		}
		for offset := range 1 << 5 {
			field := []byte{byte(offset << 3), byte(offset >> 1)}
			try(fmt.Sprintf("fragment field % x", field), patched(tcp4, ethLen+6, field...))
			try(fmt.Sprintf("fragment field % x, IPv6", field), patched(all["IPv6 first fragment"], ethLen+ip6Len+2, field...))
		}
	})
}

// testMalformedElsewhere sends the cut packets to the other programs. What is
// not whole never reaches a pod, and each packet is counted once.
func testMalformedElsewhere(t *testing.T, n *node) {
	received := prelude(t, n, loader.FromOverlay, setTunnelKey(tunnelKey{id: vni, remote: farEnd4}))
	for name, frame := range sortedSeeds(t) {
		fromWire := append(slices.Concat(nativeMAC, nextMAC), frame[12:]...)
		n.ns.Do(t, func() {
			for _, in := range []input{
				{program: loader.FromNetdev, device: nativeDevice, frame: fromWire},
				{program: loader.ToNetdev, device: nativeDevice, frame: fromWire},
				{program: loader.FromOverlay, device: overlayDevice, frame: frame, prelude: received},
				{program: loader.ToOverlay, device: overlayDevice, frame: frame},
			} {
				if err := n.neverToAPod(in); err != nil {
					t.Errorf("%s, %s: %v", name, in.program, err)
				}
			}
		})
	}
}

// neverToAPod cuts the packet at every byte. Nothing of it may be forwarded, and
// the program's counters must move by what it was sent.
func (n *node) neverToAPod(in input) error {
	c, err := n.newTally()
	if err != nil {
		return err
	}
	whole := in.frame
	for size := ethLen; size < min(len(whole), 140); size++ {
		in.frame = whole[:size:size]
		if in.prelude != nil && !testable(in.frame) {
			continue // from_netdev, which parses alike, gets these
		}
		res, forwarded, err := c.run(in, abi.CReasonREASON_FORWARDED)
		if err != nil {
			return err
		}
		switch kind := binary.BigEndian.Uint16(whole[12:]); {
		case res.verdict != pass && res.verdict != shot && res.verdict != redirected:
			return fmt.Errorf("cut to %d bytes: %s", size, res.verdict)
		case res.verdict == redirected && forwarded.Packets != 0 && (kind == 0x0800 || kind == 0x86dd):
			return fmt.Errorf("cut to %d bytes: forwarded", size)
		}
	}
	return c.closeProgram(hookOf(in.program))
}
