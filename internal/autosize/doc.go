// Package autosize decides when a BPF table gets another size. A Controller takes
// what every table holds at a moment and gives what to change, each with its
// reason; somebody else makes the change, and the next samples show it.
//
// Invariants:
//   - It is pure: no clock, no I/O. Time comes with the samples.
//   - A decision stands on its own. It is repeated with every sample until it is
//     carried out or not wanted any more; nothing has to be acknowledged.
//   - All tables together stay within the budget, also while entries move: then
//     the old table counts beside the new one.
//   - No table gets a size that its entries would fill to more than targetFill,
//     unless the budget or its maximum allow no larger one; none leaves its Min and
//     Max.
//   - A table changes once in Pause, except when it is about to be full before that
//     is over. An entry counts for what it is worth: see Table.Keep.
package autosize
