// Package state holds the plain types that describe what a node's datapath
// should be: the nodes of the cluster and the endpoints of this node, kept in
// watchable tables.
//
// Invariants: the package does no I/O and imports nothing of Placid. Sources
// (the Kubernetes watch, the endpoint manager) write rows; everything else
// reads snapshots. A row that was read is never changed in place.
package state
