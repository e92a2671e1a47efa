// Package sample makes up the cluster in examples/cluster, which documentation and
// demonstrations read: a shop's, run with Cilium, with the mistakes in labels and
// policies that people make. TestFiles writes it anew with -update.
//
// Invariant: the same files every time; there is neither a clock nor chance in it.
package sample
