// Package loadbalance turns Services, their EndpointSlices and host ports into
// what the datapath serves. It is pure: it has no clock, does no I/O and knows
// nothing of Kubernetes' types; the same calls give the same answers.
//
// A Service has a Port for each of its ports and families: frontends, which are
// addresses where it is reached, and backends, which all frontends of a Port
// share. A frontend says which backends clients outside the cluster get and
// which clients inside.
//
// What to read: Engine (engine.go) is fed with objects; compile.go makes Ports
// of one Service, with backends.go choosing the backends; hostports.go does it
// for a pod; claims.go decides who has an address that two want; cost.go counts
// entries; maglev.go and hash.go are the datapath's choice of a backend.
//
// Invariants:
//
//   - What an Engine holds depends on the objects only, not on the order or the
//     number of the calls that brought them.
//   - An address, port and protocol is a frontend of one Port at most.
//   - A Port in force has a frontend. Its All and Local share nothing with its
//     Draining.
//   - A part that cannot be served as it is written opens nothing, takes nothing
//     else down, and is a Problem.
//   - One change costs work in proportion to what it touches: a slice to its
//     Service, an address of the node to the Services with node ports.
//
// Beyond Kubernetes' words:
//
//   - Source ranges of one family only shut the other family's clients out; the
//     policy "deny" becomes the ranges that are left.
//   - Backends that are not chosen drain as long as their slices have them: TCP and
//     SCTP flows may finish, ready or not, as nobody else could go on with them; UDP
//     flows only while the endpoint says that it serves.
//   - The wish trafficDistribution is followed by its hints only, as it is in
//     kube-proxy. PublishNotReady is in each endpoint's Ready already.
//   - An address of a family that the Service has no cluster IP of is not served.
package loadbalance
