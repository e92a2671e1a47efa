// Package agentapitest is the fake of agentapi.Service that tests of the
// socket's clients use.
//
// Invariants: only tests import it; a Service that is set up with nothing
// answers every call with success and a zero value.
package agentapitest

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

// Service answers with the values that it is set up with and keeps the
// requests. Set its fields before it is served.
type Service struct {
	// Err, when set, decides the error of each call by the method's name,
	// e.g. "Add".
	Err func(method string) error
	// Wait, when set, is called with each call's context before it is answered.
	Wait func(ctx context.Context, method string)

	AddResult       agentapi.CNIResult
	StatusResult    agentapi.Status
	EndpointsResult []state.Endpoint
	ConfigResult    []agentapi.ConfigEntry
	MapsResult      []agentapi.MapInfo
	Dumps           map[string]agentapi.MapDump

	CTListResult     agentapi.CTList
	CTFlushResult    agentapi.CTFlushed
	CTTopResult      []agentapi.CTTalker
	CTCollectResult  agentapi.CTCollection
	IdentitiesResult []agentapi.IdentityInfo
	PolicyResult     []agentapi.EndpointPolicy
	SelectorsResult  []agentapi.SelectorInfo
	TraceResult      agentapi.TraceResult
	ServicesResult   []agentapi.ServiceInfo
	LBResult         agentapi.LBTables
	TablesResult     agentapi.Tables
	ResizeResult     agentapi.TableMove

	mu    sync.Mutex
	calls []Call
}

// Call is one call that reached the Service. Request is a CNIRequest, a
// GCRequest, a CTFilter, a TopRequest, a TraceRequest, a ResizeRequest, the name of
// a map, pod or service, or nil.
type Call struct {
	Method  string
	Request any
}

// Calls returns the calls so far, oldest first.
func (s *Service) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Methods returns the names of the methods called so far, oldest first.
func (s *Service) Methods() []string {
	var out []string
	for _, c := range s.Calls() {
		out = append(out, c.Method)
	}
	return out
}

func (s *Service) called(ctx context.Context, method string, req any) error {
	s.mu.Lock()
	s.calls = append(s.calls, Call{Method: method, Request: req})
	s.mu.Unlock()
	if s.Wait != nil {
		s.Wait(ctx, method)
	}
	if s.Err != nil {
		return s.Err(method)
	}
	return nil
}

// Add implements agentapi.Service with AddResult.
func (s *Service) Add(ctx context.Context, req agentapi.CNIRequest) (agentapi.CNIResult, error) {
	return s.AddResult, s.called(ctx, "Add", req)
}

// Del implements agentapi.Service.
func (s *Service) Del(ctx context.Context, req agentapi.CNIRequest) error {
	return s.called(ctx, "Del", req)
}

// Check implements agentapi.Service.
func (s *Service) Check(ctx context.Context, req agentapi.CNIRequest) error {
	return s.called(ctx, "Check", req)
}

// GC implements agentapi.Service.
func (s *Service) GC(ctx context.Context, req agentapi.GCRequest) error {
	return s.called(ctx, "GC", req)
}

// CNIStatus implements agentapi.Service.
func (s *Service) CNIStatus(ctx context.Context) error { return s.called(ctx, "CNIStatus", nil) }

// Status implements agentapi.Service with StatusResult.
func (s *Service) Status(ctx context.Context) (agentapi.Status, error) {
	return s.StatusResult, s.called(ctx, "Status", nil)
}

// Endpoints implements agentapi.Service with EndpointsResult.
func (s *Service) Endpoints(ctx context.Context) ([]state.Endpoint, error) {
	return s.EndpointsResult, s.called(ctx, "Endpoints", nil)
}

// Config implements agentapi.Service with ConfigResult.
func (s *Service) Config(ctx context.Context) ([]agentapi.ConfigEntry, error) {
	return s.ConfigResult, s.called(ctx, "Config", nil)
}

// Maps implements agentapi.Service with MapsResult.
func (s *Service) Maps(ctx context.Context) ([]agentapi.MapInfo, error) {
	return s.MapsResult, s.called(ctx, "Maps", nil)
}

// MapDump implements agentapi.Service with Dumps.
func (s *Service) MapDump(ctx context.Context, name string) (agentapi.MapDump, error) {
	if err := s.called(ctx, "MapDump", name); err != nil {
		return agentapi.MapDump{}, err
	}
	dump, ok := s.Dumps[name]
	if !ok {
		return agentapi.MapDump{}, &agentapi.Error{Code: agentapi.CodeNotFound, Message: "no map " + name}
	}
	return dump, nil
}

// SocketPath returns a path for a socket in a folder of its own, short enough
// for the kernel whatever the test is called. Nothing is there yet.
func SocketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "placid") //nolint:usetesting // t.TempDir holds the test's name, too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "agent.sock")
}

// Serve serves s on the unix socket at path until stop is called or the test
// ends.
func Serve(t testing.TB, path string, s agentapi.Service) (stop func()) {
	t.Helper()
	l, err := agentapi.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: agentapi.Handler(s)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	stop = sync.OnceFunc(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
