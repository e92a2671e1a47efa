package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/placid-net/placid/internal/agentapi"
)

const (
	cutTimeout    = 3 * time.Second // of one exchange that may be cut
	configTimeout = 3 * time.Minute // until the kubelet has brought a changed ConfigMap
	additions     = 2
)

// testFlows shows what becomes of flows that exist, and what is seen of them.
func (l *lab) testFlows(t *testing.T) {
	tr := l.newTroupe(t, "flows")
	both := tr.policy
	both.Spec.Ingress = append(slices.Clone(both.Spec.Ingress), ingressRule{From: []policyPeer{{PodSelector: with(roleLabel, strangerRole)}}})
	l.run(t, "a policy that adds permissions touches no flow", func(t *testing.T) { l.testAddition(t, tr, both) })
	l.run(t, "a permission that is taken away cuts its flows and no other", func(t *testing.T) { l.testCut(t, tr, both) })
	l.run(t, "an audited policy lets through and counts", func(t *testing.T) { l.testAuditAnnotation(t, tr) })
	l.run(t, "conntrack list, get, top, flush and gc", func(t *testing.T) { l.testConntrack(t, tr) })
	l.run(t, "audit mode and timeouts change without a restart", func(t *testing.T) { l.testLiveConfig(t, tr) })
}

// testCut opens connections of the friend and of the stranger, and then forbids
// the stranger's.
func (l *lab) testCut(t *testing.T, tr *troupe, both networkingv1.NetworkPolicy) {
	l.apply(t, both)
	eventually(t, policyTimeout, "the stranger is allowed", func() error { return wantAnswers(t, tr.forbidden(), true) })
	kept := startLoad(t, [2]place{tr.friend, tr.near}, [2]place{tr.friend, tr.far})
	var cut []*tcpFlow
	for _, to := range []place{tr.near, tr.far} {
		for _, f := range families {
			fl, err := openTCP(tr.stranger, to, f)
			if err != nil {
				t.Fatal(err)
			}
			tcp := fl.(*tcpFlow)
			defer tcp.client.Close()
			defer tcp.server.Close()
			go func() { _, _ = io.Copy(tcp.server, tcp.server) }()
			if err := tcp.exchange(0, dataTimeout); err != nil {
				t.Fatalf("%s: %v", tcp.name, err)
			}
			cut = append(cut, tcp)
		}
	}
	l.enforce(t, tr)
	results := make([]error, len(cut))
	var all sync.WaitGroup
	for i, tcp := range cut {
		all.Go(func() { results[i] = tcp.waitCut() })
	}
	all.Wait()
	if err := errors.Join(results...); err != nil {
		t.Error(err)
	}
	kept.end(t, minimumExchanges)
}

// waitCut returns when nothing is answered any more; the connection is not ended.
func (f *tcpFlow) waitCut() error {
	began := time.Now()
	for number := uint64(1); time.Since(began) < policyTimeout; number++ {
		err := f.exchange(number, cutTimeout)
		if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s, which should be cut: %w", f.name, err)
		}
		time.Sleep(dataInterval)
	}
	return fmt.Errorf("%s goes on after %s", f.name, policyTimeout)
}

// flowKey names a flow; flowLife is what must stay the same while nothing
// happens to it.
type flowKey struct {
	proto               uint8
	source, destination string
}

type flowLife struct {
	epoch uint32
	born  time.Time
}

// lives are the established flows of a pod.
func (l *lab) lives(t *testing.T, p pod) map[flowKey]flowLife {
	t.Helper()
	list := placidJSON[agentapi.CTList](t, l, p.node, "bpf", "ct", "list", "--pod", p.String(), "--state", "established")
	now := time.Now()
	out := map[flowKey]flowLife{}
	for _, e := range list.Entries {
		out[flowKey{e.Proto, e.Source.String(), e.Destination.String()}] = flowLife{e.Epoch, now.Add(-e.Age)}
	}
	return out
}

// testAddition applies policies that allow more. Something else, such as a pod
// that ends, may move the epoch at any time, but not at every of these.
func (l *lab) testAddition(t *testing.T, tr *troupe, more networkingv1.NetworkPolicy) {
	l.enforce(t, tr)
	flows := startLoad(t, [2]place{tr.friend, tr.near}, [2]place{tr.friend, tr.far})
	near := tr.pods[0]
	moved := 0
	for i := range additions {
		eventually(t, policyTimeout, "the flows are established", func() error {
			if n := len(l.lives(t, near)); n < len(families) {
				return fmt.Errorf("%d flows", n)
			}
			return nil
		})
		before := l.lives(t, near)
		addition := more
		addition.Name = fmt.Sprintf("addition-%d", i)
		l.apply(t, addition)
		eventually(t, policyTimeout, "the addition is in force", func() error { return l.policyNames(t, near, addition.Name) })
		after := l.lives(t, near)
		for key, b := range before {
			a, ok := after[key]
			switch {
			case !ok:
				t.Errorf("%v is gone", key)
			case a.born.Sub(b.born).Abs() > commandSlack:
				t.Errorf("%v began at %s, before the addition at %s", key, a.born, b.born)
			case a.epoch != b.epoch:
				moved++
			}
		}
	}
	if moved > (additions-1)*2*len(families) {
		t.Errorf("the flows were judged again after every addition")
	}
	for i := range additions {
		l.kubectl(t, "-n", more.Namespace, "delete", "networkpolicy", fmt.Sprintf("addition-%d", i))
	}
	flows.end(t, minimumExchanges)
	tr.waitShut(t)
}

// commandSlack is by how much the same time can seem to differ when it is told as
// an age, through a command.
const commandSlack = 20 * time.Second

// policyNames is nil when the pod's ingress is isolated by a policy of that name.
func (l *lab) policyNames(t *testing.T, p pod, name string) error {
	t.Helper()
	in := l.ingress(t, p)
	if !slices.Contains(in.Policies, p.namespace+"/"+name) {
		return fmt.Errorf("%s is isolated by %v", p, in.Policies)
	}
	return nil
}

// ingress is what `placid policy get` says of the pod's ingress.
func (l *lab) ingress(t *testing.T, p pod) agentapi.PolicySet {
	t.Helper()
	got := placidJSON[[]agentapi.EndpointPolicy](t, l, p.node, "policy", "get", p.String())
	if len(got) != 1 {
		t.Fatalf("policy get %s gives %d endpoints, want one", p, len(got))
	}
	return got[0].Ingress
}

const auditReason = "Policy would deny, audit mode"

// audited is how often the node's programs let through what policy would drop.
func (l *lab) audited(t *testing.T, h host) float64 {
	t.Helper()
	sum := 0.0
	for series, v := range l.metrics(t, h) {
		if strings.HasPrefix(series, "placid_datapath_packets_total{") && strings.Contains(series, auditReason) {
			sum += v
		}
	}
	return sum
}

// testAuditAnnotation audits one policy.
func (l *lab) testAuditAnnotation(t *testing.T, tr *troupe) {
	l.enforce(t, tr)
	near := tr.pods[0]
	before := l.audited(t, near.node)
	l.kubectl(t, "-n", tr.policy.Namespace, "annotate", "networkpolicy", tr.policy.Name, "placid.io/policy-audit=true")
	eventually(t, policyTimeout, "the stranger is let through", func() error { return wantAnswers(t, tr.forbidden(), true) })
	if got := l.ingress(t, near); got.Enforcement != agentapi.EnforcementAudited {
		t.Errorf("placid policy get says %+v, want it to be audited", got)
	}
	l.wantAudited(t, tr, before)
	l.kubectl(t, "-n", tr.policy.Namespace, "annotate", "networkpolicy", tr.policy.Name, "placid.io/policy-audit-")
	tr.waitShut(t)
}

// wantAudited wants what policy would drop to be counted, and shown as flows.
func (l *lab) wantAudited(t *testing.T, tr *troupe, before float64) {
	t.Helper()
	near := tr.pods[0]
	if now := l.audited(t, near.node); now <= before {
		t.Errorf("%q was counted %v times, before %v times", auditReason, now, before)
	}
	list := placidJSON[agentapi.CTList](t, l, near.node, "bpf", "ct", "list", "--pod", near.String(), "--addr", tr.stranger.addrs[ipv4].String())
	if !slices.ContainsFunc(list.Entries, func(e agentapi.CTEntry) bool {
		return slices.ContainsFunc(e.Flags, func(f string) bool { return strings.EqualFold(f, "audited") })
	}) {
		t.Errorf("placid bpf ct list shows no audited flow of the stranger: %+v", list.Entries)
	}
}

// testLiveConfig edits the ConfigMap and restarts nothing.
func (l *lab) testLiveConfig(t *testing.T, tr *troupe) {
	l.enforce(t, tr)
	near := tr.pods[0]
	agents, before := l.agentRestarts(t), l.audited(t, near.node)
	const idle = 7 * time.Second
	t.Cleanup(func() {
		if err := l.patchConfig(map[string]any{"policy-audit-mode": nil, "bpf-ct-timeout-regular-any": nil}); err != nil {
			t.Error(err)
		}
	})
	l.setConfig(t, map[string]any{"policy-audit-mode": "true", "bpf-ct-timeout-regular-any": idle.String()})
	l.nudgeAgents(t)
	eventually(t, configTimeout, "the stranger is let through", func() error { return wantAnswers(t, tr.forbidden(), true) })
	l.wantAudited(t, tr, before)
	for _, h := range l.nodes {
		if st := l.status(t, h).Policy; st == nil || !st.Audit {
			t.Errorf("status of %s does not tell of audit mode: %+v", h.name, st)
		}
	}
	eventually(t, configTimeout, "flows have the new timeout", func() error {
		list := placidJSON[agentapi.CTList](t, l, near.node, "bpf", "ct", "list", "--pod", near.String(), "--proto", "udp")
		for _, e := range list.Entries {
			if e.Expires > idle+time.Second {
				return fmt.Errorf("%+v", e)
			}
		}
		if len(list.Entries) == 0 {
			return wantAnswers(t, tr.permitted(), true)
		}
		return nil
	})
	l.setConfig(t, map[string]any{"policy-audit-mode": nil, "bpf-ct-timeout-regular-any": nil})
	l.nudgeAgents(t)
	eventually(t, configTimeout, "the stranger is shut out again", func() error { return wantAnswers(t, tr.forbidden(), false) })
	if after := l.agentRestarts(t); fmt.Sprint(after) != fmt.Sprint(agents) {
		t.Errorf("agents and their restarts are %v, before %v", after, agents)
	}
}

// nudgeAgents makes the kubelets look at the agents' pods, and so at their
// ConfigMap, at once instead of some time within a minute and a half.
func (l *lab) nudgeAgents(t *testing.T) {
	t.Helper()
	l.kubectl(t, "-n", systemNamespace, "annotate", "pods", "-l", agentLabel, "--overwrite", fmt.Sprintf("e2e.placid.io/nudge=%d", time.Now().UnixNano()))
}

// ctMetrics are series of conntrack that have a value above zero after traffic
// and a collection; the names are Cilium's.
var ctMetrics = []string{
	`cilium_datapath_conntrack_gc_interval_seconds{global="global"}`,
	`cilium_datapath_conntrack_gc_runs_total{family="ipv4",protocol="TCP",status="completed"}`,
	`cilium_datapath_conntrack_gc_runs_total{family="ipv6",protocol="non-TCP",status="completed"}`,
	`cilium_datapath_conntrack_gc_duration_seconds_count{family="ipv4",protocol="non-TCP",status="completed"}`,
	`cilium_datapath_conntrack_gc_entries{family="ipv4",protocol="TCP",status="alive"}`,
	`cilium_datapath_conntrack_gc_entries{family="ipv6",protocol="TCP",status="alive"}`,
	`placid_bpf_map_entries{map_name="ct_tcp"}`,
	`placid_bpf_map_max_entries{map_name="ct_any"}`,
}

// testConntrack compares what the commands say with connections that there are.
func (l *lab) testConntrack(t *testing.T, tr *troupe) {
	l.enforce(t, tr)
	near, friend := tr.pods[0], tr.pods[2]
	flows := startLoad(t, [2]place{tr.friend, tr.near})
	for _, f := range families {
		tcp, err := openTCP(tr.friend, tr.near, f)
		if err != nil {
			t.Fatal(err)
		}
		client := tcp.(*tcpFlow).client
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan tally, 1)
		go func() { ended <- tcp.run(ctx) }()
		from, to := client.LocalAddr().String(), client.RemoteAddr().String()
		var e agentapi.CTEntry
		eventually(t, policyTimeout, "placid bpf ct get tells of an established flow", func() error {
			e = placidJSON[agentapi.CTEntry](t, l, near.node, "bpf", "ct", "get", "--from", to, "--to", from)
			if e.State != agentapi.CTStateEstablished {
				return fmt.Errorf("%+v", e)
			}
			return nil
		})
		if e.Source.String() != from || e.Destination.String() != to || e.Table != agentapi.CTTableTCP ||
			e.SourcePod != friend.String() || e.DestinationPod != near.String() || e.SourceIdentity < 256 || e.DestinationIdentity < 256 {
			t.Errorf("placid bpf ct get tells %+v of %s to %s", e, from, to)
		}
		port := e.Source.Port()
		if got := placidJSON[agentapi.CTList](t, l, near.node, "bpf", "ct", "list", "--port", fmt.Sprint(port), "--proto", "tcp"); got.Total != 1 {
			t.Errorf("placid bpf ct list --port %d shows %+v, want one flow", port, got)
		}
		flushed := placidJSON[agentapi.CTFlushed](t, l, near.node, "bpf", "ct", "flush", "--port", fmt.Sprint(port), "--proto", "tcp")
		// A flow that goes on is there again at once, perhaps in a table that is flushed next.
		if flushed.Deleted < 1 {
			t.Errorf("placid bpf ct flush deleted nothing of --port %d", port)
		}
		stop()
		if r := <-ended; r.err != nil {
			t.Errorf("%s, whose flow was flushed: %v", r.name, r.err)
		}
	}
	top := placidJSON[[]agentapi.CTTalker](t, l, near.node, "bpf", "ct", "top", "--by", "pod")
	if !slices.ContainsFunc(top, func(c agentapi.CTTalker) bool { return c.Name == near.String() && c.Entries >= 2*len(families) }) {
		t.Errorf("placid bpf ct top does not show the flows of %s: %v", near, top)
	}
	if got := placidJSON[agentapi.CTCollection](t, l, near.node, "bpf", "ct", "gc"); got.Alive < 2 {
		t.Errorf("placid bpf ct gc found %+v, want what is under way alive", got)
	}
	m := l.metrics(t, near.node)
	for _, series := range ctMetrics {
		if m[series] <= 0 {
			t.Errorf("metric %s is %v", series, m[series])
		}
	}
	flows.end(t, minimumExchanges)
}
