package state

import "testing"

// TestHolds is the truth table of the operators.
func TestHolds(t *testing.T) {
	values := []string{"a", "b"}
	for _, c := range []struct {
		op                   Operator
		named, another, none bool
	}{
		{OperatorIn, true, false, false},
		{OperatorNotIn, false, true, true},
		{OperatorExists, true, true, false},
		{OperatorDoesNotExist, false, false, true},
		{"Like", false, false, false},
	} {
		if got := c.op.Holds(values, "b", true); got != c.named {
			t.Errorf("%s of a named value: %t, want %t", c.op, got, c.named)
		}
		if got := c.op.Holds(values, "c", true); got != c.another {
			t.Errorf("%s of another value: %t, want %t", c.op, got, c.another)
		}
		if got := c.op.Holds(values, "", false); got != c.none {
			t.Errorf("%s without the label: %t, want %t", c.op, got, c.none)
		}
	}
}
