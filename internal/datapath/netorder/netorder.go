// Package netorder turns addresses and ports into the form that they have in
// maps, and back.
//
// Invariants:
//   - An address takes 16 bytes; an IPv4 one is ::ffff:a.b.c.d. Back in Go it is
//     an IPv4 address again.
//   - A port is a number whose bytes in memory are those on the wire (__be16).
package netorder

import (
	"encoding/binary"
	"net/netip"

	"github.com/placid-net/placid/internal/datapath/abi"
)

// Port turns a port into the form that maps have.
func Port(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// HostPort is the inverse of Port.
func HostPort(port uint16) uint16 { return Port(port) } // both exchange the bytes, or neither does

// Addr turns an address into the form that maps have. The zero Addr is 16 bytes
// of zero, as :: is.
func Addr(a netip.Addr) abi.CAddr { return abi.CAddr{B: a.As16()} }

// HostAddr is the inverse of Addr, without a zone.
func HostAddr(a abi.CAddr) netip.Addr { return netip.AddrFrom16(a.B).Unmap() }

// AddrPort turns an address and port into the form that maps have.
func AddrPort(a netip.AddrPort) (addr abi.CAddr, port uint16) {
	return Addr(a.Addr()), Port(a.Port())
}

// HostAddrPort is the inverse of AddrPort.
func HostAddrPort(addr abi.CAddr, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(HostAddr(addr), HostPort(port))
}
