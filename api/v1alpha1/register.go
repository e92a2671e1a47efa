package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion returns the group and version of the objects in this package.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "placid.io", Version: "v1alpha1"}
}

// AddToScheme registers the package's objects with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &PlacidNode{}, &PlacidNodeList{},
		&PlacidIdentity{}, &PlacidIdentityList{}, &PlacidEndpoints{}, &PlacidEndpointsList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
