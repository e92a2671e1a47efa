// Package packettest runs the BPF programs on single packets with
// BPF_PROG_TEST_RUN: on the kernel's own verifier, compiler, helpers and routing
// table, but without sending anything.
//
// A row of a test is a packet's story: what is sent, by which device, to which
// program, and what becomes of it: the verdict, the device that it is redirected
// to and how, every byte of the packet afterwards, and the one counter that
// moved, by one packet and by the packet's length.
//
// Invariants:
//   - Expected packets are built here, field by field, and not by the arithmetic
//     of the programs: checksums are computed anew over the whole, never updated.
//   - What the oracle (oracle_test.go) says about a packet of a pod holds for
//     every packet that any test or fuzzer sends.
package packettest
