// Package agent is the composition root of placid-agent: it builds every part
// in start order, runs them and stops them.
//
// Invariants:
//   - What the node must not forget is in the kernel (pinned maps and links, pod
//     interfaces) or in one small file an endpoint below state-dir. The agent may
//     be killed at any point; the next one finds out what is and mends the rest.
//   - The CNI configuration is written only when a pod could be given an
//     interface, and stays when the agent stops.
//   - An address is given out once: the allocator, the endpoint files and the
//     interfaces that exist are compared at start and on a timer.
//   - A pod gets its interface when its policies are in the kernel; see
//     internal/agent/security.
package agent
