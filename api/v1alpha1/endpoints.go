package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PlacidEndpoints tells the other nodes which addresses the pods of one node
// have, and who they are. It has the name of the node. The node's agent alone
// writes it; without any policy it does not exist.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=placidendpoints,singular=placidendpoints,shortName=pe
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PlacidEndpoints struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Endpoints are all endpoints of the node, ordered by namespace and name.
	//
	// +optional
	// +listType=atomic
	Endpoints []PublishedEndpoint `json:"endpoints,omitempty"`
}

// PublishedEndpoint is one pod.
type PublishedEndpoint struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Addresses of the pod, IPv4 first.
	//
	// +listType=atomic
	Addresses []string `json:"addresses"`
	// Identity is its PlacidIdentity's number, or 5 (init) while it has none.
	Identity int64 `json:"identity"`
	// Since is when the endpoint got this identity.
	Since metav1.MicroTime `json:"since"`
}

// PlacidEndpointsList is a list of PlacidEndpoints.
//
// +kubebuilder:object:root=true
type PlacidEndpointsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []PlacidEndpoints `json:"items"`
}
