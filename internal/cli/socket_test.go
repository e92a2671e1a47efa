package cli

import (
	"bytes"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
)

// runReal runs a command with the real client.
func runReal(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), Env{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(string) string { return "" }, Now: func() time.Time { return testNow }, Version: "v0.1.0-test",
	}, args)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// TestRealSocket runs commands through the real client, a unix socket and the
// agent's HTTP handler, and expects what the fake gives directly.
func TestRealSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	f := sickAgent()
	f.status.Warnings = []string{"a < b"} // JSON must not escape it
	l, err := agentapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: agentapi.Handler(f), ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	for _, args := range []string{
		"status", "status -o json", "bpf endpoint list", "bpf metrics list -o json", "bpf absent list", "bpf a/b list",
		"bpf ct list --pod default/web-0 --addr fd00::/64 --port 80 --proto udp --state new --limit 5", "bpf ct list -o json",
		"bpf ct get --from 10.244.0.5:43210 --to 10.244.1.7:80", "bpf ct top --by pod", "bpf ct flush --all", "bpf ct flush --port 80",
		"bpf ct gc", "identity list -o yaml", "identity get 4711", "policy get -o json", "policy get default/web-0",
		"policy get default/absent", "policy selectors", "policy trace --from default/client --to default/web-0:80/tcp",
	} {
		got := runReal(t, append(strings.Fields(args), "--socket", socket)...)
		if want := placid(t, f, "", strings.Fields(args)...); got != want {
			t.Errorf("%s: got %+v, want %+v", args, got, want)
		}
	}
}

// TestRealSocketAbsent is what a person sees on a node without an agent.
func TestRealSocketAbsent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "absent.sock")
	r := runReal(t, "status", "--socket", socket)
	if r.code != ExitUnreachable || !strings.Contains(r.stderr, socket) {
		t.Errorf("exit code %d, stderr %q; want %d and the socket's path", r.code, r.stderr, ExitUnreachable)
	}
}
