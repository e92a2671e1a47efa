package cluster

import (
	"net/netip"
	"testing"

	"github.com/placid-net/placid/internal/k8s"
)

// TestOwnBackends: the agent understands every object, all addresses differ, and
// a new generation replaces one backend of each family.
func TestOwnBackends(t *testing.T) {
	s := Shape{IPv6: true, NodePort: true}
	range4, seen := netip.MustParsePrefix(ServiceCIDR), map[netip.Addr]bool{}
	note := func(a netip.Addr) {
		if seen[a] {
			t.Fatalf("%s is used twice", a)
		}
		seen[a] = true
	}
	for i := range Max {
		service, problems, err := k8s.ServiceRow(s.Service(i))
		if err != nil || len(problems) > 0 || len(service.ClusterIPs) != 2 || len(service.Ports) != 1 {
			t.Fatalf("service %d is %+v, problems %q, %v", i, service, problems, err)
		}
		if a := service.ClusterIPs[0]; !range4.Contains(a) || a != Address(i, false) || (i > 0 && a != Address(i-1, false).Next()) {
			t.Fatalf("service %d has address %s", i, a)
		}
		if got := service.Ports[0].NodePort; (got != 0) != (i == 0) {
			t.Fatalf("service %d has node port %d", i, got)
		}
		for _, a := range service.ClusterIPs {
			note(a)
		}
		after := s.Slices(i, 1)
		for f, slice := range s.Slices(i, 0) {
			row, problems, err := k8s.SliceRow(slice)
			if err != nil || len(problems) > 0 || row.Service != service.Ref.Name || len(row.Backends) != Backends {
				t.Fatalf("slice of service %d is %+v, problems %q, %v", i, row, problems, err)
			}
			next, _, err := k8s.SliceRow(after[f])
			if err != nil || next.Name != row.Name || next.Backends[0].Addr != row.Backends[1].Addr {
				t.Fatalf("slice of service %d becomes %+v, %v", i, next, err)
			}
			for _, b := range row.Backends {
				note(b.Addr)
			}
			note(next.Backends[Backends-1].Addr)
		}
	}
}

// TestSharedBackends: Services have the pods of their family, at the port that is
// asked for or at one of their own.
func TestSharedBackends(t *testing.T) {
	pods := []netip.Addr{netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("fd00::2")}
	for _, tt := range []struct {
		shape Shape
		ports [2]uint16 // of Services 0 and 9999
	}{
		{Shape{IPv6: true, Pods: pods, Port: 5002}, [2]uint16{5002, 5002}},
		{Shape{IPv6: true, Pods: pods}, [2]uint16{8080, 18079}},
	} {
		for k, i := range []int{0, Max - 1} {
			for f, slice := range tt.shape.Slices(i, 0) {
				row, _, err := k8s.SliceRow(slice)
				if err != nil || len(row.Backends) != 1 || row.Backends[0].Addr != pods[f] || row.Ports[0].Port != tt.ports[k] {
					t.Errorf("slice of service %d is %+v, %v", i, row, err)
				}
			}
		}
	}
}
