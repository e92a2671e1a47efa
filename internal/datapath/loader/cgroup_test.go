package loader

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/datapath/bpf"
	"github.com/placid-net/placid/internal/testutil"
)

func TestCgroupMounts(t *testing.T) {
	const (
		unified = "26 25 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		v1      = "30 29 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n"
		hybrid  = "31 29 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n"
	)
	for _, tc := range []struct {
		name, mounts string
		want         []string
	}{
		{"nothing", "", nil},
		{"version 1 only", v1, nil},
		{"unified", "25 1 0:22 / / rw - ext4 /dev/vda rw\n" + unified, []string{"/sys/fs/cgroup"}},
		{"hybrid", v1 + hybrid, []string{"/sys/fs/cgroup/unified"}},
		{"no optional fields", "31 29 0:27 / /mnt rw - cgroup2 none rw\n", []string{"/mnt"}},
		{"many optional fields", "31 29 0:27 / /mnt rw shared:1 master:2 propagate_from:3 - cgroup2 none rw\n", []string{"/mnt"}},
		{"the first of equals", unified + hybrid, []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}},
		{
			"seen from a container", "40 1 0:23 /../../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup"},
		},
		{
			"the whole before a part",
			"40 1 0:23 / /own rw - cgroup2 cgroup2 rw\n41 1 0:23 /.. /pod rw - cgroup2 cgroup2 rw\n42 1 0:23 /../.. /node rw - cgroup2 cgroup2 rw\n",
			[]string{"/node", "/pod", "/own"},
		},
		{
			"parts are none",
			"40 1 0:23 /kubepods /a rw - cgroup2 cgroup2 rw\n41 1 0:23 /../../system.slice /b rw - cgroup2 cgroup2 rw\n42 1 0:23 /..x /c rw - cgroup2 cgroup2 rw\n",
			nil,
		},
		{"blanks in the path", `40 1 0:23 / /mnt/a\040b\134c\011 rw - cgroup2 cgroup2 rw` + "\n", []string{"/mnt/a b\\c\t"}},
		{"a device that is called so", "40 1 0:23 / /mnt rw - ext4 cgroup2 rw\n", nil},
		{"cut off", "40 1 0:23 / - cgroup2 cgroup2 rw\n40 1 0:23 / /mnt rw\n - cgroup2 \n", nil},
	} {
		var got []string
		for _, m := range cgroupMounts(tc.mounts) {
			got = append(got, m.point)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func FuzzCgroupMounts(f *testing.F) {
	f.Add("26 25 0:23 /../.. /sys/fs/cgroup\\040x rw,nosuid shared:4 - cgroup2 cgroup2 rw\n")
	f.Add("\\\\0\\04\\777\\9 - cgroup2 ")
	f.Fuzz(func(t *testing.T, text string) {
		mounts := cgroupMounts(text)
		if lines := strings.Count(text, " - cgroup2 "); len(mounts) > lines {
			t.Errorf("%d mounts from %d lines", len(mounts), lines)
		}
	})
}

// FuzzUnescape compares with what the kernel writes.
func FuzzUnescape(f *testing.F) {
	f.Add("/mnt/a b\\c\td\ne#")
	f.Fuzz(func(t *testing.T, path string) {
		escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(path)
		if got := unescape(escaped); got != path {
			t.Errorf("%q became %q", path, got)
		}
	})
}

func TestFindCgroup(t *testing.T) {
	own := testutil.NewCgroup(t)
	found, err := FindCgroup(own)
	if err != nil || !strings.HasSuffix(found, own) || !sameFile(t, found, own) {
		t.Errorf("of a path of its own: %q, %v, want %s", found, err, own)
	}
	root, err := FindCgroup("")
	if err != nil || !sameFile(t, root, filepath.Dir(own)) {
		t.Errorf("of nothing: %q, %v, want %s", root, err, filepath.Dir(own))
	}
	if cilium, err := FindCgroup(ciliumCgroup); err != nil || !sameFile(t, cilium, root) {
		t.Errorf("of Cilium's, which nobody mounted: %q, %v", cilium, err)
	}
	for _, bad := range []string{t.TempDir(), filepath.Join(own, "absent"), filepath.Join(own, "cgroup.procs")} {
		if path, err := FindCgroup(bad); err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "cgroup-root") {
			t.Errorf("of %s: %q, %v", bad, path, err)
		}
	}
	if _, err := FindCgroup(t.TempDir()); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("of an ordinary folder: %v", err)
	}
}

// A process in a mount namespace of its own, as the node's first is to an agent in
// a container: what it has mounted is found through it.
func TestCgroupOfAnotherMountNamespace(t *testing.T) {
	own := testutil.NewCgroup(t)
	elsewhere := t.TempDir()
	cmd := exec.Command("unshare", "-m", "sh", "-c", `
		mount --make-rprivate / && mount --bind "$1" "$2" && umount -l "$1" && echo ready && exec sleep 60`,
		"sh", filepath.Dir(own), elsewhere)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if said, readErr := bufio.NewReader(out).ReadString('\n'); said != "ready\n" {
		t.Fatalf("the process said %q, %v", said, readErr)
	}
	proc := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
	found, err := mountedCgroup(proc)
	if err != nil || found != filepath.Join(proc, "root", elsewhere) || !sameFile(t, found, filepath.Dir(own)) {
		t.Errorf("found %q, %v", found, err)
	}
	named, err := namedCgroup(proc, filepath.Join(elsewhere, filepath.Base(own)))
	if err != nil || !sameFile(t, named, own) {
		t.Errorf("a path of the other: %q, %v", named, err)
	}
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(one, two)
}

// Each program's place is the one that its object was made for.
func TestSocketHooks(t *testing.T) {
	spec, err := bpf.LoadSock()
	if err != nil {
		t.Fatal(err)
	}
	hooks := socketHooks()
	for name, p := range spec.Programs {
		if hook, ok := hooks[name]; !ok || hook != p.AttachType {
			t.Errorf("%s is for %s, not %s", name, p.AttachType, hook)
		}
		delete(hooks, name)
	}
	if len(hooks) != 0 {
		t.Errorf("programs that the object has not: %v", hooks)
	}
}

func TestSocketLinksWithoutCgroupOrPrograms(t *testing.T) {
	l := &Loader{}
	if rows := l.SocketLinks(); len(rows) != 0 {
		t.Errorf("rows without a cgroup: %v", rows)
	}
	if err := l.OpenCgroup(t.TempDir()); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("open an ordinary folder: %v", err)
	}
	if err := l.OpenCgroup(testutil.NewCgroup(t)); err != nil {
		t.Fatal(err)
	}
	if rows := l.SocketLinks(); len(rows) != 0 {
		t.Errorf("rows without programs: %v", rows)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
