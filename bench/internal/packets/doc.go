// Package packets measures what a packet costs in each program of the datapath,
// with BPF_PROG_TEST_RUN.
//
// Invariants: the programs are those that the real loader put into the kernel,
// with maps that the real datapath filled and real pods behind them. Every case
// is checked before it is measured: its verdict, and the counter that its
// program must have moved, once a run. The redirect itself, the devices and the
// allocation of packets are not in the figures.
package packets
