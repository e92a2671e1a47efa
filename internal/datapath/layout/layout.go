// Package layout compares the layouts of two structs of the datapath, as BTF
// describes them, and says how the entries of one become those of the other. It is
// pure, and knows no version: fields are told by their names, so that an older
// agent reads what a newer one wrote as well as the other way round.
//
// What always holds for structs that are compared here: a field keeps its meaning
// and unit as long as it keeps its name.
package layout

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/placid-net/placid/internal/datapath/abi"
)

var (
	// ErrUnknown is returned for a struct that BTF does not describe well enough.
	ErrUnknown = errors.New("unknown layout")
	// ErrSegments is returned when a conversion consists of too many pieces.
	ErrSegments = errors.New("layouts differ in too many places")
)

// Field is one number, or an array of numbers or bytes, of a struct.
type Field struct {
	Name   string // with those of the structs that it is in, e.g. "way[1].mtu"
	Offset int    // bytes from the begin of the struct
	Size   int    // bytes
	number bool   // may be read with another size
	pad    bool   // holds nothing: its name is "pad", or ends in "_pad"
}

// Fields lists the fields of a struct in the order of their offsets, padding
// included. The error is ErrUnknown.
func Fields(s *btf.Struct) ([]Field, error) {
	var out []Field
	if err := walk(s, "", 0, &out); err != nil {
		return nil, fmt.Errorf("struct %s: %w", s.Name, err)
	}
	slices.SortFunc(out, func(a, b Field) int { return cmp.Compare(a.Offset, b.Offset) })
	return out, nil
}

func walk(s *btf.Struct, prefix string, offset int, out *[]Field) error {
	for _, m := range s.Members {
		if m.BitfieldSize != 0 {
			return fmt.Errorf("%w: %s%s is a bit field", ErrUnknown, prefix, m.Name)
		}
		before := len(*out)
		if err := add(m.Type, prefix+m.Name, offset+int(m.Offset.Bytes()), out); err != nil {
			return err
		}
		for i := range (*out)[before:] {
			(*out)[before+i].pad = m.Name == "pad" || strings.HasSuffix(m.Name, "_pad")
		}
	}
	return nil
}

func add(t btf.Type, name string, offset int, out *[]Field) error {
	t = btf.UnderlyingType(t)
	switch t := t.(type) {
	case *btf.Struct:
		return walk(t, name+".", offset, out)
	case *btf.Array:
		size, err := btf.Sizeof(t.Type)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUnknown, name, err)
		}
		for i := range int(t.Nelems) {
			if err := add(t.Type, fmt.Sprintf("%s[%d]", name, i), offset+i*size, out); err != nil {
				return err
			}
		}
		return nil
	}
	size, err := btf.Sizeof(t)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnknown, name, err)
	}
	_, number := t.(*btf.Int)
	*out = append(*out, Field{Name: name, Offset: offset, Size: size, number: number})
	return nil
}

// Conversion is how entries of one layout become those of another.
type Conversion struct {
	// Segments are the bytes to copy, in the order of their targets.
	Segments []abi.CCtSegment
	// Lost are fields that the new layout does not have, Added those that the old one
	// lacks, which are zero.
	Lost, Added []string
}

// Same tells whether nothing has to be converted.
func (c Conversion) Same() bool {
	return len(c.Lost)+len(c.Added) == 0 && !slices.ContainsFunc(c.Segments, func(s abi.CCtSegment) bool { return s.From != s.To })
}

// Apply makes to, zeroes of the new layout's size, what from is in the old one.
func (c Conversion) Apply(to, from []byte) {
	for _, s := range c.Segments {
		copy(to[s.To:s.To+s.Len], from[s.From:])
	}
}

// Convert compares two layouts. A number of another size keeps its low bytes (the
// kernel's byte order here is little endian). The error is ErrUnknown, for a field
// that is something else in the other layout, or ErrSegments.
func Convert(from, to *btf.Struct) (Conversion, error) {
	old, err := Fields(from)
	if err != nil {
		return Conversion{}, err
	}
	fields, err := Fields(to)
	if err != nil {
		return Conversion{}, err
	}
	known := map[string]Field{}
	for _, f := range old {
		known[f.Name] = f
	}
	var out Conversion
	for _, f := range fields {
		was, ok := known[f.Name]
		if !ok {
			if !f.pad {
				out.Added = append(out.Added, f.Name)
			}
			continue
		}
		delete(known, f.Name)
		if was.Size != f.Size && (!was.number || !f.number) {
			return Conversion{}, fmt.Errorf("%w: %s has %d bytes in one and %d in the other", ErrUnknown, f.Name, was.Size, f.Size)
		}
		out.add(was.Offset, f.Offset, min(was.Size, f.Size))
	}
	for _, f := range old {
		if _, left := known[f.Name]; left && !f.pad {
			out.Lost = append(out.Lost, f.Name)
		}
	}
	if n := len(out.Segments); n > int(abi.CLayoutConstantsCT_SEGMENTS) {
		return Conversion{}, fmt.Errorf("%w: %d, of %d at most", ErrSegments, n, abi.CLayoutConstantsCT_SEGMENTS)
	}
	return out, nil
}

// add adds bytes to the last segment if they go on there.
func (c *Conversion) add(from, to, size int) {
	if n := len(c.Segments); n > 0 {
		last := &c.Segments[n-1]
		if from == int(last.From)+int(last.Len) && to == int(last.To)+int(last.Len) {
			last.Len += uint16(size)
			return
		}
	}
	c.Segments = append(c.Segments, abi.CCtSegment{From: uint16(from), To: uint16(to), Len: uint16(size)})
}
