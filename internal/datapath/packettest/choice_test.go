package packettest

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

const (
	hashSeed   = 0x5eed5eed
	maglevSize = 251
)

func maglevSeed() loadbalance.MaglevSeed {
	return loadbalance.MaglevSeed{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
}

// target is where the first packet of a talk went.
func (n *node) target(t *testing.T, k talk) netip.Addr {
	t.Helper()
	ip := n.passes(t, "a first packet", k.says(t, n, "S")).frame[ethLen:]
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[16:]))
	}
	return netip.AddrFrom16([16]byte(ip[24:]))
}

// The program chooses as internal/loadbalance says it does, which is what other
// nodes and tests count on: by a Maglev table for clients that come from elsewhere, by a hash for those here.
func testChoice(t *testing.T, n *node) {
	const flows = 60
	for _, v6 := range []bool{false, true} {
		for _, proto := range []layers.IPProtocol{overTCP, overUDP} {
			for _, affinity := range []bool{false, true} {
				n.noServices(t)
				frontend := end(vip4, vip6, v6, 80)
				var addrs []netip.AddrPort
				var backends []loadbalance.Backend
				for _, p := range pods {
					addrs = append(addrs, end(p.ip4, p.ip6, v6, 8080))
					backends = append(backends, loadbalance.Backend{Addr: addrs[len(addrs)-1]})
				}
				table := loadbalance.Maglev(backends, state.Protocol(proto), maglevSize, maglevSeed())
				s := served{proto: proto, flags: abi.CFrontendFlagsFRONTEND_MAGLEV, outside: addrs, cluster: addrs}
				if affinity {
					s.flags |= abi.CFrontendFlagsFRONTEND_AFFINITY
				}
				n.serve(t, frontend, s)
				n.put(t, "maglev_map", uint32(10), table)
				got := map[netip.Addr]int{}
				for i := range uint16(flows) {
					n.clear(t, "affinity_map")
					k := talk{proto, end(remote4, remote6, v6, 1000+i), frontend}
					flow := loadbalance.Flow{Client: k.a, Frontend: k.b, Protocol: state.Protocol(proto), Affinity: affinity}
					want := addrs[flow.ChooseMaglev(table, maglevSeed())].Addr()
					if to := n.target(t, k); to != want {
						t.Fatalf("%s (affinity %t) went to %s, want %s by the Maglev table", k, affinity, to, want)
					}
					got[want]++
				}
				if !affinity && len(got) != len(addrs) {
					t.Errorf("%d flows from outside reached %d of %d backends", flows, len(got), len(addrs))
				}
				for i := range uint16(flows) {
					n.clear(t, "affinity_map")
					k := talk{proto, end(podA.ip4, podA.ip6, v6, 1000+i), frontend}
					flow := loadbalance.Flow{Client: k.a, Frontend: k.b, Protocol: state.Protocol(proto), Affinity: affinity}
					want := addrs[flow.ChooseRandom(uint32(len(addrs)), hashSeed)].Addr()
					if to := n.target(t, k); to != want {
						t.Fatalf("%s (affinity %t) went to %s, want %s by the hash", k, affinity, to, want)
					}
				}
			}
		}
	}
}
