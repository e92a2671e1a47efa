package k8s

import (
	"errors"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// NamespaceRow converts a namespace.
func NamespaceRow(ns *corev1.Namespace) state.Namespace {
	return state.Namespace{Name: ns.Name, Labels: ns.Labels}
}

// IdentityRow converts a PlacidIdentity. An error names the field that makes no
// sense; half an identity would be another one.
func IdentityRow(obj *v1alpha1.PlacidIdentity) (state.Identity, error) {
	id, err := parseIdentity(obj.Name)
	if err != nil {
		return state.Identity{}, fmt.Errorf("metadata.name: %w", err)
	}
	out := state.Identity{ID: id, Labels: obj.Labels}
	for i, p := range obj.NamedPorts {
		protocol, known := parseProtocol(corev1.Protocol(p.Protocol))
		switch {
		case p.Name == "":
			return out, fmt.Errorf("namedPorts[%d].name: it is empty", i)
		case !known:
			return out, fmt.Errorf("namedPorts[%d].protocol: %q is none of TCP, UDP and SCTP", i, p.Protocol)
		case p.Port < 1 || p.Port > maxPort:
			return out, fmt.Errorf("namedPorts[%d].port: %d is not a port from 1 to %d", i, p.Port, maxPort)
		}
		out.NamedPorts = append(out.NamedPorts, state.NamedPort{Name: p.Name, Protocol: protocol, Port: uint16(p.Port)})
	}
	out.NamedPorts = sortPorts(out.NamedPorts)
	return out, nil
}

var errIdentityRange = fmt.Errorf("want a number from %d to %d", state.IdentityMin, state.IdentityMax)

// parseIdentity reads the number that is the name of a PlacidIdentity. It has
// one form, so that no two objects are one number.
func parseIdentity(name string) (uint32, error) {
	n, err := strconv.ParseUint(name, 10, 32)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q: %w", name, errIdentityRange)
	case strconv.FormatUint(n, 10) != name:
		return 0, fmt.Errorf("%q: %w", name, errors.New("a number with leading zeros or a sign"))
	case n < uint64(state.IdentityMin) || n > uint64(state.IdentityMax):
		return 0, fmt.Errorf("%q: %w", name, errIdentityRange)
	}
	return uint32(n), nil
}

// trimIdentity returns the parts of a PlacidIdentity that IdentityRow reads.
func trimIdentity(obj *v1alpha1.PlacidIdentity) *v1alpha1.PlacidIdentity {
	return &v1alpha1.PlacidIdentity{ObjectMeta: trimMeta(obj), Labels: obj.Labels, NamedPorts: obj.NamedPorts}
}

// trimNamespace returns the parts of a namespace that NamespaceRow reads.
func trimNamespace(ns *corev1.Namespace) *corev1.Namespace {
	meta := trimMeta(ns)
	meta.Labels = ns.Labels
	return &corev1.Namespace{ObjectMeta: meta}
}

func trimMeta(o metav1.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
	}
}
