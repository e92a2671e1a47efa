// Package loader puts programs, maps and links into the kernel and keeps them
// there by pins: maps/NAME, programs/NAME and links/DEVICE:PROGRAM below
// Placid's folder of the BPF file system.
//
// Invariants:
//   - A map that is pinned and fits is adopted with its content. One that does
//     not fit is made anew beside it, and takes over the pin only in Commit.
//   - A program that runs is replaced by updating its link: a packet meets the
//     old one or the new one, never none.
//   - Every link is pinned before it counts as made, so it outlives the agent.
//   - Programs of sockets run in one cgroup (links/cgroup:PROGRAM): the root of
//     the hierarchy as the node's first process has it, not the agent's own
//     container. Nodes that are containers of one kernel each have their own.
package loader
