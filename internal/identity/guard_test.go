package identity

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

func match(key string) *state.Selector {
	return &state.Selector{MatchLabels: map[string]string{key: "x"}}
}

func require(key string, operator state.Operator) *state.Selector {
	return &state.Selector{Expressions: []state.Requirement{{Key: key, Operator: operator}}}
}

func peers(p ...state.PolicyPeer) []state.PolicyRule { return []state.PolicyRule{{Peers: p}} }

func TestUnmatchable(t *testing.T) {
	any := match("app")
	for _, tc := range []struct {
		name, items string
		policy      state.NetworkPolicy
		want        []string // "key namespace fields", and a part of the message
	}{
		{"nothing left out", "", state.NetworkPolicy{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: any, Namespaces: match("team")})}, nil},
		{"the policy's own pods", "!app", state.NetworkPolicy{Subject: *any, IsolatesIngress: true}, nil},
		{"no peers", "!app", state.NetworkPolicy{IsolatesIngress: true, Ingress: []state.PolicyRule{{}}}, nil},
		{"addresses", "!app", state.NetworkPolicy{IsolatesEgress: true, Egress: peers(state.PolicyPeer{Block: &state.IPBlock{}})}, nil},
		{"all pods", "!app", state.NetworkPolicy{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: &state.Selector{}, Namespaces: &state.Selector{}})}, nil},
		{
			"pods", "!app",
			state.NetworkPolicy{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{}, state.PolicyPeer{Pods: any})},
			[]string{"app false spec.ingress[0].from[1].podSelector", "pod label \"app\" (spec.ingress[0].from[1].podSelector)", "they match nothing; keep it in labels"},
		},
		{
			"built in", "",
			state.NetworkPolicy{IsolatesEgress: true, Egress: peers(state.PolicyPeer{Pods: match("pod-template-hash")})},
			[]string{"pod-template-hash false spec.egress[0].to[0].podSelector", "they match nothing; keep it in labels"},
		},
		{
			"namespaces", `!io\.cilium\.k8s\.namespace\.labels`,
			state.NetworkPolicy{IsolatesEgress: true, Egress: peers(state.PolicyPeer{Pods: any, Namespaces: match("team")})},
			[]string{"team true spec.egress[0].to[0].namespaceSelector", "namespace label \"team\""},
		},
		{"direction without effect", "!app", state.NetworkPolicy{IsolatesIngress: true, Egress: peers(state.PolicyPeer{Pods: any})}, nil},
		{
			"audited", "!app",
			state.NetworkPolicy{Audit: true, IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: any})},
			[]string{"app false spec.ingress[0].from[0].podSelector", "they match nothing; keep it in labels"},
		},
		{
			"In", "!app",
			state.NetworkPolicy{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: require("app", state.OperatorIn)})},
			[]string{"app false spec.ingress[0].from[0].podSelector", "they match nothing; keep it in labels"},
		},
		{
			"Exists", "!app",
			state.NetworkPolicy{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: require("app", state.OperatorExists)})},
			[]string{"app false spec.ingress[0].from[0].podSelector", "they match nothing; keep it in labels"},
		},
		{
			"NotIn", "!app",
			state.NetworkPolicy{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: require("app", state.OperatorNotIn)})},
			[]string{"app false spec.ingress[0].from[0].podSelector", "they match nothing; keep it in labels"},
		},
		{
			"DoesNotExist", "!app",
			state.NetworkPolicy{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: require("app", state.OperatorDoesNotExist)})},
			[]string{"app false spec.ingress[0].from[0].podSelector", "they match nothing; keep it in labels"},
		},
		{"several places", "!app", state.NetworkPolicy{
			IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: any}, state.PolicyPeer{Pods: require("app", state.OperatorNotIn)}),
			IsolatesEgress: true, Egress: []state.PolicyRule{{}, {Peers: []state.PolicyPeer{{Pods: &state.Selector{
				MatchLabels: map[string]string{"app": "x"}, Expressions: []state.Requirement{{Key: "app", Operator: state.OperatorExists}},
			}}}}},
		}, []string{
			"app false spec.ingress[0].from[0].podSelector spec.ingress[0].from[1].podSelector spec.egress[1].to[0].podSelector",
			"they match nothing; keep it in labels",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.policy.Namespace, tc.policy.Name = "shop", "allow"
			got := Unmatchable(mustFilter(t, tc.items), []state.NetworkPolicy{tc.policy})
			if tc.want == nil {
				if len(got) > 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || fmt.Sprint(got[0].Key, " ", got[0].Namespace, " ", strings.Join(got[0].Fields, " ")) != tc.want[0] || got[0].Policy != "shop/allow" {
				t.Fatalf("%+v, want %s", got, tc.want[0])
			}
			for _, part := range append(tc.want[1:], "policy shop/allow") {
				if !strings.Contains(got[0].Message, part) {
					t.Errorf("%q does not say %q", got[0].Message, part)
				}
			}
		})
	}
}

// Selectors of Cilium's kind name labels as identities have them.
func TestUnmatchableEndpoints(t *testing.T) {
	peer := func(key string) []state.PolicyRule { return peers(state.PolicyPeer{Endpoints: match(key)}) }
	const namespaceLabel = "k8s:io.cilium.k8s.namespace.labels.team"
	for _, tc := range []struct {
		name, items string
		policy      state.NetworkPolicy
		want        []string // "key namespace fields: message" in parts
	}{
		{"kept", "", state.NetworkPolicy{Ingress: peer("k8s:app"), Egress: peer(namespaceLabel)}, nil},
		{"what stands for the namespace", "", state.NetworkPolicy{Ingress: peer("k8s:io.kubernetes.pod.namespace")}, nil},
		{"pods, although nothing is isolated", "!app", state.NetworkPolicy{Ingress: peer("k8s:app")}, []string{
			"app false spec.ingress[0].fromEndpoints[0]: ", `the pod label "app"`, "they match nothing; keep it in labels",
		}},
		{"namespaces", `!io\.cilium\.k8s\.namespace\.labels`, state.NetworkPolicy{Part: 2, Egress: peer(namespaceLabel)}, []string{
			"team true specs[1].egress[0].toEndpoints[0]: ", `the namespace label "team"`, "they match nothing",
		}},
		{"the cluster", `!io\.cilium\.k8s\.policy\.cluster`, state.NetworkPolicy{Ingress: peer("k8s:io.cilium.k8s.policy.cluster")}, []string{
			"io.cilium.k8s.policy.cluster false spec.ingress[0].fromEndpoints[0]: ", "which the filter (key labels) leaves out of identities",
		}},
		{"denied", "!app", state.NetworkPolicy{EgressDeny: peer("k8s:app")}, []string{
			"app false spec.egressDeny[0].toEndpoints[0]: ", "nobody can tell whom they match, and everybody is denied; keep it in labels",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.policy.Kind, tc.policy.Namespace, tc.policy.Name = state.PolicyCilium, "shop", "p"
			got := ""
			for _, f := range Unmatchable(mustFilter(t, tc.items), []state.NetworkPolicy{tc.policy}) {
				got += fmt.Sprint(f.Key, " ", f.Namespace, " ", strings.Join(f.Fields, " "), ": ", f.Message)
			}
			if tc.want == nil && got != "" || tc.want != nil && !strings.HasPrefix(got, tc.want[0]) {
				t.Fatalf("%q, want %q", got, tc.want)
			}
			for _, part := range tc.want {
				if !strings.Contains(got, part) {
					t.Errorf("%q does not say %q", got, part)
				}
			}
		})
	}
	both := state.NetworkPolicy{Kind: state.PolicyCiliumClusterwide, Name: "p", Ingress: peer("k8s:app"), IngressDeny: peer("k8s:app")}
	if got := Unmatchable(mustFilter(t, "!app"), []state.NetworkPolicy{both}); len(got) != 2 || got[0].Policy != "ccnp/p" ||
		!strings.Contains(got[0].Fields[0], "ingress[0]") || !strings.Contains(got[1].Fields[0], "ingressDeny[0]") {
		t.Errorf("%+v", got)
	}
}

func TestUnmatchableOrder(t *testing.T) {
	rules := peers(state.PolicyPeer{Pods: &state.Selector{MatchLabels: map[string]string{"c": "", "b": "", "a": ""}}, Namespaces: match("b")})
	filter := mustFilter(t, `!a !b !c !io\.cilium\.k8s\.namespace\.labels`)
	for range 20 { // maps give another order each time
		var got []string
		for _, f := range Unmatchable(filter, []state.NetworkPolicy{
			{Namespace: "z", Name: "z", IsolatesIngress: true, Ingress: rules}, {Namespace: "a", Name: "a", IsolatesEgress: true, Egress: rules},
		}) {
			got = append(got, fmt.Sprint(f.Policy, " ", f.Key, " ", f.Namespace))
		}
		if want := []string{
			"a/a a false", "a/a b false", "a/a b true", "a/a c false",
			"z/z a false", "z/z b false", "z/z b true", "z/z c false",
		}; !slices.Equal(got, want) {
			t.Fatalf("%q", got)
		}
	}
}

// Unmatchable and the filter agree: what is reported is what no identity takes from
// a pod.
func TestUnmatchableMeansAbsent(t *testing.T) {
	keys := []string{
		"app", "tier", "pod-template-hash", "kubernetes.io/os", "app.kubernetes.io/name", "io.cilium.k8s.own", "io.cilium.k8s.policy.serviceaccount",
		"io.kubernetes.pod.namespace", "io.cilium.k8s.policy.cluster",
	}
	for _, items := range []string{"", "app", "!app", "app$ !kubernetes", ".*", `!app\.kubernetes !io\.cilium\.k8s\.policy\.cluster`} {
		filter := mustFilter(t, items)
		for _, key := range keys {
			p := pod("shop", "a", key+"=mine")
			p.ServiceAccount = "s"
			labels, _ := Of(p, state.Namespace{Labels: map[string]string{"team": "a"}}, "west", filter)
			taken := labels["k8s:"+key] == "mine"
			got := Unmatchable(filter, []state.NetworkPolicy{{IsolatesIngress: true, Ingress: peers(state.PolicyPeer{Pods: match(key)})}})
			if taken == (len(got) > 0) {
				t.Errorf("labels=%q: %s in the identity: %v, findings %+v", items, key, taken, got)
			}
		}
	}
}

func pod(namespace, name string, labels ...string) state.Pod {
	p := state.Pod{Ref: state.PodRef{Namespace: namespace, Name: name}, Labels: map[string]string{}}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		p.Labels[key] = value
	}
	return p
}

func TestUnlabelled(t *testing.T) {
	var jobs []state.Pod
	for i := range maxValues + 1 {
		jobs = append(jobs, pod("batch", fmt.Sprintf("run-%02d", i), "kind=batch", fmt.Sprintf("run-id=%d", i)))
	}
	refs := func(pods ...state.Pod) []state.PodRef {
		var out []state.PodRef
		for _, p := range pods {
			out = append(out, p.Ref)
		}
		return out
	}
	webs := []state.Pod{
		pod("shop", "web-1", "tier=web", "pod-template-hash=1"), pod("shop", "web-2", "tier=web", "pod-template-hash=2"),
	}
	db := pod("shop", "db-0", "tier=db", "pod-template-hash=1")
	for _, tc := range []struct {
		name, items string
		pods        []state.Pod
		want        []Group
	}{
		{"no labels", "app", []state.Pod{pod("shop", "bare")}, nil},
		{"labels that are not the pod's own", "app", []state.Pod{pod("shop", "bare", "io.cilium.k8s.x=1")}, nil},
		{"one label is kept", "app", []state.Pod{pod("shop", "a", "app=a", "tier=web")}, nil},
		{"default filter", "", append(webs, db), nil},
		{
			"by owner", "app",
			[]state.Pod{webs[1], db, webs[0], pod("aaa", "web-1", "tier=web", "pod-template-hash=1")},
			[]Group{
				{"aaa", map[string]string{"tier": "web", "pod-template-hash": "1"}, nil, []state.PodRef{{Namespace: "aaa", Name: "web-1"}}},
				{"shop", map[string]string{"tier": "db", "pod-template-hash": "1"}, nil, refs(db)},
				{"shop", map[string]string{"tier": "web"}, []string{"pod-template-hash"}, refs(webs...)},
			},
		},
		{"other keys, other group", "app", []state.Pod{pod("s", "a", "x=1"), pod("s", "b", "x=1", "y=1")}, []Group{
			{"s", map[string]string{"x": "1"}, nil, []state.PodRef{{Namespace: "s", Name: "a"}}},
			{"s", map[string]string{"x": "1", "y": "1"}, nil, []state.PodRef{{Namespace: "s", Name: "b"}}},
		}},
		{"a value for each pod", "app", jobs, []Group{{"batch", map[string]string{"kind": "batch"}, []string{"run-id"}, refs(jobs...)}}},
		{"only labels of Kubernetes", "", []state.Pod{pod("s", "a", "pod-template-hash=1"), pod("s", "b", "pod-template-hash=2")}, []Group{
			{"s", map[string]string{}, []string{"pod-template-hash"}, []state.PodRef{{Namespace: "s", Name: "a"}, {Namespace: "s", Name: "b"}}},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Unlabelled(mustFilter(t, tc.items), tc.pods); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
	if got := Unlabelled(mustFilter(t, "app"), jobs[:maxValues]); len(got) != maxValues {
		t.Errorf("%d groups of %d values", len(got), maxValues)
	}
}
