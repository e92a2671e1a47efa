package snapshot

import (
	"net/netip"

	"github.com/placid-net/placid/internal/state"
)

// Platform is the network whose tables and limits are meant.
type Platform string

// The platforms. Terway runs Cilium's datapath under settings of its own.
const (
	Placid Platform = "placid"
	Cilium Platform = "cilium"
	Terway Platform = "terway"
)

// Snapshot is a cluster at one moment.
type Snapshot struct {
	Nodes []Node
	// Namespaces has those too that only other objects name, with the one label that
	// every namespace has: its name.
	Namespaces []state.Namespace
	Pods       []Pod
	// Services are those with an address; Headless counts the others.
	Services []Service
	Headless int
	// PolicyServices are all Services, as policies name them.
	PolicyServices []state.PolicyService
	Slices         []state.EndpointSlice
	// Policies are of all kinds, ordered by key.
	Policies   []state.NetworkPolicy
	CIDRGroups []state.CIDRGroup

	// Platform is the network that the cluster is seen to run, empty if that cannot
	// be told. Settings are its keys as they are in force: of the ConfigMap
	// cilium-config or placid-config, or of Terway's cilium_args.
	Platform Platform
	Settings map[string]string
	// ClusterName is the setting cluster-name, "default" without one.
	ClusterName string

	// Input counts what was read.
	Input Input
	// Problems are what could not be read, or not as it was meant.
	Problems []Problem
	// Origins tell where objects came from, by Object.
	Origins map[Object]Origin
}

// Input counts what a Snapshot was read from.
type Input struct {
	Files   int `json:"files,omitempty"`   // with objects
	Skipped int `json:"skipped,omitempty"` // files of directories that hold no objects
	Objects int `json:"objects,omitempty"` // of any kind
}

// Node is one node.
type Node struct {
	Name         string
	Labels       map[string]string
	Addrs        []netip.Addr // InternalIP and ExternalIP
	PodCIDRs     []netip.Prefix
	Zone         string // topology.kubernetes.io/zone
	InstanceType string // node.kubernetes.io/instance-type
	Memory       uint64 // status.capacity, in bytes; 0: not known
	CPUs         int    // status.capacity; 0: not known
	MaxPods      int    // status.allocatable; 0: not known
}

// Pod is one pod that has not ended.
type Pod struct {
	state.Pod
	Node        string // empty while it is not scheduled
	HostNetwork bool
	Addrs       []netip.Addr // status.podIPs
	// Ports are all that its containers declare, those without a name too. Ordered
	// like NamedPorts.
	Ports     []state.NamedPort
	HostPorts []state.HostPort
	// Owner is the object that made it, e.g. "ReplicaSet/web-5d4f8"; empty if none.
	Owner string
}

// Service is a Service with what selects it and what it selects.
type Service struct {
	state.Service
	Type     string // ClusterIP, NodePort or LoadBalancer
	Labels   map[string]string
	Selector map[string]string
}

// Object names one object of the API.
type Object struct {
	Kind      string // e.g. "CiliumNetworkPolicy"
	Namespace string // empty for a clusterwide one
	Name      string
}

// String gives e.g. "CiliumNetworkPolicy default/web" or "Node a".
func (o Object) String() string {
	switch {
	case o.Name == "":
		return o.Kind
	case o.Namespace == "":
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Origin is where an object was read: a document of a file, counted from 1, or,
// without a file, the API server. Item is its place in a list, counted from 1; 0
// if it was in none.
type Origin struct {
	File     string `json:"file,omitempty"`
	Document int    `json:"document,omitempty"`
	Item     int    `json:"item,omitempty"`
}

// Severity says what a Problem does to answers.
type Severity string

// The severities.
const (
	// Fatal: the object is not in the Snapshot, so verdicts that depend on objects of
	// its kind cannot be told.
	Fatal Severity = "error"
	// Doubt: the object is there without the part.
	Doubt Severity = "warning"
)

// Problem is something in the input that was not understood.
type Problem struct {
	Severity Severity
	Origin   Origin
	Object   Object // what of it is known
	Field    string // below the object, e.g. "spec.ingress[0].from"; empty for the whole
	Message  string // a sentence
}
