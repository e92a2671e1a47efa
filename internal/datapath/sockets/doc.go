// Package sockets ends the connections of sockets to backends of services that
// are gone. The programs that chose those backends noted each socket, by its
// cookie, in the table that is read here; the kernel is then asked for the
// sockets of every network namespace of the node.
//
// Invariants:
//   - A socket is ended only when the table says that a service chose its peer,
//     and its peer is still that backend. One that names the same address by
//     itself is left alone, and so is a UDP socket without a peer: its next
//     message goes to another backend.
//   - An entry stays in the table until its socket was looked for everywhere.
package sockets
