// Package reconcile makes the kernel hold what the tables say: one generic loop
// with three idempotent verbs, used for every kind of row.
//
// Invariants:
//   - Ops are never called by two goroutines at once.
//   - The desired rows are read and acted on in one critical section, so a row
//     that was written to its table before Apply or Remove is never undone by an
//     older snapshot.
//   - A row is handed to Ops only when it differs from what was realised, when
//     its last attempt failed and its backoff has passed, or by an audit (Prune).
//   - An error stays with its row: other rows go on, the row is tried again.
package reconcile
