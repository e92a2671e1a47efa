// Package sizes looks after the sizes of the BPF tables. It samples all of them
// every second, lets internal/autosize decide, has the datapath carry out what was
// decided, and tells of it: by events on the Node, to the command line and in
// metrics.
//
// Invariants:
//   - A table whose size was set keeps it: such a table is only counted. What a
//     person resizes by hand stays so until the configuration says otherwise, or,
//     where the size was not set, until the tuner would have another one.
//   - One table moves at a time. A sample is never waited for: the next one shows
//     what a move came to.
//   - Numbers of entries are read when they are asked for; only the peaks and the
//     counts of moves are those of the last sample.
//   - Whatever keeps a table from the size that it should have is said once, until
//     it changes.
package sizes
