package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	loadgen "github.com/placid-net/placid/test/load"
)

// caller is a place that asks services, with sockets of its own.
type caller struct {
	place
	node    string // where it runs; empty outside the cluster
	isNode  bool
	cgroup  bool // it is in the node's cgroup, as everything on a node is in truth
	sockets bool // services are translated at its sockets, else packet by packet
}

// podCaller is a pod whose packets are translated, or, with the cgroup of the
// node, its sockets.
func podCaller(b backend, cgroup bool) caller {
	return caller{place: b.place, node: b.node, cgroup: cgroup, sockets: cgroup}
}

// nodeCaller is a process of the node.
func nodeCaller(h host) caller {
	return caller{place: h.place(), node: h.name, isNode: true, cgroup: true, sockets: true}
}

// generator is the built program test/load/cmd/load, and the lab that it asks in.
type generator struct {
	lab  *lab
	path string
}

func (l *lab) newGenerator(t *testing.T) *generator {
	t.Helper()
	g := &generator{l, filepath.Join(t.TempDir(), "load")}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", g.path, "../load/cmd/load")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the load generator: %v\n%s", err, out)
	}
	return g
}

// nodeCgroup opens the cgroup of a node's processes, which holds its pods' too.
func (l *lab) nodeCgroup(t *testing.T, name string) *os.File {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(l.node(t, name).pid), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(groups)) {
		group, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for mount := range strings.Lines(string(mounts)) {
			if f := strings.Fields(mount); unified && f[2] == "cgroup2" {
				dir, err := os.Open(filepath.Join(f[1], group))
				if err != nil {
					t.Fatal(err)
				}
				return dir
			}
		}
	}
	t.Fatalf("node %s has no cgroup of version 2: %q", name, groups)
	return nil
}

// asking is the generator at work in one place.
type asking struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	results chan []loadgen.Result
	ended   bool
}

// start lets the caller ask all targets, side by side.
func (g *generator) start(t *testing.T, c caller, targets []loadgen.Target) *asking {
	t.Helper()
	cmd := exec.CommandContext(background(), g.path)
	if c.cgroup {
		group := g.lab.nodeCgroup(t, c.node)
		defer group.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	}
	cmd.Stderr = os.Stderr
	a := &asking{name: c.name, cmd: cmd, results: make(chan []loadgen.Result, 1)}
	var err error
	if a.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// A child has the namespace of the thread that started it.
	if _, err = inNetns(c.netns, func() (any, error) { return nil, cmd.Start() }); err != nil {
		t.Fatalf("start the load generator in %s: %v", c.name, err)
	}
	t.Cleanup(func() {
		if !a.ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	line, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.stdin.Write(append(line, '\n')); err != nil {
		t.Fatalf("give the load generator in %s its targets: %v", c.name, err)
	}
	go func() {
		var out []loadgen.Result
		_ = json.NewDecoder(bufio.NewReader(stdout)).Decode(&out) // without results, wait tells why
		a.results <- out
	}()
	return a
}

// wait returns the results when every target was asked as often as it says.
func (a *asking) wait(t *testing.T) []loadgen.Result {
	t.Helper()
	out := <-a.results
	a.ended = true
	_ = a.stdin.Close()
	if err := a.cmd.Wait(); err != nil || out == nil {
		t.Fatalf("the load generator in %s: %v", a.name, err)
	}
	return out
}

// end stops asking, and returns the results.
func (a *asking) end(t *testing.T) []loadgen.Result {
	t.Helper()
	if err := a.stdin.Close(); err != nil {
		t.Errorf("end the load generator in %s: %v", a.name, err)
	}
	return a.wait(t)
}
