package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/state"
)

// SetID names a policy set: the rules of one direction that pods share. It is
// the first eight bytes of SHA-256 over the canonical text of the set, so the
// same rules have the same number on every node and after every restart.
type SetID uint64

// The sets that are not made of rules.
const (
	SetOpen   SetID = 0 // no policy isolates the direction or denies anything: all is allowed
	SetClosed SetID = 1 // nothing is allowed: the pod's first set could not be installed
)

// PeerID is the other side of a flow as policy sees it: PeerAny, an identity's
// number, or a prefix (top bit set, the rest from SHA-256 of its text).
type PeerID uint64

// PeerAny stands for every peer.
const PeerAny PeerID = 0

// PortsID names a list of port ranges, by its content as SetID does. In a list are
// first those that deny, of each kind none that touch, and none that another makes
// meaningless. PortsAll is no list: every protocol and port is allowed.
type PortsID uint64

// PortsAll allows every protocol and port.
const PortsAll PortsID = 0

// PortRange is the ports First to Last, both included, of one protocol; of ICMP
// the types. state.ProtocolAny is every protocol, and has all ports, 0 to 65535.
type PortRange struct {
	Protocol    state.Protocol
	First, Last uint16
	Deny        bool // denied, whatever else allows it
	Outside     bool // counts only for peers that are neither pod nor node: state.IdentityWorld
}

// EntryKey is the key of one entry: traffic of a pod under Set with Peer.
type EntryKey struct {
	Set  SetID
	Peer PeerID
}

func (k EntryKey) compare(o EntryKey) int {
	return cmp.Or(cmp.Compare(k.Set, o.Set), cmp.Compare(k.Peer, o.Peer))
}

// Entry is what is allowed with that peer, and what is denied. The ports of an
// entry never change while its set is in use and its identity has the same labels;
// entries come and go.
type Entry struct {
	Ports PortsID
	// Rules are the indexes into the set's Rules that the entry comes from.
	Rules []int
}

// RuleRef names the rule that an entry comes from.
type RuleRef struct {
	Policy string // state.NetworkPolicy.Key
	Index  int    // in the list that it is in
	Deny   bool   // in the list of rules that deny
}

// Field gives where the rule is in its object, e.g. "spec.ingressDeny[1]", or
// "specs[2].egress[0]" when the policy's key says that it is part 3
// (state.NetworkPolicy.Part).
func (r RuleRef) Field(egress bool) string {
	spec, field := "spec", "ingress"
	if _, text, ok := strings.Cut(r.Policy, "#"); ok {
		if part, err := strconv.Atoi(text); err == nil {
			spec = fmt.Sprintf("specs[%d]", part-1)
		}
	}
	if egress {
		field = "egress"
	}
	if r.Deny {
		field += "Deny"
	}
	return fmt.Sprintf("%s.%s[%d]", spec, field, r.Index)
}

// Set is one policy set with all its entries.
type Set struct {
	ID      SetID
	Egress  bool
	Rules   []RuleRef // every rule, in the order of its policies' keys
	Names   []string  // the keys of the policies that make it, sorted
	Entries map[PeerID]Entry
}

// EndpointPolicy is what a pod is under. Audit flags turn a drop of that
// direction into a count.
type EndpointPolicy struct {
	Ingress, Egress           SetID
	AuditIngress, AuditEgress bool
}

// Subject is a pod of this node that policies may select.
type Subject struct {
	Endpoint uint32 // state.Endpoint.ID
	Pod      state.PodRef
	Labels   map[string]string // the pod's own, unfiltered
	// Derived is what the pod has besides its own labels, by the keys that
	// identities have ("k8s:io.kubernetes.pod.namespace"): the name and the labels
	// of its namespace, its service account and its cluster, unfiltered.
	Derived    map[string]string
	NamedPorts []state.NamedPort
}

// Update is the difference that a batch of changes made. The order in which it
// can be written without a moment in which anything wrong is dropped or let
// through: Ports, then Sets and Grown; CIDRs; Endpoints; DroppedCIDRs; Shrunk;
// then the epoch if Revokes; then DroppedSets and DroppedPorts. Shrunk comes
// after DroppedCIDRs because a prefix hides wider ones while it is there, and
// before the epoch because no flow may be judged by what goes. An entry is one
// row: what it denies comes and goes with what it allows, so denies need no order
// of their own. A row that cannot be written must not be left out when its list
// denies something.
type Update struct {
	Ports map[PortsID][]PortRange // new lists
	Sets  map[SetID]*Set          // sets that came into use, whole
	// Grown are entries that sets got which were in use before: a new identity, a
	// new prefix. Also sets that this Update drops get entries, for those prefixes
	// that come before their endpoints leave them.
	Grown map[EntryKey]Entry
	CIDRs map[netip.Prefix]PeerID // new prefixes
	// Endpoints are the pods whose sets changed, by state.Endpoint.ID.
	Endpoints map[uint32]EndpointPolicy
	// DroppedEndpoints are those of subjects that were removed. They must not name
	// their sets any more when DroppedSets are written: of a set that is half gone
	// the half that denies may be the one.
	DroppedEndpoints []uint32
	// Revokes is true when something that was allowed may not be any more.
	Revokes      bool
	Shrunk       []EntryKey
	DroppedSets  []SetID // with all entries that they have by then
	DroppedCIDRs []netip.Prefix
	DroppedPorts []PortsID
	// Renamed are sets in use whose Rules or Names changed, whole. The datapath has
	// nothing to write for them.
	Renamed map[SetID]*Set
	// Refused are refusals that are new or changed; Engine.Refusals has all.
	Refused map[SetID]Refusal
}

// Refusal says why a set, or an entry of it, is not in force. Nothing is opened
// by it: its subjects stay at the sets they have, or at SetClosed.
type Refusal struct {
	Names  []string // the keys of the policies that make the set, sorted
	Reason string   // a sentence that says what to do
	// Endpoints are the subjects that should be under the set and are not, sorted.
	// There are none when only entries are left out.
	Endpoints []uint32
}

// Empty tells whether there is nothing to write and nothing to tell.
func (u Update) Empty() bool {
	return len(u.Ports)+len(u.Sets)+len(u.Grown)+len(u.CIDRs)+len(u.Endpoints)+len(u.DroppedEndpoints)+
		len(u.Shrunk)+len(u.DroppedSets)+len(u.DroppedCIDRs)+len(u.DroppedPorts)+len(u.Renamed)+len(u.Refused) == 0 && !u.Revokes
}

// Tables is everything that should be in force.
type Tables struct {
	Ports     map[PortsID][]PortRange
	Sets      map[SetID]*Set
	CIDRs     map[netip.Prefix]PeerID
	Endpoints map[uint32]EndpointPolicy
}
