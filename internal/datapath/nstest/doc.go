// Package nstest has no code of its own: its tests run the real loader and real
// packets in a network of namespaces on one machine, without Kubernetes.
//
// Each node's datapath is a process of its own (the test binary started again
// inside the node's namespace), so that it can be killed like an agent. The
// test drives it by JSON-RPC on its standard input and output.
package nstest
