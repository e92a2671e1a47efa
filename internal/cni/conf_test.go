package cni

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func confOptions() ConfOptions {
	return ConfOptions{SocketPath: "/run/placid/agent.sock", PendingDir: "/run/placid/pending-del", MTU: 1500, LogFile: "/var/log/x", LogLevel: "debug"}
}

func TestWriteConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "net.d", "05-placid.conflist")
	if err := WriteConf(path, confOptions()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"cniVersion": "1.1.0", "name": "placid", "plugins": []any{map[string]any{
		"type":         "placid-cni",
		"capabilities": map[string]any{"bandwidth": true, "portMappings": true},
		"socketPath":   "/run/placid/agent.sock",
		"pendingDir":   "/run/placid/pending-del",
		"mtu":          1500.0,
		"logFile":      "/var/log/x",
		"logLevel":     "debug",
	}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("configuration (-want +got):\n%s", d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	dirHolds(t, filepath.Dir(path), "05-placid.conflist")
}

func TestWriteConfOnlyWhenItDiffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "05-placid.conflist")
	opts := confOptions()
	if err := WriteConf(path, opts); err != nil {
		t.Fatal(err)
	}
	first := inode(t, path)
	if err := WriteConf(path, opts); err != nil {
		t.Fatal(err)
	}
	if inode(t, path) != first {
		t.Error("the same content was written again")
	}
	opts.MTU = 9000
	if err := WriteConf(path, opts); err != nil {
		t.Fatal(err)
	}
	if inode(t, path) == first {
		t.Error("other content was not renamed into place")
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "9000") {
		t.Errorf("%s, %v", b, err)
	}
}

func TestWriteConfWithoutHostPorts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "05-placid.conflist")
	if err := WriteConf(path, ConfOptions{WithoutHostPorts: true}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(b), "portMappings") || !strings.Contains(string(b), "bandwidth") {
		t.Errorf("%s, %v", b, err)
	}
}

func TestWriteConfLeavesDefaultsOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "05-placid.conflist")
	if err := WriteConf(path, ConfOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"socketPath", "pendingDir", "mtu", "logFile", "logLevel"} {
		if strings.Contains(string(b), key) {
			t.Errorf("%s is written without a value:\n%s", key, b)
		}
	}
}

func TestWriteConfRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		opts       ConfOptions
		part       string
	}{
		{"a name that is not read as a list", filepath.Join(dir, "05-placid.conf"), ConfOptions{}, ".conflist"},
		{"an empty path", "", ConfOptions{}, ".conflist"},
		{"a relative socket", filepath.Join(dir, "a.conflist"), ConfOptions{SocketPath: "x"}, "socketPath"},
		{"an MTU out of range", filepath.Join(dir, "a.conflist"), ConfOptions{MTU: 100}, "mtu is 100"},
		{"a log level", filepath.Join(dir, "a.conflist"), ConfOptions{LogLevel: "x"}, "logLevel"},
		{"a folder that cannot be", filepath.Join(file, "a.conflist"), ConfOptions{}, file},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := WriteConf(tc.path, tc.opts); err == nil || !strings.Contains(err.Error(), tc.part) {
				t.Errorf("got %v, want an error with %q", err, tc.part)
			}
		})
	}
	dirHolds(t, dir, "file")
}

func TestRemoveConf(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "05-placid.conflist")
	if err := WriteConf(path, ConfOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is absent
		if err := RemoveConf(path); err != nil {
			t.Fatal(err)
		}
	}
	dirHolds(t, dir)
}

func TestExclusive(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10-other.conflist", "a")
	write("20-other.conf", "b")
	write("30-other.json", "c")
	write("README", "d")
	write("99.conf.rpmsave", "e")
	if err := os.Mkdir(filepath.Join(dir, "sub.conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "00-link.conf")); err != nil {
		t.Fatal(err)
	}
	// Placid's own under the name it had before.
	if err := WriteConf(filepath.Join(dir, "01-old.conflist"), ConfOptions{}); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(dir, "05-placid.conflist")
	opts := ConfOptions{Exclusive: true}
	for range 2 {
		if err := WriteConf(path, opts); err != nil {
			t.Fatal(err)
		}
		dirHolds(t, dir, "00-link.conf.placid_bak", "05-placid.conflist", "10-other.conflist.placid_bak",
			"20-other.conf.placid_bak", "30-other.json.placid_bak", "99.conf.rpmsave", "README", "sub.conf")
	}

	// The other plugin comes back with a newer file: that is the one to restore.
	write("10-other.conflist", "newer")
	if err := WriteConf(path, opts); err != nil {
		t.Fatal(err)
	}
	// This one comes back while Placid does not look.
	write("20-other.conf", "newer")

	if err := RemoveConf(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := RestoreConfs(dir); err != nil {
			t.Fatal(err)
		}
		dirHolds(t, dir, "00-link.conf", "10-other.conflist", "20-other.conf", "30-other.json", "99.conf.rpmsave", "README", "sub.conf")
	}
	for name, want := range map[string]string{"10-other.conflist": "newer", "20-other.conf": "newer", "30-other.json": "c"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v, want %q", name, b, err, want)
		}
	}
	if err := RestoreConfs(filepath.Join(dir, "absent")); err != nil {
		t.Error(err)
	}
}

func TestNotExclusive(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-other.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteConf(filepath.Join(dir, "05-placid.conflist"), ConfOptions{}); err != nil {
		t.Fatal(err)
	}
	dirHolds(t, dir, "05-placid.conflist", "10-other.conf")
}

func TestInstallBinary(t *testing.T) {
	src := filepath.Join(t.TempDir(), "placid-cni")
	dst := filepath.Join(t.TempDir(), "cni", "bin")
	if err := os.WriteFile(src, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	installed := filepath.Join(dst, "placid-cni")
	if err := InstallBinary(src, dst); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(installed); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v, want 0755", info.Mode(), err)
	}
	first := inode(t, installed)
	if err := InstallBinary(src, dst); err != nil {
		t.Fatal(err)
	}
	if inode(t, installed) != first {
		t.Error("the same content was installed again")
	}
	if err := os.Chmod(installed, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := InstallBinary(src, dst); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(installed); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v, want 0755 again", info.Mode(), err)
	}
	dirHolds(t, dst, "placid-cni")
	if err := InstallBinary(filepath.Join(dst, "absent"), dst); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("got %v, want an error that names the missing source", err)
	}
}

// A plugin that is being executed can be replaced.
func TestInstallBinaryOverARunningOne(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	if err := InstallBinary(sleep, dst); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dst, filepath.Base(sleep)), "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	newer := filepath.Join(t.TempDir(), filepath.Base(sleep))
	if err := os.WriteFile(newer, []byte("newer"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := InstallBinary(newer, dst); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dst, filepath.Base(sleep))); err != nil || string(b) != "newer" {
		t.Errorf("holds %.10q, %v", b, err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the running one ended: %v", err)
	}
}

func dirHolds(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", dir, d)
	}
}

// inode tells a file from its replacement, by number and time of change.
func inode(t *testing.T, path string) [2]int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return [2]int64{int64(st.Ino), time.Unix(st.Ctim.Unix()).UnixNano()}
}
