// Package flood measures what a flood of half-open connections and one-way
// datagrams does to the connections of a node: those that exist, and those that
// honest clients open meanwhile.
//
// Invariants: the flood is frames on the wire before the node's device, from
// sources that are all different, more than ten times what the table of new
// flows holds. The pod that it is aimed at is isolated: what it sends passes
// only as an answer, so a flow that is forgotten shows. The flood is made on
// another CPU than the one that is measured on.
package flood
