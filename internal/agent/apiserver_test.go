package agent

import (
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/placid-net/placid/internal/testutil"
)

// object is a Kubernetes object as JSON.
type object = map[string]any

// apiServer is as much of an API server as one agent asks for: it lists, watches
// and takes objects of a few resources, and notes events and status patches.
type apiServer struct {
	url string

	mu      sync.Mutex
	version int
	objects map[string]object // by path
	log     []change          // all there was, in order of version
	changed chan struct{}     // closed and replaced when something happened
	events  []string          // bodies
	patches []string
	closed  chan struct{}
}

// change is an event of a watch.
type change struct {
	version int
	folder  string // path of the resource
	Type    string `json:"type"`
	Object  object `json:"object"`
}

const (
	testNode       = "node-1"
	placidPath     = "/apis/placid.io/v1alpha1/"
	nodesPath      = placidPath + "placidnodes"
	identitiesPath = placidPath + "placididentities"
	endpointsPath  = placidPath + "placidendpoints"
	podsPath       = "/api/v1/pods"
	namespacesPath = "/api/v1/namespaces"
	policiesPath   = "/apis/networking.k8s.io/v1/networkpolicies"
	coreNodesPath  = "/api/v1/nodes"
	servicesPath   = "/api/v1/services"
	slicesPath     = "/apis/discovery.k8s.io/v1/endpointslices"
)

// resources are what the server knows: apiVersion and kind, by path.
func resources() map[string][2]string {
	const placid = "placid.io/v1alpha1"
	return map[string][2]string{
		nodesPath: {placid, "PlacidNode"}, identitiesPath: {placid, "PlacidIdentity"}, endpointsPath: {placid, "PlacidEndpoints"},
		podsPath: {"v1", "Pod"}, namespacesPath: {"v1", "Namespace"}, coreNodesPath: {"v1", "Node"},
		policiesPath: {"networking.k8s.io/v1", "NetworkPolicy"},
		servicesPath: {"v1", "Service"}, slicesPath: {"discovery.k8s.io/v1", "EndpointSlice"},
	}
}

// serveAPI runs the server on the loopback address of ns. It has this node and
// the default namespace.
func serveAPI(t testing.TB, ns *testutil.Netns) *apiServer {
	t.Helper()
	s := &apiServer{changed: make(chan struct{}), closed: make(chan struct{}), objects: map[string]object{}}
	s.put(coreNodesPath, testNode, object{"metadata": object{"uid": "node-uid"}})
	s.put(namespacesPath, "default", object{})
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

// set makes the node's PlacidNode, with these pod CIDRs.
func (s *apiServer) set(podCIDRs ...string) {
	s.put(nodesPath, testNode, object{"spec": object{"addresses": []string{nodeAddr}, "podCIDRs": podCIDRs}})
}

// put creates or replaces an object; its status stays.
func (s *apiServer) put(folder, name string, obj object) object {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, where, verb := resources()[folder], folder+"/"+name, "ADDED"
	meta := object{"name": name, "uid": "uid-" + name}
	if given, ok := obj["metadata"].(object); ok {
		maps.Copy(meta, given)
	}
	out := maps.Clone(obj)
	out["apiVersion"], out["kind"], out["metadata"] = kind[0], kind[1], meta
	if old, ok := s.objects[where]; ok {
		verb = "MODIFIED"
		if status, ok := old["status"]; ok && out["status"] == nil {
			out["status"] = status
		}
	}
	s.objects[where] = out
	s.happenedLocked(folder, verb, out)
	return out
}

// remove deletes an object.
func (s *apiServer) remove(folder, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.objects[folder+"/"+name]; ok {
		delete(s.objects, folder+"/"+name)
		last := maps.Clone(old)
		last["metadata"] = maps.Clone(old["metadata"].(object))
		s.happenedLocked(folder, "DELETED", last)
	}
}

func (s *apiServer) happenedLocked(folder, verb string, obj object) {
	s.version++
	obj["metadata"].(object)["resourceVersion"] = strconv.Itoa(s.version)
	s.log = append(s.log, change{s.version, folder, verb, obj})
	close(s.changed)
	s.changed = make(chan struct{})
}

// get returns an object, or nil.
func (s *apiServer) get(folder, name string) object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[folder+"/"+name]
}

func (s *apiServer) seen() (events, patches []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.events...), append([]string{}, s.patches...)
}

// since returns the changes after a version, and what is closed at the next one.
func (s *apiServer) since(version int) ([]change, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log[version:], s.changed
}

func (s *apiServer) list(folder string) object {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []any{}
	for where, obj := range s.objects {
		if path.Dir(where) == folder {
			items = append(items, obj)
		}
	}
	kind := resources()[folder]
	return object{"apiVersion": kind[0], "kind": kind[1] + "List", "metadata": object{"resourceVersion": strconv.Itoa(s.version)}, "items": items}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	refuse := func(code int, reason string) {
		w.WriteHeader(code)
		reply(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code})
	}
	var sent object
	_ = json.Unmarshal(body, &sent)
	_, isList := resources()[r.URL.Path]
	folder, name := path.Split(strings.TrimSuffix(r.URL.Path, "/status"))
	folder = strings.TrimSuffix(folder, "/")
	switch q := r.URL.Query(); {
	case strings.HasSuffix(r.URL.Path, "/events"):
		s.mu.Lock()
		s.events = append(s.events, string(body))
		s.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		reply(object{"apiVersion": "v1", "kind": "Event"})
	case q.Get("sendInitialEvents") != "": // as servers do that cannot stream lists
		refuse(http.StatusUnprocessableEntity, "Invalid")
	case q.Get("watch") != "":
		s.watch(w, r)
	case isList && r.Method == http.MethodGet:
		reply(s.list(r.URL.Path))
	case isList && r.Method == http.MethodPost:
		meta, _ := sent["metadata"].(object)
		given, _ := meta["name"].(string)
		created := s.put(r.URL.Path, given, sent)
		w.WriteHeader(http.StatusCreated)
		reply(created)
	case s.get(folder, name) == nil:
		refuse(http.StatusNotFound, "NotFound")
	case r.Method == http.MethodPut:
		reply(s.put(folder, name, sent))
	case r.Method == http.MethodDelete:
		s.remove(folder, name)
		reply(object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case r.Method == http.MethodPatch:
		s.mu.Lock()
		s.patches = append(s.patches, string(body))
		s.mu.Unlock()
		obj := maps.Clone(s.get(folder, name))
		obj["status"] = sent["status"]
		reply(s.put(folder, name, obj))
	default:
		reply(s.get(folder, name))
	}
}

// watch sends changes until the client goes away or the server ends.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	version, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for {
		changes, next := s.since(version)
		for _, c := range changes {
			if version = c.version; c.folder == r.URL.Path {
				_ = json.NewEncoder(w).Encode(c)
			}
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-next:
		case <-r.Context().Done():
			return
		case <-s.closed:
			return
		}
	}
}
