package cli

// unjudgedError is input that could not be judged: nothing is said about it, so
// that no answer looks complete.
type unjudgedError struct{ err error }

func (e *unjudgedError) Error() string { return e.err.Error() }

func (e *unjudgedError) Unwrap() error { return e.err }

// notJudged marks an error as one of the input; nil stays nil.
func notJudged(err error) error {
	if err == nil {
		return nil
	}
	return &unjudgedError{err}
}
