// Package agentapi is the protocol of the agent's unix socket: HTTP/1.1 with
// JSON bodies, root only. The CNI plugin and the command line are its clients;
// the agent serves it.
//
// Invariants: fields are only added, never renamed or given a new meaning; a
// client of one release talks to an agent of the next.
package agentapi

import (
	"net/netip"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// DefaultSocket is where the agent listens unless socket-path says otherwise.
const DefaultSocket = "/run/placid/agent.sock"

// DefaultPendingDir is where the CNI plugin leaves DEL requests, one JSON
// CNIRequest a file, while the agent is away. The agent carries them out when
// it starts and then removes the files.
const DefaultPendingDir = "/run/placid/pending-del"

// Paths of the socket's HTTP methods.
const (
	PathCNIAdd    = "/v1/cni/add"    // POST CNIRequest → CNIResult
	PathCNIDel    = "/v1/cni/del"    // POST CNIRequest → 204
	PathCNICheck  = "/v1/cni/check"  // POST CNIRequest → 204
	PathCNIGC     = "/v1/cni/gc"     // POST GCRequest → 204
	PathCNIStatus = "/v1/cni/status" // GET → 204, or 503 with Error
	PathStatus    = "/v1/status"     // GET → Status
	PathEndpoints = "/v1/endpoints"  // GET → []state.Endpoint
	PathConfig    = "/v1/config"     // GET → []ConfigEntry
	PathMaps      = "/v1/maps"       // GET → []MapInfo
	PathMapPrefix = "/v1/maps/"      // GET {name} → MapDump
)

// Error codes. The CNI plugin turns them into CNI error codes.
const (
	CodeInvalid     = "invalid"     // the request is wrong: fix the caller
	CodeNotReady    = "notReady"    // the agent cannot serve it yet: try again
	CodeExhausted   = "exhausted"   // no free address: the message names the pool
	CodeNotFound    = "notFound"    // no such endpoint or map
	CodeConflict    = "conflict"    // CHECK: kernel and intent differ
	CodeInternal    = "internal"    // anything else
	CodeUnavailable = "unavailable" // client side: the agent does not answer
)

// Error is the body of every response with a status of 400 and above.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error implements error with the message alone.
func (e *Error) Error() string { return e.Message }

// CNIRequest asks for one attachment to be made, checked or removed. DEL and
// CHECK need only Attachment; the rest is used when present.
type CNIRequest struct {
	Attachment state.AttachmentID `json:"attachment"`
	// Netns is the path of the pod's network namespace as the agent sees it.
	Netns     string          `json:"netns,omitempty"`
	Pod       state.PodRef    `json:"pod"`
	Bandwidth state.Bandwidth `json:"bandwidth"`
	// HostPorts are ports of the node that lead to the pod.
	HostPorts []state.HostPort `json:"hostPorts,omitempty"`
	// MTU overrides the node's pod MTU, in bytes; 0 keeps it.
	MTU int `json:"mtu,omitempty"`
	// Expect, in a CHECK, are the addresses that the previous result named.
	Expect []netip.Addr `json:"expect,omitempty"`
}

// CNIResult describes a finished attachment.
type CNIResult struct {
	Endpoint state.Endpoint `json:"endpoint"`
	// HostMAC is the address of the host side of the pair, which is also the
	// pod's next hop on the link.
	HostMAC state.MAC `json:"hostMAC"`
	// Gateway4 and Gateway6 are the pod's next hops; invalid when the family is off.
	Gateway4 netip.Addr `json:"gateway4"`
	Gateway6 netip.Addr `json:"gateway6"`
}

// GCRequest lists every attachment that still exists; the agent removes others.
type GCRequest struct {
	Valid []state.AttachmentID `json:"valid"`
}

// ConfigEntry is the effective value of one key.
type ConfigEntry struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"` // "default", "flag", "env PLACID_X", or a file's path
	Doc    string `json:"doc"`
}

// MapInfo describes one BPF map.
type MapInfo struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	ID         uint32 `json:"id"`
	MaxEntries uint32 `json:"maxEntries"`
	Entries    uint64 `json:"entries"`
	KeySize    uint32 `json:"keySize"`
	ValueSize  uint32 `json:"valueSize"`
}

// MapDump is the content of one BPF map, decoded to text column by column.
type MapDump struct {
	Info    MapInfo    `json:"info"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Condition is the state of one part of the agent.
type Condition struct {
	Name    string    `json:"name"`
	OK      bool      `json:"ok"`
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since"`
}

// IPAMPool tells how full one pod CIDR is.
type IPAMPool struct {
	CIDR        netip.Prefix `json:"cidr"`
	Used        int          `json:"used"`
	Quarantined int          `json:"quarantined"`
	// Capacity is the number of addresses that pods can get from the CIDR.
	Capacity int `json:"capacity"`
}

// Controller is the state of one reconciler.
type Controller struct {
	Name        string    `json:"name"`
	Desired     int       `json:"desired"`
	Failing     int       `json:"failing"`
	Repaired    uint64    `json:"repaired"` // differences that audits found and mended
	LastSuccess time.Time `json:"lastSuccess"`
	LastError   string    `json:"lastError,omitempty"`
}

// Program is one loaded BPF program.
type Program struct {
	Name  string `json:"name"`
	ID    uint32 `json:"id"`
	Tag   string `json:"tag"`
	Links int    `json:"links"`
}

// Device is one network device that programs are attached to.
type Device struct {
	Name  string       `json:"name"`
	Index int          `json:"index"`
	MTU   int          `json:"mtu"`
	Addrs []netip.Addr `json:"addrs"`
	Role  string       `json:"role"` // "native" or "overlay"
}

// PeerNode is another node as this one sees it.
type PeerNode struct {
	Node  state.Node `json:"node"`
	Route string     `json:"route"` // "direct", "tunnel", "network" (left to the network), or an error
	// Problem names a mismatch with this node, e.g. another MTU; empty if none.
	Problem string `json:"problem,omitempty"`
}

// Feature is the result of one kernel feature probe.
type Feature struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Required  bool   `json:"required"`
	Since     string `json:"since"` // first kernel that has it, e.g. "6.6"
	Effect    string `json:"effect,omitempty"`
}

// Status is what `placid status` shows.
type Status struct {
	Version     string            `json:"version"`
	Node        string            `json:"node"`
	Ready       bool              `json:"ready"`
	StartedAt   time.Time         `json:"startedAt"`
	Kernel      string            `json:"kernel"`
	RoutingMode state.RoutingMode `json:"routingMode"`
	IPAMMode    string            `json:"ipamMode"`
	PodMTU      int               `json:"podMTU"`   // MTU of pod interfaces, bytes
	RouteMTU    int               `json:"routeMTU"` // MTU of routes to pods and out of them, bytes
	CNIConf     string            `json:"cniConf"`  // path of the written file, or why there is none
	Endpoints   int               `json:"endpoints"`
	Conditions  []Condition       `json:"conditions"`
	IPAM        []IPAMPool        `json:"ipam"`
	Devices     []Device          `json:"devices"`
	Programs    []Program         `json:"programs"`
	Maps        []MapInfo         `json:"maps"`
	Controllers []Controller      `json:"controllers"`
	Nodes       []PeerNode        `json:"nodes"`
	Features    []Feature         `json:"features"`
	Warnings    []string          `json:"warnings,omitempty"`
	// Masquerade names the families whose pods leave the cluster with the node's
	// address: IPv4, IPv6.
	Masquerade []string `json:"masquerade,omitempty"`
	// Policy, Conntrack, Services and Tables are nil where an agent has none.
	Policy    *PolicyStatus    `json:"policy,omitempty"`
	Conntrack *ConntrackStatus `json:"conntrack,omitempty"`
	Services  *ServicesStatus  `json:"services,omitempty"`
	Tables    *Tables          `json:"tables,omitempty"`
}
