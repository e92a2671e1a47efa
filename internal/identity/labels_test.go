package identity

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/placid-net/placid/internal/state"
)

var (
	web = state.Pod{
		Ref: state.PodRef{Namespace: "shop", Name: "web-5d4-x"}, ServiceAccount: "web",
		Labels: map[string]string{
			"app": "web", "pod-template-hash": "5d4",
			// What a pod must not be able to claim.
			"io.cilium.k8s.policy.serviceaccount": "admin", "io.cilium.k8s.policy.cluster": "other",
			"io.cilium.k8s.namespace.labels.team": "root", "io.kubernetes.pod.namespace": "kube-system",
		},
		NamedPorts: []state.NamedPort{
			{Name: "metrics", Protocol: state.ProtocolTCP, Port: 9090},
			{Name: "dns", Protocol: state.ProtocolUDP, Port: 53},
			{Name: "dns", Protocol: state.ProtocolTCP, Port: 53},
			{Name: "metrics", Protocol: state.ProtocolTCP, Port: 9090},
		},
	}
	shop = state.Namespace{Name: "shop", Labels: map[string]string{"team": "a", "kubernetes.io/metadata.name": "shop"}}
)

func TestPodLabels(t *testing.T) {
	want := map[string]string{
		"k8s:app":                                                        "web",
		"k8s:pod-template-hash":                                          "5d4",
		"k8s:io.kubernetes.pod.namespace":                                "shop",
		"k8s:io.cilium.k8s.policy.cluster":                               "west",
		"k8s:io.cilium.k8s.namespace.labels.team":                        "a",
		"k8s:io.cilium.k8s.policy.serviceaccount":                        "web",
		"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name": "shop",
	}
	if got := PodLabels(web, shop, "west"); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	bare := state.Pod{Ref: state.PodRef{Namespace: "shop", Name: "bare"}}
	want = map[string]string{"k8s:io.kubernetes.pod.namespace": "shop", "k8s:io.cilium.k8s.policy.cluster": "west"}
	if got := PodLabels(bare, state.Namespace{Name: "shop"}, "west"); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestOfAndKey(t *testing.T) {
	before := slices.Clone(web.NamedPorts)
	labels, ports := Of(web, shop, "west", mustFilter(t, ""))
	wantPorts := []state.NamedPort{
		{Name: "dns", Protocol: state.ProtocolTCP, Port: 53},
		{Name: "dns", Protocol: state.ProtocolUDP, Port: 53},
		{Name: "metrics", Protocol: state.ProtocolTCP, Port: 9090},
	}
	if _, ok := labels["k8s:pod-template-hash"]; ok || len(labels) != 6 || !slices.Equal(ports, wantPorts) {
		t.Errorf("%v %v", labels, ports)
	}
	if !slices.Equal(web.NamedPorts, before) {
		t.Error("Of changed the pod's ports")
	}
	const want = "k8s:app=web;" +
		"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop;" +
		"k8s:io.cilium.k8s.namespace.labels.team=a;" +
		"k8s:io.cilium.k8s.policy.cluster=west;" +
		"k8s:io.cilium.k8s.policy.serviceaccount=web;" +
		"k8s:io.kubernetes.pod.namespace=shop;" +
		"gen:io.cilium.k8s.named-ports=dns.TCP.53_dns.UDP.53_metrics.TCP.9090;"
	if got := Key(labels, ports); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := Key(labels, []state.NamedPort{ports[2], ports[0], ports[1]}); got != want {
		t.Errorf("with the ports in another order: %s", got)
	}
	if got := Key(labels, nil); got == want || strings.Contains(got, "gen:") {
		t.Errorf("without ports: %s", got)
	}
	if got := Key(nil, nil); got != "" {
		t.Errorf("nothing: %q", got)
	}
}

// Two pods have the same key exactly if they have the same labels after the filter
// and the same named ports.
func TestKeyOracle(t *testing.T) {
	filter := mustFilter(t, "!run-id")
	pods := rapid.Custom(func(t *rapid.T) state.Pod {
		p := state.Pod{Ref: state.PodRef{Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")}}
		p.ServiceAccount = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "account")
		p.Labels = rapid.MapOfN(rapid.SampledFrom([]string{"a", "a.b", "b", "run-id"}), rapid.SampledFrom([]string{"", "a", "b"}), 0, 2).Draw(t, "labels")
		p.NamedPorts = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) state.NamedPort {
			return state.NamedPort{
				Name:     rapid.SampledFrom([]string{"a", "a-b"}).Draw(t, "name"),
				Protocol: rapid.SampledFrom([]state.Protocol{state.ProtocolTCP, state.ProtocolUDP}).Draw(t, "protocol"),
				Port:     rapid.SampledFrom([]uint16{1, 11}).Draw(t, "port"),
			}
		}), 0, 2).Draw(t, "ports")
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := pods.Draw(t, "a"), pods.Draw(t, "b")
		labelsA, portsA := Of(a, state.Namespace{}, "", filter)
		labelsB, portsB := Of(b, state.Namespace{}, "", filter)
		set := func(ports []state.NamedPort) map[state.NamedPort]bool {
			out := map[state.NamedPort]bool{}
			for _, p := range ports {
				out[p] = true
			}
			return out
		}
		want := a.Ref.Namespace == b.Ref.Namespace && a.ServiceAccount == b.ServiceAccount && maps.Equal(set(a.NamedPorts), set(b.NamedPorts))
		for _, key := range []string{"a", "a.b", "b"} {
			valueA, hasA := a.Labels[key]
			valueB, hasB := b.Labels[key]
			want = want && valueA == valueB && hasA == hasB
		}
		if got := Key(labelsA, portsA) == Key(labelsB, portsB); got != want {
			t.Fatalf("%q and %q", Key(labelsA, portsA), Key(labelsB, portsB))
		}
	})
}

func TestReserved(t *testing.T) {
	for id, want := range map[uint32]string{
		0: "unknown", 1: "host", 2: "world", 3: "unmanaged", 4: "health", 5: "init", 6: "remote-node", 7: "kube-apiserver", 8: "ingress",
	} {
		if got, ok := Reserved(id); got != want || !ok {
			t.Errorf("%d is %q, want %q", id, got, want)
		}
	}
	for _, id := range []uint32{9, 255, 256, state.IdentityMax} {
		if got, ok := Reserved(id); got != "" || ok {
			t.Errorf("%d is %q", id, got)
		}
	}
}

func TestFormat(t *testing.T) {
	labels, ports := Of(web, shop, "west", mustFilter(t, ""))
	labels["reserved:ingress"] = ""
	for _, tc := range []struct {
		id   state.Identity
		want string
	}{
		{state.Identity{ID: 1}, "1 (host)"},
		{state.Identity{ID: 300}, "300 (no labels)"},
		{state.Identity{ID: 300, Labels: map[string]string{"k8s:io.kubernetes.pod.namespace": "shop", "k8s:app": "web"}}, "300 (namespace shop, app=web)"},
		{state.Identity{ID: 4711, Labels: labels, NamedPorts: ports[:1]}, "4711 (namespace shop, app=web, service account web, " +
			"namespace label kubernetes.io/metadata.name=shop, namespace label team=a, reserved:ingress=, port dns.TCP.53)"},
		{
			state.Identity{ID: 300, NamedPorts: []state.NamedPort{{Name: "x", Protocol: 47}, {Name: "w", Port: 1}, {Name: "s", Protocol: state.ProtocolSCTP, Port: 2}}},
			"300 (port s.SCTP.2, port w.ANY.1, port x.47.0)",
		},
	} {
		if got := Format(tc.id); got != tc.want {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}

func TestTable(t *testing.T) {
	labels := func(app string) map[string]string { return map[string]string{"k8s:app": app} }
	table := NewTable()
	check := func(when string, want map[string]uint32, ids ...uint32) {
		t.Helper()
		for app, id := range want {
			got, ok := table.Lookup("k8s:app=" + app + ";")
			if ok != (id != 0) || got.ID != id {
				t.Errorf("%s: %s is %d, %v, want %d", when, app, got.ID, ok, id)
			}
		}
		var all []uint32
		for _, id := range table.All() {
			all = append(all, id.ID)
			if got, ok := table.ByID(id.ID); !ok || !reflect.DeepEqual(got, id) {
				t.Errorf("%s: ByID(%d) = %+v", when, id.ID, got)
			}
		}
		if !slices.Equal(all, ids) || table.Len() != len(ids) {
			t.Errorf("%s: %v, want %v", when, all, ids)
		}
	}
	check("empty", map[string]uint32{"a": 0})
	table.Upsert(state.Identity{ID: 300, Labels: labels("a")})
	table.Upsert(state.Identity{ID: 299, Labels: labels("a")})
	table.Upsert(state.Identity{ID: 301, Labels: labels("a")})
	table.Upsert(state.Identity{ID: 400, Labels: labels("b")})
	check("three of one", map[string]uint32{"a": 299, "b": 400}, 299, 300, 301, 400)
	table.Upsert(state.Identity{ID: 299, Labels: labels("c")})
	check("other labels for a number", map[string]uint32{"a": 300, "c": 299}, 299, 300, 301, 400)
	table.Upsert(state.Identity{ID: 300, Labels: labels("a")})
	check("the same again", map[string]uint32{"a": 300}, 299, 300, 301, 400)
	table.Delete(300)
	table.Delete(300)
	table.Delete(5)
	check("one deleted", map[string]uint32{"a": 301, "b": 400, "c": 299}, 299, 301, 400)
	table.Delete(301)
	table.Delete(299)
	table.Delete(400)
	check("all deleted", map[string]uint32{"a": 0, "b": 0, "c": 0})
	if len(table.byKey) > 0 {
		t.Errorf("keys are left: %v", table.byKey)
	}
	if _, ok := table.ByID(301); ok {
		t.Error("a deleted identity is found")
	}
}
