package k8s

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/placid-net/placid/internal/state"
)

// SliceRow converts an EndpointSlice, with the API's defaults filled in. The error
// errNoRow is for one of names instead of addresses, or of no Service. What the
// API server should not have let through (an address of the wrong family, an
// impossible port) is left out and told: a sentence each that begins with the
// field.
func SliceRow(obj *discoveryv1.EndpointSlice) (row state.EndpointSlice, problems []string, err error) {
	service := obj.Labels[discoveryv1.LabelServiceName]
	is6 := obj.AddressType == discoveryv1.AddressTypeIPv6
	if service == "" || !is6 && obj.AddressType != discoveryv1.AddressTypeIPv4 {
		return state.EndpointSlice{}, nil, errNoRow
	}
	row = state.EndpointSlice{Namespace: obj.Namespace, Name: obj.Name, Service: service}
	for i := range obj.Ports {
		port, problem := slicePort(&obj.Ports[i])
		if problem != "" {
			problems = append(problems, fmt.Sprintf("ports[%d].%s; the port is left out", i, problem))
			continue
		}
		row.Ports = append(row.Ports, port)
	}
	row.Backends = make([]state.SliceEndpoint, 0, len(obj.Endpoints))
	for i := range obj.Endpoints {
		e := &obj.Endpoints[i]
		addr, err := endpointAddr(e.Addresses, is6)
		if err != nil {
			problems = append(problems, fmt.Sprintf("endpoints[%d].addresses: %q: %v; the endpoint is left out", i, e.Addresses, err))
			continue
		}
		row.Backends = append(row.Backends, sliceEndpoint(addr, e))
	}
	return row, problems, nil
}

// slicePort converts one port; problem says what is wrong with it, "" if nothing.
func slicePort(p *discoveryv1.EndpointPort) (port state.SlicePort, problem string) {
	name := corev1.ProtocolTCP // where none is given
	if p.Protocol != nil {
		name = cmp.Or(*p.Protocol, name)
	}
	protocol, known := parseProtocol(name)
	switch {
	case !known:
		return port, fmt.Sprintf("protocol: %q is none of TCP, UDP and SCTP", name)
	case p.Port == nil:
		return port, "port: it is missing, and all ports are none of a Service"
	case *p.Port < 1 || *p.Port > maxPort:
		return port, fmt.Sprintf("port: %d is not a port from 1 to %d", *p.Port, maxPort)
	}
	port = state.SlicePort{Protocol: protocol, Port: uint16(*p.Port)}
	if p.Name != nil {
		port.Name = *p.Name
	}
	return port, ""
}

// endpointAddr reads the first address, the only one that counts.
func endpointAddr(addrs []string, is6 bool) (netip.Addr, error) {
	if len(addrs) == 0 {
		return netip.Addr{}, errors.New("it is empty")
	}
	a, err := parseServiceAddr(addrs[0])
	if err != nil {
		return netip.Addr{}, err
	}
	if a.Is6() != is6 {
		return netip.Addr{}, errors.New("not of the slice's addressType")
	}
	return a, nil
}

func sliceEndpoint(addr netip.Addr, e *discoveryv1.Endpoint) state.SliceEndpoint {
	is := func(condition *bool, unknown bool) bool {
		if condition == nil {
			return unknown
		}
		return *condition
	}
	// What a slice does not say of an endpoint is that it is ready, as the API
	// wants it.
	ready := is(e.Conditions.Ready, true)
	out := state.SliceEndpoint{
		Addr: addr, Ready: ready, Serving: is(e.Conditions.Serving, ready), Terminating: is(e.Conditions.Terminating, false),
	}
	if e.NodeName != nil {
		out.Node = *e.NodeName
	}
	if e.Zone != nil {
		out.Zone = *e.Zone
	}
	if e.Hints == nil {
		return out
	}
	for _, z := range e.Hints.ForZones {
		out.HintZones = append(out.HintZones, z.Name)
	}
	for _, n := range e.Hints.ForNodes {
		out.HintNodes = append(out.HintNodes, n.Name)
	}
	return out
}

// trimSlice returns the parts of an EndpointSlice that SliceRow reads.
func trimSlice(obj *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	meta := trimMeta(obj)
	if name, ok := obj.Labels[discoveryv1.LabelServiceName]; ok {
		meta.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	}
	out := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: obj.AddressType, Ports: obj.Ports, Endpoints: slices.Clone(obj.Endpoints)}
	for i := range out.Endpoints {
		e := &out.Endpoints[i]
		e.Addresses = e.Addresses[:min(1, len(e.Addresses))]
		e.Hostname, e.TargetRef, e.DeprecatedTopology = nil, nil, nil
	}
	return out
}
