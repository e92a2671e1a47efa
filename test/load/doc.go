// Package load asks servers questions and counts what became of them: HTTP
// requests, with a connection each or on one that is kept, and datagrams, like
// questions to a DNS server. The cluster tests of Services ask with it from pods,
// nodes and hosts outside; test/load/cmd/load is its program.
//
// Invariants: every question is answered or has an error, whose reason is
// counted. A question is asked once; only on a kept TCP connection that its
// server had closed before it read anything is it asked again, on a new one, as
// every HTTP client does.
package load
