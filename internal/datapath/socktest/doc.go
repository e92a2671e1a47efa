// Package socktest has no code of its own: its tests open real sockets in a cgroup
// and network namespaces of their own, with the programs of sockets attached by the
// real loader, and maps that the tests fill.
//
// Nobody routes the addresses of services there: what is not translated fails at
// once with "network is unreachable".
package socktest
