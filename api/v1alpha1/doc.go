// +kubebuilder:object:generate=true
// +groupName=placid.io

// Package v1alpha1 holds Placid's own Kubernetes objects.
//
// Invariants: each field has one writer, named in its comment; the operator
// writes specs, the agent of a node writes the status of that node's object.
package v1alpha1
