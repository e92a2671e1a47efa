// Package datapath realises the state tables in the kernel: it loads and pins
// the BPF programs and maps, attaches the programs, and keeps map entries,
// devices, routes and neighbours as they should be. With its sub-packages it is
// the only importer of cilium/ebpf and netlink.
//
// Invariants:
//   - State lives in pinned maps and links. Nothing here needs a memory of what
//     an earlier agent did; it reads the kernel and mends the difference.
//   - A program is replaced only through its link, after the maps that it reads
//     hold what they should.
//   - Every object that Placid makes in the kernel can be told from others by its
//     pin, its name (plc*, placid_*) or its route protocol.
package datapath
