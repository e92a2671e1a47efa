// Package security puts network policies in force on one node: it feeds the
// policy engine with what the cluster says, writes what the engine computes into
// the datapath, finds the identity of each pod of the node and tells the other
// nodes.
//
// Invariants:
//   - Nothing is written before policies and what they name, namespaces,
//     identities, endpoints of other nodes and pods are all known. Until then the kernel keeps what an
//     earlier agent put in force.
//   - The engine's updates are written in order, one at a time. After a failure
//     the whole is compared with the kernel until that succeeds once, so that no
//     update is lost.
//   - A pod gets its interface when what its policies say is in the kernel.
//   - An endpoint whose pod the API server does not know keeps what it is under.
//   - An identity is used for as long as its object exists, and no longer.
//   - The first policies of a cluster are put in force in one step, when the nodes
//     know who is who: see staging.
package security
