package v2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CiliumCIDRGroup is a list of CIDRs that policies can name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=ciliumcidrgroups,singular=ciliumcidrgroup,shortName=ccg,categories={cilium}
type CiliumCIDRGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec CIDRGroupSpec `json:"spec"`
}

// CIDRGroupSpec is the CIDRs of a group.
type CIDRGroupSpec struct {
	// +listType=atomic
	ExternalCIDRs []string `json:"externalCIDRs"`
}

// CiliumCIDRGroupList is a list of CiliumCIDRGroup.
//
// +kubebuilder:object:root=true
type CiliumCIDRGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []CiliumCIDRGroup `json:"items"`
}
