package nstest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/testutil"
)

// TestDeletedPod looks at the address of a pod that was taken away, from
// everywhere, and gives it to a new pod.
func TestDeletedPod(t *testing.T) {
	for _, tc := range []struct {
		name        string
		unreachable bool
		tunnel      bool
		reason      string
	}{
		{"blackhole", false, false, "Stale or unroutable IP"},
		{"unreachable", true, false, "Local host is unreachable"},
		{"blackhole in a tunnel", false, true, "Stale or unroutable IP"},
		{"unreachable in a tunnel", true, true, "Local host is unreachable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t, options{tunnel: tc.tunnel, change: func(cfg *datapath.Config) {
				cfg.UnreachableRoutes = tc.unreachable
			}})
			c.start(t)
			n := c.nodes[0]
			a, gone, far := n.addPod(t), n.addPod(t), c.nodes[1].addPod(t)
			arrival := "from_netdev "
			if tc.tunnel {
				arrival = "from_overlay "
			}
			n.delPod(t, gone)
			for _, is6 := range []bool{false, true} {
				for _, from := range []struct {
					name    string
					ns      *testutil.Netns
					counter string // "" where the node's own stack answers
				}{
					{"pod of the same node", a.Netns, "from_pod "},
					{"pod of the other node", far.Netns, arrival},
					{"outside", c.outside, "from_netdev "},
					{"node", n.Netns, ""},
				} {
					t.Run(family(is6)+" from "+from.name, func(t *testing.T) {
						before := n.counts(t)
						out, err := tryPing(t, from.ns, gone.addr(is6), 56)
						if err == nil {
							t.Errorf("a deleted pod answers:\n%s", out)
						}
						told := strings.Contains(out, "nreachable") || strings.Contains(out, "No route to host")
						if told != tc.unreachable {
							t.Errorf("told that it is unreachable: %t, want %t\n%s", told, tc.unreachable, out)
						}
						if from.counter == "" {
							return
						}
						key := from.counter + tc.reason
						if got := n.counts(t)[key] - before[key]; got != 3 {
							t.Errorf("%d packets were counted as %q, want 3", got, key)
						}
					})
				}
			}
			t.Run("again in use", func(t *testing.T) {
				again := n.newPod(t)
				again.ep.IPv4, again.ep.IPv6 = gone.ep.IPv4, gone.ep.IPv6
				n.connect(t, again)
				for _, addr := range []netip.Addr{gone.ep.IPv4, gone.ep.IPv6} {
					ping(t, a.Netns, addr, 56)
					ping(t, far.Netns, addr, 56)
					ping(t, c.outside, addr, 56)
					ping(t, n.Netns, addr, 56)
				}
			})
			t.Run("twice", func(t *testing.T) { n.must(t, "Disconnect", gone.ep) })
		})
	}
}
