package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// livePod is a pod with its interface.
type livePod struct {
	*testutil.Netns
	endpoint state.Endpoint
}

// pings tells whether other answers.
func (p livePod) pings(t *testing.T, other livePod) bool {
	t.Helper()
	_, err := p.Run(t, "ping", "-n", "-c", "1", "-W", "1", other.endpoint.IPv4.String())
	return err == nil
}

// pod makes a pod with the label app, first its object, then its interface.
func (a *testAgent) pod(t *testing.T, i int, app string) livePod {
	t.Helper()
	req := request(i)
	a.api.put(podsPath, req.Pod.Name, object{
		"metadata": object{"namespace": "default", "uid": req.Pod.UID, "labels": object{"app": app}},
		"spec":     object{"nodeName": testNode, "serviceAccountName": "default"},
	})
	p := livePod{Netns: testutil.NewNetns(t, "pod")}
	req.Netns = p.Path
	res, err := a.client.Add(t.Context(), req)
	must(t, err)
	p.endpoint = res.Endpoint
	return p
}

// identify does what the operator does for pods with the label app.
func (a *testAgent) identify(t *testing.T, id int, app string) {
	t.Helper()
	filter, err := identity.ParseFilter(nil)
	must(t, err)
	labels, _ := identity.Of(state.Pod{
		Ref: state.PodRef{Namespace: "default"}, Labels: map[string]string{"app": app}, ServiceAccount: "default",
	}, state.Namespace{Name: "default"}, "default", filter)
	a.api.put(identitiesPath, fmt.Sprint(id), object{"labels": labels})
}

// TestAgentPolicy follows a policy from its first day over an agent that is
// killed to its removal, with packets.
func TestAgentPolicy(t *testing.T) {
	a := newTestAgent(t)
	a.api.set("10.1.1.0/24")
	a.start(t)
	a.waitReady(t)
	web, client, other := a.pod(t, 1, "web"), a.pod(t, 2, "client"), a.pod(t, 3, "other")
	if !client.pings(t, web) || !other.pings(t, web) {
		t.Fatal("pods do not reach each other without a policy")
	}
	if a.api.get(endpointsPath, testNode) != nil {
		t.Error("the node publishes its pods without a policy")
	}

	t.Run("the first policy", func(t *testing.T) {
		a.api.put(policiesPath, "web", object{
			"metadata": object{"namespace": "default"},
			"spec": object{
				"podSelector": object{"matchLabels": object{"app": "web"}}, "policyTypes": []string{"Ingress"},
				"ingress": []any{object{"from": []any{object{"podSelector": object{"matchLabels": object{"app": "client"}}}}}},
			},
		})
		waitFor(t, "the endpoints to be published", func() bool { return a.api.get(endpointsPath, testNode) != nil })
		s, err := a.client.Status(t.Context())
		must(t, err)
		if s.Policy.Staged == "" || !other.pings(t, web) {
			t.Errorf("it is enforced before there are identities: %+v", s.Policy)
		}
		for i, app := range []string{"web", "client", "other"} {
			a.identify(t, 300+i, app)
		}
		waitFor(t, "the policy to be enforced", func() bool {
			p, err := a.client.Policy(t.Context(), "default/pod-1")
			return err == nil && p[0].Ingress.Enforcement == agentapi.EnforcementEnforced
		})
		if !client.pings(t, web) || other.pings(t, web) || !web.pings(t, other) {
			t.Errorf("client %t, other %t, web to other %t", client.pings(t, web), other.pings(t, web), web.pings(t, other))
		}
		if text := fmt.Sprint(a.api.get(endpointsPath, testNode)["endpoints"]); !strings.Contains(text, "identity:300 ") {
			t.Errorf("published %s", text)
		}
	})
	t.Run("what the socket tells", func(t *testing.T) { checkPolicyAnswers(t, a) })
	t.Run("a pod that starts under the policy", func(t *testing.T) {
		second := a.pod(t, 4, "web")
		if !client.pings(t, second) || other.pings(t, second) {
			t.Errorf("client %t, other %t", client.pings(t, second), other.pings(t, second))
		}
		must(t, a.client.Del(t.Context(), agentapi.CNIRequest{Attachment: second.endpoint.Attachment}))
	})
	t.Run("killed", func(t *testing.T) {
		a.kill()
		if !client.pings(t, web) || other.pings(t, web) {
			t.Errorf("without an agent: client %t, other %t", client.pings(t, web), other.pings(t, web))
		}
		stop, leaks := make(chan struct{}), make(chan int, 1)
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					leaks <- n
					return
				default:
					if _, err := other.Run(t, "ping", "-n", "-c", "1", "-W", "0.05", web.endpoint.IPv4.String()); err == nil {
						n++
					}
				}
			}
		}()
		a.start(t)
		a.waitReady(t)
		time.Sleep(time.Second) // over an audit too
		close(stop)
		if n := <-leaks; n != 0 {
			t.Errorf("%d packets came through while the agent started", n)
		}
		if !client.pings(t, web) || other.pings(t, web) {
			t.Errorf("client %t, other %t", client.pings(t, web), other.pings(t, web))
		}
	})
	t.Run("its labels change", func(t *testing.T) {
		a.api.put(podsPath, "pod-3", object{
			"metadata": object{"namespace": "default", "uid": "uid-3", "labels": object{"app": "client"}},
			"spec":     object{"nodeName": testNode, "serviceAccountName": "default"},
		})
		waitFor(t, "the other pod to be let in", func() bool { return other.pings(t, web) })
	})
	t.Run("the policy goes", func(t *testing.T) {
		a.api.put(podsPath, "pod-3", object{
			"metadata": object{"namespace": "default", "uid": "uid-3", "labels": object{"app": "other"}},
			"spec":     object{"nodeName": testNode, "serviceAccountName": "default"},
		})
		waitFor(t, "the other pod to be shut out", func() bool { return !other.pings(t, web) })
		a.api.remove(policiesPath, "web")
		waitFor(t, "all to be let in", func() bool { return other.pings(t, web) })
	})
}

// checkPolicyAnswers asks what the command line asks.
func checkPolicyAnswers(t *testing.T, a *testAgent) {
	trace, err := a.client.PolicyTrace(t.Context(), agentapi.TraceRequest{From: "default/pod-3", To: "default/pod-1", Port: 80, Protocol: state.ProtocolTCP})
	must(t, err)
	if trace.Allowed || len(trace.Steps) != 2 || len(trace.Steps[1].Isolated) != 1 {
		t.Errorf("trace %+v", trace)
	}
	_, err = a.client.PolicyTrace(t.Context(), agentapi.TraceRequest{From: "default/none", To: "default/pod-1", Port: 80, Protocol: state.ProtocolTCP})
	checkCode(t, err, agentapi.CodeNotFound)
	_, err = a.client.PolicyTrace(t.Context(), agentapi.TraceRequest{From: "203.0.113.1", To: "203.0.113.2", Port: 80, Protocol: state.ProtocolTCP})
	checkCode(t, err, agentapi.CodeInvalid)
	_, err = a.client.Policy(t.Context(), "default/none")
	checkCode(t, err, agentapi.CodeNotFound)
	ids, err := a.client.Identities(t.Context())
	must(t, err)
	if last := ids[len(ids)-1]; last.ID != 302 || last.Addrs != 1 {
		t.Errorf("identities %+v", ids)
	}
	selectors, err := a.client.Selectors(t.Context())
	must(t, err)
	if len(selectors) != 1 || len(selectors[0].Identities) != 1 || selectors[0].Identities[0] != 301 {
		t.Errorf("selectors %+v", selectors)
	}
	flows, err := a.client.CTList(t.Context(), agentapi.CTFilter{Pod: "default/pod-2"})
	must(t, err)
	if flows.Total == 0 || flows.Entries[0].SourcePod != "default/pod-2" {
		t.Errorf("flows %+v", flows)
	}
	_, err = a.client.CTList(t.Context(), agentapi.CTFilter{Pod: "default/none"})
	checkCode(t, err, agentapi.CodeNotFound)
	top, err := a.client.CTTop(t.Context(), agentapi.CTTopPod, 0)
	must(t, err)
	if len(top) != 3 {
		t.Errorf("top %+v", top)
	}
	_, err = a.client.CTCollect(t.Context())
	must(t, err)
	flushed, err := a.client.CTFlush(t.Context(), agentapi.CTFilter{Pod: "default/pod-2"})
	must(t, err)
	if flushed.Deleted == 0 {
		t.Error("nothing was flushed")
	}
	s, err := a.client.Status(t.Context())
	must(t, err)
	if p := s.Policy; p.Policies != 1 || p.Identities != 3 || p.Isolated != 1 || p.Selectors != 1 || p.Staged != "" || p.Mode != "default" {
		t.Errorf("policy status %+v", p)
	}
	if c := s.Conntrack; c.LastCollection == nil || c.TCP.Size == 0 || c.Problem != "" {
		t.Errorf("conntrack status %+v", c)
	}
}
