package loadbalance

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// Flow is what the datapath chooses a backend by.
type Flow struct {
	Client   netip.AddrPort
	Frontend netip.AddrPort
	Protocol state.Protocol
	Affinity bool // the frontend has session affinity
}

// ChooseMaglev returns the slot that the datapath chooses by a Maglev table; 0
// without one. The frontend's address has no say in it, nor the client's port
// with affinity.
func (f Flow) ChooseMaglev(table []uint32, seed MaglevSeed) uint32 {
	if len(table) == 0 {
		return 0
	}
	s := seed.IPv6()
	if f.Client.Addr().Unmap().Is4() {
		s = seed.IPv4()
	}
	return table[PacketHash(f, s, f.Affinity)%uint32(len(table))]
}

// ChooseRandom returns the slot that the datapath chooses of count without a
// table; seed is its hash_seed.
func (f Flow) ChooseRandom(count, seed uint32) uint32 {
	frontend := f.Frontend.Addr().As16()
	hash := PacketHash(f, seed^binary.LittleEndian.Uint32(frontend[12:]), false)
	return uint32(uint64(hash) * uint64(count) >> 32)
}

// PacketHash is the datapath's service_hash: Jenkins' lookup3 over the client's
// address and port, the frontend's port and the protocol, as the programs read
// them on a little-endian machine. If sticky, the client's port is left out.
func PacketHash(f Flow, seed uint32, sticky bool) uint32 {
	addr := f.Client.Addr().As16()
	var k [6]uint32
	for i := range 4 {
		k[i] = binary.LittleEndian.Uint32(addr[4*i:])
	}
	k[4] = uint32(bits.ReverseBytes16(f.Frontend.Port()))
	if !sticky {
		k[4] |= uint32(bits.ReverseBytes16(f.Client.Port())) << 16
	}
	k[5] = uint32(f.Protocol)
	return jhash(&k, seed)
}

// jhash is Bob Jenkins' lookup3 over six words, as the kernel's jhash2 has it.
func jhash(k *[6]uint32, seed uint32) uint32 {
	const initial = 0xdeadbeef
	a := initial + uint32(4*len(k)) + seed
	b, c := a, a
	a, b, c = a+k[0], b+k[1], c+k[2]
	for _, r := range [...]int{4, 6, 8, 16, 19, 4} {
		a -= c
		a ^= bits.RotateLeft32(c, r)
		c += b
		a, b, c = b, c, a
	}
	a, b, c = a+k[3], b+k[4], c+k[5]
	for _, r := range [...]int{14, 11, 25, 16, 4, 14, 24} {
		c ^= b
		c -= bits.RotateLeft32(b, r)
		a, b, c = b, c, a
	}
	// Seven turns put the last word that changed into b.
	return b
}

// murmur3 is the 128-bit variant for 64-bit machines.
func murmur3(data []byte, seed uint32) (uint64, uint64) {
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	h1, h2 := uint64(seed), uint64(seed)
	mix1 := func(k uint64) uint64 { return bits.RotateLeft64(k*c1, 31) * c2 }
	mix2 := func(k uint64) uint64 { return bits.RotateLeft64(k*c2, 33) * c1 }
	size := uint64(len(data))
	for ; len(data) >= 16; data = data[16:] {
		h1 ^= mix1(binary.LittleEndian.Uint64(data))
		h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52dce729
		h2 ^= mix2(binary.LittleEndian.Uint64(data[8:]))
		h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495ab5
	}
	var tail [16]byte
	copy(tail[:], data)
	h1 ^= mix1(binary.LittleEndian.Uint64(tail[:])) ^ size
	h2 ^= mix2(binary.LittleEndian.Uint64(tail[8:])) ^ size
	h1 += h2
	h2 += h1
	h1, h2 = murmurFinish(h1), murmurFinish(h2)
	h1 += h2
	return h1, h1 + h2
}

func murmurFinish(k uint64) uint64 {
	k = (k ^ k>>33) * 0xff51afd7ed558ccd
	k = (k ^ k>>33) * 0xc4ceb9fe1a85ec53
	return k ^ k>>33
}
