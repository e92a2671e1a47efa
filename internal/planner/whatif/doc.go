// Package whatif says what another label filter would do to a cluster: to the
// identities, to the API server, to the policies and to every verdict. It is pure:
// it has no clock and does no I/O; the same arguments give the same answer.
//
// What to read: Run (whatif.go) puts the answer together; inventory.go counts
// identities under any filter, keys.go ranks labels by how many they cause,
// findings.go finds what a filter breaks, propose.go looks for the smallest filter
// that breaks nothing. Verdicts are those of internal/planner/verdict.
//
// Invariants: identities are counted as identity.Of and identity.Key make them; a
// filter is proposed only after verdict.Compare saw no difference.
package whatif
