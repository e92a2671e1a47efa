// Package pair makes the pair of devices that joins a pod to its node: the host
// side (plc*) in the node's network namespace, the pod side in the pod's.
//
// Invariants:
//   - Every host side has the same MAC, the gateway's: each pod's link is its own.
//   - The pod side is made in the pod's namespace: moving a device from one to
//     another takes the kernel two grace periods of 10 ms.
//   - A host side is down until its program is attached, so no packet passes it
//     unseen.
package pair
