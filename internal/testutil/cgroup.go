package testutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupPrefix begins the name of every cgroup of tests. The id of the test
// process follows.
const cgroupPrefix = "placid-test-"

// cgroupMount returns where the cgroup2 hierarchy is mounted, or "".
func cgroupMount() string {
	for _, path := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var st unix.Statfs_t
		if unix.Statfs(path, &st) == nil && uint32(st.Type) == unix.CGROUP2_SUPER_MAGIC {
			return path
		}
	}
	return ""
}

// NewCgroup makes a cgroup of version 2 without processes and returns its path. It
// goes when the test ends, and so do processes that are in it then.
func NewCgroup(t testing.TB) string {
	t.Helper()
	RequireRoot(t)
	mount := cgroupMount()
	if mount == "" {
		missing(t, "needs a mounted cgroup2 hierarchy")
	}
	dir, err := os.MkdirTemp(mount, cgroupPrefix+strconv.Itoa(os.Getpid())+"-") //nolint:usetesting // sweep has to find it
	if err != nil {
		t.Fatalf("make cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// InCgroup runs f while this process is in the cgroup: sockets that f makes belong
// to it for good. The process as a whole moves, so tests that use it do not run
// in parallel. Calls may be nested, and f may end the test.
func InCgroup(t testing.TB, dir string, f func()) {
	t.Helper()
	old, err := ownCgroup()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := joinCgroup(old); err != nil {
			t.Error(err)
		}
	}()
	if err := joinCgroup(dir); err != nil {
		t.Fatal(err)
	}
	f()
}

func joinCgroup(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// ownCgroup returns the cgroup that this process is in.
func ownCgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find own cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join(cgroupMount(), strings.TrimSuffix(path, "\n")), nil
		}
	}
	return "", errors.New("find own cgroup: the process is in none of version 2")
}

// removeCgroup ends what is in the cgroup and removes it. Absent is success.
func removeCgroup(dir string) error {
	deadline := time.Now().Add(settleTime)
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		err = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0o644)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("end the processes of cgroup %s: %w", dir, err)
		}
		time.Sleep(10 * time.Millisecond) // they take a moment
	}
}

// sweepCgroups removes what test processes that are gone left.
func sweepCgroups() error {
	mount := cgroupMount()
	if mount == "" {
		return nil
	}
	dirs, err := filepath.Glob(filepath.Join(mount, cgroupPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix), "-")
		if !gone(pid) {
			continue
		}
		if err := removeCgroup(dir); err != nil {
			return err
		}
	}
	return nil
}
