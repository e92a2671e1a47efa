// +kubebuilder:object:generate=true
// +groupName=cilium.io

// Package v2 holds the objects of Cilium's API that Placid reads: its network
// policies and groups of CIDRs. The types are Placid's own.
//
// Invariants: every object that Cilium's own definitions accept decodes, and is
// encoded again with the same meaning: a list that is absent stays absent, an
// empty one empty, as they mean different things. Parts that Placid never looks
// into are kept as they are.
package v2
