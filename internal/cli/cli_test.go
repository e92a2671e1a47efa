package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

var update = flag.Bool("update", false, "rewrite golden files and generated documents")

// result is what one command line left behind.
type result struct {
	code           int
	stdout, stderr string
}

// placid runs one command line against the fake agent.
func placid(t *testing.T, f *fakeAgent, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), Env{
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		Getenv:  func(string) string { return "" },
		Now:     func() time.Time { return testNow },
		Version: "v0.1.0-test",
		dial:    func(string) agent { return f },
	}, args)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// compareGolden compares got with a committed file, or rewrites it with -update.
func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run: go test ./internal/cli -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (if the change is meant, run: go test ./internal/cli -update) -want +got:\n%s", path, diff)
	}
}

// goldenCase is one command line whose whole output is in testdata/NAME.golden.
type goldenCase struct {
	name  string
	agent *fakeAgent
	args  string
	code  int
}

// TestGolden shows every command's output as a person sees it.
func TestGolden(t *testing.T) {
	golden(t, []goldenCase{
		{"status", healthyAgent(), "status", ExitOK},
		{"status-verbose", healthyAgent(), "status --verbose", ExitOK},
		{"status-brief", healthyAgent(), "status --brief", ExitOK},
		{"status-sick", sickAgent(), "status", ExitFailed},
		{"status-sick-verbose", sickAgent(), "status --verbose", ExitFailed},
		{"status-sick-brief", sickAgent(), "status --brief", ExitFailed},
		{"status-sick-json", sickAgent(), "status -o json", ExitFailed},
		{"status-yaml", healthyAgent(), "status -o yaml", ExitOK},
		{"status-empty", &fakeAgent{}, "status --verbose", ExitFailed},
		{"status-unreachable", unreachableAgent(), "status", ExitUnreachable},
		{"status-brief-json", healthyAgent(), "status --brief -o json", ExitUsage},
		{"status-brief-verbose", healthyAgent(), "status --brief --verbose", ExitUsage},
		{"status-wait-negative", healthyAgent(), "status --wait -1s", ExitUsage},
		{"endpoint-list", healthyAgent(), "endpoint list", ExitOK},
		{"endpoint-list-json", healthyAgent(), "endpoint list -o json", ExitOK},
		{"endpoint-list-yaml", healthyAgent(), "endpoint list -o yaml", ExitOK},
		{"endpoint-list-none", &fakeAgent{}, "endpoint list", ExitOK},
		{"endpoint-list-none-json", &fakeAgent{}, "endpoint list -o json", ExitOK},
		{"endpoint-get-id", healthyAgent(), "endpoint get 7", ExitOK},
		{"endpoint-get-pod", healthyAgent(), "endpoint get kube-system/dns-x", ExitOK},
		{"endpoint-get-json", healthyAgent(), "endpoint get fd00::5 -o json", ExitOK},
		{"endpoint-get-missing", healthyAgent(), "endpoint get 10.244.0.99", ExitFailed},
		{"endpoint-get-bad", healthyAgent(), "endpoint get web-0", ExitUsage},
		{"endpoint-get-noarg", healthyAgent(), "endpoint get", ExitUsage},
		{"endpoint-nosub", healthyAgent(), "endpoint", ExitUsage},
		{"endpoint-wrongsub", healthyAgent(), "endpoint flush", ExitUsage},
		{"bpf-maps", healthyAgent(), "bpf maps", ExitOK},
		{"bpf-maps-json", healthyAgent(), "bpf maps -o json", ExitOK},
		{"bpf-endpoint-list", healthyAgent(), "bpf endpoint list", ExitOK},
		{"bpf-ipcache-list-json", healthyAgent(), "bpf ipcache list -o json", ExitOK},
		{"bpf-metrics-list-json", healthyAgent(), "bpf metrics list -o json", ExitOK},
		{"bpf-metrics-list", healthyAgent(), "bpf metrics list", ExitOK},
		{"bpf-generic-list", healthyAgent(), "bpf config list", ExitOK},
		{"bpf-map-get", healthyAgent(), "bpf map get config -o yaml", ExitOK},
		{"bpf-map-get-missing", healthyAgent(), "bpf map get nat", ExitFailed},
		{"bpf-generic-bad", healthyAgent(), "bpf config flush", ExitUsage},
		{"config", healthyAgent(), "config", ExitOK},
		{"config-changed", healthyAgent(), "config --changed", ExitOK},
		{"config-changed-json", healthyAgent(), "config --changed -o json", ExitOK},
		{"config-failed", &fakeAgent{err: &agentapi.Error{Code: agentapi.CodeInternal, Message: "boom"}}, "config", ExitFailed},
		{"unknown-command", healthyAgent(), "frobnicate", ExitUsage},
		{"unknown-flag", healthyAgent(), "status --frobnicate", ExitUsage},
		{"unknown-output", healthyAgent(), "status -o xml", ExitUsage},
		{"timeout-zero", healthyAgent(), "status --timeout 0s", ExitUsage},
		{"root", healthyAgent(), "", ExitOK},
	})
}

func golden(t *testing.T, tests []goldenCase) {
	t.Helper()
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := placid(t, tc.agent, "", strings.Fields(tc.args)...)
			if r.code != tc.code {
				t.Errorf("exit code is %d, want %d", r.code, tc.code)
			}
			got := fmt.Sprintf("$ placid %s\n-- exit %d --\n-- stdout --\n%s-- stderr --\n%s", tc.args, r.code, r.stdout, r.stderr)
			compareGolden(t, filepath.Join("testdata", tc.name+".golden"), got)
		})
	}
}

// TestUnreachable runs every command that needs the agent without one.
func TestUnreachable(t *testing.T) {
	for _, args := range []string{
		"status", "status --brief", "status -o json", "endpoint list", "endpoint get 7", "bpf maps",
		"bpf ipcache list", "bpf other list", "bpf map get x", "config", "config --changed -o yaml",
		"bpf ct list", "bpf ct get --from 10.0.0.1:1 --to 10.0.0.2:2", "bpf ct top", "bpf ct flush --all", "bpf ct gc",
		"identity list", "identity get 1", "policy get", "policy get a/b", "policy selectors", "policy trace --from a/b --to c/d:1",
		"service list", "service get a/b", "bpf lb list", "bpf lb list --backends",
	} {
		t.Run(args, func(t *testing.T) {
			r := placid(t, unreachableAgent(), "", strings.Fields(args)...)
			if r.code != ExitUnreachable {
				t.Errorf("exit code is %d, want %d", r.code, ExitUnreachable)
			}
			if r.stdout != "" {
				t.Errorf("stdout is %q, want nothing", r.stdout)
			}
			if !strings.Contains(r.stderr, "no such file or directory") {
				t.Errorf("stderr does not say why: %q", r.stderr)
			}
		})
	}
}

// TestTimeout has an agent that takes the request and never answers.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := placid(t, &fakeAgent{hang: true}, "", "endpoint", "list", "--timeout", "3s")
		if r.code != ExitUnreachable {
			t.Errorf("exit code is %d, want %d", r.code, ExitUnreachable)
		}
		if !strings.Contains(r.stderr, "within --timeout 3s") {
			t.Errorf("stderr does not name the timeout: %q", r.stderr)
		}
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("gave up after %s, want 3s", got)
		}
	})
}

func TestStatusWait(t *testing.T) {
	tests := []struct {
		name         string
		healthyAfter int32
		wait         string
		code         int
		took         time.Duration
	}{
		{"at once", 0, "10s", ExitOK, 0},
		{"after four looks", 4, "10s", ExitOK, 4 * waitInterval},
		{"never", 1000, "10s", ExitFailed, 10 * time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := healthyAgent()
				f.healthyAfter = tc.healthyAfter
				start := time.Now()
				r := placid(t, f, "", "status", "--brief", "--wait", tc.wait)
				if r.code != tc.code {
					t.Errorf("exit code is %d, want %d; stdout %q", r.code, tc.code, r.stdout)
				}
				if took := time.Since(start); took != tc.took {
					t.Errorf("took %s, want %s", took, tc.took)
				}
			})
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if r := placid(t, unreachableAgent(), "", "status", "--wait", "2s"); r.code != ExitUnreachable {
				t.Errorf("exit code is %d, want %d", r.code, ExitUnreachable)
			}
		})
	})
}

// TestStatusWaitInterrupted checks that Ctrl-C ends the wait.
func TestStatusWaitInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a := &app{env: Env{dial: func(string) agent { return sickAgent() }}, timeout: time.Second}
		if _, err := a.waitHealthy(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want the context's", err)
		}
	})
}

// TestMachineOutput checks that JSON and YAML decode to what the agent said.
func TestMachineOutput(t *testing.T) {
	for _, format := range []string{"json", "yaml"} {
		t.Run(format, func(t *testing.T) {
			decode := func(out string, into any) {
				t.Helper()
				b := []byte(out)
				if format == "yaml" {
					var err error
					if b, err = yaml.YAMLToJSON(b); err != nil {
						t.Fatal(err)
					}
				}
				if err := json.Unmarshal(b, into); err != nil {
					t.Fatal(err)
				}
			}
			f := sickAgent()
			addrs := cmp.Comparer(func(a, b fmt.Stringer) bool { return a.String() == b.String() })
			var status agentapi.Status
			decode(placid(t, f, "", "status", "-o", format).stdout, &status)
			if diff := cmp.Diff(f.status, status, addrs); diff != "" {
				t.Errorf("status -want +got:\n%s", diff)
			}
			var endpoints []state.Endpoint
			decode(placid(t, f, "", "endpoint", "list", "-o", format).stdout, &endpoints)
			if diff := cmp.Diff(f.endpoints, endpoints, addrs); diff != "" {
				t.Errorf("endpoints -want +got:\n%s", diff)
			}
			var dump agentapi.MapDump
			decode(placid(t, f, "", "bpf", "endpoint", "list", "-o", format).stdout, &dump)
			if diff := cmp.Diff(f.dumps[0], dump); diff != "" {
				t.Errorf("dump -want +got:\n%s", diff)
			}
		})
	}
}

func TestEndpointGetAmbiguous(t *testing.T) {
	f := healthyAgent()
	f.endpoints[1].Pod = f.endpoints[0].Pod
	r := placid(t, f, "", "endpoint", "get", "default/web-0")
	if r.code != ExitFailed || !strings.Contains(r.stderr, "ids 7, 11") {
		t.Errorf("exit code %d, stderr %q; want %d and both ids", r.code, r.stderr, ExitFailed)
	}
}

func TestVersion(t *testing.T) {
	tests := []struct {
		name      string
		agent     *fakeAgent
		args      []string
		wantAgent string
		wantError bool
	}{
		{"both", healthyAgent(), nil, "v0.1.0", false},
		{"client only", unreachableAgent(), []string{"--client"}, "", false},
		{"unreachable", unreachableAgent(), nil, "", true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			text := placid(t, tc.agent, "", append([]string{"version"}, tc.args...)...)
			if text.code != ExitOK || !strings.Contains(text.stdout, "Client: v0.1.0-test") {
				t.Errorf("exit code %d, stdout %q", text.code, text.stdout)
			}
			if got := strings.Contains(text.stdout, "Agent:"); got != (tc.wantAgent != "" || tc.wantError) {
				t.Errorf("agent line is there: %t; stdout %q", got, text.stdout)
			}
			var v versions
			r := placid(t, tc.agent, "", append([]string{"version", "-o", "json"}, tc.args...)...)
			if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
				t.Fatal(err)
			}
			if v.Client.Version != "v0.1.0-test" || (v.AgentError != "") != tc.wantError {
				t.Errorf("versions are %+v", v)
			}
			if got := v.Agent; (got != nil) != (tc.wantAgent != "") || got != nil && got.Version != tc.wantAgent {
				t.Errorf("agent version is %+v, want %q", got, tc.wantAgent)
			}
		})
	}
}

// TestSocket checks where the socket's path comes from: flag, environment, default.
func TestSocket(t *testing.T) {
	for _, tc := range []struct{ env, flag, want string }{
		{"", "", agentapi.DefaultSocket},
		{"/tmp/env.sock", "", "/tmp/env.sock"},
		{"/tmp/env.sock", "/tmp/flag.sock", "/tmp/flag.sock"},
	} {
		var got string
		args := []string{"bpf", "maps"}
		if tc.flag != "" {
			args = append(args, "--socket", tc.flag)
		}
		code := Run(t.Context(), Env{
			Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer), Now: time.Now,
			Getenv: func(name string) string { return map[string]string{socketEnv: tc.env}[name] },
			dial:   func(socket string) agent { got = socket; return healthyAgent() },
		}, args)
		if code != ExitOK || got != tc.want {
			t.Errorf("env %q, flag %q: exit code %d, socket %q, want %q", tc.env, tc.flag, code, got, tc.want)
		}
	}
}

// errWriter is a full disk.
type errWriter struct{}

func (errWriter) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestWriteError(t *testing.T) {
	var stderr bytes.Buffer
	code := Run(t.Context(), Env{
		Stdout: errWriter{}, Stderr: &stderr, Now: time.Now,
		Getenv: func(string) string { return "" },
		dial:   func(string) agent { return healthyAgent() },
	}, []string{"bpf", "maps"})
	if code != ExitFailed || !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
}

// TestProblems ties `problems` to the healthy fixture and
// checks that each single fault is seen.
func TestProblems(t *testing.T) {
	if got := problems(healthyAgent().status); len(got) != 0 {
		t.Fatalf("healthy node has problems: %q", got)
	}
	for name, tc := range map[string]struct {
		spoil func(*agentapi.Status)
		want  string
	}{
		"not ready":       {func(s *agentapi.Status) { s.Ready = false }, "agent is not ready"},
		"condition":       {func(s *agentapi.Status) { s.Conditions[1].OK = false }, "datapath: not ok"},
		"feature":         {func(s *agentapi.Status) { s.Features[1].Required = true }, "netkit: needs kernel 6.7"},
		"refused service": {func(s *agentapi.Status) { s.Services.Refused = []string{"a/b: too large"} }, "services: a/b: too large"},
		"refused policy":  {func(s *agentapi.Status) { s.Policy.Problems = []string{"a/b: too large"} }, "policy: a/b: too large"},
		"no collection":   {func(s *agentapi.Status) { s.Conntrack.Problem = "no iterator" }, "conntrack: no iterator"},
		"controller":      {func(s *agentapi.Status) { s.Controllers[0].Failing = 2 }, "endpoint-map: 2 of 3 failing"},
		"node's MTU":      {func(s *agentapi.Status) { s.Nodes[0].Problem = "MTU 1450 there" }, "node lab-2: MTU 1450 there"},
		"route's error":   {func(s *agentapi.Status) { s.Nodes[0].Route = "no route to host" }, "node lab-2: no route to host"},
		"ready is false":  {func(s *agentapi.Status) { s.Ready, s.Conditions = false, nil }, "agent is not ready"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthyAgent().status
			tc.spoil(&s)
			got := problems(s)
			if len(got) != 1 || !strings.Contains(got[0], tc.want) {
				t.Errorf("problems are %q, want one with %q", got, tc.want)
			}
		})
	}
}

func TestFill(t *testing.T) {
	for _, tc := range []struct {
		kind    string
		entries uint64
		size    uint32
		want    string
	}{
		{"Hash", 1, 8, "12.5%"},
		{"LRUCPUHash", 8, 8, "100.0%"},
		{"LPMTrie", 0, 8, "0.0%"},
		{"Array", 8, 8, "-"},
		{"RingBuf", 0, 4096, "-"},
		{"Hash", 0, 0, "-"},
	} {
		if got := fill(tc.kind, tc.entries, tc.size); got != tc.want {
			t.Errorf("fill(%s, %d, %d) is %q, want %q", tc.kind, tc.entries, tc.size, got, tc.want)
		}
	}
}
