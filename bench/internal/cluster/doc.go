// Package cluster makes the Services of a cluster, as Kubernetes objects. It is
// pure.
//
// Invariants: the same number gives the same Service; each has its addresses to
// itself; all of them can live in one cluster.
package cluster
