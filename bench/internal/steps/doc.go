// Package steps measures the single steps that an ADD and a DEL are made of, as
// system calls, and of the alternative that Placid does not take: keeping spare
// pairs with the program attached, and moving an end of one to the pod.
//
// Invariants: steps are the same calls, in the same order and on the same kind
// of kernel objects, as internal/datapath/pair makes. Both ways are taken in
// turn, in random order.
package steps
