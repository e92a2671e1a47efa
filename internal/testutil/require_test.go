package testutil

import "testing"

func TestOlderThan(t *testing.T) {
	for _, c := range []struct {
		have, want string
		older      bool
	}{
		{"6.18.44-fc-v669", "6.6", false},
		{"6.6.0", "6.6", false},
		{"6.5.13", "6.6", true},
		{"5.15.0-91-generic", "6.6", true},
		{"10.0", "6.6", false},
		{"6.6-rc1", "6.7", true},
		{"", "4.1", true},
	} {
		if got := olderThan(c.have, c.want); got != c.older {
			t.Errorf("olderThan(%q, %q) = %t", c.have, c.want, got)
		}
	}
}
