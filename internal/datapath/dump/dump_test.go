package dump

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		errs  []error // of the calls, the last one repeats
		want  error
		calls int
	}{
		{"at once", []error{nil}, nil, 1},
		{"after two interruptions", []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, nil, 3},
		{"another error ends it", []error{netlink.ErrDumpInterrupted, broken}, broken, 2},
		{"always interrupted", []error{netlink.ErrDumpInterrupted}, netlink.ErrDumpInterrupted, attempts},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			got, err := Whole(func() (int, error) {
				err := c.errs[min(calls, len(c.errs)-1)]
				calls++
				return calls, err
			})
			if !errors.Is(err, c.want) || calls != c.calls || got != c.calls {
				t.Errorf("Whole = %d, %v after %d calls; want %d calls and %v", got, err, calls, c.calls, c.want)
			}
		})
	}
}
