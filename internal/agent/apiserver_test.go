package agent

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/placid-net/placid/internal/testutil"
)

// apiServer is as much of an API server as one agent asks for: it lists and
// watches one PlacidNode and no pods, and takes events and status patches.
type apiServer struct {
	url string

	mu       sync.Mutex
	podCIDRs []string
	changed  chan struct{}
	events   []string // bodies
	patches  []string
	closed   chan struct{}
}

const (
	testNode  = "node-1"
	nodesPath = "/apis/placid.io/v1alpha1/placidnodes"
)

// serveAPI runs the server on the loopback address of ns.
func serveAPI(t testing.TB, ns *testutil.Netns) *apiServer {
	t.Helper()
	s := &apiServer{changed: make(chan struct{}), closed: make(chan struct{})}
	var l net.Listener
	ns.Do(t, func() {
		var err error
		l, err = net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
	})
	s.url = "http://" + l.Addr().String()
	srv := &http.Server{Handler: s} //nolint:gosec // for one client
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		close(s.closed)
		_ = srv.Close()
		<-done
	})
	return s
}

func (s *apiServer) set(podCIDRs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.podCIDRs = podCIDRs
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *apiServer) seen() (events, patches []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.events...), append([]string{}, s.patches...)
}

// node gives the object and a channel that is closed when it changes.
func (s *apiServer) node() (map[string]any, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{
		"apiVersion": "placid.io/v1alpha1", "kind": "PlacidNode",
		"metadata": map[string]any{"name": testNode, "resourceVersion": "1"},
		"spec":     map[string]any{"addresses": []string{nodeAddr}, "podCIDRs": s.podCIDRs},
	}, s.changed
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	node, changed := s.node()
	list := map[string]any{"apiVersion": "v1", "kind": "PodList", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}}
	switch q := r.URL.Query(); {
	case q.Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity) // as servers do that cannot stream lists
		reply(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422})
	case q.Get("watch") != "":
		_ = http.NewResponseController(w).Flush()
		for r.URL.Path == nodesPath {
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			case <-s.closed:
				return
			}
			node, changed = s.node()
			reply(map[string]any{"type": "MODIFIED", "object": node})
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-r.Context().Done():
		case <-s.closed:
		}
	case r.URL.Path == nodesPath:
		list["apiVersion"], list["kind"], list["items"] = "placid.io/v1alpha1", "PlacidNodeList", []any{node}
		reply(list)
	case r.URL.Path == "/api/v1/pods":
		reply(list)
	case r.Method == http.MethodPatch:
		s.mu.Lock()
		s.patches = append(s.patches, string(body))
		s.mu.Unlock()
		var patch map[string]any
		_ = json.Unmarshal(body, &patch)
		node["status"] = patch["status"]
		reply(node)
	case strings.HasSuffix(r.URL.Path, "/events"):
		s.mu.Lock()
		s.events = append(s.events, string(body))
		s.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		reply(map[string]any{"apiVersion": "v1", "kind": "Event"})
	default:
		w.WriteHeader(http.StatusNotFound)
		reply(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
	}
}
