package reconcile

import (
	"context"
	"errors"
	"fmt"
)

// Ops realises rows of one kind. Every verb is idempotent and is called again
// after an error, so a verb must cope with whatever an earlier attempt left
// behind. The loop never calls two verbs at the same time.
type Ops[K comparable, V any] interface {
	// Update makes the row exist with exactly this value, whether it existed
	// before or not.
	Update(ctx context.Context, key K, value V) error
	// Delete makes the row not exist. Deleting what is absent is success.
	Delete(ctx context.Context, key K) error
	// Prune compares what the kernel holds with desired and mends only the
	// difference: it adds what is missing, corrects what is wrong and deletes
	// what is not in desired. It returns how many rows it mended. A row that
	// fails does not stop the others: its error is wrapped in a RowError, and
	// all errors are joined. Prune must not keep or change the map.
	Prune(ctx context.Context, desired map[K]V) (repaired int, err error)
}

// RowError says which row an error of Prune belongs to. The loop then tries
// that row alone again, instead of pruning everything again.
type RowError[K comparable] struct {
	Key K
	Err error
}

// Error gives "row KEY: " and the error.
func (e *RowError[K]) Error() string { return fmt.Sprintf("row %v: %v", e.Key, e.Err) }

// Unwrap returns the row's error.
func (e *RowError[K]) Unwrap() error { return e.Err }

// splitRows sorts an error of Prune into the rows it names and the rest, which
// is nil when every part of the error names its row.
func splitRows[K comparable](err error, rows map[K]error) (rest error) {
	switch e := err.(type) { //nolint:errorlint // walks the tree of errors by hand to see every leaf
	case nil:
		return nil
	case *RowError[K]:
		rows[e.Key] = e.Err
		return nil
	case interface{ Unwrap() []error }:
		var others []error
		for _, part := range e.Unwrap() {
			others = append(others, splitRows(part, rows))
		}
		return errors.Join(others...)
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil && splitRows(inner, rows) == nil {
			return nil
		}
	}
	return err
}
