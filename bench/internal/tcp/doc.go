// Package tcp measures TCP between two pods: round trips, connects and a
// stream, through Placid, through a bare veth pair, and through the kernel's
// own routing.
//
// Invariants: client and server are single-threaded processes with blocking
// sockets, bound to the same CPU, so that a figure is the cost of the path and
// not that of waking another CPU. Paths are measured in random order within a
// round, and compared within it.
package tcp
