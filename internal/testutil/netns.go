package testutil

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Netns is a network namespace of one test.
type Netns struct {
	Name string
	Path string // what setns and CNI take

	fd int // -1 once it is removed
}

// NewNetns makes a network namespace with its loopback device up. Its name
// holds hint (letters and digits); it goes when the test ends.
func NewNetns(t testing.TB, hint string) *Netns {
	t.Helper()
	RequireRoot(t)
	dir := processDir(t)
	f, err := os.CreateTemp(dir, hint+"-")
	if err != nil {
		t.Fatalf("name network namespace %s: %v", hint, err)
	}
	_ = f.Close() // empty, for mounting on
	n := &Netns{Name: filepath.Base(f.Name()), Path: f.Name(), fd: -1}
	if err := n.make(); err != nil {
		t.Fatalf("make network namespace %s: %v", hint, err)
	}
	t.Cleanup(func() {
		n.Remove(t)
		_ = os.Remove(dir) // the last one
	})
	n.Do(t, func() {
		if err := netlink.LinkSetUp(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}); err != nil {
			t.Fatalf("set lo of %s up: %v", n.Name, err)
		}
	})
	return n
}

// make leaves the calling goroutine's thread in its own namespace.
func (n *Netns) make() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	ns, err := netns.New()
	if err != nil {
		return err
	}
	n.fd = int(ns)
	return errors.Join(unix.Mount("/proc/thread-self/ns/net", n.Path, "", unix.MS_BIND, ""), netns.Set(old))
}

// Remove takes the namespace away, as a container runtime does when a sandbox
// ends; the kernel frees it when no process or socket is in it. Again is fine.
func (n *Netns) Remove(t testing.TB) {
	t.Helper()
	if n.fd < 0 {
		return
	}
	_ = unix.Close(n.fd)
	n.fd = -1
	if err := unmount(n.Path); err != nil {
		t.Errorf("remove network namespace: %v", err)
	}
}

// Do runs f in the namespace. Sockets that f makes stay in it; goroutines that
// f starts do not. Calls may be nested, and f may end the test.
func (n *Netns) Do(t testing.TB, f func()) {
	t.Helper()
	runtime.LockOSThread()
	old, err := netns.Get()
	if err != nil {
		t.Fatalf("open the thread's network namespace: %v", err)
	}
	defer func() {
		defer func() { _ = old.Close() }()
		if err := netns.Set(old); err != nil {
			t.Errorf("leave network namespace %s: %v", n.Name, err)
			return // the thread stays locked and ends with its goroutine
		}
		runtime.UnlockOSThread()
	}()
	if err := netns.Set(netns.NsHandle(n.fd)); err != nil {
		t.Fatalf("enter network namespace %s: %v", n.Name, err)
	}
	f()
}

// Start starts cmd in the namespace.
func (n *Netns) Start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	n.Do(t, func() {
		if err := cmd.Start(); err != nil {
			t.Fatalf("start %v: %v", cmd.Args, err)
		}
	})
}

// Run runs a command in the namespace and returns its whole output; err is the
// command's own.
func (n *Netns) Run(t testing.TB, name string, args ...string) (out string, err error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var buf strings.Builder
	cmd.Stdout, cmd.Stderr = &buf, &buf
	n.Start(t, cmd)
	err = cmd.Wait()
	return buf.String(), err
}

// MustRun is Run for commands that must succeed.
func (n *Netns) MustRun(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := n.Run(t, name, args...)
	if err != nil {
		t.Fatalf("%s: %s %s: %v\n%s", n.Name, name, strings.Join(args, " "), err, out)
	}
	return out
}

// Handle returns a netlink socket of the namespace, closed with the test.
func (n *Netns) Handle(t testing.TB) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.fd), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatalf("open netlink in %s: %v", n.Name, err)
	}
	t.Cleanup(h.Close)
	return h
}

// Sysctl writes one key, in the form net/ipv4/ip_forward, of the namespace.
func (n *Netns) Sysctl(t testing.TB, key, value string) {
	t.Helper()
	n.Do(t, func() {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
			t.Fatalf("%s: %v", n.Name, err)
		}
	})
}
