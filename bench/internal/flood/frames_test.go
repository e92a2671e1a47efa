package flood

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Every frame is what it should be, and no two have the same ends.
func TestFrames(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	aim := target{
		srcMAC: mac, dstMAC: mac, random: rand.New(rand.NewPCG(1, 2)),
		addrs: [2]netip.Addr{netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("fd00::1")},
	}
	all, err := frames(aim, 4096)
	if err != nil {
		t.Fatal(err)
	}
	seen, kinds := map[string]bool{}, map[string]int{}
	for i, b := range all {
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		if p.NetworkLayer() == nil || p.TransportLayer() == nil {
			t.Fatalf("frame %d cannot be read: %s", i, p)
		}
		kind := p.NetworkLayer().LayerType().String() + " " + p.TransportLayer().LayerType().String()
		kinds[kind]++
		seen[kind+p.NetworkLayer().NetworkFlow().String()+p.TransportLayer().TransportFlow().String()] = true
		if tcp, ok := p.TransportLayer().(*layers.TCP); ok && (!tcp.SYN || tcp.ACK) {
			t.Errorf("frame %d is no SYN", i)
		}
		if src, ok := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw()); !ok || src.IsMulticast() || src.IsPrivate() {
			t.Errorf("frame %d comes from %s", i, src)
		}
	}
	if len(seen) < len(all)-4 { // random numbers may meet
		t.Errorf("%d different flows in %d frames", len(seen), len(all))
	}
	for _, kind := range []string{"IPv4 TCP", "IPv4 UDP", "IPv6 TCP", "IPv6 UDP"} {
		if kinds[kind] != len(all)/4 {
			t.Errorf("%d frames of %s, want %d", kinds[kind], kind, len(all)/4)
		}
	}
}
