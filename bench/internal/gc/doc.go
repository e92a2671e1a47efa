// Package gc measures the collection of expired conntrack entries: what it
// costs beside the ways that user space has, what packets feel of it, and that
// no flow is lost to it while many begin.
//
// Invariants: tables, programs and collector are the real ones of a running
// node. The process, its pods' client and server are bound to one CPU, so that
// the collection competes with the packets that are measured. Every way must
// delete exactly what has expired, or the measurement fails.
package gc
