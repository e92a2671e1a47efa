// Package objects reads a cluster: from files that hold its objects, as YAML or
// JSON in any form that kubectl and Cilium's sysdump write them, or from its API
// server. The result is a snapshot.Snapshot, with what could not be read beside it.
//
// Invariants:
//   - Files are taken object by object: what is held in memory at a time is the
//     rows, and a few objects of at most maxObject bytes.
//   - A part that cannot be read leaves the rest as it is, and is told with its
//     file, document and place in a list. An object of a kind that counts is either
//     a row, or a problem that is snapshot.Fatal.
//   - Fields that are not known are told of policies, CIDR groups, Services and
//     namespaces. Of Pods, Nodes and EndpointSlices, which come by the ten thousand,
//     only the fields that count are looked at.
//   - Of a Secret nothing but its kind is looked at. The API server is not asked for
//     Secrets, and for no ConfigMaps but those with the settings of a network.
//   - The result depends on the input alone, not on the order in which a list is
//     worked through.
//   - The API server is only asked: get and list.
package objects
