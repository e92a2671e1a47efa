// Package preflight finds what is wrong, or not as it was probably meant, in the
// policies, the settings and the size of a cluster, before it is changed. It is
// pure: a snapshot and options in, findings out; no clock, no I/O.
//
// What to read: Check (check.go) runs all checks in order; codes.go is the registry
// of findings. scene.go compiles the cluster for the checks: pods that no selector
// tells apart are one group (groups.go), peers and ports of rules are sets of bits
// over the groups and the regions of addresses (peers.go, regions.go), and over the
// ranges of ports (ports.go) that the policies divide them into. Each other file is
// one kind of check.
//
// Invariants:
//
//   - What could not be read is an error, never nothing; what a check needs and the
//     snapshot does not have is said.
//   - What a finding calls useless is: a policy without a rule that is contained in
//     another, is denied as a whole, or is there twice, gives the same verdicts.
//   - The same arguments give the same findings in the same order.
package preflight
