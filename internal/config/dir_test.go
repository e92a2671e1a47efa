package config

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A mounted ConfigMap: a hidden directory with the files, a link to it that is
// swapped on a change, and one link a key.
func TestReadDirOfConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := filepath.Join(dir, "..2026_07_01_12_00_00.123")
	if err := os.Mkdir(version, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"mtu": "1400\n", "routing-mode": "tunnel", "node-name": "a\r\n", "prometheus-serve-addr": "", "devices": "eth0\neth1\n\n",
	} {
		if err := os.WriteFile(filepath.Join(version, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Base(version), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".swp"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Sources{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.MTU != 1400 || c.RoutingMode != "tunnel" || c.NodeName != "a" || c.PrometheusAddr != "" || len(c.Devices) != 2 {
		t.Errorf("%+v", c)
	}
}

func TestReadDirJunk(t *testing.T) {
	dir := dirWith(t, map[string]string{
		"debug":        "\x7fELF\x02\x01\x01\x00",
		"cluster-name": strings.Repeat("x", 10<<20),
		"mtu":          "",
		"log-format":   "json\n\n",
		"core.1234":    "dump",
		"bpf-root":     "/sys/fs/\xff",
		"ipam":         strings.Repeat("k", 300),
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "lost+found"), 0o755))
	must(os.Symlink("nowhere", filepath.Join(dir, "socket-path")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	must(syscall.Mkfifo(filepath.Join(dir, "devices"), 0o600)) // must not be waited for
	l, err := net.Listen("unix", filepath.Join(dir, "state-dir"))
	must(err)
	defer l.Close()
	must(os.Symlink("/dev/zero", filepath.Join(dir, "node-name")))

	_, err = Load(Sources{Dir: dir})
	in := func(name string) string { return "(file " + filepath.Join(dir, name) + ")" }
	wantLines(
		t, err,
		[]string{"debug=", in("debug"), "control characters", "allowed: true or false"},
		[]string{`"cluster-name" ` + in("cluster-name"), "has 10485760 bytes; at most 65536"},
		[]string{`mtu="" ` + in("mtu"), "is empty"},
		[]string{"log-format=", in("log-format"), "several lines"},
		[]string{"core.1234=", in("core.1234"), "unknown key"},
		[]string{"bpf-root=", in("bpf-root"), "no valid UTF-8"},
		[]string{"ipam=", in("ipam"), "(300 bytes)", "kubernetes or cluster-pool"},
		[]string{`"lost+found" ` + in("lost+found"), "a directory; a config directory holds one file a key"},
		[]string{`"socket-path" ` + in("socket-path"), "no such file"},
		[]string{`"loop" ` + in("loop"), "too many levels"},
		[]string{`"devices" ` + in("devices"), "a named pipe"},
		[]string{`"state-dir" ` + in("state-dir"), "a socket"},
		[]string{`"node-name" ` + in("node-name"), "a device"},
	)
}

func TestReadDirUnreadable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(Sources{Dir: file})
	wantLines(t, err, []string{"config-dir=", "not a directory"})

	dir := dirWith(t, map[string]string{"mtu": "1400"})
	if err = os.Chmod(filepath.Join(dir, "mtu"), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // root reads files of any mode
		if err = os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err = unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Setfsuid(0) }()
	}
	_, err = Load(Sources{Dir: dir})
	wantLines(t, err, []string{`"mtu" (file ` + dir + "/mtu)", "permission denied"})
}

// Whatever the name and content of one more file, reading gives its content as the
// setting of that name, a problem that names the file, or, for hidden names, nothing.
func FuzzReadDir(f *testing.F) {
	f.Add("mtu", []byte("1400\n"))
	f.Add("..data", []byte("x"))
	f.Add("no-such-key", []byte{0, 255, '\n', '\r', '\n'})
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if filepath.Dir(path) != dir || filepath.Base(path) != name || os.WriteFile(path, content, 0o600) != nil {
			t.Skip("not a file name")
		}
		settings, problems := readDir(dir, "test")
		switch {
		case strings.HasPrefix(name, "."):
			if len(settings)+len(problems) > 0 {
				t.Errorf("%q was read: %v %v", name, settings, problems)
			}
			return
		case len(content) > maxValueFile:
			if len(settings) != 0 || len(problems) != 1 || !strings.Contains(problems[0].Error(), path) {
				t.Errorf("%d bytes: %v %v", len(content), settings, problems)
			}
		case len(settings) != 1 || len(problems) != 0 || settings[0].key != name:
			t.Errorf("%v %v", settings, problems)
		default:
			rest := strings.TrimPrefix(string(content), settings[0].value)
			if rest != "" && rest != "\n" && rest != "\r\n" {
				t.Errorf("read %q as %q", content, settings[0].value)
			}
		}
		l, err := Load(Sources{Dir: dir})
		if (l == nil) == (err == nil) {
			t.Fatalf("%v, %v", l, err)
		}
		if err != nil && !strings.Contains(err.Error(), dir) {
			t.Errorf("the error does not say where: %v", err)
		}
		if bytes.IndexByte(content, 0) >= 0 && l != nil && len(l.Warnings) == 0 {
			t.Errorf("%q was accepted from %q", content, name)
		}
	})
}
