package whatif

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// The size that a what-if must answer for in ten seconds.
const (
	benchPods       = 50_000
	benchPolicies   = 2_000
	benchNamespaces = 500
	benchApps       = 10 // in each namespace
	benchNodes      = 500
)

// large makes a cluster as people have them: every app has the labels that tools
// give it, every namespace closes itself and opens what it needs.
func large() *snapshot.Snapshot {
	s := &snapshot.Snapshot{ClusterName: "default"}
	for i := range benchNodes {
		s.Nodes = append(s.Nodes, snapshot.Node{Name: fmt.Sprintf("node%d", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})}})
	}
	for i := range benchNamespaces {
		name := fmt.Sprintf("team%d-%s", i/5, []string{"prod", "stage", "dev", "test", "ops"}[i%5])
		s.Namespaces = append(s.Namespaces, state.Namespace{Name: name, Labels: map[string]string{
			"kubernetes.io/metadata.name": name, "team": fmt.Sprintf("team%d", i/5), "stage": name[len(name)-4:],
		}})
	}
	for i := range benchPods {
		s.Pods = append(s.Pods, largePod(s, i))
	}
	perNamespace := benchPolicies / benchNamespaces
	for i := range benchNamespaces {
		for j := range perNamespace {
			s.Policies = append(s.Policies, largePolicy(s.Namespaces[i].Name, i, j))
		}
	}
	return s
}

func largePod(s *snapshot.Snapshot, i int) snapshot.Pod {
	namespace, n := i%benchNamespaces, i/benchNamespaces
	app := fmt.Sprintf("app%d", n%benchApps)
	revision := fmt.Sprintf("%x", (namespace*benchApps+n%benchApps)*7919)
	return snapshot.Pod{
		Pod: state.Pod{
			Ref: state.PodRef{Namespace: s.Namespaces[namespace].Name, Name: fmt.Sprintf("%s-%s-%d", app, revision, n)},
			Labels: map[string]string{
				"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": app + "-1.2.3",
				"tier": []string{"web", "api", "db"}[n%3], "pod-template-hash": revision, "build": fmt.Sprintf("%x", n%benchApps*31+namespace),
				"release": fmt.Sprintf("r%d", n%4), "team": fmt.Sprintf("team%d", namespace/5), "canary": fmt.Sprint(n%50 == 0),
			},
			ServiceAccount: app,
			NamedPorts:     []state.NamedPort{{Name: "http", Protocol: state.ProtocolTCP, Port: 8080}},
		},
		Node: s.Nodes[i%benchNodes].Name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
	}
}

// largePolicy is the first that closes a namespace to others, one that lets the
// gateways in, one for the database, or one that limits what an app may reach.
func largePolicy(namespace string, i, j int) state.NetworkPolicy {
	eq := func(kv ...string) *state.Selector {
		s := &state.Selector{MatchLabels: map[string]string{}}
		for k := 0; k < len(kv); k += 2 {
			s.MatchLabels[kv[k]] = kv[k+1]
		}
		return s
	}
	tcp := func(port uint16) []state.PolicyPort {
		return []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: port}}
	}
	p := state.NetworkPolicy{Namespace: namespace, Name: fmt.Sprintf("p%d", j), IsolatesIngress: true}
	switch j % 4 {
	case 0:
		p.Ingress = []state.PolicyRule{{Peers: []state.PolicyPeer{{Pods: &state.Selector{}}}}, {Peers: []state.PolicyPeer{{Namespaces: eq("team", fmt.Sprintf("team%d", i/5)), Pods: eq("canary", "false")}}, Ports: tcp(9000)}}
	case 1:
		p.Subject = *eq("tier", "web")
		p.Ingress = []state.PolicyRule{{
			Peers: []state.PolicyPeer{{Namespaces: eq("stage", "prod"), Pods: eq("app", "app1")}, {Block: &state.IPBlock{CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)}}},
			Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Name: "http"}},
		}}
	case 2:
		p.Subject = *eq("tier", "db")
		p.Ingress = []state.PolicyRule{{Peers: []state.PolicyPeer{{Pods: eq("tier", "api", "app.kubernetes.io/name", "app2")}}, Ports: tcp(5432)}}
	default:
		p.Subject, p.IsolatesIngress, p.IsolatesEgress = *eq("app", fmt.Sprintf("app%d", i%benchApps)), false, true
		p.Egress = []state.PolicyRule{
			{Peers: []state.PolicyPeer{{Namespaces: &state.Selector{}}}, Ports: []state.PolicyPort{{Protocol: state.ProtocolUDP, Port: 53}}},
			{Peers: []state.PolicyPeer{{Block: &state.IPBlock{CIDR: netip.MustParsePrefix("0.0.0.0/0"), Except: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}, Ports: tcp(443)},
		}
	}
	return p
}

// BenchmarkWhatIf answers for 50,000 pods and 2,000 policies: with a filter that
// changes no verdict, with one that does, and looking for the smallest.
func BenchmarkWhatIf(b *testing.B) {
	s := large()
	for name, o := range map[string]Options{
		"same":    {Labels: []string{"!build", "!release"}},
		"changes": {Labels: []string{"k8s:app$", "k8s:team$"}},
		"cilium":  {Labels: []string{"k8s:app$", "k8s:team$"}, For: snapshot.Cilium},
		"auto":    {Auto: true},
		"propose": {Propose: true},
	} {
		b.Run(name, func(b *testing.B) {
			if o.For == "" {
				o.For = snapshot.Placid
			}
			o.Limit = 100
			b.ReportAllocs()
			var peak uint64
			for b.Loop() {
				res, err := Run(b.Context(), s, o)
				if err != nil {
					b.Fatal(err)
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.Sys)
				if res.Now.Identities.Total == 0 {
					b.Fatal("no identities")
				}
				b.ReportMetric(float64(res.Verdicts.Changed), "changes")
				b.ReportMetric(float64(res.Verdicts.Groups), "groups")
			}
			b.ReportMetric(float64(peak)/(1<<20), "MiB-sys")
		})
	}
}
