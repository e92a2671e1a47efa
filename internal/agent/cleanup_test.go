package agent

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/testutil"
)

// TestRemoveState: the folder goes with all that is in it; a mount point stays,
// empty; one that is not there is success.
func TestRemoveState(t *testing.T) {
	testutil.RequireRoot(t)
	dir := filepath.Join(t.TempDir(), "state")
	fill := func() {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "endpoints"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "endpoints", "1.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	for range 2 {
		if err := removeState(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Fatalf("the folder is still there: %v", err)
		}
	}
	fill()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	if err := removeState(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the mount point: %v, %v", left, err)
	}
}
