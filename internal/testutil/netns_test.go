package testutil

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// namespaceOf gives the thread's network namespace.
func namespaceOf(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestNetns(t *testing.T) {
	a, b := NewNetns(t, "a"), NewNetns(t, "b")
	home := namespaceOf(t)
	var inA, inB string
	a.Do(t, func() {
		inA = namespaceOf(t)
		b.Do(t, func() { inB = namespaceOf(t) })
		if namespaceOf(t) != inA {
			t.Error("a nested Do does not come back")
		}
	})
	if namespaceOf(t) != home || inA == home || inB == home || inA == inB {
		t.Errorf("namespaces: home %s, a %s, b %s, now %s", home, inA, inB, namespaceOf(t))
	}
	if out := a.MustRun(t, "readlink", "/proc/self/ns/net"); out != inA+"\n" {
		t.Errorf("a command runs in %s, want %s", out, inA)
	}
	var l net.Listener
	a.Do(t, func() {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	})
	defer l.Close()
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the listener is not in its own namespace")
	}
	if links, err := b.Handle(t).LinkList(); err != nil || links[0].Attrs().Name != "lo" || links[0].Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("devices of a new namespace: %v, %v", links, err)
	}
	a.Remove(t)
	a.Remove(t)
	if _, err := os.Stat(a.Path); !os.IsNotExist(err) {
		t.Errorf("after Remove: %v", err)
	}
}

// TestSweep leaves what a killed test process would, under the id of one that
// has ended.
func TestSweep(t *testing.T) {
	RequireRoot(t)
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(mountsDir, fmt.Sprint(cmd.Process.Pid))
	bpffs := filepath.Join(dead, "bpf-1")
	if err := os.MkdirAll(bpffs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", bpffs, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	n := NewNetns(t, "left")
	left := filepath.Join(dead, "left-1")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(n.Path, left, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	own := BPFFS(t)
	for range 2 {
		if err := sweep(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("what a dead process left is still there: %v", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(own, &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		t.Errorf("the living process lost its BPF file system: %#x, %v", st.Type, err)
	}
}
