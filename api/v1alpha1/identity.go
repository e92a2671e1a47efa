package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PlacidIdentity is a number for a set of labels. Its name is the number. The
// operator alone creates and deletes it; it is never changed.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=placididentities,singular=placididentity,shortName=pid
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.labels.k8s:io\.kubernetes\.pod\.namespace`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.labels == oldSelf.labels && has(self.namedPorts) == has(oldSelf.namedPorts) && (!has(self.namedPorts) || self.namedPorts == oldSelf.namedPorts)",message="labels and namedPorts of an identity never change; other labels are another identity"
type PlacidIdentity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Labels are "source:key" to value: the identity-relevant labels of its pods.
	//
	// +kubebuilder:validation:MaxProperties=1024
	Labels map[string]string `json:"labels"`
	// NamedPorts are those of its pods' containers, ordered by name, protocol and
	// port.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=4096
	NamedPorts []NamedPort `json:"namedPorts,omitempty"`
}

// NamedPort is a container port with a name.
type NamedPort struct {
	Name string `json:"name"`
	// Protocol is TCP, UDP or SCTP.
	Protocol string `json:"protocol"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// PlacidIdentityList is a list of PlacidIdentity.
//
// +kubebuilder:object:root=true
type PlacidIdentityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []PlacidIdentity `json:"items"`
}
