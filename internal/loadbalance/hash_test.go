package loadbalance

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

// TestMurmur3 has the values of the reference implementation.
func TestMurmur3(t *testing.T) {
	for in, want := range map[string][2]uint64{
		"":                          {0, 0},
		"hello":                     {0xcbd8a7b341bd9b02, 0x5b1e906a48ae1d19},
		"hello, world":              {0x342fac623a5ebc8e, 0x4cdcbc079642414d},
		"19 Jan 2038 at 3:14:07 AM": {0xb89e5988b737affc, 0x664fc2950231b2cb},
		"The quick brown fox jumps over the lazy dog.": {0xcd99481f9ee902c9, 0x695da1a38987b6e7},
	} {
		if h1, h2 := murmur3([]byte(in), 0); h1 != want[0] || h2 != want[1] {
			t.Errorf("%q: %016x %016x, want %016x", in, h1, h2, want)
		}
	}
}

// TestJhash has what bpf/lib/hash.h gives when it is compiled for the machine.
func TestJhash(t *testing.T) {
	for _, c := range []struct {
		words      [6]uint32
		seed, want uint32
	}{
		{[6]uint32{}, 0, 0x3bc1a626},
		{[6]uint32{1, 2, 3, 4, 5, 6}, 0, 0xe3e36b25},
		{[6]uint32{0xdeadbeef, 0xffffffff, 0x01000a0a, 0x7f000001, 0x901f5000, 6}, 0x1234, 0x9c29e2d1},
		{[6]uint32{1, 2, 3, 4, 5, 6}, 0xffffffff, 0xf6a69c05},
	} {
		if got := jhash(&c.words, c.seed); got != c.want {
			t.Errorf("%x with seed %#x: %08x, want %08x", c.words, c.seed, got, c.want)
		}
	}
}

func TestPacketHash(t *testing.T) {
	flow := Flow{
		Client: netip.MustParseAddrPort("192.0.2.7:40000"), Frontend: netip.MustParseAddrPort("203.0.113.1:80"), Protocol: state.ProtocolTCP,
	}
	// 192.0.2.7 in its 128-bit form, ports in network order in the words of a
	// little-endian machine.
	words := [6]uint32{0, 0, 0xffff0000, 0x070200c0, 0x409c_5000, 6}
	if got, want := PacketHash(flow, 5, false), jhash(&words, 5); got != want {
		t.Errorf("%08x, want %08x", got, want)
	}
	words[4] = 0x5000
	if got, want := PacketHash(flow, 5, true), jhash(&words, 5); got != want {
		t.Errorf("sticky: %08x, want %08x", got, want)
	}

	table := Maglev([]Backend{{netip.MustParseAddrPort("10.0.0.1:1")}, {netip.MustParseAddrPort("10.0.0.2:1")}}, state.ProtocolTCP, 251, MaglevSeed{})
	seed := MaglevSeed{4: 9, 8: 7}
	if got, want := flow.ChooseMaglev(table, seed), table[PacketHash(flow, 9<<24, false)%251]; got != want {
		t.Errorf("an IPv4 client gets %d, want %d", got, want)
	}
	if got := flow.ChooseMaglev(nil, seed); got != 0 {
		t.Errorf("without a table it gets %d", got)
	}
	other := flow
	other.Frontend = netip.MustParseAddrPort("203.0.113.2:80")
	if other.ChooseMaglev(table, seed) != flow.ChooseMaglev(table, seed) {
		t.Error("the frontend's address has a say in the choice by a table")
	}
	flow.Client, flow.Affinity = netip.MustParseAddrPort("[2001:db8::1]:40000"), true
	if got, want := flow.ChooseMaglev(table, seed), table[PacketHash(flow, 7<<24, true)%251]; got != want {
		t.Errorf("an IPv6 client gets %d, want %d", got, want)
	}
	seen := map[uint32]int{}
	for port := range uint16(3000) {
		flow.Client = netip.AddrPortFrom(flow.Client.Addr(), port)
		seen[flow.ChooseRandom(3, 11)]++
	}
	if len(seen) != 3 || min(seen[0], seen[1], seen[2]) < 900 {
		t.Errorf("3,000 flows of one client, as if there were no affinity: %v", seen)
	}
}
