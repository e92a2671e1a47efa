// Package state holds the plain types that describe what a node's datapath
// should be, and what that follows from: the nodes of the cluster and the
// endpoints of this node; Services and their EndpointSlices; policies and what
// they name, namespaces, identities, this node's pods and what every node
// publishes about its endpoints. They are kept in watchable tables, with feeds for those who
// follow a table change by change.
//
// Invariants: the package does no I/O and imports nothing of Placid. Sources
// (the Kubernetes watch, the endpoint manager) write rows; everything else
// reads snapshots and feeds. A row that was written or read is never changed in
// place.
package state
