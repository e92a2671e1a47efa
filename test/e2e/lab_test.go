package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	labScript = "../lab/lab"
	// commandTimeout bounds one command that should answer at once.
	commandTimeout = time.Minute
	upTimeout      = 15 * time.Minute // with an empty cache all of Kubernetes is built
)

// family is an IP version; addresses of nodes and hosts are indexed by it.
type family int

const (
	ipv4 family = iota
	ipv6
)

func (f family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

var families = []family{ipv4, ipv6}

// addresses are one of each family.
type addresses [2]netip.Addr

// host is a machine of the lab that is no pod.
type host struct {
	name  string
	pid   int // of a process in its namespaces
	addrs addresses
}

// lab is a running lab. Each of its nodes is one that pods run on.
type lab struct {
	name    string
	env     map[string]string
	nodes   []host
	outside host
	api     addresses
	// outdated are numbers of identities that should go, for a later test.
	outdated []string
}

// labs are those to take away when the run is interrupted.
type labs struct {
	mu    sync.Mutex
	names map[string]bool
}

var running = &labs{names: map[string]bool{}}

func (s *labs) set(name string, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if up {
		s.names[name] = true
	} else {
		delete(s.names, name)
	}
}

func (s *labs) downAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.names {
		if err := labDown(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// labCommand is `lab ARG...` for the named lab.
func labCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, labScript, args...)
	cmd.Env = append(os.Environ(), "PLACID_LAB="+name)
	return cmd
}

func labDown(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if out, err := labCommand(ctx, name, "down").CombinedOutput(); err != nil {
		return fmt.Errorf("lab down %s: %w\n%s", name, err, out)
	}
	return nil
}

// startLab brings a lab up with the options of `lab up`, and takes it away when
// the test ends. With USE_LAB it takes the lab of that name, as it is, and leaves
// it up: to work on one of the tests.
func startLab(t *testing.T, suffix string, options ...string) *lab {
	t.Helper()
	if name := os.Getenv("USE_LAB"); name != "" {
		l := &lab{name: name}
		l.readEnv(t)
		return l
	}
	l := &lab{name: fmt.Sprintf("e2e-%d-%s", os.Getpid(), suffix)}
	running.set(l.name, true)
	t.Cleanup(func() {
		if os.Getenv("KEEP_LAB") != "" {
			t.Logf("lab %s stays up: PLACID_LAB=%s test/lab/lab down", l.name, l.name)
			return
		}
		if err := labDown(l.name); err != nil {
			t.Error(err)
		}
		running.set(l.name, false)
	})
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	began := time.Now()
	cmd := labCommand(ctx, l.name, append([]string{"up"}, options...)...)
	tail := &tailWriter{prefix: "[" + suffix + "] ", to: os.Stderr}
	cmd.Stdout, cmd.Stderr = tail, tail
	if err := cmd.Run(); err != nil {
		t.Fatalf("lab up %s: %v\n%s", strings.Join(options, " "), err, tail.text())
	}
	t.Logf("lab %s is up after %s", l.name, time.Since(began).Round(time.Second))
	l.readEnv(t)
	return l
}

// readEnv learns the lab's facts from `lab env`.
func (l *lab) readEnv(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", `eval "$("$1" env)" && env -0`, "bash", labScript)
	cmd.Env = append(os.Environ(), "PLACID_LAB="+l.name)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("lab env: %v", err)
	}
	l.env = map[string]string{}
	for pair := range strings.SplitSeq(string(out), "\x00") {
		if key, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(key, "LAB_") {
			l.env[key] = value
		}
	}
	for name := range strings.FieldsSeq(l.env["LAB_NODES"]) {
		l.nodes = append(l.nodes, parseHost(t, name, l.env["LAB_NODE_"+name]))
	}
	if len(l.nodes) < 2 {
		t.Fatalf("lab env names %d nodes, want 2: %v", len(l.nodes), l.env)
	}
	l.outside = parseHost(t, "outside", strings.Join([]string{
		l.env["LAB_OUTSIDE_PID"], l.env["LAB_OUTSIDE4"], l.env["LAB_OUTSIDE6"],
	}, " "))
	l.api = addresses{netip.MustParseAddr(l.env["LAB_API4"]), netip.MustParseAddr(l.env["LAB_API6"])}
}

// parseHost reads "PID IPV4 IPV6".
func parseHost(t *testing.T, name, fact string) host {
	t.Helper()
	words := strings.Fields(fact)
	if len(words) != 3 {
		t.Fatalf("lab env tells of %s %q, want a process id and two addresses", name, fact)
	}
	pid, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatalf("process id of %s: %v", name, err)
	}
	return host{name, pid, addresses{netip.MustParseAddr(words[1]), netip.MustParseAddr(words[2])}}
}

// try runs a command of the lab and returns its standard output. The error
// holds what was written to the standard error.
func (l *lab) try(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := labCommand(ctx, l.name, args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		err = fmt.Errorf("lab %s: %w\n%s%s", strings.Join(args, " "), err, stderr.String(), stdout.String())
	}
	return stdout.String(), err
}

// must is try for commands that have to succeed.
func (l *lab) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.try(t.Context(), nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// on runs a command on a host of the lab, which has to succeed.
func (l *lab) on(t *testing.T, h host, args ...string) string {
	t.Helper()
	return l.must(t, append([]string{"exec", h.name}, args...)...)
}

// kubectl has to succeed.
func (l *lab) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return l.must(t, append([]string{"kubectl"}, args...)...)
}

// exitCode is that of a command, through the lab and kubectl exec; -1 when err
// is none of a command that ended.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

// pollInterval is the pause between two looks at a condition.
const pollInterval = 200 * time.Millisecond

// eventually waits until check returns nil.
func eventually(t *testing.T, timeout time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("%s: not within %s: %v", what, timeout, err)
		}
		time.Sleep(pollInterval)
	}
}

// tailWriter passes lines on with a prefix, and keeps the last ones.
type tailWriter struct {
	prefix string
	to     io.Writer

	mu    sync.Mutex
	lines []string
	part  []byte
}

const tailLines = 40

func (w *tailWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.part = append(w.part, b...)
	for {
		i := bytes.IndexByte(w.part, '\n')
		if i < 0 {
			return len(b), nil
		}
		line := string(w.part[:i])
		w.part = w.part[i+1:]
		fmt.Fprintln(w.to, w.prefix+line)
		if w.lines = append(w.lines, line); len(w.lines) > tailLines {
			w.lines = w.lines[1:]
		}
	}
}

func (w *tailWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(append(w.lines, string(w.part)), "\n")
}

// lastLines gives the end of a file.
func lastLines(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if lines = append(lines, s.Text()); len(lines) > n {
			lines = lines[1:]
		}
	}
	return strings.Join(lines, "\n")
}
