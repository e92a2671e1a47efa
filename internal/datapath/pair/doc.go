// Package pair makes the pair of devices that joins a pod to its node: the host
// side (plc*) in the node's network namespace, the pod side in the pod's.
//
// Invariants:
//   - Every host side has the same MAC, the gateway's: each pod's link is its own.
//   - A pair is ready (program attached, pinned) before a pod can send on it.
//   - Pairs that no pod has yet keep their other end (plp*) in the node's
//     namespace, which is how a restarted agent tells them from those in use.
package pair
