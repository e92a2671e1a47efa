// Package identity says which labels make the identity of a pod. It is pure: it
// has no clock, does no I/O and knows nothing of Kubernetes; the time is an
// argument.
//
// These live here:
//
//   - Filter is the key `labels`: it keeps the labels that matter and leaves out
//     those that differ from pod to pod.
//   - PodLabels, Of and Key turn a pod into labels, into what of them is its
//     identity, and that into one canonical string.
//   - Unmatchable and Unlabelled find what a filter would break.
//   - Churn finds the labels that make ever new identities.
//   - Table finds an identity by its canonical string or its number.
//
// Labels are maps of "source:key" to value, e.g. "k8s:app" to "web".
//
// Invariants: pods with equal identity labels and equal named ports have equal
// keys, and no others do; the built-in patterns are part of every filter; the
// same arguments give the same answers, lists in the same order.
package identity
