package cli

import (
	"context"
	"net/netip"
	"time"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

func (f *fakeAgent) CTList(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTList, error) {
	out, _ := f.Service.CTList(ctx, filter)
	return out, f.fail(ctx)
}

func (f *fakeAgent) CTFlush(ctx context.Context, filter agentapi.CTFilter) (agentapi.CTFlushed, error) {
	out, _ := f.Service.CTFlush(ctx, filter)
	return out, f.fail(ctx)
}

func (f *fakeAgent) CTTop(ctx context.Context, by string, limit int) ([]agentapi.CTTalker, error) {
	out, _ := f.Service.CTTop(ctx, by, limit)
	return out, f.fail(ctx)
}

func (f *fakeAgent) CTCollect(ctx context.Context) (agentapi.CTCollection, error) {
	out, _ := f.Service.CTCollect(ctx)
	return out, f.fail(ctx)
}

func (f *fakeAgent) Identities(ctx context.Context) ([]agentapi.IdentityInfo, error) {
	out, _ := f.Service.Identities(ctx)
	return out, f.fail(ctx)
}

// Policy finds the pod as an agent does.
func (f *fakeAgent) Policy(ctx context.Context, pod string) ([]agentapi.EndpointPolicy, error) {
	all, _ := f.Service.Policy(ctx, pod)
	if err := f.fail(ctx); err != nil || pod == "" {
		return all, err
	}
	for _, p := range all {
		if p.Pod.String() == pod {
			return []agentapi.EndpointPolicy{p}, nil
		}
	}
	return nil, &agentapi.Error{Code: agentapi.CodeNotFound, Message: "pod " + pod + " is not on node lab-1"}
}

func (f *fakeAgent) Selectors(ctx context.Context) ([]agentapi.SelectorInfo, error) {
	out, _ := f.Service.Selectors(ctx)
	return out, f.fail(ctx)
}

func (f *fakeAgent) PolicyTrace(ctx context.Context, req agentapi.TraceRequest) (agentapi.TraceResult, error) {
	out, _ := f.Service.PolicyTrace(ctx, req)
	return out, f.fail(ctx)
}

// addPolicy gives the agent flows, identities and policies.
func addPolicy(f *fakeAgent) {
	f.status.Policy = &agentapi.PolicyStatus{Mode: "default", Policies: 2, Selectors: 3, Identities: 1, Isolated: 1}
	f.status.Conntrack = &agentapi.ConntrackStatus{
		TCP: agentapi.CTTable{Entries: 1200, Size: 131072}, Any: agentapi.CTTable{Entries: 7, Size: 65536}, New: agentapi.CTTable{Size: 65536},
		LastCollection: &agentapi.CTCollection{Alive: 1207, Deleted: 31, Took: 12345678, CPU: 4321000},
		CollectedAt:    testNow.Add(-3 * time.Minute), Interval: 5 * time.Minute,
	}
	f.CTListResult = testFlows()
	f.CTFlushResult = agentapi.CTFlushed{Deleted: 2}
	f.CTTopResult = []agentapi.CTTalker{{Name: "default/web-0", Entries: 812}, {Name: "kube-system/dns-x", Entries: 9}}
	f.CTCollectResult = agentapi.CTCollection{Alive: 1207, Deleted: 31, Took: 1234567890, CPU: 987654}
	f.IdentitiesResult = []agentapi.IdentityInfo{
		{Identity: state.Identity{ID: 1}, Addrs: 2},
		{Identity: state.Identity{ID: 2, Labels: map[string]string{"reserved:world": ""}}},
		{Identity: state.Identity{
			ID:         4711,
			Labels:     map[string]string{"k8s:io.kubernetes.pod.namespace": "default", "k8s:app": "web", "k8s:canary": ""},
			NamedPorts: []state.NamedPort{{Name: "dns", Protocol: state.ProtocolUDP, Port: 53}, {Name: "http", Protocol: state.ProtocolTCP, Port: 80}},
		}, Addrs: 3},
	}
	f.PolicyResult = []agentapi.EndpointPolicy{
		{
			Endpoint: 7, Pod: state.PodRef{Namespace: "default", Name: "web-0"}, Identity: 4711,
			Ingress: agentapi.PolicySet{
				ID: "5be1a0c3d4e5f607", Enforcement: agentapi.EnforcementEnforced, Policies: []string{"default/allow-web", "default/deny-all"},
				Entries: []agentapi.PolicyLine{
					{Peer: "any", Ports: []string{"80/TCP", "8000-8100/UDP"}, Rules: []string{"default/allow-web ingress[0]"}},
					{Peer: "192.0.2.0/24", Ports: []string{"all"}, Rules: []string{"default/allow-web ingress[1]", "default/allow-web ingress[2]"}},
				},
			},
			Egress: agentapi.PolicySet{ID: "0", Enforcement: agentapi.EnforcementOpen},
		},
		{
			Endpoint: 11, Pod: state.PodRef{Namespace: "kube-system", Name: "dns-x"}, Identity: 5,
			Ingress: agentapi.PolicySet{
				ID: "0", Enforcement: agentapi.EnforcementRefused, Problem: "70000 prefixes, the table takes 65536", Policies: []string{"kube-system/dns"},
			},
			Egress: agentapi.PolicySet{ID: "77", Enforcement: agentapi.EnforcementAudited, Policies: []string{"kube-system/dns"}},
		},
		{
			Endpoint: 12, Pod: state.PodRef{Namespace: "default", Name: "web-1"}, Identity: 4711,
			Ingress: agentapi.PolicySet{ID: "8f", Enforcement: agentapi.EnforcementRefused, Problem: "the policy table is full"},
			Egress:  agentapi.PolicySet{ID: "1", Enforcement: agentapi.EnforcementRefused, Problem: "the policy table is full"},
		},
	}
	f.SelectorsResult = []agentapi.SelectorInfo{
		{Selector: "default: app=web", Policies: []string{"default/allow-web"}, Identities: []uint32{4711}},
		{Selector: "all: ", Policies: []string{"default/allow-web", "kube-system/dns"}, Identities: []uint32{1, 300, 301, 302, 303, 304, 305, 306, 307, 308}},
		{Selector: "default: app=gone", Policies: []string{"default/allow-web"}},
	}
	f.TraceResult = agentapi.TraceResult{Allowed: true, Steps: []agentapi.TraceStep{
		{Direction: agentapi.DirectionEgress, Pod: "default/client", Allowed: true, Reason: "No policy isolates its egress."},
		{
			Direction: agentapi.DirectionIngress, Pod: "default/web-0", Allowed: true, Reason: "A rule allows it.",
			Rules: []string{"default/allow-web ingress[0]"},
		},
	}}
}

// testFlows are flows of every kind: TCP, UDP in IPv6, a ping, and one that is
// being moved between two tables.
func testFlows() agentapi.CTList {
	flow := func(proto uint8, from, to, flowState, table string) agentapi.CTEntry {
		return agentapi.CTEntry{
			Proto: proto, Source: netip.MustParseAddrPort(from), Destination: netip.MustParseAddrPort(to), State: flowState, Table: table,
			Age: 5 * time.Minute, Idle: 2 * time.Second, Expires: 8000 * time.Second, SourceIdentity: 4711, DestinationIdentity: 2,
		}
	}
	web := flow(6, "10.244.0.5:43210", "10.244.1.7:80", agentapi.CTStateEstablished, agentapi.CTTableTCP)
	web.SourcePod, web.DestinationIdentity, web.Epoch = "default/web-0", 300, 4
	web.Flags = []string{"REPLIED", "ASSURED"}
	late := flow(17, "[fd00::5]:5353", "[2001:db8::9]:53", agentapi.CTStateReplied, agentapi.CTTableAny)
	late.Expires = -time.Hour
	moving := flow(6, "192.0.2.9:999", "10.244.0.5:80", agentapi.CTStateNew, agentapi.CTTableNew)
	moved := moving
	moved.State, moved.Table, moved.DestinationPod, moved.DestinationIdentity = agentapi.CTStateEstablished, agentapi.CTTableTCP, "default/web-0", 4711
	return agentapi.CTList{Total: 7, Entries: []agentapi.CTEntry{
		web, late, moving, moved,
		flow(1, "10.244.0.5:77", "10.244.1.7:0", agentapi.CTStateReplied, agentapi.CTTableAny),
		flow(1, "10.244.0.5:78", "10.244.1.7:0", agentapi.CTStateNew, agentapi.CTTableNew),
		flow(99, "10.244.0.5:0", "192.0.2.1:0", agentapi.CTStateNew, agentapi.CTTableNew),
	}}
}
