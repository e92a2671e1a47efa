// Package fib keeps kernel routes and neighbours as they should be. The BPF
// programs ask the kernel's routing table for everything that is not on this
// node, so the node and its pods are routed alike.
//
// Invariants: only routes with Protocol and permanent neighbours on Placid's
// own devices are changed or removed; all others belong to somebody else.
package fib
