package loadbalance

import (
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// Kind is what makes a frontend.
type Kind string

// The kinds of frontends.
const (
	KindClusterIP    Kind = "ClusterIP"
	KindNodePort     Kind = "NodePort"
	KindExternalIP   Kind = "ExternalIP"
	KindLoadBalancer Kind = "LoadBalancer"
	KindHostPort     Kind = "HostPort"
)

// Algorithm chooses a backend for a new flow.
type Algorithm string

// The algorithms, as bpf-lb-algorithm has them. Maglev is for clients outside
// the cluster; inside, all is random.
const (
	AlgorithmRandom Algorithm = "random"
	AlgorithmMaglev Algorithm = "maglev"
)

// Config is what the configuration says about services.
type Config struct {
	IPv4, IPv6            bool
	Algorithm             Algorithm // bpf-lb-algorithm
	AlgorithmByAnnotation bool      // bpf-lb-algorithm-annotation
	ExternalClusterIP     bool      // bpf-lb-external-clusterip
	SourceRangeAllTypes   bool      // bpf-lb-source-range-all-types
	NodePortFirst         uint16    // node-port-range, both included
	NodePortLast          uint16
	TopologyHints         bool   // enable-service-topology
	MaglevSize            uint32 // bpf-lb-maglev-table-size
}

// Node is what services need to know of the node that serves them.
type Node struct {
	Name, Zone string
	// Addrs are the addresses that node ports and host ports are served at, of
	// both families, sorted.
	Addrs []netip.Addr
	// Nodes are all addresses of all nodes, this one's too. One that a Service has
	// as well is never among Addresses: what else the node serves there stays open.
	// Those of Addrs need not be in it.
	Nodes []netip.Addr
}

// PortKey names one port of a Service in one family, or of a pod with host
// ports: what the datapath has an id for.
type PortKey struct {
	Service  state.ServiceRef // of host ports: the pod
	HostPort bool
	Name     string // of the port; of host ports: its address, if it has one
	Protocol state.Protocol
	Port     uint16 // the Service's, or the host port
	IPv6     bool
}

// Reach is which of a port's backends the clients of a frontend get.
type Reach string

// The reaches.
const (
	ReachNone  Reach = ""      // such clients are not served here
	ReachAll   Reach = "all"   // those of Port.All
	ReachLocal Reach = "local" // those of Port.Local
)

// Frontend is one address where a port is served.
type Frontend struct {
	Addr         netip.AddrPort
	Kind         Kind
	Outside      Reach // clients outside the cluster
	Cluster      Reach // pods and nodes
	Maglev       bool  // for clients outside
	SourceRanges bool  // clients outside must be in one of the port's
}

// Backend is one address that serves.
type Backend struct {
	Addr netip.AddrPort
}

// Port is one port as the datapath is to serve it. Two frontends or backends
// are never equal; both are sorted.
type Port struct {
	Key       PortKey
	Frontends []Frontend
	// All are the backends for new flows, Local those of them on this node, or
	// what takes their place by the rules for terminating endpoints. Only what a
	// frontend reaches is stored, equal lists once. An empty Local where All has
	// backends is no one's fault: clients get no answer, and try another node.
	// Where no frontend reaches Local it is nil.
	All, Local []Backend
	// Draining are backends that get no new flows and may finish what they have.
	Draining     []Backend
	Affinity     uint32 // seconds; 0: none
	SourceRanges []netip.Prefix
}

// Backends are those that the clients of a frontend with that reach get.
func (p *Port) Backends(reach Reach) []Backend {
	switch reach {
	case ReachAll:
		return p.All
	case ReachLocal:
		return p.Local
	case ReachNone:
	}
	return nil
}

// Entries are what something takes in each table.
type Entries struct {
	Frontends    int `json:"frontends"` // with the address-only ones
	Backends     int `json:"backends"`  // slots, backends by id, and those that drain
	Maglev       int `json:"maglev"`
	SourceRanges int `json:"sourceRanges"`
}

// Problem is a Service, or a part of one, that cannot be served as it is
// written.
type Problem struct {
	Service  state.ServiceRef
	HostPort bool   // Service is a pod
	Message  string // a sentence that begins with the field
}

// Update is what changed since the last one. Write Delete first where it frees
// an address that Upsert takes over.
type Update struct {
	Upsert []Port // new or changed, whole
	Delete []PortKey
	// Open are addresses of services that are new, Gone those that are none any
	// more: what no port of theirs serves is refused.
	Open, Gone []netip.Addr
}

// HealthPort is the health check node port of a Service.
type HealthPort struct {
	Service state.ServiceRef
	Port    uint16
	Local   int // pods of this node that are ready; of two families the larger number
}

// Refusal is a port that the datapath has no room for. What it had of it before
// stays in force; the port is tried again when room appears.
type Refusal struct {
	Key         PortKey
	Table       string // the map that is too small
	Needs, Free int    // entries of it
}
