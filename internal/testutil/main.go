package testutil

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Main runs the tests of a package from its TestMain and returns the exit code.
// Before, it removes what killed runs left in the kernel; after, it fails when
// the tests left descriptors open.
func Main(m *testing.M) int {
	if os.Geteuid() == 0 {
		if err := errors.Join(sweep(), sweepCgroups()); err != nil {
			fmt.Fprintln(os.Stderr, "sweep after killed tests:", err)
			return 1
		}
	}
	before := descriptors()
	code := m.Run()
	if leaked := leakedSince(before); code == 0 && len(leaked) > 0 {
		fmt.Fprintf(os.Stderr, "descriptors that the tests left open:\n  %s\n", strings.Join(leaked, "\n  "))
		return 1
	}
	return code
}

// settleTime is how long goroutines that end may take to close what they have.
const settleTime = 3 * time.Second

func leakedSince(before map[string]string) []string {
	deadline := time.Now().Add(settleTime)
	for {
		var leaked []string
		for fd, what := range descriptors() {
			// The runtime's own: epoll and its wake-up.
			if before[fd] == what || strings.HasPrefix(what, "anon_inode:[event") {
				continue
			}
			leaked = append(leaked, fd+" "+what)
		}
		if len(leaked) == 0 || time.Now().After(deadline) {
			slices.Sort(leaked)
			return leaked
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// descriptors gives what each open descriptor of the process names.
func descriptors() map[string]string {
	const dir = "/proc/self/fd"
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return out
	}
	for _, e := range entries {
		// ReadDir's own is closed by now.
		if what, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			out[e.Name()] = what
		}
	}
	return out
}
