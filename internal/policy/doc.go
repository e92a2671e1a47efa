// Package policy turns network policies into the tables that the datapath
// judges by. It is pure: it has no clock, does no I/O and knows nothing of
// Kubernetes' types; the same calls give the same answers.
//
// A policy selects pods of this node (subjects). What all policies that select a
// subject allow and deny in one direction, merged and in canonical form, is a set;
// its number is a hash of that text, so subjects with the same rules share one
// set, whatever their policies are called. A set in use has an entry for each
// identity that a selector of it matches, for each prefix inside a block of it,
// for reserved identities that it names, and at most one for every peer. The
// datapath finds the one longest prefix of an address and asks for the entries of
// the peer's identity, of that prefix, and of every peer: when one of them denies
// the flow it is denied, and else one that allows it is enough.
//
// A direction of a pod is isolated when a policy that selects it says so: then
// what no rule allows is denied. Where none does, but some deny something, all
// else is allowed; where none denies either, the direction is open. Rules of
// Cilium's policies count whether or not their policy isolates, those of
// Kubernetes' only where it does. Policies that audit are asked where those that
// enforce leave the direction open.
//
// What to read: Engine (engine.go) is fed with objects; compile.go, peer.go,
// ports.go and content.go make canonical rules of them; settle.go says which sets
// subjects are under; set.go and prefixes.go keep the entries of sets in use;
// take.go says what changed; judge.go is the datapath's algorithm; trace.go
// explains it to people.
//
// Invariants:
//
//   - Nothing that cannot be judged or does not fit opens anything: a selector on
//     a label that the filter drops matches no pod, and every peer in a rule that
//     denies; a named port that nobody has is no port; a set that does not fit is
//     refused; an identity of which more is to be denied than fits is denied
//     everything.
//   - Of the prefixes that sets in use speak of, every one inside a block of a set
//     has its entry in that set. So the longest prefix of an address decides as
//     the blocks themselves would.
//   - Writing an Update in the order that it documents never denies, not for a
//     moment, what the tables before and after it both allow, and never allows
//     what both deny. An entry has all that its set says of a peer, so what it
//     denies is there as soon as what it allows. Of an identity that comes or goes
//     together with a change of what a pod is under, the pod may for a moment be
//     judged as if only one of the two had happened.
//   - One change costs work in proportion to what it touches: to the selectors
//     that an identity matches and the sets that use them, to the policies that
//     select a subject, to the subjects that a policy selects.
//
// Beyond Kubernetes' words: a named port of an egress rule is looked up among
// the ports of the peer's identity, so together with a block, whose peers have
// none, it allows nothing and denies nothing. A selector on a pod label that stands for something
// else in an identity ("io.kubernetes.pod.namespace", "io.cilium.k8s.…") cannot
// be judged in a Kubernetes policy.
//
// Cilium's semantics (docs.cilium.io, "Layer 3 Policies", "Layer 4 Policies",
// "Deny Policies") hold but for these: a subject is selected by all labels of the
// pod, also by those that the filter drops, and a node always reaches its own
// pods.
package policy
