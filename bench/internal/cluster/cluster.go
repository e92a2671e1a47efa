package cluster

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// Backends is how many each Service has, of each family.
	Backends = 10
	// Max is how many Services there can be.
	Max = 10_000
	// Port is where every Service is reached.
	Port = 80
	// NodePort is where Service 0 is, when Shape.NodePort is set.
	NodePort = 30080
	// Namespace is that of all objects.
	Namespace = "default"
	// ServiceCIDR holds the Services' IPv4 addresses.
	ServiceCIDR = "10.96.0.0/16"

	portName = "http"
	// firstAddress is the number of Service 0 among the addresses: the first
	// ones are Kubernetes' own, and those that it gives away by itself.
	firstAddress = 1 << 12
	// ownPort is where backends serve that have an address to themselves, and the
	// first port where those do that share one.
	ownPort = 8080
)

// Shape says what Services are like.
type Shape struct {
	IPv6 bool `json:"ipv6"` // they have both families, instead of IPv4 alone
	// Pods are the backends of every Service, first those of IPv4; empty: each has
	// addresses of its own.
	Pods []netip.Addr `json:"pods"`
	// Port is where all Pods serve; 0: each Service has one of its own.
	Port uint16 `json:"port"`
	// NodePort gives Service 0 one.
	NodePort bool `json:"nodePort"`
}

// families of the Services.
func (s Shape) families() []bool {
	if s.IPv6 {
		return []bool{false, true}
	}
	return []bool{false}
}

// Address is the cluster IP of Service i. Those of a family follow each other.
func Address(i int, is6 bool) netip.Addr {
	low := uint16(firstAddress + i)
	if is6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x96, 14: byte(low >> 8), 15: byte(low)})
	}
	return netip.AddrFrom4([4]byte{10, 96, byte(low >> 8), byte(low)})
}

// own is an address of a backend that nothing else has.
func own(number uint32, is6 bool) netip.Addr {
	var low [4]byte
	binary.BigEndian.PutUint32(low[:], number)
	if is6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x80, 12: low[0], 13: low[1], 14: low[2], 15: low[3]})
	}
	return netip.AddrFrom4([4]byte{10, 128 + low[1], low[2], low[3]})
}

func name(i int) string { return fmt.Sprintf("service-%d", i) }

// Service makes Service i, 0 to Max - 1.
func (s Shape) Service(i int) *corev1.Service {
	out := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name(i), UID: types.UID(name(i))},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: Address(i, false).String(),
			Ports: []corev1.ServicePort{{
				Name: portName, Protocol: corev1.ProtocolTCP, Port: Port, TargetPort: intstr.FromInt32(int32(s.port(i))),
			}},
		},
	}
	for _, is6 := range s.families() {
		out.Spec.ClusterIPs = append(out.Spec.ClusterIPs, Address(i, is6).String())
	}
	if s.NodePort && i == 0 {
		out.Spec.Type, out.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, NodePort
	}
	return out
}

// port is where the backends of Service i serve.
func (s Shape) port(i int) uint16 {
	switch {
	case s.Port != 0:
		return s.Port
	case len(s.Pods) > 0:
		return ownPort + uint16(i)
	}
	return ownPort
}

// Slices make the EndpointSlices of Service i: one for each family. Generation is
// how many of the backends that have addresses of their own have been replaced.
func (s Shape) Slices(i, generation int) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, is6 := range s.families() {
		kind := discoveryv1.AddressTypeIPv4
		if is6 {
			kind = discoveryv1.AddressTypeIPv6
		}
		slice := &discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{
				Namespace: Namespace, Name: fmt.Sprintf("%s-%s", name(i), map[bool]string{false: "4", true: "6"}[is6]),
				Labels: map[string]string{discoveryv1.LabelServiceName: name(i)},
			},
			AddressType: kind,
			Ports: []discoveryv1.EndpointPort{{
				Name: new(portName), Protocol: new(corev1.ProtocolTCP), Port: new(int32(s.port(i))),
			}},
		}
		for _, a := range s.backends(i, generation, is6) {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			})
		}
		out = append(out, slice)
	}
	return out
}

// backends are the addresses of the backends of Service i in a family. Those of
// its own are the next ones of a ring that is 16 long.
func (s Shape) backends(i, generation int, is6 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range s.Pods {
		if a.Is6() == is6 {
			out = append(out, a)
		}
	}
	if len(s.Pods) > 0 {
		return out
	}
	const ring = 16
	for k := range Backends {
		out = append(out, own(uint32(ring*i+(generation+k)%ring), is6))
	}
	return out
}
