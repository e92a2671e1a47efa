// Package conntrack is the agent's side of conntrack: it collects what has
// expired, and lists, counts and deletes entries. The work on entries is done
// in the kernel, by the programs of bpf/tables.bpf.c, in steps of a fraction of
// a millisecond.
//
// Invariants:
//   - An entry is marked dead by compare-and-swap before it is deleted, so one
//     that a packet revives stays. One that is marked has expired for a second
//     or more, which is longer than any packet is on its way.
//   - At most one walk at a time deletes. A second one could delete what packets
//     put in place of an entry that the first one deleted.
//   - A walk that is cut short, even by the end of the agent, leaves nothing to
//     repair but at most one entry that is marked and not deleted; the next walk
//     deletes it.
//   - The table is the one that the outer map holds when a walk begins.
package conntrack
