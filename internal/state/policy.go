package state

import "net/netip"

// NetworkPolicy is a Kubernetes NetworkPolicy (networking.k8s.io/v1) with its
// defaults filled in.
type NetworkPolicy struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	UID       string   `json:"uid,omitempty"`
	Subject   Selector `json:"subject"` // spec.podSelector
	// IsolatesIngress and IsolatesEgress are spec.policyTypes, after its rule
	// for an absent list: ingress always, egress when there is an egress list.
	IsolatesIngress bool         `json:"isolatesIngress"`
	IsolatesEgress  bool         `json:"isolatesEgress"`
	Ingress         []PolicyRule `json:"ingress,omitempty"`
	Egress          []PolicyRule `json:"egress,omitempty"`
	// Audit is the annotation placid.io/policy-audit: "true": the policy isolates
	// nothing; what it would drop is counted.
	Audit bool `json:"audit,omitempty"`
	// Problems are the parts that could not be understood, and so allow nothing:
	// a sentence each that begins with the field, in order.
	Problems []string `json:"problems,omitempty"`
}

// Key gives "namespace/name".
func (p NetworkPolicy) Key() string { return p.Namespace + "/" + p.Name }

// PolicyRule allows traffic with any of the peers on any of the ports. No peers
// at all are all peers, no ports at all are all ports and protocols.
type PolicyRule struct {
	Peers []PolicyPeer `json:"peers,omitempty"`
	Ports []PolicyPort `json:"ports,omitempty"`
}

// PolicyPeer is either a Block, or pods: those that Pods selects in the
// namespaces that Namespaces selects. A nil Namespaces is the policy's own
// namespace, a nil Pods is all pods. Both nil and no Block selects nothing.
type PolicyPeer struct {
	Pods       *Selector `json:"pods,omitempty"`
	Namespaces *Selector `json:"namespaces,omitempty"`
	Block      *IPBlock  `json:"block,omitempty"`
}

// IPBlock is every address of CIDR that is in none of Except. All masked.
type IPBlock struct {
	CIDR   netip.Prefix   `json:"cidr"`
	Except []netip.Prefix `json:"except,omitempty"`
}

// PolicyPort is one protocol and a port: a name, or the range from Port to
// EndPort. Name empty and Port 0 are all ports of the protocol. EndPort 0 is
// Port alone.
type PolicyPort struct {
	Protocol Protocol `json:"protocol"`
	Name     string   `json:"name,omitempty"`
	Port     uint16   `json:"port,omitempty"`
	EndPort  uint16   `json:"endPort,omitempty"`
}

// Selector is a label selector. The empty one selects everything.
type Selector struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
	Expressions []Requirement     `json:"expressions,omitempty"`
}

// Operator is the operator of a Requirement, with Kubernetes' names.
type Operator string

// The operators.
const (
	OperatorIn           Operator = "In"
	OperatorNotIn        Operator = "NotIn"
	OperatorExists       Operator = "Exists"
	OperatorDoesNotExist Operator = "DoesNotExist"
)

// Requirement is one expression of a selector.
type Requirement struct {
	Key      string   `json:"key"`
	Operator Operator `json:"operator"`
	Values   []string `json:"values,omitempty"`
}
