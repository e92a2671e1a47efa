// Package sim plays what happens on a node, second by second, to the controller of
// table sizes, and measures what came of it: how full tables got, what was
// refused, and what memory that took beside an oracle that knows the future.
//
// Invariants: it is pure, also its randomness: the same trace gives the same
// result. Flows come and go as amounts, not one by one.
package sim
