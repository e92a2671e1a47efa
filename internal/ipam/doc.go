// Package ipam decides which pod gets which address and which node gets which
// pod CIDR. It is pure: it has no clock, does no I/O and knows nothing of
// Kubernetes; the time is an argument.
//
// Two things live here:
//
//   - Allocator hands the addresses of one node's pod CIDRs to owners
//     (endpoints) and lets returned addresses rest before they are used again.
//   - Carver hands ranges of cluster-wide pools to nodes.
//
// Invariants: no address and no range has two holders; a family that cannot be
// served leaves the other one untouched (all or nothing); the same calls in the
// same order give the same answers.
package ipam
