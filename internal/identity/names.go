package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// Reserved returns the name of an identity that is a fact of an address, or that
// stands for having none; ok is false for any other number.
func Reserved(id uint32) (name string, ok bool) {
	switch id {
	case state.IdentityUnknown:
		return "unknown", true
	case state.IdentityHost:
		return "host", true
	case state.IdentityWorld:
		return "world", true
	case state.IdentityUnmanaged:
		return "unmanaged", true
	case state.IdentityHealth:
		return "health", true
	case state.IdentityInit:
		return "init", true
	case state.IdentityRemoteNode:
		return "remote-node", true
	case state.IdentityKubeAPIServer:
		return "kube-apiserver", true
	case state.IdentityIngress:
		return "ingress", true
	}
	return "", false
}

// Format returns the identity for people: its number, then what it stands for, e.g.
// "1 (host)" or "4711 (namespace default, app=web, service account web, namespace
// label team=a, port http.TCP.80)". The cluster is left out.
func Format(id state.Identity) string {
	if name, ok := Reserved(id.ID); ok {
		return fmt.Sprintf("%d (%s)", id.ID, name)
	}
	var namespace, own, account, others, ports []string
	for _, name := range slices.Sorted(maps.Keys(id.Labels)) {
		value := id.Labels[name]
		source, key := splitName(name)
		switch {
		case source != SourceKubernetes:
			others = append(others, name+"="+value)
		case key == NamespaceKey:
			namespace = append(namespace, "namespace "+value)
		case key == ServiceAccountKey:
			account = append(account, "service account "+value)
		case key == ClusterKey:
		case strings.HasPrefix(key, NamespaceLabelPrefix):
			others = append(others, "namespace label "+strings.TrimPrefix(key, NamespaceLabelPrefix)+"="+value)
		default:
			own = append(own, key+"="+value)
		}
	}
	for _, p := range sortedPorts(id.NamedPorts) {
		ports = append(ports, "port "+portsText([]state.NamedPort{p}))
	}
	parts := slices.Concat(namespace, own, account, others, ports)
	if len(parts) == 0 {
		parts = []string{"no labels"}
	}
	return fmt.Sprintf("%d (%s)", id.ID, strings.Join(parts, ", "))
}
