package agent

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// TestModel does random things to a node, with failures, restarts and time
// passing. All parts agree at all times, and no address comes back early.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		n := newFakeNode(t, dir)
		given := map[netip.Addr]time.Time{} // when an address was last given back
		want := map[int]state.Endpoint{}
		removed := func(i int) {
			for _, a := range want[i].Addrs() {
				given[a] = *n.clock
			}
			delete(want, i)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				i := rapid.IntRange(0, 19).Draw(rt, "pod")
				res, err := n.add(t.Context(), request(i))
				var apiErr *agentapi.Error
				if errors.As(err, &apiErr) && apiErr.Code == agentapi.CodeExhausted {
					return
				}
				if err != nil {
					rt.Fatal(err)
				}
				if old, ok := want[i]; ok && !reflect.DeepEqual(old, res.Endpoint) {
					rt.Fatalf("ADD again gives %+v, first %+v", res.Endpoint, old)
				}
				if _, ok := want[i]; !ok {
					for _, a := range res.Endpoint.Addrs() {
						if at, ok := given[a]; ok && n.clock.Sub(at) < reuseDelay {
							rt.Fatalf("%s comes back after %v", a, n.clock.Sub(at))
						}
					}
				}
				want[i] = res.Endpoint
			},
			"add fails": func(rt *rapid.T) {
				i := rapid.IntRange(20, 25).Draw(rt, "pod")
				n.kernel.failing(rapid.SampledFrom([]string{stepConnect, stepMade, stepRecorded}).Draw(rt, "step"))
				defer n.kernel.failing()
				if _, err := n.add(t.Context(), request(i)); err == nil {
					rt.Fatal("ADD succeeded")
				}
			},
			"del": func(rt *rapid.T) {
				i := rapid.IntRange(0, 19).Draw(rt, "pod")
				if err := n.del(t.Context(), request(i).Attachment); err != nil {
					rt.Fatal(err)
				}
				removed(i)
			},
			"del fails once": func(rt *rapid.T) {
				i := rapid.IntRange(0, 19).Draw(rt, "pod")
				n.kernel.failing(rapid.SampledFrom([]string{stepDisconnect, stepGone}).Draw(rt, "step"))
				_ = n.del(t.Context(), request(i).Attachment)
				n.kernel.failing()
				if err := n.del(t.Context(), request(i).Attachment); err != nil {
					rt.Fatal(err)
				}
				removed(i)
			},
			"sandbox dies while no agent runs": func(rt *rapid.T) {
				i := rapid.IntRange(0, 19).Draw(rt, "pod")
				kernel := n.kernel.clone()
				delete(kernel.devices, want[i].HostIfName)
				n = startNode(t, kernel, dir, n.clock)
				removed(i)
			},
			"restart": func(*rapid.T) { n = startNode(t, n.kernel.clone(), dir, n.clock) },
			"time passes": func(rt *rapid.T) {
				*n.clock = n.clock.Add(time.Duration(rapid.IntRange(1, 90).Draw(rt, "seconds")) * time.Second)
				if err := n.addresses.forgetRested(); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				n.consistent(t)
				if got := len(n.list(t)); got != len(want) || t.Failed() {
					rt.Fatalf("%d endpoints, want %d", got, len(want))
				}
			},
		})
	})
}
