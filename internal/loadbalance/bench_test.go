package loadbalance_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

func benchService(i int) *state.Service {
	return &state.Service{
		Ref: state.ServiceRef{Namespace: fmt.Sprint("ns", i%100), Name: fmt.Sprint("service", i)}, CreatedAt: at(i),
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
		Ports:      []state.ServicePort{{Name: "http", Protocol: state.ProtocolTCP, Port: 80}},
	}
}

// benchSlice has ready endpoints from the first on.
func benchSlice(i, first, n int) *state.EndpointSlice {
	s := &state.EndpointSlice{
		Namespace: fmt.Sprint("ns", i%100), Name: fmt.Sprint("slice", i), Service: fmt.Sprint("service", i),
		Ports: []state.SlicePort{{Name: "http", Protocol: state.ProtocolTCP, Port: 8080}},
	}
	for k := first; k < first+n; k++ {
		s.Backends = append(s.Backends, state.SliceEndpoint{
			Addr: netip.AddrFrom4([4]byte{10, byte(k), byte(i >> 8), byte(i)}), Ready: true, Serving: true, Node: fmt.Sprint("n", k),
		})
	}
	return s
}

// BenchmarkCold compiles everything from nothing: 10,000 Services of 10 backends.
func BenchmarkCold(b *testing.B) {
	const services, backends = 10_000, 10
	var all []*state.Service
	var slices []*state.EndpointSlice
	for i := range services {
		all, slices = append(all, benchService(i)), append(slices, benchSlice(i, 1, backends))
	}
	b.ReportAllocs()
	for b.Loop() {
		e := engine(b, config())
		for i := range all {
			e.UpsertService(all[i])
			e.UpsertSlice(slices[i])
		}
		if u := e.Take(); len(u.Upsert) != services || len(u.Open) != services {
			b.Fatalf("%d ports, %d addresses", len(u.Upsert), len(u.Open))
		}
	}
}

// BenchmarkSlice changes one slice of one Service of 10,000.
func BenchmarkSlice(b *testing.B) {
	for _, backends := range []int{10, 100} {
		b.Run(fmt.Sprintf("backends=%d", backends), func(b *testing.B) {
			e := engine(b, config())
			for i := range 10_000 {
				e.UpsertService(benchService(i))
				e.UpsertSlice(benchSlice(i, 1, backends))
			}
			e.Take()
			states := []*state.EndpointSlice{benchSlice(7, 2, backends), benchSlice(7, 1, backends)}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				e.UpsertSlice(states[n%2])
				n++
				if u := e.Take(); len(u.Upsert) != 1 {
					b.Fatalf("%d ports changed", len(u.Upsert))
				}
			}
		})
	}
}

// BenchmarkMaglev makes the table of one list.
func BenchmarkMaglev(b *testing.B) {
	seed, err := loadbalance.ParseMaglevSeed(loadbalance.DefaultMaglevSeed)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{10, 160} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			list := backends(n)
			for b.Loop() {
				loadbalance.Maglev(list, state.ProtocolTCP, loadbalance.DefaultMaglevSize, seed)
			}
		})
	}
}
