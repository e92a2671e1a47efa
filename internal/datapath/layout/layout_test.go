package layout

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/datapath/abi"
)

var (
	u8  = &btf.Int{Name: "__u8", Size: 1}
	u16 = &btf.Int{Name: "__u16", Size: 2}
	u32 = &btf.Int{Name: "__u32", Size: 4}
	u64 = &btf.Int{Name: "__u64", Size: 8}
)

type field struct {
	name string
	typ  btf.Type
}

// entry is a struct whose members follow each other.
func entry(t *testing.T, fields ...field) *btf.Struct {
	t.Helper()
	s := &btf.Struct{Name: "entry"}
	for _, f := range fields {
		size, err := btf.Sizeof(f.typ)
		if err != nil {
			t.Fatal(err)
		}
		s.Members = append(s.Members, btf.Member{Name: f.name, Type: f.typ, Offset: btf.Bits(8 * s.Size)})
		s.Size += uint32(size)
	}
	return s
}

func segment(from, to, length uint16) abi.CCtSegment {
	return abi.CCtSegment{From: from, To: to, Len: length}
}

func TestConvert(t *testing.T) {
	mac := &btf.Array{Type: u8, Nelems: 6}
	way := entry(t, field{"ifindex", u32}, field{"mtu", u16}, field{"mac", mac})
	wider := entry(t, field{"ifindex", u32}, field{"mtu", u32}, field{"mac", mac})
	old := entry(t, field{"state", u64}, field{"last", u32}, field{"pad", u32}, field{"way", way})
	for _, tc := range []struct {
		name string
		to   *btf.Struct
		want Conversion
	}{
		{"the same", old, Conversion{Segments: []abi.CCtSegment{segment(0, 0, 28)}}},
		{
			"other order", entry(t, field{"last", u32}, field{"pad", u32}, field{"state", u64}, field{"way", way}),
			Conversion{Segments: []abi.CCtSegment{segment(8, 0, 8), segment(0, 8, 8), segment(16, 16, 12)}},
		},
		{
			"one more in front", entry(t, field{"packets", u64}, field{"state", u64}, field{"last", u32}, field{"pad", u32}, field{"way", way}),
			Conversion{Segments: []abi.CCtSegment{segment(0, 8, 28)}, Added: []string{"packets"}},
		},
		{
			"one less", entry(t, field{"state", u64}, field{"way", way}),
			Conversion{Segments: []abi.CCtSegment{segment(0, 0, 8), segment(16, 8, 12)}, Lost: []string{"last"}},
		},
		{
			"padding that becomes a field", entry(t, field{"state", u64}, field{"last", u32}, field{"mark", u32}, field{"way", way}),
			Conversion{Segments: []abi.CCtSegment{segment(0, 0, 12), segment(16, 16, 12)}, Added: []string{"mark"}},
		},
		{
			"a number that grows", entry(t, field{"state", u64}, field{"last", u32}, field{"pad", u32}, field{"way", wider}),
			Conversion{Segments: []abi.CCtSegment{segment(0, 0, 22), segment(22, 24, 6)}},
		},
		{
			"a typedef", entry(t, field{"state", &btf.Typedef{Name: "state_t", Type: u64}}, field{"last", u32}, field{"pad", u32}, field{"way", way}),
			Conversion{Segments: []abi.CCtSegment{segment(0, 0, 28)}},
		},
	} {
		got, err := Convert(old, tc.to)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if got.Same() != (tc.name == "the same" || tc.name == "a typedef") {
			t.Errorf("%s: Same() = %v", tc.name, got.Same())
		}
	}
}

// What goes to another layout and back is what it was, but for what that one lacks.
func TestThereAndBack(t *testing.T) {
	a := entry(t, field{"state", u64}, field{"last", u32}, field{"epoch", u32}, field{"port", u16}, field{"pad", u16}, field{"mark", u32})
	b := entry(t, field{"port", u32}, field{"epoch", u32}, field{"packets", u64}, field{"state", u64}, field{"last", u64})
	there, err := Convert(a, b)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Convert(b, a)
	if err != nil {
		t.Fatal(err)
	}
	was := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 0, 0, 21, 22, 23, 24}
	other, is := make([]byte, b.Size), make([]byte, a.Size)
	there.Apply(other, was)
	back.Apply(is, other)
	copy(was[20:], make([]byte, 4)) // mark
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("there and back (-was +is):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"mark"}, there.Lost); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	old := entry(t, field{"state", u64}, field{"mac", &btf.Array{Type: u8, Nelems: 6}})
	if _, err := Convert(old, entry(t, field{"state", &btf.Union{Name: "u", Size: 16}})); !errors.Is(err, ErrUnknown) {
		t.Errorf("a number that is a union now: %v, want ErrUnknown", err)
	}
	bits := entry(t, field{"state", u64})
	bits.Members[0].BitfieldSize = 3
	if _, err := Convert(bits, old); !errors.Is(err, ErrUnknown) {
		t.Errorf("a bit field: %v, want ErrUnknown", err)
	}
	var forward, backward []field
	for i := range 30 {
		f := field{string(rune('a' + i)), u32}
		forward, backward = append(forward, f), append([]field{f}, backward...)
	}
	if _, err := Convert(entry(t, forward...), entry(t, backward...)); !errors.Is(err, ErrSegments) {
		t.Errorf("all in another order: %v, want ErrSegments", err)
	}
}
