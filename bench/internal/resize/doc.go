// Package resize measures what it costs that tables can be resized while packets
// use them: the move of a million flows, what round trips feel of it, and what a
// packet pays for it, at rest and while its flow is still in the old table.
//
// Invariants: programs, tables and the ways to move them are the real ones of a
// node, whose agent has ended so that nobody else moves anything. Where programs are
// compared, they look into the same tables, and each is checked before it is
// measured. Every move must move all entries, or the measurement fails.
package resize
