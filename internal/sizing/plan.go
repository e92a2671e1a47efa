package sizing

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// ErrSize is returned for sizes and ratios that cannot be had.
var ErrSize = errors.New("table sizes")

// Cilium's formula of sizes that follow memory: as large a share of the static
// defaults as the memory for tables is of what all tables together would take at
// those defaults, with entries of keys and values for IPv6, without what the
// kernel adds. The socket table counts with 48 bytes, as in Cilium's published
// sizes.
const (
	defaultTCP  = 524288
	defaultAny  = 262144
	defaultNAT  = 524288 // also of the neighbour table, which Placid has not
	defaultSock = 262144
	floorNAT    = 131072

	bytesAtDefaults = defaultTCP*94 + defaultAny*94 + defaultNAT*94 + defaultNAT*24 + defaultSock*48
)

// From says where a size comes from.
type From string

// The sources of sizes.
const (
	FromKey     From = "set"
	FromMemory  From = "memory"
	FromFloor   From = "memory, at its minimum"
	FromCeiling From = "memory, at its maximum"
	FromDefault From = "default"
	FromRule    From = "two thirds of conntrack" // of NAT alone
)

// Input is what sizes follow from.
type Input struct {
	Memory uint64  // of the machine, in bytes
	Ratio  float64 // share of it that the tables get, 0 to 1; 0: sizes are the defaults
	// Explicit are sizes that were set, in entries by configuration key. A key that
	// is missing was not set; 0 counts as missing where the key takes it so.
	Explicit map[string]int
	// CPUs rounds sizes that follow memory to multiples of it, as a distributed LRU
	// table needs; 0: none is distributed.
	CPUs int
	// MaglevSize is bpf-lb-maglev-table-size; 0: DefaultMaglevSize.
	MaglevSize int
}

// Sized is a table with its size.
type Sized struct {
	Table
	Entries int
	From    From
}

// Empty is what the table takes before it has entries, in bytes.
func (s Sized) Empty() uint64 { return s.Bytes(s.Entries, 0) }

// Full is what it takes when all of its entries are there, in bytes.
func (s Sized) Full() uint64 { return s.Bytes(s.Entries, s.Entries) }

// Sizes are the sizes of all tables.
type Sizes struct {
	Tables []Sized // in the order of Tables
	// NAT is bpf-nat-global-max after its rule. No table has that size: a flow that
	// is translated has two entries in its conntrack table.
	NAT     int
	NATFrom From
	// Nominal is the share of the memory that the ratio gives the tables, in bytes.
	Nominal uint64
	// Warnings tell what was changed.
	Warnings []string
}

// Entries gives the size of the table of a BPF map, 0 if there is none.
func (s Sizes) Entries(mapName string) int {
	for _, t := range s.Tables {
		if t.Map == mapName {
			return t.Entries
		}
	}
	return 0
}

// Empty is what all tables take without entries, in bytes.
func (s Sizes) Empty() uint64 { return s.sum(Sized.Empty) }

// Full is what all tables take when all are full, in bytes.
func (s Sizes) Full() uint64 { return s.sum(Sized.Full) }

func (s Sizes) sum(bytes func(Sized) uint64) uint64 {
	total := uint64(0)
	for _, t := range s.Tables {
		total += bytes(t)
	}
	return total
}

// Keys lists the configuration keys of sizes, sorted.
func Keys() []string { return slices.Sorted(maps.Keys(ranges())) }

// ranges are the least explicit sizes by key.
func ranges() map[string]int {
	out := map[string]int{KeyLB: 1, KeyNAT: 1024}
	for _, t := range Tables(DefaultMaglevSize) {
		if t.Key != "" {
			out[t.Key] = t.Min
		}
	}
	return out
}

// Plan computes the sizes of all tables. All that is wrong with the input is
// reported at once, each with what would be accepted; the error wraps ErrSize.
func Plan(in Input) (Sizes, error) {
	if err := check(in); err != nil {
		return Sizes{}, err
	}
	if in.MaglevSize == 0 {
		in.MaglevSize = DefaultMaglevSize
	}
	out := Sizes{Nominal: uint64(float64(in.Memory) * in.Ratio)}
	for _, t := range Tables(in.MaglevSize) {
		s := Sized{Table: t}
		s.Entries, s.From = in.entries(t, out.Nominal)
		out.Tables = append(out.Tables, s)
	}
	return out, out.natEntries(in)
}

// check finds values that no table can have.
func check(in Input) error {
	var problems []error
	if !(in.Ratio >= 0 && in.Ratio <= 1) { // also refuses NaN
		problems = append(problems, fmt.Errorf("%w: %s = %g: want a number from 0 (sizes do not follow the memory) to 1", ErrSize, KeyRatio, in.Ratio))
	}
	if in.Ratio > 0 && in.Memory == 0 {
		problems = append(problems, fmt.Errorf("%w: the memory is unknown; set %s=0 and the sizes themselves", ErrSize, KeyRatio))
	}
	if in.CPUs < 0 || in.CPUs > maxEntries || in.MaglevSize < 0 {
		problems = append(problems, fmt.Errorf("%w: %d CPUs, Maglev tables of %d: want neither below 0", ErrSize, in.CPUs, in.MaglevSize))
	}
	least := ranges()
	for _, key := range slices.Sorted(maps.Keys(in.Explicit)) {
		n, limit := in.Explicit[key], least[key]
		switch {
		case limit == 0:
			problems = append(problems, fmt.Errorf("%w: %s is not the key of a size; want one of %s", ErrSize, key, strings.Join(Keys(), ", ")))
		case n != 0 && (n < limit || n > maxEntries):
			problems = append(problems, fmt.Errorf("%w: %s = %d: want %d to %d entries", ErrSize, key, n, limit, maxEntries))
		}
	}
	return errors.Join(problems...)
}

// entries sizes one table: what was set for it, else what its memory gives, else
// its default.
func (in Input) entries(t Table, nominal uint64) (int, From) {
	if n := in.Explicit[t.Key]; n != 0 {
		return n, FromKey
	}
	switch t.Key {
	case KeyService, KeyBackend, KeyMaglev, KeyAffinity, KeySourceRange:
		if n := in.Explicit[KeyLB]; n != 0 {
			return n, FromKey
		}
	}
	if in.Ratio == 0 || t.Floor == 0 {
		return t.Default, FromDefault
	}
	return in.fromMemory(t.Default, t.Floor, nominal)
}

// fromMemory is the default's share of the memory, within its limits.
func (in Input) fromMemory(atDefaults, floor int, nominal uint64) (int, From) {
	multiple := max(in.CPUs, 1)
	hi, lo := bits.Mul64(uint64(atDefaults), nominal)
	share, _ := bits.Div64(hi, lo, bytesAtDefaults) // hi is below any default, so it cannot overflow
	if share >= maxEntries {
		return maxEntries / multiple * multiple, FromCeiling
	}
	n := roundUp(int(share), multiple)
	switch {
	case n < floor:
		return roundUp(floor, multiple), FromFloor
	case n > maxEntries:
		return maxEntries / multiple * multiple, FromCeiling
	}
	return n, FromMemory
}

// natEntries applies Cilium's rule of the NAT size: at most as many as both
// conntrack tables. What follows from memory or is the default gives way to two
// thirds of them, what was set is refused.
//
// Placid keeps the rule for the sake of configurations that are written for
// Cilium; the room itself is in the conntrack tables. By the rule at most (TCP +
// any) / 2 flows can be translated, as each takes two of Cilium's NAT entries; and
// that many pairs of entries are what Placid's two tables hold.
func (s *Sizes) natEntries(in Input) error {
	limit := s.Entries("ct_tcp_map") + s.Entries("ct_any_map")
	auto := limit * 2 / 3
	s.NAT, s.NATFrom = in.Explicit[KeyNAT], FromKey
	switch {
	case s.NAT != 0:
	case in.Ratio == 0:
		s.NAT, s.NATFrom = defaultNAT, FromDefault
	default:
		s.NAT, s.NATFrom = in.fromMemory(defaultNAT, floorNAT, s.Nominal)
	}
	switch {
	case s.NAT <= limit:
		return nil
	case s.NATFrom == FromKey && s.NAT != defaultNAT:
		return fmt.Errorf("%w: %s = %d: want at most %d, which is %s + %s; leave it unset for %d (two thirds of that), or set larger conntrack tables",
			ErrSize, KeyNAT, s.NAT, limit, KeyTCP, KeyAny, auto)
	case s.NATFrom == FromMemory || s.NATFrom == FromFloor || s.NATFrom == FromCeiling:
		s.Warnings = append(s.Warnings, fmt.Sprintf("%s would be %d, more than %s + %s = %d: it is %d, two thirds of that",
			KeyNAT, s.NAT, KeyTCP, KeyAny, limit, auto))
	}
	s.NAT, s.NATFrom = auto, FromRule
	return nil
}
