package state

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
)

// PolicyKind is the kind of object that a NetworkPolicy was read from.
type PolicyKind string

// The kinds. The zero value is Kubernetes' own.
const (
	PolicyKubernetes        PolicyKind = ""
	PolicyCilium            PolicyKind = "CiliumNetworkPolicy"
	PolicyCiliumClusterwide PolicyKind = "CiliumClusterwideNetworkPolicy"
)

// String gives the kind's name in the API.
func (k PolicyKind) String() string { return cmp.Or(string(k), "NetworkPolicy") }

// NetworkPolicy is a policy with its defaults filled in: a Kubernetes
// NetworkPolicy (networking.k8s.io/v1), or one rule (spec, or an item of specs)
// of a CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy (cilium.io/v2).
type NetworkPolicy struct {
	Kind      PolicyKind `json:"kind,omitempty"`
	Namespace string     `json:"namespace,omitempty"` // empty for a clusterwide one
	Name      string     `json:"name"`
	// Part is 0 for spec, and n for the item n-1 of specs.
	Part int    `json:"part,omitempty"`
	UID  string `json:"uid,omitempty"`
	// Subject selects pods: of Kubernetes' kind by the keys of their own labels in
	// the policy's namespace (spec.podSelector), of the others by the keys that
	// identities have, e.g. "k8s:app" or "k8s:io.kubernetes.pod.namespace"
	// (spec.endpointSelector, with the namespace of a CiliumNetworkPolicy added).
	Subject Selector `json:"subject"`
	// IsolatesIngress and IsolatesEgress are spec.policyTypes, after its rule
	// for an absent list: ingress always, egress when there is an egress list. Of
	// the other kinds: spec.enableDefaultDeny, and where that is absent whether
	// there are rules of the direction, of either action.
	IsolatesIngress bool         `json:"isolatesIngress"`
	IsolatesEgress  bool         `json:"isolatesEgress"`
	Ingress         []PolicyRule `json:"ingress,omitempty"`
	Egress          []PolicyRule `json:"egress,omitempty"`
	// IngressDeny and EgressDeny take away what any policy allows. They hold for
	// the pods that the policy selects also where nothing isolates them.
	IngressDeny []PolicyRule `json:"ingressDeny,omitempty"`
	EgressDeny  []PolicyRule `json:"egressDeny,omitempty"`
	// Audit is the annotation placid.io/policy-audit: "true": the policy isolates
	// nothing; what it would drop is counted.
	Audit bool `json:"audit,omitempty"`
	// Problems are the parts that could not be understood, and so allow nothing:
	// a sentence each that begins with the field, in order.
	Problems []string `json:"problems,omitempty"`
	// Unsupported are the parts that are well formed and that Placid does not
	// enforce, in the form of Problems. They allow nothing either.
	Unsupported []string `json:"unsupported,omitempty"`
}

// Key names the policy among those of all kinds: "namespace/name" for
// Kubernetes' own, "cnp/namespace/name" and "ccnp/name" for the others, with
// "#part" for the parts of specs.
func (p NetworkPolicy) Key() string {
	key := p.Namespace + "/" + p.Name
	switch p.Kind {
	case PolicyKubernetes:
		return key
	case PolicyCilium:
		key = "cnp/" + key
	case PolicyCiliumClusterwide:
		key = "ccnp" + key
	}
	if p.Part > 0 {
		key += "#" + strconv.Itoa(p.Part)
	}
	return key
}

// Field names the part of the object that the policy is: "spec" or "specs[n]".
func (p NetworkPolicy) Field() string {
	if p.Part > 0 {
		return "specs[" + strconv.Itoa(p.Part-1) + "]"
	}
	return "spec"
}

// PolicyRule is about traffic with any of the peers on any of the ports. No peers
// at all are all peers, no ports at all are all ports and protocols.
type PolicyRule struct {
	Peers []PolicyPeer `json:"peers,omitempty"`
	Ports []PolicyPort `json:"ports,omitempty"`
}

// PolicyPeer is one of
//   - pods: those that Pods selects in the namespaces that Namespaces selects. A
//     nil Namespaces is the policy's own namespace, a nil Pods is all pods;
//   - Endpoints: pods, by the keys that identities have ("k8s:app");
//   - Block, Entity, Nodes, Service and CIDRGroup.
//
// Nothing at all selects nothing. Nodes, Service, CIDRGroup and some entities are
// references to other objects, which internal/policy/resolve replaces by what
// they stand for. One that was not replaced selects nothing in a rule that
// allows, and everything in a rule that denies.
type PolicyPeer struct {
	Pods       *Selector `json:"pods,omitempty"`
	Namespaces *Selector `json:"namespaces,omitempty"`
	Endpoints  *Selector `json:"endpoints,omitempty"`
	Block      *IPBlock  `json:"block,omitempty"`
	Entity     Entity    `json:"entity,omitempty"`
	// Nodes selects nodes, this one too, by their own labels.
	Nodes     *Selector    `json:"nodes,omitempty"`
	Service   *ServicePeer `json:"service,omitempty"`
	CIDRGroup *GroupPeer   `json:"cidrGroup,omitempty"`
}

// Entity is a peer by what it is, with Cilium's names.
type Entity string

// The entities. Cluster is every pod and node; KubeAPIServer the addresses of the
// Service default/kubernetes' endpoints. Health, Ingress and Unmanaged are
// nothing that Placid has, and None is nothing at all.
const (
	EntityAll           Entity = "all"
	EntityWorld         Entity = "world"
	EntityWorldIPv4     Entity = "world-ipv4"
	EntityWorldIPv6     Entity = "world-ipv6"
	EntityCluster       Entity = "cluster"
	EntityHost          Entity = "host"
	EntityRemoteNode    Entity = "remote-node"
	EntityInit          Entity = "init"
	EntityKubeAPIServer Entity = "kube-apiserver"
	EntityHealth        Entity = "health"
	EntityIngress       Entity = "ingress"
	EntityUnmanaged     Entity = "unmanaged"
	EntityNone          Entity = "none"
)

// ServicePeer is a Service by its name, or those that a selector on their labels
// selects in Namespace; an empty Namespace then means all. What is meant are the
// backends: the pods of a Service that selects pods, the addresses of another.
type ServicePeer struct {
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"`
	Selector  *Selector `json:"selector,omitempty"`
}

// GroupPeer is the CIDRs of the CIDRGroup with the name, or of those that a
// selector on their labels selects, without Except. As in a Block that is
// Outside, no pod and no node is meant.
type GroupPeer struct {
	Name     string         `json:"name,omitempty"`
	Selector *Selector      `json:"selector,omitempty"`
	Except   []netip.Prefix `json:"except,omitempty"`
}

// CIDRGroup is a CiliumCIDRGroup (cilium.io/v2).
type CIDRGroup struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	CIDRs  []netip.Prefix    `json:"cidrs,omitempty"` // masked
	// Problems are CIDRs that could not be understood, a sentence each.
	Problems []string `json:"problems,omitempty"`
}

// IPBlock is every address of CIDR that is in none of Except. All masked.
type IPBlock struct {
	CIDR   netip.Prefix   `json:"cidr"`
	Except []netip.Prefix `json:"except,omitempty"`
	// Outside leaves out the addresses of pods and nodes, as Cilium's CIDR rules
	// do.
	Outside bool `json:"outside,omitempty"`
}

// PolicyPort is one protocol and a port: a name, or the range from Port to
// EndPort. Name empty and Port 0 are all ports of the protocol. EndPort 0 is
// Port alone. Of ProtocolICMP and ProtocolICMPv6 it is the ICMP type of the first
// packet of a flow, all types where it is nil; they have no ports. Any other
// number of a protocol has neither.
type PolicyPort struct {
	Protocol Protocol `json:"protocol"`
	Name     string   `json:"name,omitempty"`
	Port     uint16   `json:"port,omitempty"`
	EndPort  uint16   `json:"endPort,omitempty"`
	ICMPType *uint8   `json:"icmpType,omitempty"`
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

// Holds tells whether the operator with these values is fulfilled by the value of a
// label, ok being false where there is no such label. An operator that is not known
// is never fulfilled.
func (o Operator) Holds(values []string, value string, ok bool) bool {
	switch o {
	case OperatorIn:
		return ok && slices.Contains(values, value)
	case OperatorNotIn:
		return !ok || !slices.Contains(values, value)
	case OperatorExists:
		return ok
	case OperatorDoesNotExist:
		return !ok
	}
	return false
}

// Requirement is one expression of a selector.
type Requirement struct {
	Key      string   `json:"key"`
	Operator Operator `json:"operator"`
	Values   []string `json:"values,omitempty"`
}
