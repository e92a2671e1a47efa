package k8s

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

func published(pod string, identity int64, since time.Time, addrs ...string) v1alpha1.PublishedEndpoint {
	return v1alpha1.PublishedEndpoint{
		Namespace: "ns", Name: pod, Addresses: addrs, Identity: identity, Since: metav1.NewMicroTime(since),
	}
}

// clusterView is what the tables hold, in short.
type clusterView struct{ Policies, Namespaces, Identities, Nodes, Pods []string }

func (f fixture) view() clusterView {
	var v clusterView
	policies, _, err1 := f.tables.NetworkPolicies()
	for _, p := range policies {
		v.Policies = append(v.Policies, p.Key()+" "+p.UID)
	}
	namespaces, _, err2 := f.tables.Namespaces()
	for _, n := range namespaces {
		v.Namespaces = append(v.Namespaces, n.Name+" "+n.Labels["l"])
	}
	identities, _, err3 := f.tables.Identities()
	for _, i := range identities {
		v.Identities = append(v.Identities, i.Labels["k8s:app"])
	}
	nodes, _, err4 := f.tables.NodeEndpoints()
	for _, n := range nodes {
		v.Nodes = append(v.Nodes, n.Node)
	}
	pods, _, err5 := f.tables.Pods()
	for _, p := range pods {
		v.Pods = append(v.Pods, p.Ref.String()+" "+p.Ref.UID+" "+p.Labels["app"])
	}
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			v.Policies = append(v.Policies, err.Error())
		}
	}
	return v
}

func labelled(p *corev1.Pod, app string) *corev1.Pod {
	p.Labels = map[string]string{"app": app}
	return p
}

func uidPolicy(ns, name, uid string) object {
	p := networkPolicy(ns, name)
	p.UID = typesUID(uid)
	return p
}

// fill gives the server one or two objects of each resource.
func fill(api *apiServer) {
	api.put(policiesPath, uidPolicy("ns", "deny", "u1"))
	api.put(policiesPath, uidPolicy("other", "allow", "u2"))
	api.put(namespacesPath, namespace("ns", map[string]string{"l": "1"}))
	api.put(identitiesPath, identityObject("300", map[string]string{"k8s:app": "web"}))
	api.put(identitiesPath, identityObject("70000", map[string]string{"k8s:app": "db"}))
	api.put(endpointsPath, nodeEndpoints("me"))
	api.put(endpointsPath, nodeEndpoints("peer"))
	api.put(podsPath, labelled(pod("p", "uid-p", "me"), "web"))
	host := pod("host", "uid-host", "me")
	host.Spec.HostNetwork = true
	api.put(podsPath, host)
}

func filled() clusterView {
	return clusterView{
		Policies: []string{"ns/deny u1", "other/allow u2"}, Namespaces: []string{"ns 1"}, Identities: []string{"web", "db"},
		Nodes: []string{"me", "peer"}, Pods: []string{"default/p uid-p web"},
	}
}

func TestTablesFollowTheServer(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		fill(api)
		f := runPolicy(t, api)
		await(t, "PolicySynced", f.PolicySynced())
		want := filled()
		if diff := cmp.Diff(want, f.view()); diff != "" {
			t.Fatalf("tables when synced (-want +got):\n%s", diff)
		}
		for what, ch := range map[string]<-chan struct{}{
			"PoliciesSynced": f.PoliciesSynced(), "NamespacesSynced": f.NamespacesSynced(), "IdentitiesSynced": f.IdentitiesSynced(),
			"NodeEndpointsSynced": f.NodeEndpointsSynced(), "PodsSynced": f.PodsSynced(),
		} {
			select {
			case <-ch:
			default:
				t.Errorf("%s is open while PolicySynced is closed", what)
			}
		}

		// Each resource changes, gets an object and loses one.
		api.remove(policiesPath, "deny")
		api.put(policiesPath, uidPolicy("other", "allow", "u3"))
		api.put(namespacesPath, namespace("ns", map[string]string{"l": "2"}))
		api.put(namespacesPath, namespace("other", nil))
		api.put(identitiesPath, identityObject("300", map[string]string{"k8s:app": "again"}))
		api.remove(identitiesPath, "70000")
		api.remove(endpointsPath, "me")
		api.put(endpointsPath, nodeEndpoints("third"))
		api.put(podsPath, labelled(pod("p", "uid-p", "me"), "api"))
		api.put(podsPath, pod("q", "uid-q", "me"))
		want = clusterView{
			Policies: []string{"other/allow u3"}, Namespaces: []string{"ns 2", "other "}, Identities: []string{"again"},
			Nodes: []string{"peer", "third"}, Pods: []string{"default/p uid-p api", "default/q uid-q "},
		}
		eventually(t, "tables", want, f.view)

		// The API server is away: everything stays, and Health tells.
		api.set(func(s *apiServer) { s.down = true })
		api.disconnect()
		eventually(t, "Health", false, func() bool { return f.Health().OK })
		api.remove(policiesPath, "allow")
		api.remove(namespacesPath, "other")
		api.remove(identitiesPath, "300")
		api.remove(endpointsPath, "third")
		api.remove(podsPath, "q")
		if diff := cmp.Diff(want, f.view()); diff != "" {
			t.Errorf("tables during an outage (-want +got):\n%s", diff)
		}
		api.expire()
		api.set(func(s *apiServer) { s.down = false })
		want = clusterView{Namespaces: []string{"ns 2"}, Nodes: []string{"peer"}, Pods: []string{"default/p uid-p api"}}
		eventually(t, "tables after an outage", want, f.view)
		eventually(t, "Health", true, func() bool { return f.Health().OK })
	})
}

// TestRelistWakesNobody checks that a list of what is known changes nothing.
func TestRelistWakesNobody(t *testing.T) {
	api := newAPIServer(t)
	fill(api)
	f := runPolicy(t, api)
	await(t, "PolicySynced", f.PolicySynced())
	policies, identities, namespaces := f.tables.FeedPolicies(), f.tables.FeedIdentities(), f.tables.FeedNamespaces()
	pods, nodes := f.tables.FeedPods(), f.tables.FeedNodeEndpoints()
	policies.Take()
	identities.Take()
	namespaces.Take()
	pods.Take()
	nodes.Take()
	lists := func() int {
		requests, _, _ := api.seen()
		var n int
		for _, r := range requests {
			if r == "GET "+identitiesPath {
				n++
			}
		}
		return n
	}
	before := lists()
	api.expire()
	api.disconnect()
	eventually(t, "requests", true, func() bool { return lists() > before })
	api.put(identitiesPath, identityObject("999", nil))
	await(t, "the identity that is new", identities.Ready())
	if c := identities.Take(); len(c) != 1 || c[0].Old != nil || c[0].New.ID != 999 {
		t.Errorf("changes of identities: %v", c)
	}
	time.Sleep(500 * time.Millisecond) // the other watches list too
	if n := len(policies.Take()) + len(namespaces.Take()) + len(pods.Take()) + len(nodes.Take()); n != 0 {
		t.Errorf("%d changes after a list of what was known", n)
	}
}

func TestPolicyCRDsComeLater(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		fill(api)
		api.set(func(s *apiServer) { s.noPolicy = true })
		f := runPolicy(t, api)
		await(t, "PoliciesSynced", f.PoliciesSynced())
		await(t, "NamespacesSynced", f.NamespacesSynced())
		eventually(t, "log lines", 2, func() int { return f.log.count("apply its CustomResourceDefinition") })
		since := f.Health().Since
		deadline := time.Now().Add(1500 * time.Millisecond) // several attempts
		for time.Now().Before(deadline) {
			if h := f.Health(); h.OK || !h.Since.Equal(since) {
				t.Fatalf("Health flaps: %+v, was not OK since %v", h, since)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := f.log.count("apply its CustomResourceDefinition"); n != 2 {
			t.Errorf("%d log lines about the missing resources, want one for each of 2", n)
		}
		select {
		case <-f.PolicySynced():
			t.Error("PolicySynced is closed without identities")
		default:
		}
		api.set(func(s *apiServer) { s.noPolicy = false })
		await(t, "PolicySynced", f.PolicySynced())
		eventually(t, "tables", filled(), f.view)
		eventually(t, "Health", true, func() bool { return f.Health().OK })
	})
}

func TestWithoutPolicyNothingOfItIsWatched(t *testing.T) {
	api := newAPIServer(t)
	fill(api)
	f := run(t, api)
	await(t, "PodsSynced", f.PodsSynced())
	await(t, "NodesSynced", f.NodesSynced())
	if diff := cmp.Diff(clusterView{Pods: []string{"default/p uid-p web"}}, f.view()); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	requests, _, _ := api.seen()
	for _, r := range requests {
		if !strings.HasPrefix(r, "GET "+podsPath) && !strings.HasPrefix(r, "GET "+nodesPath) {
			t.Errorf("it asks for %s", r)
		}
	}
}

func TestNodeEndpointsRow(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	api := newAPIServer(t)
	api.put(endpointsPath, nodeEndpoints("peer",
		published("good", 300, since, "10.0.0.1", "fd00::1"), published("init", 5, since, "::ffff:10.0.0.2"),
		published("half", 1<<24-1, since, "10.0.0.300", "fd00::2"),
		published("none", 300, since, "0.0.0.0"), published("empty", 300, since),
		published("host", 1, since, "10.0.0.3"), published("huge", 1<<32+300, since, "10.0.0.4"), published("negative", -1, since, "10.0.0.5"),
	))
	f := runPolicy(t, api)
	await(t, "NodeEndpointsSynced", f.NodeEndpointsSynced())
	got, ok, err := f.tables.NodeEndpointsOf("peer")
	if !ok || err != nil {
		t.Fatalf("no row: %v", err)
	}
	ep := func(pod string, identity uint32, addrs ...string) state.PublishedEndpoint {
		e := state.PublishedEndpoint{Pod: state.PodRef{Namespace: "ns", Name: pod}, Identity: identity, Since: since}
		for _, a := range addrs {
			e.Addrs = append(e.Addrs, netip.MustParseAddr(a))
		}
		return e
	}
	want := state.NodeEndpoints{Node: "peer", Endpoints: []state.PublishedEndpoint{
		ep("good", 300, "10.0.0.1", "fd00::1"), ep("init", 5, "10.0.0.2"), ep("half", 1<<24-1, "fd00::2"),
		ep("host", 5, "10.0.0.3"), ep("huge", 5, "10.0.0.4"), ep("negative", 5, "10.0.0.5"),
	}}
	if diff := cmp.Diff(want, got, comparers()); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	for _, part := range []string{
		"endpoints[2].addresses of pod ns/half", "endpoints[3].addresses of pod ns/none", "endpoints[4].addresses of pod ns/empty",
		"endpoints[5].identity of pod ns/host", "4294967596", "negative",
	} {
		if f.log.count(part) == 0 {
			t.Errorf("no log line names %q", part)
		}
	}
}

// TestIdentityThatMakesNoSense checks that it is no row, whatever it was before.
func TestIdentityThatMakesNoSense(t *testing.T) {
	api := newAPIServer(t)
	api.put(identitiesPath, identityObject("300", map[string]string{"k8s:app": "web"}))
	api.put(identitiesPath, identityObject("0300", map[string]string{"k8s:app": "other"}))
	api.put(identitiesPath, identityObject("world", nil))
	f := runPolicy(t, api)
	await(t, "IdentitiesSynced", f.IdentitiesSynced())
	if diff := cmp.Diff([]string{"web"}, f.view().Identities); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
	api.remove(identitiesPath, "0300") // is not 300
	bad := identityObject("300", map[string]string{"k8s:app": "web"})
	bad.NamedPorts = []v1alpha1.NamedPort{{Name: "x", Protocol: "?", Port: 1}}
	api.put(identitiesPath, identityObject("301", map[string]string{"k8s:app": "next"}))
	eventually(t, "identities", []string{"web", "next"}, func() []string { return f.view().Identities })
	api.put(identitiesPath, bad)
	eventually(t, "identities", []string{"next"}, func() []string { return f.view().Identities })
	for _, name := range []string{"name=/0300", "name=/world", "name=/300"} {
		if f.log.count(name) == 0 {
			t.Errorf("no log line has %q", name)
		}
	}
}

func TestPolicyProblemsAreLogged(t *testing.T) {
	api := newAPIServer(t)
	p := policyOf(t, `{"ingress":[{"from":[{"ipBlock":{"cidr":"nonsense"}}]}]}`)
	api.put(policiesPath, p)
	f := runPolicy(t, api)
	await(t, "PoliciesSynced", f.PoliciesSynced())
	rows, _, err := f.tables.NetworkPolicies()
	if err != nil || len(rows) != 1 || len(rows[0].Problems) != 1 {
		t.Fatalf("rows %+v, %v", rows, err)
	}
	if f.log.count("policy=ns/p") != 1 || f.log.count("nonsense") != 1 {
		t.Error("the log does not name the policy and its problem once")
	}
}

func TestPodAtTheServer(t *testing.T) {
	api := newAPIServer(t)
	static := labelled(pod("static", "uid-mirror", "me"), "proxy")
	static.Annotations = map[string]string{"kubernetes.io/config.mirror": "uid-static"}
	api.put(podsPath, labelled(pod("here", "uid", "me"), "web"))
	api.put(podsPath, pod("moved", "uid", "other"))
	api.put(podsPath, static)
	f := newClient(t, api)
	for _, tt := range []struct{ name, uid, app string }{ // app "" is no pod
		{"here", "uid", "web"},
		{"here", "", "web"},
		{"here", "another", ""},
		{"static", "uid-static", "proxy"},
		{"static", "uid-mirror", ""},
		{"moved", "uid", ""},
		{"nowhere", "uid", ""},
	} {
		row, ok, err := f.Pod(t.Context(), state.PodRef{Namespace: "default", Name: tt.name, UID: tt.uid})
		if err != nil || ok != (tt.app != "") || row.Labels["app"] != tt.app || ok && row.Ref.Name != tt.name {
			t.Errorf("Pod(%s, %q) = %+v, %t, %v, want app %q", tt.name, tt.uid, row, ok, err, tt.app)
		}
	}
	api.set(func(s *apiServer) { s.down = true })
	if _, ok, err := f.Pod(t.Context(), state.PodRef{Namespace: "default", Name: "here"}); err == nil || ok {
		t.Errorf("Pod without an answer = %t, %v, want an error", ok, err)
	}
}
