// Package verdict compares what the pods of a whole cluster may say to one
// another, and to everybody else, under two sets of policies. It is pure: it has
// no clock and does no I/O; the same arguments give the same answer.
//
// What decides is policy.Engine, which the datapath is fed from. Pods that no
// policy can tell apart are one group. Peers besides groups are nodes, pods
// without an identity yet, and the rest of the world: it is divided by the blocks
// of all policies into regions, a prefix each without the longer ones in it.
//
// What to read: Compare (compare.go) goes through pairs of peers; mention.go and
// group.go make groups of pods, region.go regions of prefixes; side.go asks an
// Engine about all of them; ports.go is the algebra of ports; cause.go names the
// rules that a change comes from.
//
// Invariants:
//
//   - Two pods of a group have the same verdict with every peer, under both sides.
//   - What a policy only audits is allowed, as it is in the datapath.
//   - A region has at least one address; every address outside the cluster is in
//     just one.
package verdict
