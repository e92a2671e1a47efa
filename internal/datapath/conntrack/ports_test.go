package conntrack

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/netorder"
)

// translated is a flow of a client that asks one end, and seems to come from
// source to the other.
type translated struct{ client, asked, source, target string }

// twins puts both entries of a flow into a table.
func (f *fixture) twins(table string, proto uint8, flow translated, flags abi.CCtFlags) {
	f.t.Helper()
	put := func(from, to, natFrom, natTo string, natOfOrigin bool) {
		key, e := flowKey(proto, from, to), f.seen(f.jiffies(), flags|abi.CCtFlagsCT_NAT)
		origin := len(from) % 2 // which side is the first is the datapath's affair
		if origin == 1 {
			key = flowKey(proto, to, from)
			e.State |= uint64(abi.CCtFlagsCT_ORIGIN)
		}
		if natOfOrigin == (origin == 1) {
			e.State |= uint64(abi.CCtFlagsCT_NAT_SIDE)
		}
		for i, s := range []string{natFrom, natTo} {
			e.Nat.Addr[i], e.Nat.Port[i] = netorder.AddrPort(netip.MustParseAddrPort(s))
		}
		f.put(f.inner[table], key, e)
	}
	put(flow.client, flow.asked, flow.source, flow.target, true)
	put(flow.source, flow.target, flow.asked, flow.client, false)
}

// The fullest destinations are those that most masqueraded flows go to; nothing
// else takes a source port.
func TestFullestDestinations(t *testing.T) {
	const tcp, udp, icmp, icmpv6 = unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6
	const node4, node6 = "192.0.2.1", "[2001:db8::1]"
	f := newFixture(t, 4096)
	f.cfg.Sources = Sources{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Ports: 29000}
	var want []Fill
	to := func(table string, proto uint8, used int, client, source, target string) {
		f.t.Helper()
		for i := range used {
			f.twins(table, proto, translated{fmt.Sprint(client, ":", 100+i), target, fmt.Sprint(source, ":", 33000+i), target}, established)
		}
		want = append(want, Fill{Destination: netip.MustParseAddrPort(target), Proto: proto, Used: used})
	}
	to(tableTCP, tcp, 40, "10.0.0.1", node4, "198.51.100.1:443")
	to(tableNew, tcp, 39, "10.0.0.1", node4, "198.51.100.1:80")
	to(tableAny, udp, 38, "10.0.0.1", node4, "198.51.100.1:443")
	to(tableTCP, tcp, 37, "[fd00::1]", node6, "[2001:db8:1::1]:443")
	to(tableAny, icmp, 36, "10.0.0.1", node4, "198.51.100.1:0")
	to(tableAny, icmpv6, 35, "[fd00::1]", node6, "[2001:db8:1::1]:0")
	for i := range 6 {
		to(tableTCP, tcp, 10-i, "10.0.0.2", node4, fmt.Sprintf("198.51.100.%d:443", 10+i))
	}
	for i := range 50 {
		// A service that keeps the client's address, also where that needed another port.
		f.twins(tableTCP, tcp, translated{fmt.Sprint("10.0.0.3:", 100+i), "10.96.0.1:80", fmt.Sprint("10.0.0.3:", 100+i), "10.0.9.1:8080"}, established)
		f.twins(tableTCP, tcp, translated{fmt.Sprint("10.0.0.4:", 100+i), "10.96.0.1:80", fmt.Sprint("10.0.0.4:", 33000+i), "10.0.9.2:8080"}, established)
		// The node itself.
		f.put(f.inner[tableTCP], flowKey(tcp, fmt.Sprint(node4, ":", 100+i), "10.0.9.3:10250"), f.seen(f.jiffies(), established))
		// What is no more.
		f.twins(tableTCP, tcp, translated{fmt.Sprint("10.0.0.5:", 100+i), "198.51.100.9:1", fmt.Sprint(node4, ":", 33000+i), "198.51.100.9:1"}, established|abi.CCtFlagsCT_DEAD)
	}
	if r := f.collect(); !slices.Equal(r.Fullest, want[:fullestShown]) {
		t.Errorf("fullest destinations (-want +got):\n%s", cmp.Diff(fmt.Sprint(want[:fullestShown]), fmt.Sprint(r.Fullest)))
	}
	if s := f.Stats(); len(s.Fullest) != fullestShown || s.SourcePorts != 29000 {
		t.Errorf("the statistics have %d destinations of %d ports", len(s.Fullest), s.SourcePorts)
	}

	// Where nothing is masqueraded nobody looks.
	f.cfg.Sources = Sources{}
	if err := f.ports.Close(); err != nil {
		t.Fatal(err)
	}
	f.ports = nil
	if r := f.collect(); r.Fullest != nil || f.ports != nil {
		t.Errorf("without masquerading there are %v", r.Fullest)
	}
}

// Counts are exact for as many destinations as are told apart, and never too high;
// with more, too low by a bounded number.
func TestFillsAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counted := fills{limit: rapid.IntRange(1, 8).Draw(t, "limit"), used: map[destination]int{}}
		flows := rapid.SliceOfN(rapid.Uint16Range(1, 12), 0, 200).Draw(t, "flows")
		truth := map[uint16]int{}
		for _, port := range flows {
			counted.add(destination{port: netorder.Port(port), proto: unix.IPPROTO_UDP})
			truth[port]++
		}
		slack := 0
		if len(truth) > counted.limit {
			slack = len(flows) / (counted.limit + 1)
		}
		got := map[uint16]int{}
		previous := len(flows)
		for _, f := range counted.fullest(len(truth)) {
			if f.Used > previous {
				t.Fatalf("not in order: %v", f)
			}
			previous, got[f.Destination.Port()] = f.Used, f.Used
		}
		if len(got) > counted.limit {
			t.Fatalf("%d destinations are known, want at most %d", len(got), counted.limit)
		}
		for port, n := range truth {
			if got[port] > n || got[port] < n-slack {
				t.Fatalf("port %d: %d of %d flows counted, want at most %d less", port, got[port], n, slack)
			}
		}
	})
}
