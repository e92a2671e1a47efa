package v2

import "k8s.io/apimachinery/pkg/util/intstr"

// ICMPRule is types of ICMP messages.
type ICMPRule struct {
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=40
	Fields []ICMPField `json:"fields,omitempty"`
}

// ICMPField is one type of messages of a family.
type ICMPField struct {
	// Family is IPv4 where it is absent.
	//
	// +optional
	// +kubebuilder:default=IPv4
	// +kubebuilder:validation:Enum=IPv4;IPv6
	Family string `json:"family,omitempty"`
	// Type is a number from 0 to 255, or its name, e.g. EchoRequest.
	//
	// +kubebuilder:validation:XIntOrString
	Type *intstr.IntOrString `json:"type"`
}

// Authentication is what peers must prove.
type Authentication struct {
	// +kubebuilder:validation:Enum=disabled;required;test-always-fail
	Mode string `json:"mode"`
}
