// Package sizing says how many entries each BPF table gets from the node's memory
// and the configuration, and how much memory that really takes.
//
// Invariants:
//   - It is pure: no clock, no I/O, the same input gives the same sizes.
//   - Entries of the conntrack tables are exactly those of Cilium for the same
//     memory, ratio and explicit sizes, whatever an entry weighs in Placid.
//   - A size that was set explicitly is taken as it is or refused, never changed.
//     The one exception is Cilium's: see natEntries.
//   - Bytes an entry are measured, not derived; a test measures them again.
package sizing
