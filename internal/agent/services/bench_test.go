package services

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil/bubble"
)

// swiftKernel takes everything at once and says when.
type swiftKernel struct {
	*fakeKernel
	applied chan loadbalance.Update
	synced  chan int // ports
}

// ApplyServices implements Datapath.
func (k *swiftKernel) ApplyServices(u loadbalance.Update) error {
	k.applied <- u
	return nil
}

// SyncServices implements Datapath.
func (k *swiftKernel) SyncServices(all []loadbalance.Port, _ []netip.Addr) (int, error) {
	k.synced <- len(all)
	return 0, nil
}

// BenchmarkSliceChange is what lies between a row of the table and the datapath,
// with that many Services of 10 backends.
func BenchmarkSliceChange(b *testing.B) {
	for _, services := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(services, " services"), func(b *testing.B) {
			tables, err := state.NewTables()
			bubble.Must(b, err)
			for i := range services {
				s := web(fmt.Sprint("web-", i), 1)
				s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}
				bubble.Must(b, tables.UpsertService(s))
				bubble.Must(b, tables.UpsertSlice(benchSlice(i, 10)))
			}
			cluster := newFakeCluster()
			kernel := &swiftKernel{newFakeKernel(), make(chan loadbalance.Update), make(chan int)}
			close(cluster.nodes)
			close(cluster.services)
			r, err := New(Config{
				NodeName: here, Compiler: compiler(), HealthChecks: true, Interval: time.Hour, Tables: tables,
				Datapath: kernel, Cluster: cluster, Meter: cluster, Log: slog.New(slog.DiscardHandler),
			})
			bubble.Must(b, err)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			if n := <-kernel.synced; n != services {
				b.Fatalf("%d ports are written, want %d", n, services)
			}
			n := 0
			for b.Loop() {
				bubble.Must(b, tables.UpsertSlice(benchSlice(n%services, 9+n/services%2)))
				n++
				if u := <-kernel.applied; len(u.Upsert) != 1 {
					b.Fatalf("an update of %d ports", len(u.Upsert))
				}
			}
			cancel()
			bubble.Must(b, <-done)
		})
	}
}

func benchSlice(service, backends int) state.EndpointSlice {
	var addrs []string
	for i := range backends {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, byte(service >> 8), byte(service), byte(i)}).String())
	}
	return slice(fmt.Sprint("web-", service), addrs...)
}
