package config

import (
	"errors"
	"reflect"
	"slices"
	"strconv"

	"github.com/dustin/go-humanize"

	"github.com/placid-net/placid/internal/sizing"
)

// Bytes is a size of memory.
type Bytes uint64

// String gives the size in the largest unit that it is a multiple of, e.g. 256MiB.
func (b Bytes) String() string {
	for _, unit := range []struct {
		name string
		size Bytes
	}{{"TiB", humanize.TiByte}, {"GiB", humanize.GiByte}, {"MiB", humanize.MiByte}, {"KiB", humanize.KiByte}} {
		if b > 0 && b%unit.size == 0 {
			return strconv.FormatUint(uint64(b/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatUint(uint64(b), 10)
}

// parseBytes reads a number of bytes with or without a unit.
func parseBytes(text string) (Bytes, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil {
		return 0, errors.New("is not a size of memory")
	}
	return Bytes(n), nil
}

// ciliumPolicyMax is Cilium's default of bpf-policy-map-max.
const ciliumPolicyMax = 16384

// SizeInput is what the sizes of tables follow from on a machine with that much
// memory, in bytes: see sizing.Plan. A size that is its key's default counts as not
// set: the ConfigMaps that Cilium's chart writes name defaults. So does Cilium's own
// default of the policy table, which is of one endpoint there and of the node here.
func (c Config) SizeInput(memory uint64) sizing.Input {
	in := sizing.Input{Memory: memory, Ratio: c.MapDynamicSizeRatio, Explicit: map[string]int{}, MaglevSize: c.LBMaglevTableSize}
	values := reflect.ValueOf(c)
	for _, k := range Keys() {
		if !slices.Contains(sizing.Keys(), k.Name) {
			continue
		}
		if n := int(values.Field(k.field).Int()); strconv.Itoa(n) != k.Default && (k.Name != sizing.KeyPolicy || n != ciliumPolicyMax) {
			in.Explicit[k.Name] = n
		}
	}
	return in
}

// sizesConflict finds sizes that contradict each other on any machine. What depends
// on the memory is found when the agent starts.
func sizesConflict(c Config, _ func(string) bool) string {
	in := c.SizeInput(0)
	if in.Ratio > 0 && (in.Explicit[sizing.KeyTCP] == 0 || in.Explicit[sizing.KeyAny] == 0) {
		return ""
	}
	in.Ratio = 0
	if _, err := sizing.Plan(in); err != nil {
		return err.Error()
	}
	return ""
}
