package k8s

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/internal/state"
)

func typesUID(s string) types.UID { return types.UID(s) }

func readAll(t *testing.T, r *http.Request) []byte {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("read body of %s %s: %v", r.Method, r.URL.Path, err)
	}
	return raw
}

// decode reads a body in the form that the request names, on top of into.
func decode(r *http.Request, raw []byte, into *corev1.Event) error {
	if r.Header.Get("Content-Type") != runtime.ContentTypeProtobuf {
		return json.Unmarshal(raw, into)
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	_, _, err := protobuf.NewSerializer(scheme, scheme).Decode(raw, nil, into)
	return err
}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// count is the number of lines that contain s.
func (b *logBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var n int
	for line := range strings.Lines(b.buf.String()) {
		if strings.Contains(line, s) {
			n++
		}
	}
	return n
}

// fixture is a client of the node "me" that runs against a fake server.
type fixture struct {
	*Client
	api    *apiServer
	tables *state.Tables
	log    *logBuffer
}

// newClient makes a client of the server without running it.
func newClient(t *testing.T, api *apiServer) fixture {
	t.Helper()
	return newClientOf(t, api, false)
}

func newClientOf(t *testing.T, api *apiServer, policy bool) fixture {
	t.Helper()
	return newClientWith(t, api, Config{Policy: policy})
}

// newClientWith makes a client of what is needed and not in cfg.
func newClientWith(t *testing.T, api *apiServer, cfg Config) fixture {
	t.Helper()
	var err error
	cfg.REST, err = Connection{
		Kubeconfig: writeKubeconfig(t, api.http.URL), QPS: 1000, Burst: 1000, UserAgent: "placid-agent/test",
	}.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Tables, err = state.NewTables(); err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	cfg.NodeName, cfg.Log = "me", slog.New(slog.NewTextHandler(log, nil))
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{c, api, cfg.Tables, log}
}

// start runs the client until the test ends.
func (f fixture) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run goes on after its context ended")
		}
		if t.Failed() {
			t.Logf("log:\n%s", f.log.buf.String())
		}
	})
}

func run(t *testing.T, api *apiServer) fixture {
	t.Helper()
	f := newClient(t, api)
	f.start(t)
	return f
}

// runPolicy runs a client that watches what policies need.
func runPolicy(t *testing.T, api *apiServer) fixture {
	t.Helper()
	f := newClientOf(t, api, true)
	f.start(t)
	return f
}

// eventually waits until got equals want.
func eventually[T any](t *testing.T, what string, want T, got func() T, opts ...cmp.Option) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		diff := cmp.Diff(want, got(), opts...)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: after 15s still (-want +got):\n%s", what, diff)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func await(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	awaitFor(t, what, ch, 15*time.Second)
}

func awaitFor(t *testing.T, what string, ch <-chan struct{}, d time.Duration) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(d):
		t.Fatalf("%s does not come within %v", what, d)
	}
}

func (f fixture) nodeNames() []string {
	nodes, _, err := f.tables.Nodes()
	if err != nil {
		return []string{err.Error()}
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}
