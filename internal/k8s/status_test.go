package k8s

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// stored is the status of this node's object on the server.
func (f fixture) stored() v1alpha1.PlacidNodeStatus {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	if n, ok := f.api.objects[nodesPath]["me"].(*v1alpha1.PlacidNode); ok {
		return n.Status
	}
	return v1alpha1.PlacidNodeStatus{}
}

func (f fixture) patches() []string {
	_, patches, _ := f.api.seen()
	return patches
}

func TestStatusIsPublished(t *testing.T) {
	api := newAPIServer(t)
	f := run(t, api)
	f.SetStatus(NodeStatus{MTU: 1450, RoutingMode: state.RoutingTunnel, AgentVersion: "v1"})
	await(t, "NodesSynced", f.NodesSynced())
	time.Sleep(100 * time.Millisecond)
	if p := f.patches(); len(p) != 0 {
		t.Fatalf("patches without an object: %v", p)
	}

	// The operator makes the object; the field that is the operator's stays.
	n := node("me", "10.0.0.0/24")
	n.Status.OperatorError = "kept"
	api.put(nodesPath, n)
	want := v1alpha1.PlacidNodeStatus{MTU: 1450, RoutingMode: "tunnel", AgentVersion: "v1", OperatorError: "kept"}
	eventually(t, "status", want, f.stored)
	if diff := cmp.Diff([]string{`{"status":{"mtu":1450,"routingMode":"tunnel","agentVersion":"v1"}}`}, f.patches()); diff != "" {
		t.Errorf("patches (-want +got):\n%s", diff)
	}

	f.SetStatus(NodeStatus{MTU: 1400, RoutingMode: state.RoutingTunnel, AgentVersion: "v1"})
	want.MTU = 1400
	eventually(t, "status that changed", want, f.stored)
	time.Sleep(2 * patchMinWait)
	if n := len(f.patches()); n != 2 {
		t.Errorf("%d patches, want 2: one for each change", n)
	}

	// The object is made anew without a status.
	api.remove(nodesPath, "me")
	api.put(nodesPath, node("me"))
	want.OperatorError = ""
	eventually(t, "status of the new object", want, f.stored)
}

// TestStatusOfAMissingObject checks that an object that went away while the
// watch was broken is not written to.
func TestStatusOfAMissingObject(t *testing.T) {
	api := newAPIServer(t)
	api.put(nodesPath, node("me"))
	f := run(t, api)
	f.SetStatus(NodeStatus{MTU: 1450, RoutingMode: state.RoutingNative, AgentVersion: "v1"})
	eventually(t, "patches", 1, func() int { return len(f.patches()) })

	api.set(func(s *apiServer) { s.down = true })
	api.disconnect()
	api.remove(nodesPath, "me")
	api.expire()
	api.set(func(s *apiServer) { s.down = false })
	eventually(t, "nodes", nil, f.nodeNames)
	f.SetStatus(NodeStatus{MTU: 1400, RoutingMode: state.RoutingNative, AgentVersion: "v1"})
	time.Sleep(2 * patchMinWait)
	if n := f.log.count("node status is not published"); n != 0 {
		t.Error("the missing object was written to")
	}
	api.put(nodesPath, node("me"))
	eventually(t, "status", v1alpha1.PlacidNodeStatus{MTU: 1400, RoutingMode: "native", AgentVersion: "v1"}, f.stored)
}

func TestStatusIsRetried(t *testing.T) {
	api := newAPIServer(t)
	api.put(nodesPath, node("me"))
	api.set(func(s *apiServer) { s.refuse = http.StatusForbidden })
	f := run(t, api)
	f.SetStatus(NodeStatus{MTU: 9000, RoutingMode: state.RoutingNative, AgentVersion: "v1"})
	time.Sleep(3 * patchMinWait)
	if n := f.log.count("node status is not published"); n != 1 {
		t.Errorf("%d log lines about it, want 1", n)
	}
	api.set(func(s *apiServer) { s.refuse = 0 })
	eventually(t, "status", v1alpha1.PlacidNodeStatus{MTU: 9000, RoutingMode: "native", AgentVersion: "v1"}, f.stored)
}
