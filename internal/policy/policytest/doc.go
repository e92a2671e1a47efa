// Package policytest makes random clusters with network policies, and says from
// the policies' words alone which packets they allow. It is the reference for
// tests of the policy compiler and of the datapath: slow, obvious, and sharing no
// code with what it judges (no sets, prefixes or hashes). It is pure; randomness
// is an argument, and the same randomness gives the same cluster.
package policytest
