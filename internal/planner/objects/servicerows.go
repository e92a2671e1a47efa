package objects

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// serviceRow is a Service; headless is one without an address of its own.
type serviceRow struct {
	snapshot.Service
	policy   state.PolicyService
	headless bool
}

func readService(r *reading, raw []byte) {
	var obj corev1.Service
	if !r.decode(raw, &obj) {
		return
	}
	row := serviceRow{
		Service: snapshot.Service{Type: string(obj.Spec.Type), Labels: obj.Labels, Selector: obj.Spec.Selector},
		policy:  k8s.PolicyServiceRow(&obj),
	}
	if row.Type == "" {
		row.Type = string(corev1.ServiceTypeClusterIP)
	}
	if obj.Spec.Type == corev1.ServiceTypeExternalName || obj.Spec.ClusterIP == corev1.ClusterIPNone {
		row.headless = true
		r.keep(row)
		return
	}
	service, problems, err := k8s.ServiceRow(&obj)
	if err != nil {
		r.fatal("", fmt.Sprintf("it is no Service that can be served: %v", err))
		return
	}
	r.doubts(problems)
	row.Service.Service = service
	r.keep(row)
}

// sliceObject is what is read of an EndpointSlice.
type sliceObject struct {
	meta
	AddressType discoveryv1.AddressType    `json:"addressType"`
	Ports       []discoveryv1.EndpointPort `json:"ports"`
	Endpoints   []discoveryv1.Endpoint     `json:"endpoints"`
}

func readSlice(r *reading, raw []byte) {
	var obj sliceObject
	if !r.decode(raw, &obj) {
		return
	}
	if row, ok := r.slice(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: obj.Metadata.Namespace, Name: obj.Metadata.Name, Labels: obj.Metadata.Labels},
		AddressType: obj.AddressType, Ports: obj.Ports, Endpoints: obj.Endpoints,
	}); ok {
		r.keep(row)
	}
}

// slice converts a slice; ok is false for one of no Service, or of names instead of
// addresses.
func (r *reading) slice(obj *discoveryv1.EndpointSlice) (row state.EndpointSlice, ok bool) {
	row, problems, err := k8s.SliceRow(obj)
	if err != nil {
		return row, false
	}
	r.doubts(problems)
	return row, true
}

// endpointsObject is what is read of an Endpoints, the older form of slices.
type endpointsObject struct {
	meta
	Subsets []struct {
		Addresses         []endpointsAddress `json:"addresses"`
		NotReadyAddresses []endpointsAddress `json:"notReadyAddresses"`
		Ports             []struct {
			Name     string          `json:"name"`
			Protocol corev1.Protocol `json:"protocol"`
			Port     int32           `json:"port"`
		} `json:"ports"`
	} `json:"subsets"`
}

type endpointsAddress struct {
	IP       string  `json:"ip"`
	NodeName *string `json:"nodeName"`
}

// endpointsRow is an Endpoints as slices, which count if their Service has none.
type endpointsRow []state.EndpointSlice

func readEndpoints(r *reading, raw []byte) {
	var obj endpointsObject
	if !r.decode(raw, &obj) {
		return
	}
	rows := endpointsRow{}
	for i := range obj.Subsets {
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			slice := obj.slice(i, family)
			if len(slice.Endpoints) == 0 {
				continue
			}
			if row, ok := r.slice(slice); ok {
				rows = append(rows, row)
			}
		}
	}
	r.keep(rows)
}

// slice makes a slice of the addresses of one family in a subset. Those that are
// none count as IPv4's, where the conversion tells of them.
func (o *endpointsObject) slice(subset int, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	s := o.Subsets[subset]
	out := &discoveryv1.EndpointSlice{AddressType: family, ObjectMeta: metav1.ObjectMeta{
		Namespace: o.Metadata.Namespace, Name: fmt.Sprintf("%s-endpoints-%d-%s", o.Metadata.Name, subset, family),
		Labels: map[string]string{discoveryv1.LabelServiceName: o.Metadata.Name},
	}}
	for _, p := range s.Ports {
		port := discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port}
		if p.Protocol != "" {
			port.Protocol = &p.Protocol
		}
		out.Ports = append(out.Ports, port)
	}
	add := func(addrs []endpointsAddress, ready bool) {
		for _, a := range addrs {
			addr, err := netip.ParseAddr(a.IP)
			if is6 := err == nil && addr.Unmap().Is6(); is6 != (family == discoveryv1.AddressTypeIPv6) {
				continue
			}
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{a.IP}, NodeName: a.NodeName, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
			})
		}
	}
	add(s.Addresses, true)
	add(s.NotReadyAddresses, false)
	return out
}
