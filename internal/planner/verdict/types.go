package verdict

import (
	"net/netip"

	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// Cluster is what both sides have in common.
type Cluster struct {
	Name  string // of the cluster, as labels have it
	Pods  []snapshot.Pod
	Nodes []snapshot.Node
}

// Side is what judges the traffic of a cluster.
type Side struct {
	// Policies have their references to other objects replaced; see
	// internal/policy/resolve.
	Policies   []state.NetworkPolicy
	Namespaces []state.Namespace
	Filter     identity.Filter
	Mode       policy.Mode
	AuditAll   bool
	// ByIdentity selects as Cilium does: pods and peers alike by the labels that the
	// filter keeps, so that a selector on another label matches as if no pod had it.
	// Otherwise pods are selected by their own labels, and a selector of peers on a
	// label that the filter leaves out selects nothing.
	ByIdentity bool
	// Identities are numbers of the identities of Cluster.Pods, in their order; equal
	// ones are equal identities. Nil if Result.Sizes need not count them.
	Identities []int
}

// Options say what to report. The zero Options report every change.
type Options struct {
	// Limit is the most changes to list; 0 lists all.
	Limit int
	// Flows are connections that Result.Cut is about.
	Flows []Flow
	// Progress is told how much of what is done. Nil is nobody.
	Progress func(what string, done, total int)
}

// PeerKind is what a Peer is.
type PeerKind string

// The kinds of peers.
const (
	Pods       PeerKind = "pods"
	Host       PeerKind = "host"        // the node that the pods of the other side are on
	RemoteNode PeerKind = "remote-node" // any other node
	Init       PeerKind = "init"        // a pod that has no identity yet
	World      PeerKind = "world"       // addresses outside the cluster in none of the regions
	Region     PeerKind = "region"      // addresses outside the cluster in a prefix
)

// Peer is one side of traffic: a group of pods that no policy can tell apart, or
// something that is no pod.
type Peer struct {
	Kind PeerKind `json:"kind"`
	Name string   `json:"name"` // different for different peers
	// Namespace, Labels, ServiceAccount and NamedPorts are what the pods have in
	// common of what policies name.
	Namespace      string            `json:"namespace,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	NamedPorts     []state.NamedPort `json:"namedPorts,omitempty"`
	// Pods is how many there are, Example the first by name.
	Pods    int    `json:"pods,omitempty"`
	Example string `json:"example,omitempty"`
	// Prefix without Without are the addresses of a region, or the part of it that
	// the pods or nodes have their addresses in.
	Prefix  netip.Prefix   `json:"prefix,omitzero"`
	Without []netip.Prefix `json:"without,omitempty"`
}

// Change is traffic from one peer to another whose verdict is not the same.
type Change struct {
	From Peer `json:"from"`
	To   Peer `json:"to"`
	// Family is "IPv4" or "IPv6" where the verdict of the other is another one, or
	// none; empty for both.
	Family string `json:"family,omitempty"`
	// Old and New are what is allowed, Opened and Closed how they differ.
	Old    Ports   `json:"old"`
	New    Ports   `json:"new"`
	Opened Ports   `json:"opened"`
	Closed Ports   `json:"closed"`
	Causes []Cause `json:"causes"`
}

// Effect is what a Cause does.
type Effect string

// The effects: the first three close, the others open.
const (
	DeniedNow    Effect = "denied now"            // by Rules
	IsolatedNow  Effect = "isolated now"          // by Policies, and no rule allows it
	AllowGone    Effect = "not allowed any more"  // by Rules, as before
	AllowedNow   Effect = "allowed now"           // by Rules
	IsolationOff Effect = "not isolated any more" // by Policies, as before
	DenyGone     Effect = "not denied any more"   // by Rules, as before
	// Otherwise: what Reason says, e.g. that policies are not enforced at all.
	Otherwise Effect = "for another reason"
)

// Cause is what a change comes from, in one direction.
type Cause struct {
	// Direction is ingress (of To) or egress (of From).
	Direction string `json:"direction"`
	Effect    Effect `json:"effect"`
	// Rules are e.g. "default/web spec.ingress[0]", Policies keys of policies; both
	// sorted.
	Rules    []string `json:"rules,omitempty"`
	Policies []string `json:"policies,omitempty"`
	Reason   string   `json:"reason,omitempty"`
}

// Size is how much the datapath has to hold of a side.
type Size struct {
	// Sets are the policy sets of all pods, Entries what is in them, if one node had
	// pods under each; Node is the node with most entries, NodeEntries are its.
	Sets        int    `json:"sets"`
	Entries     int    `json:"entries"`
	Node        string `json:"node,omitempty"`
	NodeEntries int    `json:"nodeEntries"`
	// PodEntries are the entries of all policy maps where every pod has its own and
	// a range of ports takes an entry for each prefix of its bits, as Cilium keeps
	// them; LargestPod has most, LargestPodEntries.
	PodEntries        int    `json:"podEntries"`
	LargestPod        string `json:"largestPod,omitempty"`
	LargestPodEntries int    `json:"largestPodEntries"`
}

// Result is what differs between two sides.
type Result struct {
	// Groups and Others are the peers: groups of pods, and the rest. Pairs are the
	// ordered pairs of them with at least one group.
	Groups int `json:"groups"`
	Others int `json:"others"`
	Pairs  int `json:"pairs"`
	// Changed counts all changes, also beyond the limit; Opened and Closed those
	// where something is, of which some are both.
	Changed int      `json:"changed"`
	Opened  int      `json:"opened"`
	Closed  int      `json:"closed"`
	Changes []Change `json:"changes"`
	// Cut are those of Options.Flows that are closed.
	Cut []Cut `json:"cut,omitempty"`
	// Unfit are sentences about policy sets that do not fit the datapath, of the old
	// side and of the new one.
	Unfit [2][]string `json:"unfit"`
	// Sizes are of the old side and of the new one, if Side.Identities are given.
	Sizes [2]Size `json:"sizes,omitzero"`
}
