package k8s

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/placid-net/placid/internal/state"
)

// bothLists runs a test against a server that streams lists and one that, as
// older ones, does not.
func bothLists(t *testing.T, test func(t *testing.T, api *apiServer)) {
	t.Helper()
	for name, noStream := range map[string]bool{"streamed list": false, "list": true} {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t)
			api.set(func(s *apiServer) { s.noStream = noStream })
			test(t, api)
		})
	}
}

func TestNodesFollowTheServer(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		api.put(nodesPath, node("a"))
		api.put(nodesPath, node("b"))
		f := run(t, api)
		await(t, "NodesSynced", f.NodesSynced())
		if diff := cmp.Diff([]string{"a", "b"}, f.nodeNames()); diff != "" {
			t.Fatalf("nodes when synced (-want +got):\n%s", diff)
		}
		api.put(nodesPath, node("c"))
		eventually(t, "added", []string{"a", "b", "c"}, f.nodeNames)
		api.remove(nodesPath, "a")
		eventually(t, "deleted", []string{"b", "c"}, f.nodeNames)

		api.disconnect()
		api.put(nodesPath, node("d"))
		api.remove(nodesPath, "b")
		eventually(t, "after a disconnect", []string{"c", "d"}, f.nodeNames)

		// The watch cannot go on where it ended: what is missing from the new
		// list was deleted meanwhile.
		api.set(func(s *apiServer) { s.down = true })
		api.disconnect()
		api.remove(nodesPath, "c")
		api.put(nodesPath, node("e"))
		api.expire()
		api.set(func(s *apiServer) { s.down = false })
		eventually(t, "after a relist", []string{"d", "e"}, f.nodeNames)
		api.put(nodesPath, node("f"))
		eventually(t, "the watch goes on", []string{"d", "e", "f"}, f.nodeNames)
	})
}

func TestNodeRow(t *testing.T) {
	api := newAPIServer(t)
	n := node("good", "10.1.0.0/24", "fd00:1::/120")
	n.Spec.Addresses = []string{"192.0.2.7", "2001:db8::7"}
	n.Status.MTU, n.Status.RoutingMode = 1450, "tunnel"
	api.put(nodesPath, n)

	bad := node("bad", "10.2.0.7/24", "10.3.0.0/33", "nonsense", "::ffff:10.0.0.0/104", "0.0.0.0/0", "fd00:2::/120")
	bad.Spec.Addresses = []string{"192.0.2.8", "192.0.2.999", "fe80::1%eth0", "127.0.0.1", "0.0.0.0", "::ffff:192.0.2.9"}
	bad.Status.MTU, bad.Status.RoutingMode = 70000, "carrier-pigeon"
	api.put(nodesPath, bad)

	f := run(t, api)
	await(t, "NodesSynced", f.NodesSynced())
	got, _, err := f.tables.Nodes()
	if err != nil {
		t.Fatal(err)
	}
	want := []state.Node{
		{
			Name:     "bad",
			Addrs:    []netip.Addr{netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("192.0.2.9")},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("fd00:2::/120")},
		}, {
			Name:     "good",
			Addrs:    []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/120")},
			MTU:      1450, RoutingMode: state.RoutingTunnel,
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for _, v := range []string{
		"10.3.0.0/33", "nonsense", "::ffff:10.0.0.0/104", "0.0.0.0/0", "192.0.2.999", "fe80::1%eth0", "127.0.0.1",
		"value=0.0.0.0 ", "70000", "carrier-pigeon",
	} {
		if f.log.count(v) != 1 {
			t.Errorf("%d log lines name %q, want 1", f.log.count(v), v)
		}
	}
}

func TestOutage(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		api.put(nodesPath, node("a"))
		api.put(podsPath, pod("p", "uid-p", "me"))
		f := newClient(t, api)
		if h := f.Health(); h.OK || h.Message != "the API server has not answered yet" {
			t.Errorf("before the first answer Health is %+v", h)
		}
		f.start(t)
		await(t, "NodesSynced", f.NodesSynced())
		await(t, "PodsSynced", f.PodsSynced())
		if h := f.Health(); !h.OK || h.Name != "kubernetes" || h.Message != "" {
			t.Errorf("Health is %+v, want OK", h)
		}

		before := time.Now()
		api.set(func(s *apiServer) { s.down = true })
		api.disconnect()
		eventually(t, "Health", false, func() bool { return f.Health().OK })
		if took := time.Since(before); took > 5*time.Second {
			t.Errorf("the outage showed after %v, want a few seconds", took)
		}
		h := f.Health()
		if h.Since.Before(before) || h.Since.After(time.Now()) || h.Message == "" {
			t.Errorf("Health is %+v, want since about %v and the error", h, before)
		}
		time.Sleep(time.Second) // several attempts
		if later := f.Health(); !later.Since.Equal(h.Since) {
			t.Errorf("Since moved from %v to %v during one outage", h.Since, later.Since)
		}
		if diff := cmp.Diff([]string{"a"}, f.nodeNames()); diff != "" {
			t.Errorf("nodes during the outage (-want +got):\n%s", diff)
		}
		if len(f.LocalPods()) != 1 {
			t.Errorf("pods during the outage: %v", f.LocalPods())
		}

		api.put(nodesPath, node("b"))
		api.set(func(s *apiServer) { s.down = false })
		eventually(t, "nodes after the outage", []string{"a", "b"}, f.nodeNames)
		eventually(t, "Health", true, func() bool { return f.Health().OK })
		for what, n := range map[string]int{"watch does not work": 2, "watch works again": 2} {
			if got := f.log.count(what); got != n {
				t.Errorf("%d log lines say %q, want %d: one for each resource", got, what, n)
			}
		}
	})
}

func TestCRDComesLater(t *testing.T) {
	api := newAPIServer(t)
	api.set(func(s *apiServer) { s.noCRD = true })
	f := run(t, api)
	await(t, "PodsSynced", f.PodsSynced())
	eventually(t, "Health", false, func() bool { return f.Health().OK })
	time.Sleep(time.Second) // several attempts
	if n := f.log.count("apply its CustomResourceDefinition"); n != 1 {
		t.Errorf("%d log lines about the missing resource, want 1", n)
	}
	select {
	case <-f.NodesSynced():
		t.Error("NodesSynced is closed without the resource")
	default:
	}
	api.set(func(s *apiServer) { s.noCRD = false })
	api.put(nodesPath, node("a"))
	eventually(t, "nodes", []string{"a"}, f.nodeNames)
	eventually(t, "Health", true, func() bool { return f.Health().OK })
}

func TestLocalPods(t *testing.T) {
	bothLists(t, func(t *testing.T, api *apiServer) {
		host := pod("host", "uid-host", "me")
		host.Spec.HostNetwork = true
		static := pod("static-me", "uid-mirror", "me")
		static.Annotations = map[string]string{"kubernetes.io/config.mirror": "uid-static"}
		api.put(podsPath, pod("mine", "uid-mine", "me"))
		api.put(podsPath, pod("theirs", "uid-theirs", "other"))
		api.put(podsPath, host)
		api.put(podsPath, static)
		f := run(t, api)
		await(t, "PodsSynced", f.PodsSynced())
		mine := state.PodRef{Namespace: "default", Name: "mine", UID: "uid-mine"}
		staticRef := state.PodRef{Namespace: "default", Name: "static-me", UID: "uid-static"}
		eventually(t, "first list", map[state.PodRef]struct{}{mine: {}, staticRef: {}}, f.LocalPods)

		api.remove(podsPath, "mine")
		again := mine
		again.UID = "uid-mine-2"
		api.put(podsPath, pod("mine", again.UID, "me"))
		eventually(t, "made anew", map[state.PodRef]struct{}{again: {}, staticRef: {}}, f.LocalPods)
		api.remove(podsPath, "static-me")
		eventually(t, "deleted", map[state.PodRef]struct{}{again: {}}, f.LocalPods)

		api.set(func(s *apiServer) { s.down = true })
		api.disconnect()
		api.remove(podsPath, "mine")
		api.expire()
		api.set(func(s *apiServer) { s.down = false })
		eventually(t, "relisted", map[state.PodRef]struct{}{}, f.LocalPods)
	})
}

func TestPodGone(t *testing.T) {
	api := newAPIServer(t)
	static := pod("static", "uid-mirror", "me")
	static.Annotations = map[string]string{"kubernetes.io/config.mirror": "uid-static"}
	api.put(podsPath, pod("here", "uid", "me"))
	api.put(podsPath, pod("moved", "uid", "other"))
	api.put(podsPath, static)
	f := newClient(t, api)
	for _, tt := range []struct {
		name, uid string
		want      bool
	}{
		{"here", "uid", false},
		{"here", "", false},
		{"here", "another", true},
		{"static", "uid-static", false},
		{"static", "uid-mirror", true},
		{"moved", "", true},
		{"nowhere", "uid", true},
	} {
		got, err := f.PodGone(t.Context(), state.PodRef{Namespace: "default", Name: tt.name, UID: tt.uid})
		if err != nil || got != tt.want {
			t.Errorf("PodGone(%s, %q) = %v, %v, want %v", tt.name, tt.uid, got, err, tt.want)
		}
	}
	api.set(func(s *apiServer) { s.down = true })
	if gone, err := f.PodGone(t.Context(), state.PodRef{Namespace: "default", Name: "here"}); err == nil || gone {
		t.Errorf("PodGone without an answer = %v, %v, want an error", gone, err)
	}
}

func TestTrimPodKeepsWhatIsRead(t *testing.T) {
	p := pod("static", "uid-mirror", "me")
	p.Annotations = map[string]string{"kubernetes.io/config.mirror": "uid-static", "big": "x"}
	p.Spec.HostNetwork = true
	p.ResourceVersion = "7"
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
	got := trimPod(p)
	if podRef(got) != podRef(p) || podKey(got) != podKey(p) || got.UID != p.UID || !got.Spec.HostNetwork || got.ResourceVersion != "7" {
		t.Errorf("trimmed pod %+v lost something that is read", got)
	}
	if len(got.Annotations) != 1 || got.ManagedFields != nil {
		t.Errorf("trimmed pod %+v keeps what is not needed", got)
	}
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	if _, err := New(Config{NodeName: "me"}); err == nil {
		t.Error("New takes a configuration without a connection")
	}
}
