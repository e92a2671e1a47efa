package k8s

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/placid-net/placid/api/v1alpha1"
)

const (
	nodesPath = "/apis/placid.io/v1alpha1/placidnodes"
	podsPath  = "/api/v1/pods"
)

// object is what the fake server keeps: an object that goes out as JSON.
type object interface {
	runtime.Object
	metav1.Object
}

// apiServer is a fake API server with the resources that the client knows. Lists
// and watches behave as the real ones do: versions, expiry, streamed lists.
type apiServer struct {
	t    *testing.T
	http *httptest.Server

	mu       sync.Mutex
	version  int
	oldest   int                          // watches from before it are "expired"
	objects  map[string]map[string]object // path of the resource → name → object
	log      map[string][]watchEvent
	changed  chan struct{}
	hangUp   chan struct{} // closed to end all watches
	down     bool          // every connection is closed without an answer
	noCRD    bool
	noPolicy bool // the CRDs of identities and endpoints are missing
	noCilium bool // those of Cilium's policies are
	noStream bool // streamed lists are refused, as older servers do
	refuse   int  // status of every write, 0 accepts
	requests []string
	patches  []string // bodies
	writes   []string // of PlacidEndpoints: method and number of endpoints
	events   []corev1.Event
	late     map[string]func() // "METHOD path" → called once, between what is done and the answer
}

type watchEvent struct {
	Type    string `json:"type"`
	Object  any    `json:"object"`
	version int
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{
		t: t, version: 1, changed: make(chan struct{}), hangUp: make(chan struct{}),
		objects: map[string]map[string]object{}, log: map[string][]watchEvent{},
	}
	for path := range examples() {
		s.objects[path] = map[string]object{}
	}
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.disconnect()
		s.http.Close()
	})
	return s
}

// set changes the server's settings.
func (s *apiServer) set(f func(s *apiServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// put adds or replaces an object and tells the watches.
func (s *apiServer) put(path string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(path, o)
}

func (s *apiServer) putLocked(path string, o object) {
	kind := "ADDED"
	if _, ok := s.objects[path][o.GetName()]; ok { // names differ in all namespaces
		kind = "MODIFIED"
	}
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	s.objects[path][o.GetName()] = o
	s.tellLocked(path, kind, o)
}

// remove deletes an object and tells the watches.
func (s *apiServer) remove(path, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(path, name)
}

func (s *apiServer) removeLocked(path, name string) {
	o := s.objects[path][name].DeepCopyObject().(object)
	delete(s.objects[path], name)
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	s.tellLocked(path, "DELETED", o)
}

func (s *apiServer) tellLocked(path, kind string, o object) {
	s.log[path] = append(s.log[path], watchEvent{kind, o.DeepCopyObject(), s.version})
	close(s.changed)
	s.changed = make(chan struct{})
}

// disconnect ends all watches that run now.
func (s *apiServer) disconnect() {
	s.mu.Lock()
	close(s.hangUp)
	s.hangUp = make(chan struct{})
	s.mu.Unlock()
}

// expire makes every version that a client may know too old to watch from.
func (s *apiServer) expire() {
	s.set(func(s *apiServer) {
		s.version += 10
		s.oldest = s.version
	})
}

func (s *apiServer) seen() (requests, patches []string, events []corev1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests), slices.Clone(s.patches), slices.Clone(s.events)
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	down, noCRD, noStream, refuse := s.down, s.noCRD, s.noStream, s.refuse
	noPolicy, noCilium := s.noPolicy, s.noCilium
	late := s.late[r.Method+" "+r.URL.Path]
	delete(s.late, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if late != nil {
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, r)
		late()
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	q := r.URL.Query()
	_, known := s.objects[r.URL.Path]
	switch {
	case down:
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	case noCRD && strings.HasPrefix(r.URL.Path, nodesPath),
		noCilium && strings.HasPrefix(r.URL.Path, ciliumPath),
		noPolicy && (strings.HasPrefix(r.URL.Path, identitiesPath) || strings.HasPrefix(r.URL.Path, endpointsPath)):
		http.Error(w, "404 page not found", http.StatusNotFound) // what a server without the group says
	case r.Method != http.MethodGet && refuse != 0:
		fail(w, refuse, metav1.StatusReasonForbidden, "not allowed")
	case r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, endpointsPath):
		s.writeEndpoints(w, r)
	case strings.HasPrefix(r.URL.Path, endpointsPath+"/"):
		s.getNamed(w, r, endpointsPath)
	case strings.HasPrefix(r.URL.Path, coreNodesPath+"/"):
		s.getNamed(w, r, coreNodesPath)
	case known && q.Get("watch") != "" && q.Get("sendInitialEvents") != "" && noStream:
		fail(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents: Forbidden")
	case known && q.Get("watch") != "":
		s.watch(w, r)
	case known:
		s.list(w, r)
	case r.Method == http.MethodPatch && strings.HasPrefix(r.URL.Path, nodesPath+"/"):
		s.patchStatus(w, r)
	case strings.Contains(r.URL.Path, "/events"):
		s.writeEvent(w, r)
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/"):
		s.getPod(w, r)
	default:
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, r.URL.Path)
	}
}

// selected returns the objects that the request selects, by name.
func (s *apiServer) selectedLocked(r *http.Request) []object {
	var out []object
	for _, name := range slices.Sorted(maps.Keys(s.objects[r.URL.Path])) {
		o := s.objects[r.URL.Path][name]
		if selects(r, o) {
			out = append(out, o)
		}
	}
	return out
}

func selects(r *http.Request, o any) bool {
	q := r.URL.Query()
	switch o := o.(type) {
	case *corev1.Pod:
		return q.Get("fieldSelector") == "spec.nodeName="+o.Spec.NodeName
	case *corev1.Node:
		return q.Get("fieldSelector") == "metadata.name="+o.Name
	}
	selector, err := labels.Parse(q.Get("labelSelector"))
	return err == nil && selector.Matches(labels.Set(o.(object).GetLabels()))
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := examples()[r.URL.Path].GetObjectKind().GroupVersionKind()
	reply(w, map[string]any{
		"kind": kind.Kind + "List", "apiVersion": kind.GroupVersion().String(),
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)},
		"items":    s.selectedLocked(r),
	})
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	hangUp := s.hangUp
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	stream := r.URL.Query().Get("sendInitialEvents") != ""
	var first []watchEvent
	if stream {
		from = s.version
		for _, o := range s.selectedLocked(r) {
			first = append(first, watchEvent{Type: "ADDED", Object: o.DeepCopyObject()})
		}
		first = append(first, watchEvent{Type: "BOOKMARK", Object: s.bookmark(r)})
	} else if from < s.oldest {
		s.mu.Unlock()
		fail(w, http.StatusGone, metav1.StatusReasonExpired, "too old resource version")
		return
	}
	s.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	send := func(events []watchEvent) {
		for _, e := range events {
			if err := out.Encode(e); err != nil {
				return
			}
		}
		w.(http.Flusher).Flush()
	}
	send(first)
	for {
		s.mu.Lock()
		var news []watchEvent
		for _, e := range s.log[r.URL.Path] {
			if e.version > from && selects(r, e.Object) {
				news = append(news, e)
			}
		}
		from = s.version
		changed := s.changed
		s.mu.Unlock()
		send(news)
		select {
		case <-changed:
		case <-hangUp:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// bookmark ends the initial events of a streamed list.
func (s *apiServer) bookmark(r *http.Request) runtime.Object {
	o := examples()[r.URL.Path]
	o.SetResourceVersion(strconv.Itoa(s.version))
	o.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return o
}

func (s *apiServer) patchStatus(w http.ResponseWriter, r *http.Request) {
	name, sub, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, nodesPath+"/"), "/")
	var body struct {
		Status *v1alpha1.PlacidNodeStatus `json:"status"`
	}
	raw := readAll(s.t, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.objects[nodesPath][name].(*v1alpha1.PlacidNode)
	switch {
	case sub != "status" || r.Header.Get("Content-Type") != "application/merge-patch+json":
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "want a merge patch of the status")
		return
	case !ok:
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, name)
		return
	}
	n = n.DeepCopy()
	body.Status = &n.Status // a merge patch: what it does not name stays
	if err := json.Unmarshal(raw, &body); err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	s.patches = append(s.patches, string(raw))
	s.putLocked(nodesPath, n)
	reply(w, n)
}

func (s *apiServer) writeEvent(w http.ResponseWriter, r *http.Request) {
	var e corev1.Event
	raw := readAll(s.t, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPatch {
		for i := range s.events {
			if strings.HasSuffix(r.URL.Path, "/"+s.events[i].Name) {
				e = *s.events[i].DeepCopy()
			}
		}
	}
	if err := decode(r, raw, &e); err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	s.events = append(s.events, e)
	e.TypeMeta = metav1.TypeMeta{Kind: "Event", APIVersion: "v1"}
	reply(w, &e)
}

func (s *apiServer) getPod(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects[podsPath] {
		if r.URL.Path == fmt.Sprintf("/api/v1/namespaces/%s/pods/%s", o.GetNamespace(), o.GetName()) {
			reply(w, o)
			return
		}
	}
	fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, r.URL.Path)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func fail(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}

func node(name string, podCIDRs ...string) *v1alpha1.PlacidNode {
	return &v1alpha1.PlacidNode{
		TypeMeta:   metav1.TypeMeta{Kind: "PlacidNode", APIVersion: "placid.io/v1alpha1"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PlacidNodeSpec{PodCIDRs: podCIDRs},
	}
}

func pod(name, uid, nodeName string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: typesUID(uid)},
		Spec:       corev1.PodSpec{NodeName: nodeName},
	}
}
