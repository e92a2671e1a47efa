package nstest

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// TestBandwidth measures what a limited pod receives and sends.
func TestBandwidth(t *testing.T) {
	const limit = 20e6 // bit/s
	c := newCluster(t, options{})
	c.start(t)
	n := c.nodes[0]
	slow := n.addPod(t, func(ep *state.Endpoint) {
		ep.Bandwidth = state.Bandwidth{IngressRate: limit, EgressRate: limit}
	})
	other, far := n.addPod(t), c.nodes[1].addPod(t)
	for _, tc := range []struct {
		name     string
		from, to *testutil.Netns
		addr     netip.Addr
		limited  bool
	}{
		{"receives from a pod of the same node", other.Netns, slow.Netns, slow.addr(false), true},
		{"receives from a pod of the other node", far.Netns, slow.Netns, slow.addr(true), true},
		{"receives from its node", n.Netns, slow.Netns, slow.addr(false), true},
		{"sends to a pod of the same node", slow.Netns, other.Netns, other.addr(true), true},
		{"sends to a pod of the other node", slow.Netns, far.Netns, far.addr(false), true},
		{"others are not limited", other.Netns, far.Netns, far.addr(false), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := rate(t, tc.from, tc.to, tc.addr)
			t.Logf("%.1f Mbit/s", got/1e6)
			if tc.limited && (got < 0.7*limit || got > 1.3*limit) {
				t.Errorf("%.1f Mbit/s pass, want %.0f ± 30 %%", got/1e6, limit/1e6)
			}
			if !tc.limited && got < 3*limit {
				t.Errorf("%.1f Mbit/s pass without a limit", got/1e6)
			}
		})
	}
}

// rate measures a TCP stream in bits of payload a second, after its first burst.
func rate(t testing.TB, from, to *testutil.Netns, addr netip.Addr) float64 {
	t.Helper()
	const warmUp, measured = 500 * time.Millisecond, 1500 * time.Millisecond
	var l net.Listener
	to.Do(t, func() {
		var err error
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		must(t, err)
	})
	defer l.Close()
	conn := dialTCP(t, from, l.Addr().(*net.TCPAddr).AddrPort())
	go func() {
		block := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(block); err != nil {
				return // closed below
			}
		}
	}()
	sink, err := l.Accept()
	must(t, err)
	defer sink.Close()
	defer conn.Close()
	read := func(d time.Duration) int64 {
		must(t, sink.SetReadDeadline(time.Now().Add(d)))
		n, _ := io.Copy(struct{ io.Writer }{io.Discard}, sink) // ends at the deadline
		return n
	}
	read(warmUp)
	return float64(8*read(measured)) / measured.Seconds()
}
