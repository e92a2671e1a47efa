// Package agent measures a node's agent and its CNI plugin inside a node of the
// lab: how long ADD and DEL take, how long the agent takes to start, and what
// it holds in memory and in the kernel.
//
// Invariants: binaries, API server and node are the real ones. The agent is
// started by this program instead of by kubelet, whose pauses between restarts
// would be measured otherwise. Every ADD gets a network namespace of its own,
// and its answer is checked.
package agent
