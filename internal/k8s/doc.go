// Package k8s is the agent's connection to the Kubernetes API: it watches the
// cluster's nodes and this node's pods; where policies are enforced,
// NetworkPolicies, Cilium's policies and what those name, namespaces, identities
// and what all nodes publish about their endpoints; where Services are served,
// those, their EndpointSlices and this node's zone. It publishes this node's
// status and endpoints, and posts events.
//
// Invariants:
//   - The watches write straight into their destination (a table of
//     internal/state, the set of local pods); there is no cache of API objects
//     beside it.
//   - A watch that breaks is taken up again with backoff for as long as it takes.
//     Meanwhile the tables keep the last known state, and Health says since when
//     the API server has not answered.
//   - What is missing after the objects were listed anew is deleted from the
//     destination.
//   - An object that makes no sense is logged by name and field, and only the
//     field is skipped; of an identity, the whole object.
//   - What is not understood of a policy, or of who may reach a Service, allows
//     nothing: a row never allows more than the object says. The same holds of what
//     is understood and not enforced. A rule that denies then denies everything.
//   - Of PlacidNode, only this node's status fields mtu, routingMode and
//     agentVersion are written; of PlacidEndpoints, only this node's object.
package k8s
