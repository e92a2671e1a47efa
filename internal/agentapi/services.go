package agentapi

import (
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// Paths of services.
const (
	PathServices = "/v1/services" // GET ?service=NAMESPACE/NAME → []ServiceInfo
	PathLB       = "/v1/lb"       // GET → LBTables
)

// ServiceInfo is one Service as it should be served, beside what the kernel has
// of it.
type ServiceInfo struct {
	Service state.ServiceRef `json:"service"`
	// HostPort says that Service names a pod of this node, and the ports are its
	// host ports.
	HostPort bool          `json:"hostPort,omitempty"`
	Ports    []ServicePort `json:"ports"`
	// HealthCheck is nil where there is no health check node port.
	HealthCheck *ServiceHealth `json:"healthCheck,omitempty"`
	// Entries is exactly what it takes in each table, Estimate what the usual rule
	// says that it takes: backends times ports.
	Entries  ServiceEntries `json:"entries"`
	Estimate int            `json:"estimate"`
	// Problems has a sentence for each part that cannot be served as it is written.
	Problems []string `json:"problems,omitempty"`
}

// States of a ServicePort.
const (
	ServiceRealised = "realised" // the kernel serves it as it should
	ServicePending  = "pending"  // the kernel does not yet
	ServiceRefused  = "refused"  // it does not fit: Refusal says why
)

// ServicePort is one port of a Service in one family.
type ServicePort struct {
	Name     string         `json:"name,omitempty"`
	Protocol state.Protocol `json:"protocol"`
	Port     uint16         `json:"port"`
	IPv6     bool           `json:"ipv6,omitempty"`
	State    string         `json:"state"`
	Refusal  *LBRefusal     `json:"refusal,omitempty"`
	// ID is the kernel's; 0 while it has none.
	ID           uint32            `json:"id"`
	Affinity     uint32            `json:"affinity,omitempty"` // seconds that a client keeps its backend; 0: none
	SourceRanges []netip.Prefix    `json:"sourceRanges,omitempty"`
	Frontends    []ServiceFrontend `json:"frontends"`
	Backends     []ServiceBackend  `json:"backends"`
	Entries      ServiceEntries    `json:"entries"`
	Estimate     int               `json:"estimate"`
}

// ServiceFrontend is one address of a ServicePort.
type ServiceFrontend struct {
	Addr netip.AddrPort `json:"addr"`
	// Kind is ClusterIP, NodePort, ExternalIP, LoadBalancer or HostPort.
	Kind string `json:"kind"`
	// Outside is for clients outside the cluster, Cluster for pods and nodes.
	Outside      ServiceScope `json:"outside"`
	Cluster      ServiceScope `json:"cluster"`
	Maglev       bool         `json:"maglev,omitempty"`       // for clients outside
	SourceRanges bool         `json:"sourceRanges,omitempty"` // clients outside must be in one
}

// Reaches of a ServiceScope.
const (
	ReachNone  = "none"  // such clients are not served
	ReachAll   = "all"   // every backend
	ReachLocal = "local" // those of this node
)

// ServiceScope is what some clients of a frontend get.
type ServiceScope struct {
	Reach string `json:"reach"`
	// List is the kernel's list of backends that they get now, 0 when the kernel
	// has none, and Backends its length.
	List     uint32 `json:"list"`
	Backends int    `json:"backends"`
}

// States of a ServiceBackend.
const (
	BackendActive   = "active"   // gets new flows
	BackendDraining = "draining" // may finish what it has
)

// ServiceBackend is one address that serves a ServicePort.
type ServiceBackend struct {
	Addr  netip.AddrPort `json:"addr"`
	State string         `json:"state"`
	// All and Local say which reaches lead to it.
	All   bool `json:"all,omitempty"`
	Local bool `json:"local,omitempty"`
	// ID is the kernel's; 0 when no list of the port has the backend.
	ID uint32 `json:"id"`
}

// ServiceEntries are what something takes in each table.
type ServiceEntries struct {
	Frontends    int `json:"frontends"` // with those that only say that an address is one of services
	Backends     int `json:"backends"`  // slots, and backends by their ids
	Maglev       int `json:"maglev"`
	SourceRanges int `json:"sourceRanges"`
}

// ServiceHealth is a health check node port.
type ServiceHealth struct {
	Port           uint16 `json:"port"`
	LocalEndpoints int    `json:"localEndpoints"` // that are ready
	// Problem is why nothing answers there; empty when something does.
	Problem string `json:"problem,omitempty"`
}

// LBRefusal says that there is no room for a port. What the kernel has of it from
// before stays in force; the rest comes when there is room.
type LBRefusal struct {
	Table string `json:"table"`
	Needs int    `json:"needs"` // entries
	Free  int    `json:"free"`
}

// LBTable tells how full one table of services is.
type LBTable struct {
	Name    string `json:"name"`
	Entries uint64 `json:"entries"`
	Size    uint64 `json:"size"` // the most entries it takes
}

// LBTables is what the kernel has of services.
type LBTables struct {
	Frontends []LBFrontend `json:"frontends"`
	Lists     []LBList     `json:"lists"` // that frontends have, ordered by id
	Tables    []LBTable    `json:"tables"`
}

// LBFrontend is one frontend in the kernel. With port 0 it only says that the
// address is one of services.
type LBFrontend struct {
	Addr     netip.AddrPort `json:"addr"`
	Protocol state.Protocol `json:"protocol"`
	ID       uint32         `json:"id"` // of the service's port
	// Service and Port name the port that it should belong to, e.g.
	// "default/web" and "http"; empty where none has the address.
	Service  string   `json:"service,omitempty"`
	Port     string   `json:"port,omitempty"`
	Flags    []string `json:"flags,omitempty"`    // such as "affinity"
	Affinity uint32   `json:"affinity,omitempty"` // seconds
	// Outside and Cluster are ids of lists; 0 is none.
	Outside uint32 `json:"outside"`
	Cluster uint32 `json:"cluster"`
}

// LBList is one list of backends in the kernel, ordered by slot.
type LBList struct {
	ID       uint32      `json:"id"`
	Backends []LBBackend `json:"backends"`
}

// LBBackend is one slot of a list.
type LBBackend struct {
	Addr netip.AddrPort `json:"addr"`
	ID   uint32         `json:"id"`
}

// ServicesStatus tells how this node serves Services.
type ServicesStatus struct {
	// Enabled is the key kube-proxy-replacement; without it all else is zero.
	Enabled bool `json:"enabled"`
	// Services counts those with a port to serve, Ports theirs in each family.
	Services  int `json:"services"`
	HostPorts int `json:"hostPorts"` // pods with host ports
	Ports     int `json:"ports"`
	Frontends int `json:"frontends"`
	Backends  int `json:"backends"` // of each port, also those that drain
	// Tables tell how full the kernel's tables are.
	Tables []LBTable `json:"tables"`
	// Refused has a sentence for each port that does not fit, Problems one for each
	// part of a Service that cannot be served as it is written.
	Refused  []string `json:"refused,omitempty"`
	Problems []string `json:"problems,omitempty"`
	// Problem is why the kernel cannot be trusted to have what it should; empty
	// when it has.
	Problem string `json:"problem,omitempty"`
}
