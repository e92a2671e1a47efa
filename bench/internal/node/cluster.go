package node

import (
	"encoding/binary"
	"net/netip"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/internal/state"
)

// Device is the name of every node's native device.
const Device = "eth0"

// Describe gives node number i, 1 to 200, of a cluster whose nodes share a
// segment.
func Describe(i int) state.Node {
	return state.Node{
		Name:  "node" + string(rune('0'+i)),
		Addrs: []netip.Addr{Underlay(i, false).Addr(), Underlay(i, true).Addr()},
		PodCIDRs: []netip.Prefix{
			netip.PrefixFrom(PodAddr(i, 0, false), 24),
			netip.PrefixFrom(PodAddr(i, 0, true), 64),
		},
	}
}

// Underlay is a node's address on the segment.
func Underlay(i int, is6 bool) netip.Prefix {
	if is6 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 15: byte(i)}), 64)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 24)
}

// PodAddr is the address of a node's pod number pod, 0 to 254; 0 is the range's own.
func PodAddr(i, pod int, is6 bool) netip.Addr {
	if is6 {
		a := [16]byte{0: 0xfd, 3: byte(i)}
		binary.BigEndian.PutUint16(a[14:], uint16(pod))
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, 0, byte(i), byte(pod)})
}

// Side is a node's device on the segment, with its addresses.
func Side(in *netlab.Namespace, i int) netlab.Side {
	return netlab.Side{In: in, Device: Device, Addrs: []netip.Prefix{Underlay(i, false), Underlay(i, true)}}
}
