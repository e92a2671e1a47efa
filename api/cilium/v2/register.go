package v2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion returns the group and version of the objects in this package.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "cilium.io", Version: "v2"}
}

// AddToScheme registers the package's objects with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &CiliumNetworkPolicy{}, &CiliumNetworkPolicyList{},
		&CiliumClusterwideNetworkPolicy{}, &CiliumClusterwideNetworkPolicyList{}, &CiliumCIDRGroup{}, &CiliumCIDRGroupList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
