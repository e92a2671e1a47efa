package policy

import (
	"fmt"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

const (
	benchPolicies   = 1000
	benchNamespaces = 100
	benchSubjects   = 100
	benchApps       = 10 // in each namespace
)

// benchEngine has a node's pods, and policies that each select one app of one
// namespace, allow another app of it, a team's namespaces, and a block.
func benchEngine(b *testing.B, identities int) *Engine {
	b.Helper()
	e := NewEngine(Config{})
	for i := range benchPolicies {
		e.SetPolicy(benchPolicy(i, 80))
	}
	for i := range benchSubjects {
		e.SetSubject(benchSubject(i))
	}
	for i := range identities {
		e.SetIdentity(benchIdentity(i))
	}
	e.Take()
	return e
}

func benchPolicy(i int, port uint16) state.NetworkPolicy {
	namespace, app := i/benchApps, i%benchApps
	team := state.PolicyPeer{Namespaces: new(eq("team", fmt.Sprint("team", namespace))), Pods: new(eq("tier", "gateway"))}
	return state.NetworkPolicy{
		Namespace: fmt.Sprint("ns", namespace), Name: fmt.Sprint("p", app), Subject: eq("app", fmt.Sprint("app", app)), IsolatesIngress: true,
		Ingress: []state.PolicyRule{
			allow(from(pods("app", fmt.Sprint("app", (app+1)%benchApps))), tcp(port)),
			allow(from(team), tcp(port), tcp(443)),
			allow(from(cidr(fmt.Sprintf("10.%d.0.0/16", namespace))), tcp(port)),
		},
	}
}

// benchSubject is one of a few apps of all namespaces.
func benchSubject(i int) Subject {
	return Subject{
		Endpoint: uint32(i) + 1, Pod: state.PodRef{Namespace: fmt.Sprint("ns", i%benchNamespaces), Name: fmt.Sprint("pod", i)},
		Labels: map[string]string{"app": fmt.Sprint("app", i%benchApps), "pod": fmt.Sprint(i)},
	}
}

// benchIdentity is one of the identities that a namespace has: they grow with the
// namespaces beyond benchNamespaces, not within them.
func benchIdentity(i int) state.Identity {
	namespace, app := i/benchApps, i%benchApps
	return state.Identity{ID: state.IdentityMin + uint32(i), Labels: map[string]string{
		namespaceKey:                   fmt.Sprint("ns", namespace),
		namespaceLabelsPrefix + "team": fmt.Sprint("team", namespace),
		"k8s:app":                      fmt.Sprint("app", app),
		"k8s:tier":                     "backend",
	}}
}

func benchTotals(b *testing.B, f func(b *testing.B, e *Engine)) {
	b.Helper()
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("identities=%d", n), func(b *testing.B) {
			e := benchEngine(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			f(b, e)
		})
	}
}

// BenchmarkIdentity has an identity come and go that sets of this node select.
func BenchmarkIdentity(b *testing.B) {
	benchTotals(b, func(b *testing.B, e *Engine) {
		x := benchIdentity(1)
		x.ID = state.IdentityMax
		for b.Loop() {
			e.SetIdentity(x)
			if u := e.Take(); len(u.Grown) == 0 {
				b.Fatal("no set selects the identity")
			}
			e.RemoveIdentity(x.ID)
			e.Take()
		}
	})
}

// BenchmarkSubject has a pod come and go whose set nobody else has.
func BenchmarkSubject(b *testing.B) {
	benchTotals(b, func(b *testing.B, e *Engine) {
		s := benchSubject(7)
		s.Endpoint, s.Labels = 9999, map[string]string{"app": "app3"}
		for b.Loop() {
			e.SetSubject(s)
			if u := e.Take(); len(u.Sets) != 1 {
				b.Fatal("the pod has no set of its own")
			}
			e.RemoveSubject(s.Endpoint)
			e.Take()
		}
	})
}

// BenchmarkPolicy changes a policy that selects a pod of this node.
func BenchmarkPolicy(b *testing.B) {
	benchTotals(b, func(b *testing.B, e *Engine) {
		port := uint16(1)
		for b.Loop() {
			port = port%1000 + 1
			e.SetPolicy(benchPolicy(11, port))
			if u := e.Take(); len(u.Sets) != 1 {
				b.Fatal("the policy selects no pod")
			}
		}
	})
}

// BenchmarkStart builds everything from nothing.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		benchEngine(b, 10000)
	}
}
