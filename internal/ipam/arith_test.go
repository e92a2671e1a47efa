package ipam

import (
	"math/big"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func toBig(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

func TestAddressArithmeticAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]int{32, 128}).Draw(t, "width")
		raw := rapid.SliceOfN(rapid.Byte(), width/8, width/8).Draw(t, "addr")
		bits := rapid.IntRange(0, width).Draw(t, "bits")
		addr, _ := netip.AddrFromSlice(raw)
		if addr.Is4In6() {
			t.Skip("not a CIDR address")
		}
		base := netip.PrefixFrom(addr, bits).Masked().Addr()
		shift := rapid.IntRange(0, width-bits).Draw(t, "shift")

		want := new(big.Int).Rsh(new(big.Int).Sub(toBig(addr), toBig(base)), uint(shift))
		got, ok := indexOf(base, addr, shift)
		if ok != want.IsUint64() || ok && got != want.Uint64() {
			t.Fatalf("indexOf(%s, %s, %d) = %d, %v; want %s", base, addr, shift, got, ok, want)
		}
		if !ok {
			return
		}
		wantAddr := new(big.Int).Add(toBig(base), new(big.Int).Lsh(want, uint(shift)))
		if back := addrAt(base, got, shift); toBig(back).Cmp(wantAddr) != 0 || back.BitLen() != width {
			t.Fatalf("addrAt(%s, %d, %d) = %s, want %s", base, got, shift, back, wantAddr)
		}
	})
}

func TestIndexOfOtherFamilyAndBelow(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("fd00::")
	if _, ok := indexOf(v4, v6, 0); ok {
		t.Error("an IPv6 address has an index in an IPv4 range")
	}
	if _, ok := indexOf(v4, v4.Prev(), 0); ok {
		t.Error("an address below the range has an index")
	}
}

func TestBitsetAgainstSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 200).Draw(t, "size")
		b, want := newBitset(size), make([]bool, size)
		index := rapid.IntRange(0, size-1)
		t.Repeat(map[string]func(*rapid.T){
			"set":   func(t *rapid.T) { i := index.Draw(t, "i"); b.set(i); want[i] = true },
			"clear": func(t *rapid.T) { i := index.Draw(t, "i"); b.clear(i); want[i] = false },
			"next": func(t *rapid.T) {
				from := rapid.IntRange(0, size).Draw(t, "from")
				wantAt := -1
				for n := range size {
					if i := (from + n) % size; !want[i] {
						wantAt = i
						break
					}
				}
				if got, ok := b.nextClear(from); ok != (wantAt >= 0) || ok && got != wantAt {
					t.Fatalf("nextClear(%d) = %d, %v; want %d", from, got, ok, wantAt)
				}
			},
			"": func(t *rapid.T) {
				n := 0
				for _, set := range want {
					if set {
						n++
					}
				}
				if n != b.count {
					t.Fatalf("count %d, want %d", b.count, n)
				}
			},
		})
	})
}
