// Package services measures how many services cost: to write them to the kernel,
// to change one, to keep them in memory. What a packet and a connect cost is
// measured by packages packets and tcp, at the same numbers of services.
//
// Invariants: the way is the agent's own, from rows of the state tables by its
// runner, compiler and writer to the maps of programs that are attached. Nothing
// counts as written before it is read from the kernel. Each cold start is that of
// another process, with maps of its own.
package services
