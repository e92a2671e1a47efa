package loadbalance

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// The defaults of bpf-lb-maglev-table-size and bpf-lb-maglev-hash-seed.
const (
	DefaultMaglevSize = 16381
	DefaultMaglevSeed = "JLfvgnHc2kaSUFaI"
)

// MaglevSizes returns the sizes that a table may have, all prime, in order.
func MaglevSizes() []uint32 {
	return []uint32{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071}
}

// CheckMaglevSize returns an error that names bpf-lb-maglev-table-size unless the
// size is one of MaglevSizes.
func CheckMaglevSize(size uint32) error {
	if slices.Contains(MaglevSizes(), size) {
		return nil
	}
	return fmt.Errorf("bpf-lb-maglev-table-size %d: want one of %s", size, strings.Trim(fmt.Sprint(MaglevSizes()), "[]"))
}

// MaglevSeed is what nodes must have in common to choose the same backends.
type MaglevSeed [12]byte

// ParseMaglevSeed reads the base64 form of exactly twelve bytes. The error names
// bpf-lb-maglev-hash-seed.
func ParseMaglevSeed(text string) (MaglevSeed, error) {
	bytes, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return MaglevSeed{}, fmt.Errorf("bpf-lb-maglev-hash-seed %s: %w", quote(text), err)
	}
	if len(bytes) != len(MaglevSeed{}) {
		return MaglevSeed{}, fmt.Errorf("bpf-lb-maglev-hash-seed %s: %d bytes, want %d (head -c12 /dev/urandom | base64)",
			quote(text), len(bytes), len(MaglevSeed{}))
	}
	return MaglevSeed(bytes), nil
}

// String gives the base64 form.
func (s MaglevSeed) String() string { return base64.StdEncoding.EncodeToString(s[:]) }

// Backends is the seed of the order of backends.
func (s MaglevSeed) Backends() uint32 { return binary.BigEndian.Uint32(s[0:]) }

// IPv4 is the seed of the hash of packets from IPv4 clients.
func (s MaglevSeed) IPv4() uint32 { return binary.BigEndian.Uint32(s[4:]) }

// IPv6 is the seed of the hash of packets from IPv6 clients.
func (s MaglevSeed) IPv6() uint32 { return binary.BigEndian.Uint32(s[8:]) }

// Maglev returns the table of a list of backends: size indexes into it. Backends
// that are in two lists have almost the same places in both tables. The size must
// be one of MaglevSizes; without backends there is no table.
//
// Every node computes the same table, also one that other software computes by
// the rules of Cilium: backends take turns in the order of their names, each
// going through the table by steps of its own until it finds a free place.
func Maglev(backends []Backend, protocol state.Protocol, size uint32, seed MaglevSeed) []uint32 {
	if len(backends) == 0 {
		return nil
	}
	const free = math.MaxUint32
	type walker struct {
		name           string
		index          uint32
		position, skip uint32
	}
	walkers := make([]walker, len(backends))
	for i, b := range backends {
		name := "[" + b.Addr.String() + "/" + protocol.String() + ",State:active]"
		h1, h2 := murmur3([]byte(name), seed.Backends())
		walkers[i] = walker{name, uint32(i), uint32(h1 % uint64(size)), uint32(h2%uint64(size-1)) + 1}
	}
	slices.SortFunc(walkers, func(a, b walker) int { return strings.Compare(a.name, b.name) })
	table := slices.Repeat([]uint32{free}, int(size))
	for n := range table {
		w := &walkers[n%len(walkers)]
		for table[w.position] != free {
			w.position += w.skip
			if w.position >= size {
				w.position -= size
			}
		}
		table[w.position] = w.index
	}
	return table
}
