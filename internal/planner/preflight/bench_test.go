package preflight

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/state"
)

// The size that is checked in a few seconds.
const (
	benchPods       = 50_000
	benchPolicies   = 2_000
	benchNamespaces = 250
	benchApps       = 10 // in each namespace
	benchNodes      = 500
)

// large makes a cluster as people have them: every namespace closes itself, opens
// what it needs, lets its apps ask the DNS, and some policies of the whole cluster
// deny what nobody should do.
func large() *snapshot.Snapshot {
	s := &snapshot.Snapshot{ClusterName: "default", Origins: map[snapshot.Object]snapshot.Origin{}}
	for i := range benchNodes {
		s.Nodes = append(s.Nodes, snapshot.Node{
			Name: fmt.Sprintf("node%d", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})}, Memory: 64 << 30,
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
		})
	}
	for i := range benchNamespaces {
		name := fmt.Sprintf("team%d", i)
		s.Origins[snapshot.Object{Kind: "Namespace", Name: name}] = snapshot.Origin{}
		s.Namespaces = append(s.Namespaces, state.Namespace{Name: name, Labels: map[string]string{
			"kubernetes.io/metadata.name": name, "stage": []string{"prod", "test"}[i%2],
		}})
	}
	for i := range benchPods {
		s.Pods = append(s.Pods, largePod(i))
	}
	for i := range benchPolicies {
		s.Policies = append(s.Policies, largePolicy(i))
	}
	return s
}

func largePod(i int) snapshot.Pod {
	app := fmt.Sprintf("app%d", i/benchNamespaces%benchApps)
	ports := []state.NamedPort{{Name: "http", Protocol: state.ProtocolTCP, Port: 8080}}
	return snapshot.Pod{
		Pod: state.Pod{
			Ref: state.PodRef{Namespace: fmt.Sprintf("team%d", i%benchNamespaces), Name: fmt.Sprintf("%s-%d", app, i)},
			Labels: map[string]string{
				"app": app, "tier": []string{"web", "api", "db"}[i/benchNamespaces%3], "pod-template-hash": fmt.Sprintf("%x", i%977),
				"version": fmt.Sprintf("1.%d", i%7),
			},
			ServiceAccount: app, NamedPorts: ports,
		},
		Ports: ports,
		Node:  fmt.Sprintf("node%d", i%benchNodes), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i % benchNodes >> 8), byte(i % benchNodes), byte(i / benchNodes)})},
	}
}

func largePolicy(i int) state.NetworkPolicy {
	eq := func(key, value string) *state.Selector {
		return &state.Selector{MatchLabels: map[string]string{key: value}}
	}
	tcp := func(port uint16) []state.PolicyPort {
		return []state.PolicyPort{{Protocol: state.ProtocolTCP, Port: port}}
	}
	p := state.NetworkPolicy{Namespace: fmt.Sprintf("team%d", i%benchNamespaces), Name: fmt.Sprintf("p%d", i), IsolatesIngress: true}
	app, other := fmt.Sprintf("app%d", i%benchApps), fmt.Sprintf("team%d", (i+1)%benchNamespaces)
	switch kind := i / benchNamespaces % 4; {
	case i%200 == 199:
		p.Kind, p.Namespace, p.IsolatesIngress = state.PolicyCiliumClusterwide, "", false
		p.EgressDeny = []state.PolicyRule{{Peers: []state.PolicyPeer{{Block: &state.IPBlock{CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, byte(i), 254}), 32), Outside: true}}}}}
	case kind == 0:
		p.Ingress = []state.PolicyRule{{Peers: []state.PolicyPeer{{Pods: &state.Selector{}}}}}
	case kind == 1:
		p.Subject = *eq("app", app)
		p.Ingress = []state.PolicyRule{
			{Peers: []state.PolicyPeer{{Namespaces: eq("kubernetes.io/metadata.name", other), Pods: eq("tier", "web")}}, Ports: tcp(8080)},
			{Peers: []state.PolicyPeer{{Block: &state.IPBlock{CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)}}}, Ports: []state.PolicyPort{{Protocol: state.ProtocolTCP, Name: "http"}}},
		}
	case kind == 2:
		p.Subject = *eq("tier", "db")
		p.Ingress = []state.PolicyRule{{Peers: []state.PolicyPeer{{Namespaces: eq("stage", "prod"), Pods: eq("tier", "api")}}, Ports: tcp(8080)}}
	default:
		p.Subject, p.IsolatesIngress, p.IsolatesEgress = *eq("app", app), false, true
		p.Egress = []state.PolicyRule{
			{Peers: []state.PolicyPeer{{Namespaces: &state.Selector{}}}, Ports: []state.PolicyPort{{Protocol: state.ProtocolUDP, Port: dnsPort}}},
			{Peers: []state.PolicyPeer{{Block: &state.IPBlock{CIDR: netip.MustParsePrefix("0.0.0.0/0"), Except: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}, Ports: tcp(443)},
		}
	}
	return p
}

// BenchmarkCheck checks a cluster of 50,000 pods and 2,000 policies.
func BenchmarkCheck(b *testing.B) {
	s := large()
	for _, platform := range []snapshot.Platform{snapshot.Placid, snapshot.Cilium} {
		b.Run(string(platform), func(b *testing.B) {
			b.ReportAllocs()
			findings := 0
			for b.Loop() {
				findings = len(Check(s, Options{For: platform}))
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-sys")
			b.ReportMetric(float64(findings), "findings")
		})
	}
}
