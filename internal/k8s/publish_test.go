package k8s

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

func endpoint(pod string, identity uint32, addr string) state.PublishedEndpoint {
	return state.PublishedEndpoint{
		Pod: state.PodRef{Namespace: "ns", Name: pod, UID: "not told"}, Addrs: []netip.Addr{netip.MustParseAddr(addr)},
		Identity: identity, Since: time.Date(2026, 1, 2, 3, 4, 5, 6789, time.UTC),
	}
}

// shown is what the server has of this node, in short; "" is no object.
func (f fixture) shown() string {
	obj, _ := f.api.endpoints("me")
	if obj == nil {
		return ""
	}
	out := "endpoints"
	for _, e := range obj.Endpoints {
		out += fmt.Sprintf(" %s=%d", e.Name, e.Identity)
	}
	return out
}

func (f fixture) writes() []string {
	_, writes := f.api.endpoints("me")
	return writes
}

// bothWatches runs a test with the watch on PlacidEndpoints and without it.
func bothWatches(t *testing.T, test func(t *testing.T, api *apiServer, f fixture)) {
	t.Helper()
	for name, policy := range map[string]bool{"watched": true, "not watched": false} {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t)
			api.put(coreNodesPath, coreNode("me", "uid-node"))
			test(t, api, newClientOf(t, api, policy))
		})
	}
}

func TestPublishEndpoints(t *testing.T) {
	bothWatches(t, func(t *testing.T, api *apiServer, f fixture) {
		f.start(t)
		f.PublishEndpoints([]state.PublishedEndpoint{endpoint("b", 300, "10.0.0.2"), endpoint("a", 5, "10.0.0.1")})
		eventually(t, "object", "endpoints a=5 b=300", f.shown)
		obj, _ := api.endpoints("me")
		owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "me", UID: "uid-node"}}
		if diff := cmp.Diff(owner, obj.OwnerReferences); diff != "" {
			t.Errorf("owners (-want +got):\n%s", diff)
		}
		want := published("a", 5, time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), "10.0.0.1")
		if diff := cmp.Diff(want, obj.Endpoints[0]); diff != "" {
			t.Errorf("endpoint (-want +got):\n%s", diff)
		}

		// The same in another order is nothing to write.
		f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 5, "10.0.0.1"), endpoint("b", 300, "10.0.0.2")})
		f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 301, "10.0.0.1"), endpoint("b", 300, "10.0.0.2")})
		eventually(t, "object", "endpoints a=301 b=300", f.shown)
		f.PublishEndpoints(nil)
		eventually(t, "object", "endpoints", f.shown)
		f.WithdrawEndpoints()
		eventually(t, "object", "", f.shown)
		f.WithdrawEndpoints()
		f.PublishEndpoints([]state.PublishedEndpoint{{Pod: state.PodRef{Namespace: "ns", Name: "bare"}}}) // no time, no address
		eventually(t, "object", "endpoints bare=0", f.shown)
		if diff := cmp.Diff([]string{"POST 2", "PUT 2", "PUT 0", "DELETE 0", "POST 1"}, f.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
		if h := f.EndpointsHealth(); !h.OK || h.Message != "" {
			t.Errorf("health %+v", h)
		}
	})
}

// TestEndpointsOfAnEarlierAgent checks that a restart writes nothing that is
// right, and takes away what is not wanted any more.
func TestEndpointsOfAnEarlierAgent(t *testing.T) {
	bothWatches(t, func(t *testing.T, api *apiServer, f fixture) {
		old := nodeEndpoints("me", publishedForm([]state.PublishedEndpoint{endpoint("a", 300, "10.0.0.1")})...)
		old.UID, old.Labels = "uid-old", map[string]string{"kept": "yes"}
		old.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "me", UID: "uid-node"}}
		api.put(endpointsPath, old)
		f.start(t)
		f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 300, "10.0.0.1")})
		requests := func() int {
			all, _, _ := api.seen()
			return strings.Count(strings.Join(all, "\n"), "GET "+coreNodesPath+"/me")
		}
		eventually(t, "questions for the node", 1, requests)
		time.Sleep(2 * endpointsMinWait)
		if w := f.writes(); len(w) != 0 {
			t.Errorf("writes %v of what is there", w)
		}
		f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 301, "10.0.0.1")})
		eventually(t, "object", "endpoints a=301", f.shown)
		if obj, _ := api.endpoints("me"); obj.Labels["kept"] != "yes" {
			t.Error("a label that somebody gave the object is gone")
		}
		f.WithdrawEndpoints()
		eventually(t, "object", "", f.shown)
		if diff := cmp.Diff([]string{"PUT 1", "DELETE 0"}, f.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// TestEndpointsOfAnEarlierNode checks that the object of a Node that was made
// anew gets the new owner, before the old one's deletion takes it away.
func TestEndpointsOfAnEarlierNode(t *testing.T) {
	bothWatches(t, func(t *testing.T, api *apiServer, f fixture) {
		old := nodeEndpoints("me")
		old.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "me", UID: "uid-before"}}
		api.put(endpointsPath, old)
		f.start(t)
		f.PublishEndpoints(nil)
		eventually(t, "owner", "uid-node", func() string {
			obj, _ := api.endpoints("me")
			return string(obj.OwnerReferences[0].UID)
		})
	})
}

func TestEndpointsAreMended(t *testing.T) {
	api := newAPIServer(t)
	api.put(coreNodesPath, coreNode("me", "uid-node"))
	f := runPolicy(t, api)
	f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 300, "10.0.0.1")})
	eventually(t, "object", "endpoints a=300", f.shown)

	api.put(coreNodesPath, coreNode("me", "uid-node-2")) // deleted and made anew, and the object goes with the old one
	api.remove(endpointsPath, "me")
	eventually(t, "owner", "uid-node-2", func() string {
		if obj, _ := api.endpoints("me"); obj != nil && len(obj.OwnerReferences) == 1 {
			return string(obj.OwnerReferences[0].UID)
		}
		return ""
	})
	changed, _ := api.endpoints("me")
	changed.Endpoints = nil
	api.put(endpointsPath, changed)
	eventually(t, "object that somebody changed", "endpoints a=300", f.shown)
	f.WithdrawEndpoints()
	eventually(t, "object", "", f.shown)
	api.put(endpointsPath, nodeEndpoints("me"))
	eventually(t, "object that somebody made", "", f.shown)
}

// TestEndpointsAnswerIsLate checks that the watch has the last word on an object
// that was made while the answer to an earlier request was under way.
func TestEndpointsAnswerIsLate(t *testing.T) {
	for name, tc := range map[string]struct {
		method string
		ask    func(t *testing.T, f fixture)
	}{
		"deleted": {http.MethodDelete, func(_ *testing.T, f fixture) { f.WithdrawEndpoints() }},
		"not found": {http.MethodGet, func(t *testing.T, f fixture) {
			before := f.endpoints.newest()
			f.WithdrawEndpoints()
			eventually(t, "news of the deletion", true, func() bool { return f.endpoints.newest() != before })
			f.endpoints.doubt()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t)
			api.put(coreNodesPath, coreNode("me", "uid-node"))
			f := runPolicy(t, api)
			f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 300, "10.0.0.1")})
			eventually(t, "object", "endpoints a=300", f.shown)
			other, made := nodeEndpoints("me"), make(chan struct{})
			other.UID = "uid-other"
			api.set(func(s *apiServer) {
				s.late = map[string]func(){tc.method + " " + endpointsPath + "/me": func() {
					api.put(endpointsPath, other)
					for !f.endpoints.shows(other.UID) && t.Context().Err() == nil {
						time.Sleep(time.Millisecond)
					}
					close(made)
				}}
			})
			tc.ask(t, f)
			await(t, "another object", made)
			eventually(t, "object that somebody made", "", f.shown)
		})
	}
}

func (p *endpointsPublisher) newest() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

func (p *endpointsPublisher) shows(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have != nil && p.have.UID == uid
}

// TestEndpointsConflict has the object change behind the publisher's back, where
// no watch tells it.
func TestEndpointsConflict(t *testing.T) {
	api := newAPIServer(t)
	api.put(coreNodesPath, coreNode("me", "uid-node"))
	f := run(t, api)
	f.PublishEndpoints(nil)
	eventually(t, "object", "endpoints", f.shown)
	other, _ := api.endpoints("me")
	other.Endpoints = []v1alpha1.PublishedEndpoint{published("x", 300, time.Now(), "10.0.0.9")}
	api.put(endpointsPath, other)
	f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 300, "10.0.0.1")})
	eventually(t, "object after a conflict", "endpoints a=300", f.shown)
	api.remove(endpointsPath, "me")
	f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 301, "10.0.0.1")})
	eventually(t, "object that was gone", "endpoints a=301", f.shown)
	api.remove(endpointsPath, "me")
	again := nodeEndpoints("me")
	again.UID = "uid-again"
	api.put(endpointsPath, again)
	f.WithdrawEndpoints()
	eventually(t, "object that was made anew", "", f.shown)
	if n := f.log.count("endpoints are not published"); n != 0 {
		t.Errorf("%d log lines about conflicts", n)
	}
}

func TestEndpointsAreRetried(t *testing.T) {
	bothWatches(t, func(t *testing.T, api *apiServer, f fixture) {
		api.set(func(s *apiServer) { s.refuse = http.StatusForbidden })
		f.start(t)
		f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 300, "10.0.0.1")})
		eventually(t, "health", false, func() bool { return f.EndpointsHealth().OK })
		first := f.EndpointsHealth()
		if first.Name != "endpoints published" || !strings.Contains(first.Message, "create PlacidEndpoints me: ") {
			t.Errorf("health %+v", first)
		}
		eventually(t, "attempts", true, func() bool {
			all, _, _ := api.seen()
			return strings.Count(strings.Join(all, "\n"), "POST "+endpointsPath) >= 3
		})
		if h := f.EndpointsHealth(); h.OK || !h.Since.Equal(first.Since) {
			t.Errorf("health %+v, want Since %v", h, first.Since)
		}
		if n := f.log.count("endpoints are not published"); n != 1 {
			t.Errorf("%d log lines about it, want 1", n)
		}
		f.PublishEndpoints([]state.PublishedEndpoint{endpoint("a", 301, "10.0.0.1")}) // the last state wins
		api.set(func(s *apiServer) { s.refuse = 0 })
		eventually(t, "object", "endpoints a=301", f.shown)
		eventually(t, "health", true, func() bool { return f.EndpointsHealth().OK })
		if diff := cmp.Diff([]string{"POST 1"}, f.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// TestEndpointsBeforeTheirCRD checks that the object is there soon after the
// resource is, and that withdrawing it needs none.
func TestEndpointsBeforeTheirCRD(t *testing.T) {
	bothWatches(t, func(t *testing.T, api *apiServer, f fixture) {
		api.set(func(s *apiServer) { s.noPolicy = true })
		f.start(t)
		f.WithdrawEndpoints()
		gets := func() bool {
			all, _, _ := api.seen()
			return strings.Contains(strings.Join(all, "\n"), "GET "+endpointsPath+"/me")
		}
		eventually(t, "question for the object", true, gets)
		time.Sleep(endpointsMinWait)
		if h := f.EndpointsHealth(); !h.OK {
			t.Errorf("nothing to withdraw, and health is %+v", h)
		}
		f.PublishEndpoints(nil)
		eventually(t, "health", false, func() bool { return f.EndpointsHealth().OK })
		api.set(func(s *apiServer) { s.noPolicy = false })
		eventually(t, "object", "endpoints", f.shown)
		eventually(t, "health", true, func() bool { return f.EndpointsHealth().OK })
	})
}

func TestEndpointsOfANodeThatIsNotThere(t *testing.T) {
	api := newAPIServer(t)
	f := runPolicy(t, api)
	f.PublishEndpoints(nil)
	eventually(t, "health", false, func() bool { return f.EndpointsHealth().OK })
	if h := f.EndpointsHealth(); !strings.Contains(h.Message, "get Node me, the owner of PlacidEndpoints: ") {
		t.Errorf("health %+v does not name the Node", h)
	}
	api.put(coreNodesPath, coreNode("me", "uid-node"))
	eventually(t, "object", "endpoints", f.shown)
}

func TestEndpointsAreWrittenTenTimesASecond(t *testing.T) {
	api := newAPIServer(t)
	api.put(coreNodesPath, coreNode("me", "uid-node"))
	f := runPolicy(t, api)
	f.PublishEndpoints(nil)
	eventually(t, "object", "endpoints", f.shown)
	begin := time.Now()
	var callers sync.WaitGroup
	for c := range 4 {
		callers.Go(func() {
			for n := range 300 {
				f.PublishEndpoints([]state.PublishedEndpoint{endpoint(fmt.Sprint("pod", c), uint32(300+n), "10.0.0.1")})
				time.Sleep(time.Millisecond)
			}
		})
	}
	callers.Wait()
	f.PublishEndpoints([]state.PublishedEndpoint{endpoint("last", 300, "10.0.0.1")})
	eventually(t, "object", "endpoints last=300", f.shown)
	if most, n := 3+int(time.Since(begin)/endpointsMinWait), len(f.writes()); n > most {
		t.Errorf("%d writes in %v, want at most %d", n, time.Since(begin), most)
	}
}
