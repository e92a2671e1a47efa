// Package operator is the composition root of placid-operator: it keeps one
// PlacidNode for each Node, and in the IPAM mode cluster-pool it carves the
// nodes' pod CIDRs.
//
// Invariants:
//
//   - The operator is the only writer of PlacidNode.spec and of
//     status.operatorError, and writes nothing else of a PlacidNode.
//   - No two nodes ever get overlapping pod CIDRs, also when two operators run
//     at once: a carve is recorded by compare-and-swap before it reaches a
//     PlacidNode (see intentStore, and docs/adr/0003-operator-single-writer.md).
//   - A pod CIDR that a node has is never changed or taken away while its Node
//     object exists.
//   - All state is in the API server. A restart, or a failed write, loses
//     nothing and repeats nothing.
package operator
