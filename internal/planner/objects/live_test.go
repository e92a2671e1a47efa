package objects

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// fakeServer lists objects as an API server does: by pages, without the kinds of
// the elements.
type fakeServer struct {
	lists  map[string][]string   // elements by path
	status map[string]int        // instead of a list, by path
	before func(r *http.Request) // called first; may be nil
	expire bool                  // answers 410 to the second page, once

	mu      sync.Mutex
	asked   []string // method and URL
	expired bool
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+r.URL.String())
	if f.before != nil {
		f.before(r)
	}
	path, query := r.URL.Path, r.URL.Query()
	elements, ok := f.lists[path]
	code := f.status[path]
	if from := query.Get("continue"); from != "" && f.expire && !f.expired {
		f.expired, code = true, http.StatusGone
	}
	switch {
	case code != 0:
		refuse(w, code, path)
		return
	case !ok && strings.HasPrefix(path, "/apis/"):
		refuse(w, http.StatusNotFound, path)
		return
	}
	if name, found := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name="); found {
		elements = slices.DeleteFunc(slices.Clone(elements), func(e string) bool { return !strings.Contains(e, strconv.Quote(name)) })
	}
	from, _ := strconv.Atoi(query.Get("continue"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	to, meta := len(elements), "{}"
	if limit > 0 && from+limit < to {
		to = from + limit
		meta = fmt.Sprintf(`{"continue":"%d","remainingItemCount":%d}`, to, len(elements)-to)
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"kind":"SomeList","apiVersion":"v1","metadata":%s,"items":[%s]}`, meta, strings.Join(elements[from:to], ","))
}

func refuse(w http.ResponseWriter, code int, path string) {
	reasons := map[int]string{
		http.StatusForbidden: "Forbidden", http.StatusNotFound: "NotFound", http.StatusGone: "Expired",
		http.StatusUnauthorized: "Unauthorized", http.StatusInternalServerError: "InternalError",
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	text, _ := json.Marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reasons[code], "message": "no " + path,
	})
	_, _ = w.Write(text)
}

// loadLive reads a server through a kubeconfig with two contexts, of which the
// second is the server.
func loadLive(t *testing.T, h http.Handler, o Options) (*snapshot.Snapshot, error) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	o.Kubeconfig, o.Context = kubeconfig(t, server.URL), "real"
	return Load(t.Context(), o)
}

func kubeconfig(t *testing.T, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `apiVersion: v1
kind: Config
current-context: other
clusters:
- {name: real, cluster: {server: "` + url + `"}}
- {name: other, cluster: {server: "http://127.0.0.1:1"}}
users:
- {name: me, user: {token: abc}}
contexts:
- {name: real, context: {cluster: real, user: me}}
- {name: other, context: {cluster: other, user: me}}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// livePods are elements of a list of pods.
func livePods(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(`{"metadata":{"name":"p%04d","namespace":"shop","uid":"u%d"},"spec":{"nodeName":"n"},"status":{"podIPs":[{"ip":"10.0.%d.%d"}]}}`, i, i, i/256, i%256))
	}
	return out
}

func emptyLists() map[string][]string {
	return map[string][]string{
		"/apis/networking.k8s.io/v1/networkpolicies": nil, "/apis/discovery.k8s.io/v1/endpointslices": nil,
	}
}

func TestLive(t *testing.T) {
	lists := emptyLists()
	lists["/api/v1/pods"] = livePods(1201)
	lists["/api/v1/nodes"] = []string{`{"metadata":{"name":"n"},"status":{"capacity":{"memory":"16Gi","cpu":"4"}}}`}
	lists["/apis/networking.k8s.io/v1/networkpolicies"] = []string{`{"metadata":{"name":"deny","namespace":"shop"},"spec":{"podSelector":{}}}`}
	lists["/apis/cilium.io/v2alpha1/ciliumcidrgroups"] = []string{`{"metadata":{"name":"office"},"spec":{"externalCIDRs":["192.0.2.0/24"]}}`}
	lists["/api/v1/configmaps"] = []string{
		`{"metadata":{"name":"cilium-config","namespace":"net"},"data":{"cluster-name":"blue"}}`, `{"metadata":{"name":"other","namespace":"net"},"data":{}}`,
	}
	f := &fakeServer{lists: lists}
	var seen []string
	s, err := loadLive(t, f, Options{Progress: func(done, total int, what string) {
		if what == "pods" {
			seen = append(seen, fmt.Sprintf("%d/%d", done, total))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, problemLines(s, ""))
	if len(s.Pods) != 1201 || len(s.Nodes) != 1 || policyNames(s) != "shop/deny" || len(s.CIDRGroups) != 1 {
		t.Errorf("%d pods, %d nodes, policies %s, %d groups", len(s.Pods), len(s.Nodes), policyNames(s), len(s.CIDRGroups))
	}
	if s.Platform != snapshot.Cilium || s.ClusterName != "blue" {
		t.Errorf("platform %q, cluster %q", s.Platform, s.ClusterName)
	}
	if got := strings.Join(seen, " "); got != "500/1201 1000/1201 1201/1201" {
		t.Errorf("progress %s", got)
	}
	if o := s.Origins[snapshot.Object{Kind: "Pod", Namespace: "shop", Name: "p0000"}]; o != (snapshot.Origin{}) {
		t.Errorf("origin of a pod %+v, want none", o)
	}
	for _, a := range f.asked {
		if !strings.HasPrefix(a, "GET ") || strings.Contains(a, "secret") || strings.Contains(a, "configmaps") && !strings.Contains(a, "fieldSelector") {
			t.Errorf("asked %s", a)
		}
	}
}

func TestLiveListThatExpires(t *testing.T) {
	lists := emptyLists()
	lists["/api/v1/pods"] = livePods(700)
	f := &fakeServer{lists: lists, expire: true}
	s, err := loadLive(t, f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, problemLines(s, ""))
	if len(s.Pods) != 700 || !f.expired {
		t.Errorf("%d pods, expired %v", len(s.Pods), f.expired)
	}
}

func TestLiveForbidden(t *testing.T) {
	lists := emptyLists()
	lists["/api/v1/pods"] = livePods(1)
	lists["/api/v1/namespaces/kube-system/configmaps"] = []string{`{"metadata":{"name":"placid-config","namespace":"kube-system"},"data":{}}`}
	s, err := loadLive(t, &fakeServer{lists: lists, status: map[string]int{
		"/apis/networking.k8s.io/v1/networkpolicies": http.StatusForbidden, "/api/v1/nodes": http.StatusForbidden,
		"/api/v1/configmaps": http.StatusForbidden,
	}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, problemLines(s, ""),
		"warning: Node: nodes may not be listed, so none is known; get and list are needed on them in all namespaces (no /api/v1/nodes)",
		"error: NetworkPolicy: networkpolicies may not be listed, so none is known; get and list are needed on them in all namespaces "+
			"(no /apis/networking.k8s.io/v1/networkpolicies)")
	if s.Platform != snapshot.Placid {
		t.Errorf("platform %q, want placid's", s.Platform)
	}
}

func TestLiveErrors(t *testing.T) {
	lists := emptyLists()
	lists["/api/v1/pods"] = livePods(1)
	for name, c := range map[string]struct {
		handler http.Handler
		options Options
		is      error
		says    string
	}{
		"unauthorized": {
			handler: &fakeServer{lists: lists, status: map[string]int{"/api/v1/nodes": http.StatusUnauthorized}}, says: "log in again",
		},
		"internal error": {
			handler: &fakeServer{lists: lists, status: map[string]int{"/api/v1/pods": http.StatusInternalServerError}}, says: "list pods of the API server",
		},
		"kind that must be there": {handler: &fakeServer{}, says: "list networkpolicies"},
		"no API server": {
			handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome</html>") }), is: errAnswer,
			says: "is this a Kubernetes API server?",
		},
		"half an answer": {
			handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"kind":"NodeList","items":[{"metadata"`) }), is: errAnswer,
			says: "it ends in the middle of an object",
		},
		"nothing in it": {handler: &fakeServer{lists: emptyLists()}, is: ErrEmpty, says: "the cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadLive(t, c.handler, c.options)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

func TestLiveUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	_, err := Load(t.Context(), Options{Kubeconfig: kubeconfig(t, server.URL), Context: "real"})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), server.URL) || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("error %v", err)
	}

	silent := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	t.Cleanup(hang.Close)
	t.Cleanup(func() { close(silent) })
	_, err = Load(t.Context(), Options{Kubeconfig: kubeconfig(t, hang.URL), Context: "real", Timeout: time.Millisecond})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), hang.URL) {
		t.Errorf("error %v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for name, c := range map[string]struct {
		options Options
		says    string
	}{
		"none":            {says: "there is none; give --kubeconfig"},
		"no such file":    {options: Options{Kubeconfig: "/none/such"}, says: "/none/such"},
		"no such context": {options: Options{Kubeconfig: kubeconfig(t, "http://127.0.0.1:1"), Context: "nowhere"}, says: "nowhere"},
	} {
		if _, err := Load(t.Context(), c.options); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want %q", name, err, c.says)
		}
	}
}
