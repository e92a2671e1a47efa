package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PlacidNode is what the cluster knows about one node's pod network. It has the
// name of the Node object, which owns it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=placidnodes,singular=placidnode,shortName=pn
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Pod CIDRs",type=string,JSONPath=`.spec.podCIDRs`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.status.routingMode`
// +kubebuilder:printcolumn:name="MTU",type=integer,JSONPath=`.status.mtu`
// +kubebuilder:printcolumn:name="Agent",type=string,JSONPath=`.status.agentVersion`
type PlacidNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PlacidNodeSpec   `json:"spec,omitempty"`
	Status PlacidNodeStatus `json:"status,omitempty"`
}

// PlacidNodeSpec is written by the operator alone.
type PlacidNodeSpec struct {
	// PodCIDRs are the ranges of this node's pod addresses: carved from the
	// pools (ipam cluster-pool) or copied from the Node object (ipam
	// kubernetes). Canonical prefixes, at most one a family.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	PodCIDRs []string `json:"podCIDRs,omitempty"`
	// Addresses are the Node object's InternalIP addresses, in its order.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Addresses []string `json:"addresses,omitempty"`
}

// PlacidNodeStatus is written by the node's agent, except OperatorError.
type PlacidNodeStatus struct {
	// MTU of the node's pod interfaces in bytes.
	//
	// +optional
	MTU int32 `json:"mtu,omitempty"`
	// RoutingMode is the agent's routing-mode: native or tunnel.
	//
	// +optional
	RoutingMode string `json:"routingMode,omitempty"`
	// AgentVersion is the version of the agent that wrote the status last.
	//
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
	// OperatorError says what is wrong with the node's pod CIDRs and what to do:
	// the pool is used up, they overlap those of an older node, or the Node
	// object has none; empty when nothing is. Written by the operator.
	//
	// +optional
	OperatorError string `json:"operatorError,omitempty"`
}

// PlacidNodeList is a list of PlacidNode.
//
// +kubebuilder:object:root=true
type PlacidNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []PlacidNode `json:"items"`
}
