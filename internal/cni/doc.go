// Package cni is the CNI plugin: it turns a CNI request (environment and
// standard input) into one call of the agent's socket and the answer into a CNI
// result. It also writes and removes what a node needs for the plugin to be
// used: the network configuration and the binary.
//
// Invariants: the plugin touches no interface, route or map, only the agent
// does; it keeps no state but the queue of DEL requests that the agent was not
// there to answer (agentapi.PendingDir); whatever it refuses, it refuses with a
// CNI error code and a message that names the field. A pod can always be
// removed: DEL judges nothing that it does not need. A file that this package
// puts in place is never seen half written.
package cni
