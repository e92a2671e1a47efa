package netorder

import (
	"net/netip"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/datapath/abi"
)

func TestPort(t *testing.T) {
	for port, wire := range map[uint16][2]byte{0: {}, 80: {0, 80}, 443: {1, 187}, 0x1234: {0x12, 0x34}, 65535: {255, 255}} {
		got := Port(port)
		if b := *(*[2]byte)(unsafe.Pointer(&got)); b != wire { // as a program sees it
			t.Errorf("port %d is %v in memory, want %v", port, b, wire)
		}
		if back := HostPort(got); back != port {
			t.Errorf("port %d comes back as %d", port, back)
		}
	}
}

func TestAddr(t *testing.T) {
	for text, want := range map[string]abi.CAddr{
		"10.1.2.3":        {B: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 1, 14: 2, 15: 3}},
		"0.0.0.0":         {B: [16]byte{10: 0xff, 11: 0xff}},
		"::":              {},
		"::ffff:10.1.2.3": {B: [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: 1, 14: 2, 15: 3}},
		"2001:db8::1":     {B: [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 1}},
		"fe80::1%eth0":    {B: [16]byte{0: 0xfe, 1: 0x80, 15: 1}},
	} {
		a := netip.MustParseAddr(text)
		got := Addr(a)
		if got != want {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
		if back := HostAddr(got); back != a.Unmap().WithZone("") {
			t.Errorf("%s comes back as %s", text, back)
		}
	}
	if got := Addr(netip.Addr{}); got != (abi.CAddr{}) {
		t.Errorf("no address is %v", got)
	}
}

func TestAddrPortComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		addr, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "addr"))
		end := netip.AddrPortFrom(addr.Unmap(), rapid.Uint16().Draw(t, "port"))
		if got := HostAddrPort(AddrPort(end)); got != end {
			t.Fatalf("%s comes back as %s", end, got)
		}
	})
}
