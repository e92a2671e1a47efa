package state

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Reserved identities, with Cilium's numbers.
const (
	IdentityUnknown       uint32 = 0
	IdentityHost          uint32 = 1
	IdentityWorld         uint32 = 2
	IdentityUnmanaged     uint32 = 3
	IdentityHealth        uint32 = 4
	IdentityInit          uint32 = 5 // a pod whose labels have no number yet
	IdentityRemoteNode    uint32 = 6
	IdentityKubeAPIServer uint32 = 7
	IdentityIngress       uint32 = 8

	// IdentityMin and IdentityMax bound the numbers that label sets get: 24 bits.
	IdentityMin uint32 = 256
	IdentityMax uint32 = 1<<24 - 1
)

// Protocol is an IP protocol number (IANA); 0 stands for any.
type Protocol uint8

// The protocols that policies know.
const (
	ProtocolAny    Protocol = 0
	ProtocolICMP   Protocol = 1
	ProtocolTCP    Protocol = 6
	ProtocolUDP    Protocol = 17
	ProtocolICMPv6 Protocol = 58
	ProtocolSCTP   Protocol = 132
)

// String gives the protocol's name as Kubernetes writes it, "ANY", or the number
// of a protocol that policies do not know.
func (p Protocol) String() string {
	switch p {
	case ProtocolAny:
		return "ANY"
	case ProtocolICMP:
		return "ICMP"
	case ProtocolICMPv6:
		return "ICMPv6"
	case ProtocolTCP:
		return "TCP"
	case ProtocolUDP:
		return "UDP"
	case ProtocolSCTP:
		return "SCTP"
	}
	return strconv.Itoa(int(p))
}

// NamedPort is a port that a pod's containers give a name to.
type NamedPort struct {
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
}

// Identity is a number for a set of labels. It never changes: other labels are
// another identity.
type Identity struct {
	ID uint32 `json:"id"`
	// Labels are "source:key" → value, e.g. "k8s:app" → "web"; see
	// internal/identity for the keys that stand for namespace, namespace labels,
	// service account and cluster.
	Labels map[string]string `json:"labels"`
	// NamedPorts belong to the identity, so that a policy that names a port means
	// one number for all its pods. Ordered by name, protocol, port.
	NamedPorts []NamedPort `json:"namedPorts,omitempty"`
}

// Namespace is one namespace.
type Namespace struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}

// Pod is a pod of this node that has a network of its own.
type Pod struct {
	Ref            PodRef            `json:"ref"`
	Labels         map[string]string `json:"labels"`
	ServiceAccount string            `json:"serviceAccount"`
	NamedPorts     []NamedPort       `json:"namedPorts,omitempty"`
	CreatedAt      time.Time         `json:"createdAt"`
}

// PublishedEndpoint is an endpoint as its node's PlacidEndpoints object shows it
// to the other nodes.
type PublishedEndpoint struct {
	Pod      PodRef       `json:"pod"`
	Addrs    []netip.Addr `json:"addrs"`
	Identity uint32       `json:"identity"` // IdentityInit while it has none
	// Since is when the endpoint got this identity on its node.
	Since time.Time `json:"since"`
}

// Equal tells whether both say the same, whatever the time zones of Since.
func (e PublishedEndpoint) Equal(o PublishedEndpoint) bool {
	return e.Pod == o.Pod && e.Identity == o.Identity && e.Since.Equal(o.Since) && slices.Equal(e.Addrs, o.Addrs)
}

// NodeEndpoints are all endpoints that one node publishes.
type NodeEndpoints struct {
	Node      string              `json:"node"`
	Endpoints []PublishedEndpoint `json:"endpoints"`
}
