package pair

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// HostPrefix begins the names of host sides; 8 hexadecimal digits follow.
const HostPrefix = "plc"

// RouterMAC is the MAC of every host side and so of every pod's gateway:
// locally administered, then "PLCD" and a one.
func RouterMAC() state.MAC { return state.MAC{0x02, 'P', 'L', 'C', 'D', 1} }

// Gateway4 and Gateway6 are every pod's next hops. They are never seen beyond
// the pod's link, so all pods of all nodes can have the same.
func Gateway4() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 1, 1}) }

// Gateway6 is the IPv6 next hop, see Gateway4.
func Gateway6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})
}

// LinkLocal is the address that a pod's interface gives itself: fe80::/64 with
// the EUI-64 of its MAC (RFC 4291, appendix A).
func LinkLocal(m state.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5],
	})
}

func randomSuffix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// randomMAC is locally administered and unicast.
func randomMAC() state.MAC {
	var m state.MAC
	_, _ = rand.Read(m[:])
	m[0] = m[0]&0xfc | 2
	return m
}
