// Package snapshot is a cluster at one moment, as rows of internal/state: what the
// planner, the what-if, the policy diff and preflight compute from. It holds types
// and what follows from them alone; internal/planner/objects reads it from files
// or from an API server.
//
// Invariants: lists are ordered by name, so that the same cluster gives the same
// answers; policies are as they were written, with references to other objects
// not replaced (see internal/policy/resolve); nothing of a Secret is in it.
package snapshot
