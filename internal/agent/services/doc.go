// Package services serves Kubernetes Services and host ports on one node: it
// feeds the compiler with what the cluster and the node say, writes what comes
// out of it into the datapath, tells the cluster what cannot be served, and
// answers on health check node ports.
//
// Invariants:
//   - Nothing is written before Services and EndpointSlices are complete. Until
//     then the kernel keeps what an earlier agent served.
//   - Updates are written in order, one at a time, as soon as they come: what
//     comes during a write is the next one. After a failure the whole is compared
//     with the kernel until that succeeds once, so that no update is lost.
//   - What people are told (events, health checks) comes after the write and never
//     delays one.
//   - An event about a problem is posted once, and again only when it was solved
//     in between or says something else.
package services
