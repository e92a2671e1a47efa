// Package capacity says how full every table of every node is, what a cluster
// that grows would need, and which limit it meets first. It is pure: a snapshot
// and options in, a Result out; no clock, no I/O.
//
// Services, identities, endpoints, addresses and policy entries are counted as
// the datapath stores them, by the compilers that drive it (internal/loadbalance,
// internal/policy, internal/identity). Flows cannot be counted from objects: they
// follow from rates of connections, by the model in flows.go.
//
// What to read: plan.go puts it together; census.go counts pods and nodes,
// services.go and policies.go run the compilers, cilium_services.go and
// cilium_tables.go count as Cilium does; form.go is how a need grows, search.go
// finds where it meets its limit.
//
// How a cluster grows:
//
//   - pods: every group of pods gets more of them, of the same labels, on the nodes
//     where it has some. Pods of DaemonSets and static pods follow the nodes
//     instead. The identities stay, but where pods of one owner have different ones:
//     those grow with them. The backends of Services are pods, so they grow too.
//   - nodes: every node gets others like it, with pods of their own of every
//     DaemonSet. Other new pods go to new nodes as long as those have fewer.
//   - services: every Service gets others like it, with addresses of their own that
//     lead to the same backends.
//   - policies: entries of policies, lists of ports and prefixes grow in proportion.
//   - namespaces: every namespace but kube-system and its like gets others with its
//     labels, pods, Services and policies. Their pods have identities of their own.
//
// Invariants: the needs at no growth are those of the snapshot itself; a need
// never falls while the cluster grows; the same arguments give the same Result,
// lists in the same order.
package capacity
