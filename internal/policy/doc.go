// Package policy turns network policies into the tables that the datapath
// judges by. It is pure: it has no clock, does no I/O and knows nothing of
// Kubernetes' types; the same calls give the same answers.
//
// A policy selects pods of this node (subjects). What all policies that select a
// subject allow in one direction, merged and in canonical form, is a set; its
// number is a hash of that text, so subjects with the same rules share one set,
// whatever their policies are called. A set in use has an entry for each
// identity that a selector of it matches, for each prefix inside a block of it,
// and at most one for every peer. The datapath finds the one longest prefix of
// an address and asks for the entries of the peer's identity, of that prefix,
// and of every peer: any of them is enough.
//
// What to read: Engine (engine.go) is fed with objects; compile.go and
// content.go make canonical rules of them; set.go and prefixes.go keep the
// entries of sets in use; take.go says what changed; judge.go is the
// datapath's algorithm; trace.go explains it to people.
//
// Invariants:
//
//   - Nothing that cannot be judged or does not fit opens anything: a selector on
//     a label that the filter drops matches no pod, a named port that nobody has
//     is no port, a set that does not fit is refused.
//   - Of the prefixes that sets in use speak of, every one inside a block of a set
//     has its entry in that set. So the longest prefix of an address decides as
//     the blocks themselves would.
//   - Writing an Update in the order that it documents never denies, not for a
//     moment, what the tables before and after it both allow, and never allows
//     what both deny.
//   - One change costs work in proportion to what it touches: to the selectors
//     that an identity matches and the sets that use them, to the policies that
//     select a subject, to the subjects that a policy selects.
//
// Beyond Kubernetes' words: a named port of an egress rule is looked up among
// the ports of the peer's identity, so together with a block, whose peers have
// none, it allows nothing. A selector on a pod label that stands for something
// else in an identity ("io.kubernetes.pod.namespace", "io.cilium.k8s.…") cannot
// be judged.
package policy
