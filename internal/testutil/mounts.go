package testutil

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// mountsDir holds a folder for each test process, named by its id, with the
// mount points of its namespaces (files) and BPF file systems (folders).
const mountsDir = "/run/placid-test"

func processDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(mountsDir, strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unmount removes a mount point and what is mounted there, if anything.
func unmount(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove mount point: %w", err)
	}
	return nil
}

// sweep removes what test processes that are gone left mounted.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(mountsDir, "*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if !gone(filepath.Base(dir)) {
			continue
		}
		points, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			return err
		}
		for _, p := range append(points, dir) {
			// Another test process may sweep at the same time.
			if err := unmount(p); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// gone tells whether pid is a number and no process has it.
func gone(pid string) bool {
	if _, err := strconv.Atoi(pid); err != nil {
		return false
	}
	_, err := os.Stat("/proc/" + pid)
	return errors.Is(err, os.ErrNotExist)
}
