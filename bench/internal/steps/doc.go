// Package steps measures the single steps that an ADD and a DEL are made of, as
// system calls, and the alternative that Placid does not take: making the pod's
// device in the pod's namespace, instead of moving a spare one there.
//
// Invariants: steps are the same calls, in the same order and on the same kind
// of kernel objects, as internal/datapath/pair makes. Both ways are taken in
// turn, in random order.
package steps
