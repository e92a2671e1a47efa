package preflight

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/planner/objects"
	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

func load(t *testing.T, paths ...string) *snapshot.Snapshot {
	t.Helper()
	s, err := objects.Load(t.Context(), objects.Options{Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lines(findings []Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, line(f))
	}
	return out
}

// has fails unless a finding with the line is there whose message has the words.
func has(t *testing.T, findings []Finding, want, words string) {
	t.Helper()
	for _, f := range findings {
		if line(f) == want && strings.Contains(f.Message, words) {
			return
		}
	}
	t.Errorf("no finding %q with %q in\n%s", want, words, strings.Join(lines(findings), "\n"))
}

// TestSample finds the mistakes in the sample cluster, and the same ones again.
func TestSample(t *testing.T) {
	s := load(t, "../../../examples/cluster")
	found := Check(s, Options{})
	if again := Check(s, Options{}); !reflect.DeepEqual(found, again) {
		t.Error("the second time it finds something else")
	}
	has(t, found, "warning PLC-P205 CiliumNetworkPolicy reviews/allow-recommendations spec.ingress[0].fromEndpoints[0]", "did you mean recommendations?")
	has(t, found, "warning PLC-P401 CiliumNetworkPolicy payments/staging-may-test spec.ingress[0]", "payments/production-only spec.ingressDeny[0]")
	has(t, found, "warning PLC-P202 NetworkPolicy catalog/allow-search spec.ingress[0].from[0]", "did you mean app.kubernetes.io/name=search-api?")
	has(t, found, "warning PLC-P305 NetworkPolicy shipping/allow-cluster spec.ingress[0].from[0].ipBlock", "10.244.0.0/16")
	for _, f := range found {
		if f.Origin.File == "" && f.Object.Kind != "" {
			t.Errorf("%s does not say where it was read", line(f))
		}
	}
	if n := Count(found).Errors; n > 0 {
		t.Errorf("%d errors for the network that the cluster runs: %v", n, lines(found))
	}
	has(t, Check(s, Options{For: snapshot.Placid}), "error PLC-P102 CiliumNetworkPolicy fraud/ask-the-bureau spec.egress[0].toFQDNs", "with Placid")
}

// TestProblems checks that nothing that could not be read is taken as fine.
func TestProblems(t *testing.T) {
	policy := Object{Kind: "CiliumNetworkPolicy", Namespace: "a", Name: "p"}
	at := snapshot.Origin{File: "f.yaml", Document: 3}
	s := &snapshot.Snapshot{Problems: []snapshot.Problem{
		{Severity: snapshot.Fatal, Origin: at, Message: "the YAML cannot be read: line 7"},
		{Severity: snapshot.Doubt, Origin: at, Object: snapshot.Object(policy), Field: "spec.ingres", Message: "no such field is known; it is not read"},
		{Severity: snapshot.Doubt, Object: snapshot.Object{Kind: "Node", Name: "n"}, Field: "spec.x", Message: "no such field is known; it is not read"},
		{Severity: snapshot.Doubt, Object: snapshot.Object{Kind: "Foo"}, Message: "3 objects of the kind Foo (a/v1) are not read"},
		{Severity: snapshot.Doubt, Object: snapshot.Object{Kind: "GlobalNetworkPolicy"}, Message: "an object of the kind GlobalNetworkPolicy is not read: neither Placid nor Cilium enforces it, and no verdict counts it in"},
		{Severity: snapshot.Doubt, Object: snapshot.Object(policy), Field: "description", Message: "no such field is known; it is not read"},
	}}
	found := Check(s, Options{For: snapshot.Cilium, Target: Version{1, 20}})
	want := []string{
		"error PLC-P001",
		"note PLC-P005",
		"error PLC-P002 CiliumNetworkPolicy a/p description",
		"warning PLC-P701 CiliumNetworkPolicy a/p description",
		"error PLC-P002 CiliumNetworkPolicy a/p spec.ingres",
		"note PLC-P004 Foo",
		"warning PLC-P006 GlobalNetworkPolicy",
		"warning PLC-P002 Node n spec.x",
	}
	got := lines(found)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if AtLeast(found, Error) != 3 || Count(found) != (Counts{3, 3, 2}) {
		t.Errorf("counts: %d, %+v", AtLeast(found, Error), Count(found))
	}
}

func TestSettings(t *testing.T) {
	for _, tc := range []struct {
		name          string
		runs, isFor   snapshot.Platform
		settings      map[string]string
		want, message string
	}{
		{"old key", snapshot.Cilium, snapshot.Cilium, map[string]string{"tunnel": "vxlan"}, "warning PLC-P602 ConfigMap kube-system/cilium-config tunnel", "routing-mode"},
		{"old value", snapshot.Cilium, snapshot.Cilium, map[string]string{"kube-proxy-replacement": "strict"}, "warning PLC-P602 ConfigMap kube-system/cilium-config kube-proxy-replacement", "true for strict"},
		{"unknown", snapshot.Cilium, snapshot.Cilium, map[string]string{"enable-polcy": "never"}, "warning PLC-P601 ConfigMap kube-system/cilium-config enable-polcy", "not known"},
		{"refused by Placid", snapshot.Cilium, snapshot.Placid, map[string]string{"enable-wireguard": "true"}, "error PLC-P603 ConfigMap kube-system/cilium-config enable-wireguard", "does not encrypt"},
		{"not used by Placid", snapshot.Cilium, snapshot.Placid, map[string]string{"enable-tcx": "true"}, "note PLC-P604 ConfigMap kube-system/cilium-config enable-tcx", "tcx"},
		{"misspelt for Placid", snapshot.Placid, snapshot.Placid, map[string]string{"enable-polcy": "never"}, "error PLC-P603 ConfigMap kube-system/placid-config enable-polcy", "did you mean enable-policy?"},
		{"out of range for Placid", snapshot.Placid, snapshot.Placid, map[string]string{"mtu": "12"}, "error PLC-P603 ConfigMap kube-system/placid-config mtu", "allowed"},
		{"bad filter", snapshot.Cilium, snapshot.Cilium, map[string]string{"labels": "k8s:["}, "error PLC-P605 labels", "label filter"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			has(t, Check(&snapshot.Snapshot{Platform: tc.runs, Settings: tc.settings}, Options{For: tc.isFor}), tc.want, tc.message)
		})
	}
	good := map[string]string{"enable-policy": "default", "labels": "k8s:app", "routing-mode": "tunnel"}
	for _, f := range Check(&snapshot.Snapshot{Platform: snapshot.Cilium, Settings: good}, Options{}) {
		if f.Code != NotGiven {
			t.Errorf("good settings: %s: %s", line(f), f.Message)
		}
	}
	never := &snapshot.Snapshot{Platform: snapshot.Cilium, Settings: map[string]string{"enable-policy": "never"}, Policies: []state.NetworkPolicy{{Namespace: "a", Name: "p", IsolatesIngress: true}}}
	has(t, Check(never, Options{}), "warning PLC-P606 ConfigMap kube-system/cilium-config enable-policy", "never")
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]Version{"1.20": {1, 20}, "v1.19.3": {1, 19}, "1.20.0-pre.1": {}, "1": {}, "x.1": {}, "1.-2": {}, "": {}} {
		got, err := ParseVersion(text)
		if got != want || (err != nil) != (want == Version{}) || err != nil && !errors.Is(err, ErrVersion) {
			t.Errorf("ParseVersion(%q) = %v, %v", text, got, err)
		}
	}
	ports := func(port uint16) []state.NamedPort {
		return []state.NamedPort{{Name: "http", Protocol: state.ProtocolTCP, Port: port}}
	}
	pod := func(name string, port uint16) snapshot.Pod {
		return snapshot.Pod{Pod: state.Pod{Ref: state.PodRef{Namespace: "a", Name: name}, Labels: map[string]string{"app": "web"}, NamedPorts: ports(port)}, Ports: ports(port)}
	}
	s := &snapshot.Snapshot{Pods: []snapshot.Pod{pod("x", 80), pod("y", 8080), pod("z", 80)}}
	has(t, Check(s, Options{For: snapshot.Cilium, Target: Version{1, 20}}), "warning PLC-P701", "1 identity now, and 2 once")
	has(t, Check(s, Options{For: snapshot.Cilium, Target: Version{1, 19}}), "note PLC-P702", "of 1 change that is known")
	has(t, Check(s, Options{For: snapshot.Placid, Target: Version{1, 19}}), "note PLC-P702", "no version of Placid")
}

func TestRegions(t *testing.T) {
	prefix := netip.MustParsePrefix
	r := newRegions(map[netip.Prefix]bool{prefix("10.0.0.0/8"): true, prefix("10.1.0.0/16"): true, prefix("10.2.0.0/16"): true, prefix("192.0.2.0/24"): true})
	of := func(b state.IPBlock) []string {
		s := newSet(len(r.prefixes))
		r.add(s, 0, &b)
		var out []string
		for i := range s.all() {
			out = append(out, r.prefixes[i].String())
		}
		return out
	}
	for _, tc := range []struct {
		block state.IPBlock
		want  []string
	}{
		{state.IPBlock{CIDR: prefix("10.0.0.0/8")}, []string{"10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"}},
		{state.IPBlock{CIDR: prefix("10.0.0.0/8"), Except: []netip.Prefix{prefix("10.1.0.0/16")}}, []string{"10.0.0.0/8", "10.2.0.0/16"}},
		{state.IPBlock{CIDR: prefix("0.0.0.0/0"), Except: []netip.Prefix{prefix("10.0.0.0/8")}}, []string{"0.0.0.0/0", "192.0.2.0/24"}},
		{state.IPBlock{CIDR: prefix("::/0")}, []string{"::/0"}},
	} {
		if got := of(tc.block); !slices.Equal(got, tc.want) {
			t.Errorf("%v: %v, want %v", tc.block, got, tc.want)
		}
	}
}

func TestClosest(t *testing.T) {
	names := []string{"search-api", "search-worker", "web"}
	for text, want := range map[string]string{"serach-api": "search-api", "wbe": "web", "db": "", "payments": "", "search-workr": "search-worker"} {
		if got := closest(text, names); got != want {
			t.Errorf("closest(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestNaturally(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"x[2]", "x[10]", -1}, {"x[10]", "x[2]", 1}, {"x", "x", 0}, {"x", "x[1]", -1}, {"a2b3", "a2b20", -1}} {
		if got := naturally(tc.a, tc.b); got != tc.want {
			t.Errorf("naturally(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
