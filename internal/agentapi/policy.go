package agentapi

import (
	"net/netip"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// Paths of conntrack, identities and policy.
const (
	PathCT          = "/v1/conntrack"        // GET ?CTFilter → CTList; DELETE ?CTFilter → CTFlushed
	PathCTTop       = "/v1/conntrack/top"    // GET ?by=source|destination|pod&limit=N → []CTTalker
	PathCTCollect   = "/v1/conntrack/gc"     // POST → CTCollection
	PathIdentities  = "/v1/identities"       // GET → []IdentityInfo
	PathPolicy      = "/v1/policy"           // GET ?pod=NAMESPACE/NAME → []EndpointPolicy
	PathSelectors   = "/v1/policy/selectors" // GET → []SelectorInfo
	PathPolicyTrace = "/v1/policy/trace"     // POST TraceRequest → TraceResult
)

// CTFilter selects conntrack entries: those that meet every condition that is
// set. It travels as query parameters of the JSON names.
type CTFilter struct {
	// Pod is "namespace/name" of a pod of this node: either side of the flow.
	Pod string `json:"pod,omitempty"`
	// Addr is a prefix that either side is in.
	Addr netip.Prefix `json:"addr,omitzero"`
	// Port is a port of either side.
	Port uint16 `json:"port,omitempty"`
	// Proto is an IP protocol number; 0 is any.
	Proto uint8 `json:"proto,omitempty"`
	// State is one of the states of CTEntry; empty is any.
	State string `json:"state,omitempty"`
	// Limit is the most entries that a list gives; 0 is all. A flush has none.
	Limit int `json:"limit,omitempty"`
	// All says that every entry is meant: a flush without any condition needs it.
	All bool `json:"all,omitempty"`
}

// States of a conntrack entry.
const (
	CTStateNew         = "new"         // half open, or one way so far
	CTStateReplied     = "replied"     // the other side answered
	CTStateEstablished = "established" // a conversation
	CTStateClosing     = "closing"     // TCP: ended by both sides, or reset
)

// CTStates returns the states of a conntrack entry, in the order of its life.
func CTStates() []string {
	return []string{CTStateNew, CTStateReplied, CTStateEstablished, CTStateClosing}
}

// Tables that a conntrack entry may be in.
const (
	CTTableTCP = "tcp"
	CTTableAny = "any" // all other protocols
	CTTableNew = "new" // half open and one-way flows of all protocols
)

// CTEntry is one flow, from the side that began it.
type CTEntry struct {
	Proto       uint8          `json:"proto"`
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	State       string         `json:"state"`
	Flags       []string       `json:"flags,omitempty"` // names of enum ct_flags
	// Table is tcp, any or new.
	Table string `json:"table"`
	// Age since the first packet, Idle since the last one, Expires until the
	// entry is dead when no other packet comes; nanoseconds.
	Age     time.Duration `json:"age"`
	Idle    time.Duration `json:"idle"`
	Expires time.Duration `json:"expires"`
	// SourceIdentity and DestinationIdentity as they were when it was judged.
	SourceIdentity      uint32 `json:"sourceIdentity"`
	DestinationIdentity uint32 `json:"destinationIdentity"`
	Epoch               uint32 `json:"epoch"`
	SourcePod           string `json:"sourcePod,omitempty"` // of this node
	DestinationPod      string `json:"destinationPod,omitempty"`
	// Translated are the source and destination that packets of one side get:
	// those that come from TranslatedFrom. Invalid where nothing is translated.
	TranslatedFrom netip.AddrPort    `json:"translatedFrom,omitzero"`
	Translated     [2]netip.AddrPort `json:"translated,omitzero"`
	Service        uint32            `json:"service,omitempty"` // id; 0: masqueraded only
	Backend        uint32            `json:"backend,omitempty"` // id
}

// CTList is the answer to a list. Total counts all that match, also beyond the
// limit.
type CTList struct {
	Entries []CTEntry `json:"entries"`
	Total   int       `json:"total"`
}

// CTFlushed is the answer to a flush.
type CTFlushed struct {
	Deleted int `json:"deleted"`
}

// What CTTop counts entries by.
const (
	CTTopSource      = "source"      // address of the side that began
	CTTopDestination = "destination" // address of the other side
	CTTopPod         = "pod"         // pods of this node, either side
)

// CTTopKinds returns what CTTop counts by.
func CTTopKinds() []string { return []string{CTTopSource, CTTopDestination, CTTopPod} }

// CTTalker is one of those that have most entries.
type CTTalker struct {
	Name    string `json:"name"` // address or pod
	Entries int    `json:"entries"`
}

// CTCollection is the result of one collection.
type CTCollection struct {
	Alive   uint64        `json:"alive"`
	Deleted uint64        `json:"deleted"`
	Took    time.Duration `json:"took"`
	CPU     time.Duration `json:"cpu"`
}

// IdentityInfo is one identity as this node knows it.
type IdentityInfo struct {
	state.Identity
	// Addrs is how many addresses of the cluster have it.
	Addrs int `json:"addrs"`
}

// EndpointPolicy is what one pod of this node is under.
type EndpointPolicy struct {
	Endpoint uint32       `json:"endpoint"`
	Pod      state.PodRef `json:"pod"`
	Identity uint32       `json:"identity"`
	Ingress  PolicySet    `json:"ingress"`
	Egress   PolicySet    `json:"egress"`
}

// Enforcement of a PolicySet.
const (
	EnforcementOpen     = "open"     // nothing isolates the direction
	EnforcementEnforced = "enforced" // what no rule allows is dropped
	EnforcementAudited  = "audited"  // what no rule allows is counted and let through
	EnforcementRefused  = "refused"  // the set does not fit: another one is in force
)

// PolicySet is one direction of an EndpointPolicy.
type PolicySet struct {
	ID string `json:"id"` // hexadecimal; "0" is open, "1" closed
	// Enforcement is open, enforced, audited, or refused: the set does not fit,
	// Problem says why, and what ID names is in force instead.
	Enforcement string       `json:"enforcement"`
	Problem     string       `json:"problem,omitempty"`
	Policies    []string     `json:"policies,omitempty"` // that isolate, "namespace/name"
	Entries     []PolicyLine `json:"entries,omitempty"`
}

// PolicyLine is one thing that a set allows.
type PolicyLine struct {
	Peer  string   `json:"peer"`  // "any", an identity with its labels, or a prefix
	Ports []string `json:"ports"` // e.g. "80/TCP", "8000-8100/UDP"; "all"
	Rules []string `json:"rules"` // e.g. "default/allow-web ingress[0]"
}

// SelectorInfo is one selector of a policy in use and what it selects now.
type SelectorInfo struct {
	Selector   string   `json:"selector"`
	Policies   []string `json:"policies"`
	Identities []uint32 `json:"identities"`
}

// TraceRequest asks what becomes of a new flow. A side is "namespace/pod" or an
// address.
type TraceRequest struct {
	From     string         `json:"from"`
	To       string         `json:"to"`
	Port     uint16         `json:"port"`
	Protocol state.Protocol `json:"protocol"`
}

// TraceResult is the answer, a step for each direction that is judged.
type TraceResult struct {
	Allowed bool        `json:"allowed"`
	Audited bool        `json:"audited,omitempty"` // allowed only because of audit mode
	Steps   []TraceStep `json:"steps"`
}

// Directions of a TraceStep.
const (
	DirectionEgress  = "egress"
	DirectionIngress = "ingress"
)

// TraceStep is the verdict of one direction.
type TraceStep struct {
	Direction string `json:"direction"` // egress or ingress, from the pod's point of view
	Pod       string `json:"pod"`
	Allowed   bool   `json:"allowed"`
	// Rules are those that allow it. Isolated are the policies that isolate the
	// pod, when it is denied. Reason is one sentence.
	Rules    []string `json:"rules,omitempty"`
	Isolated []string `json:"isolated,omitempty"`
	Reason   string   `json:"reason"`
}

// PolicyStatus tells how this node enforces network policies.
type PolicyStatus struct {
	Mode  string `json:"mode"`            // the key enable-policy: default, always or never
	Audit bool   `json:"audit,omitempty"` // the key policy-audit-mode
	// Policies, Selectors and Identities count what the node knows; Isolated its
	// pods that a policy isolates.
	Policies   int `json:"policies"`
	Selectors  int `json:"selectors"`
	Identities int `json:"identities"`
	Isolated   int `json:"isolated"`
	// Staged is why the node does not enforce its first policies yet; empty once
	// it does.
	Staged string `json:"staged,omitempty"`
	// Problems has a sentence for each set that could not be put in force.
	Problems []string `json:"problems,omitempty"`
}

// CTTable tells how full one conntrack table is.
type CTTable struct {
	Entries uint64 `json:"entries"`
	Size    uint64 `json:"size"` // the most entries it takes
}

// ConntrackStatus tells how conntrack fares.
type ConntrackStatus struct {
	TCP CTTable `json:"tcp"`
	Any CTTable `json:"any"` // all other protocols
	New CTTable `json:"new"` // half open and one-way flows of all protocols
	// LastCollection is the last complete collection and CollectedAt when it
	// ended; nil before the first.
	LastCollection *CTCollection `json:"lastCollection,omitempty"`
	CollectedAt    time.Time     `json:"collectedAt,omitzero"`
	// Interval is the time between two collections, as it is now.
	Interval time.Duration `json:"interval"`
	// Problem is why collecting does not work; empty when it does.
	Problem string `json:"problem,omitempty"`
}
