// Package testutil is what tests of the kernel share: network namespaces,
// private BPF file systems, checks for what a test needs, and a check for
// descriptors that a test forgot.
//
// Invariants: everything made in the kernel is reached through a folder that is
// named by the process's id, so that the next run can tell what a killed one
// left, and removes it.
package testutil
