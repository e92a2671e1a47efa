package state

import (
	"net/netip"
	"time"
)

// ServiceRef names a Kubernetes Service.
type ServiceRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String gives "namespace/name".
func (r ServiceRef) String() string { return r.Namespace + "/" + r.Name }

// Distribution is a Service's wish where its traffic goes: its field
// trafficDistribution.
type Distribution string

// The distributions; the zero value is none.
const (
	DistributeAny      Distribution = ""
	DistributeSameZone Distribution = "PreferSameZone" // PreferClose is its older name
	DistributeSameNode Distribution = "PreferSameNode"
)

// Service is a Kubernetes Service that has addresses: headless ones and those
// that another proxy serves have no row. Addresses are unmapped and of either
// family.
type Service struct {
	Ref       ServiceRef
	UID       string
	CreatedAt time.Time // who was first keeps an address that two claim

	ClusterIPs    []netip.Addr
	ExternalIPs   []netip.Addr
	LoadBalancers []netip.Addr // status.loadBalancer.ingress with ipMode VIP or none
	Ports         []ServicePort
	SourceRanges  []netip.Prefix // spec.loadBalancerSourceRanges; empty allows all

	ExternalLocal   bool // externalTrafficPolicy: Local
	InternalLocal   bool // internalTrafficPolicy: Local
	PublishNotReady bool
	Affinity        time.Duration // 0: none
	HealthCheckPort uint16        // spec.healthCheckNodePort; 0: none
	Distribution    Distribution
	// Annotations are those that begin with service.cilium.io/ or
	// service.kubernetes.io/, which internal/loadbalance understands or names.
	Annotations map[string]string
}

// PolicyService is any Service, also one without addresses, as policies see it.
type PolicyService struct {
	Ref    ServiceRef
	Labels map[string]string
	// Selector is spec.selector; nil for a Service whose EndpointSlices somebody
	// else writes.
	Selector map[string]string
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name     string // "" when the Service has one port only
	Protocol Protocol
	Port     uint16
	NodePort uint16 // 0: none
}

// EndpointSlice is a Kubernetes EndpointSlice that belongs to a Service, of
// address type IPv4 or IPv6.
type EndpointSlice struct {
	Namespace, Name string
	Service         string // name, in the same namespace
	Ports           []SlicePort
	Backends        []SliceEndpoint
}

// SlicePort is where the endpoints of a slice serve the Service's port of the
// same name.
type SlicePort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// SliceEndpoint is one endpoint of a slice. Of its addresses only the first
// counts: Kubernetes gives the others no meaning.
type SliceEndpoint struct {
	Addr        netip.Addr
	Ready       bool // publishNotReadyAddresses is considered in it already
	Serving     bool
	Terminating bool
	Node        string
	Zone        string
	HintZones   []string
	HintNodes   []string
}

// HostPort is a port of the node that leads to one pod: CNI's portMappings.
type HostPort struct {
	HostIP        netip.Addr `json:"hostIP"` // invalid or unspecified: every address of the node
	Protocol      Protocol   `json:"protocol"`
	HostPort      uint16     `json:"hostPort"`
	ContainerPort uint16     `json:"containerPort"`
}
