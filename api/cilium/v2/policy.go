package v2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// CiliumNetworkPolicy is about pods of its own namespace. It has a spec, specs or
// both; each is a policy of its own.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,path=ciliumnetworkpolicies,singular=ciliumnetworkpolicy,shortName={cnp,ciliumnp},categories={cilium,ciliumpolicy}
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=='Valid')].status`
type CiliumNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec *Rule `json:"spec,omitempty"`
	// +optional
	// +listType=atomic
	Specs []*Rule `json:"specs,omitzero"`
	// +optional
	Status Status `json:"status,omitzero"`
}

// CiliumNetworkPolicyList is a list of CiliumNetworkPolicy.
//
// +kubebuilder:object:root=true
type CiliumNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []CiliumNetworkPolicy `json:"items"`
}

// CiliumClusterwideNetworkPolicy is about pods of all namespaces, or about nodes.
// It has a spec, specs or both; each is a policy of its own.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ciliumclusterwidenetworkpolicies,singular=ciliumclusterwidenetworkpolicy,shortName=ccnp,categories={cilium,ciliumpolicy}
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=='Valid')].status`
type CiliumClusterwideNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec *Rule `json:"spec,omitempty"`
	// +optional
	// +listType=atomic
	Specs []*Rule `json:"specs,omitzero"`
	// +optional
	Status Status `json:"status,omitzero"`
}

// CiliumClusterwideNetworkPolicyList is a list of CiliumClusterwideNetworkPolicy.
//
// +kubebuilder:object:root=true
type CiliumClusterwideNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []CiliumClusterwideNetworkPolicy `json:"items"`
}

// Status is what agents and operators say about a policy.
//
// +kubebuilder:pruning:PreserveUnknownFields
type Status struct {
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition is one statement of a Status.
type Condition struct {
	Type   string `json:"type"`
	Status string `json:"status"` // True, False or Unknown
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}

// Rule is one policy: whom it is about, and the traffic that it allows and
// denies. It has one of endpointSelector and nodeSelector, and at least one of the
// four lists.
type Rule struct {
	// EndpointSelector selects pods: by their own labels ("app", "k8s:app") and
	// those that stand for their namespace, its labels and their service account.
	//
	// +optional
	EndpointSelector *metav1.LabelSelector `json:"endpointSelector,omitempty"`
	// NodeSelector selects nodes by their labels.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// +optional
	// +listType=atomic
	Ingress []IngressRule `json:"ingress,omitzero"`
	// +optional
	// +listType=atomic
	IngressDeny []IngressRule `json:"ingressDeny,omitzero"`
	// +optional
	// +listType=atomic
	Egress []EgressRule `json:"egress,omitzero"`
	// +optional
	// +listType=atomic
	EgressDeny []EgressRule `json:"egressDeny,omitzero"`

	// EnableDefaultDeny says what becomes of traffic that no rule is about: where
	// it is absent, traffic of a direction that has rules is denied.
	//
	// +optional
	EnableDefaultDeny DefaultDeny `json:"enableDefaultDeny,omitzero"`
	// Labels are there for people and programs that look for rules.
	//
	// +optional
	// +listType=atomic
	Labels []Label `json:"labels,omitzero"`
	// +optional
	Description string `json:"description,omitempty"`
	// +optional
	Log *Log `json:"log,omitempty"`
}

// DefaultDeny says for each direction whether traffic that no rule is about is
// denied.
type DefaultDeny struct {
	// +optional
	Ingress *bool `json:"ingress,omitempty"`
	// +optional
	Egress *bool `json:"egress,omitempty"`
}

// Label is a label of a rule.
type Label struct {
	Key string `json:"key"`
	// +optional
	Source string `json:"source,omitempty"`
	// +optional
	Value string `json:"value,omitempty"`
}

// Log is what is written along with verdicts.
type Log struct {
	// +optional
	Value string `json:"value,omitempty"`
}

// IngressRule is about traffic from peers to ports of the selected pods. At most
// one of the kinds of peers has items. Without any list of peers all are meant; an
// empty list means none. ToPorts and ICMPs exclude each other.
type IngressRule struct {
	// +optional
	// +listType=atomic
	FromEndpoints []*metav1.LabelSelector `json:"fromEndpoints,omitzero"`
	// FromRequires is no longer enforced by Cilium either.
	//
	// +optional
	// +listType=atomic
	FromRequires []*metav1.LabelSelector `json:"fromRequires,omitzero"`
	// +optional
	// +listType=atomic
	FromCIDR []string `json:"fromCIDR,omitzero"`
	// +optional
	// +listType=atomic
	FromCIDRSet []CIDRRule `json:"fromCIDRSet,omitzero"`
	// +optional
	// +listType=atomic
	FromEntities []Entity `json:"fromEntities,omitzero"`
	// +optional
	// +listType=atomic
	FromNodes []*metav1.LabelSelector `json:"fromNodes,omitzero"`
	// FromGroups are groups of a cloud provider.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	FromGroups []runtime.RawExtension `json:"fromGroups,omitzero"`

	// +optional
	// +listType=atomic
	ToPorts []PortRule `json:"toPorts,omitzero"`
	// +optional
	// +listType=atomic
	ICMPs []ICMPRule `json:"icmps,omitzero"`
	// +optional
	Authentication *Authentication `json:"authentication,omitempty"`
}

// EgressRule is about traffic from the selected pods to ports of peers. At most
// one of the kinds of peers has items. Without any list of peers all are meant; an
// empty list means none. ToPorts and ICMPs exclude each other.
type EgressRule struct {
	// +optional
	// +listType=atomic
	ToEndpoints []*metav1.LabelSelector `json:"toEndpoints,omitzero"`
	// ToRequires is no longer enforced by Cilium either.
	//
	// +optional
	// +listType=atomic
	ToRequires []*metav1.LabelSelector `json:"toRequires,omitzero"`
	// +optional
	// +listType=atomic
	ToCIDR []string `json:"toCIDR,omitzero"`
	// +optional
	// +listType=atomic
	ToCIDRSet []CIDRRule `json:"toCIDRSet,omitzero"`
	// +optional
	// +listType=atomic
	ToEntities []Entity `json:"toEntities,omitzero"`
	// +optional
	// +listType=atomic
	ToServices []Service `json:"toServices,omitzero"`
	// +optional
	// +listType=atomic
	ToFQDNs []FQDNSelector `json:"toFQDNs,omitzero"`
	// +optional
	// +listType=atomic
	ToNodes []*metav1.LabelSelector `json:"toNodes,omitzero"`
	// ToGroups are groups of a cloud provider.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	ToGroups []runtime.RawExtension `json:"toGroups,omitzero"`

	// +optional
	// +listType=atomic
	ToPorts []PortRule `json:"toPorts,omitzero"`
	// +optional
	// +listType=atomic
	ICMPs []ICMPRule `json:"icmps,omitzero"`
	// +optional
	Authentication *Authentication `json:"authentication,omitempty"`
}

// Entity is a peer by what it is.
//
// +kubebuilder:validation:Enum=all;world;world-ipv4;world-ipv6;cluster;host;init;ingress;unmanaged;remote-node;health;none;kube-apiserver
type Entity string

// CIDRRule is the addresses of a CIDR, or of a CiliumCIDRGroup by its name or its
// labels, without the exceptions.
type CIDRRule struct {
	// +optional
	CIDR string `json:"cidr,omitempty"`
	// +optional
	CIDRGroupRef string `json:"cidrGroupRef,omitempty"`
	// +optional
	CIDRGroupSelector *metav1.LabelSelector `json:"cidrGroupSelector,omitempty"`
	// Except are CIDRs inside of CIDR.
	//
	// +optional
	// +listType=atomic
	Except []string `json:"except,omitempty"`
}

// Service is a Service by its name, or those that a selector selects.
type Service struct {
	// +optional
	K8sService *K8sService `json:"k8sService,omitempty"`
	// +optional
	K8sServiceSelector *K8sServiceSelector `json:"k8sServiceSelector,omitempty"`
}

// K8sService is a Service by its name.
type K8sService struct {
	// +optional
	ServiceName string `json:"serviceName,omitempty"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// K8sServiceSelector selects Services by their labels, of all namespaces where
// none is given.
type K8sServiceSelector struct {
	Selector *metav1.LabelSelector `json:"selector"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// FQDNSelector selects names of the DNS.
type FQDNSelector struct {
	// +optional
	MatchName string `json:"matchName,omitempty"`
	// +optional
	MatchPattern string `json:"matchPattern,omitempty"`
}

// PortRule is ports, and what is asked of the traffic to them above layer 4.
type PortRule struct {
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=40
	Ports []PortProtocol `json:"ports,omitempty"`
	// +optional
	Rules *L7Rules `json:"rules,omitempty"`
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	TerminatingTLS *runtime.RawExtension `json:"terminatingTLS,omitempty"`
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	OriginatingTLS *runtime.RawExtension `json:"originatingTLS,omitempty"`
	// +optional
	// +listType=atomic
	ServerNames []string `json:"serverNames,omitempty"`
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Listener *runtime.RawExtension `json:"listener,omitempty"`
}

// PortProtocol is a port, or a range of them, and a protocol.
type PortProtocol struct {
	// Port is a number from 0 to 65535, where 0 is all ports, or the name of a port.
	//
	// +kubebuilder:validation:MaxLength=63
	Port string `json:"port"`
	// EndPort is the last port of the range that begins with Port; 0 is none.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	EndPort int32 `json:"endPort,omitempty"`
	// Protocol is ANY where it is absent: of TCP, UDP and SCTP.
	//
	// +optional
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP;ICMP;ICMPV6;VRRP;IGMP;GRE;IPIP;IPV6;ESP;AH;ANY
	Protocol string `json:"protocol,omitempty"`
}

// L7Rules are rules about what is said on a connection. An absent list is not an
// empty one.
type L7Rules struct {
	// +optional
	// +listType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	HTTP []runtime.RawExtension `json:"http,omitzero"`
	// +optional
	// +listType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	Kafka []runtime.RawExtension `json:"kafka,omitzero"`
	// +optional
	// +listType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	DNS []runtime.RawExtension `json:"dns,omitzero"`
	// +optional
	// +listType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	L7 []runtime.RawExtension `json:"l7,omitzero"`
	// +optional
	L7Proto string `json:"l7proto,omitempty"`
}
