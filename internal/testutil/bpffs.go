package testutil

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// BPFFS mounts a BPF file system of its own and returns its path. It is
// unmounted, and with it everything pinned there freed, when the test ends.
func BPFFS(t testing.TB) string {
	t.Helper()
	RequireRoot(t)
	parent := processDir(t)
	dir, err := os.MkdirTemp(parent, "bpf-") //nolint:usetesting // sweep has to find it
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount a BPF file system on %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
		_ = os.Remove(parent) // the last one
	})
	return dir
}
