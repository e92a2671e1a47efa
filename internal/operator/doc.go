// Package operator is the composition root of placid-operator: it keeps one
// PlacidNode for each Node, and in the IPAM mode cluster-pool it carves the
// nodes' pod CIDRs; and it keeps one PlacidIdentity for each set of labels that
// pods have, while a policy needs them.
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
//   - The operator is the only writer of PlacidIdentity. No two numbers ever mean
//     one label set, and no number means two, also when two operators run at once
//     (see numbers, and docs/adr/0005-identities.md).
//   - Nothing is written for identities, and no pod is watched, while no policy
//     needs them.
//   - An identity is deleted only when, for the whole grace, no pod of this
//     operator's watch had it and no PlacidEndpoints listed it.
//   - All state is in the API server. A restart, or a failed write, loses
//     nothing and repeats nothing.
package operator
