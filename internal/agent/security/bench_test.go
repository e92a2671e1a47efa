package security

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil/bubble"
)

// BenchmarkAdmit is what policies add to an ADD on a node of 110 pods: without
// any, and under 100 of them in a cluster of 1000 identities.
func BenchmarkAdmit(b *testing.B) {
	for _, policies := range []int{0, 100} {
		b.Run(fmt.Sprint(policies, " policies"), func(b *testing.B) {
			e, ctx := benchEnforcer(b, policies)
			ref := state.PodRef{Namespace: ns, Name: "new"}
			bubble.Must(b, e.cfg.Tables.UpsertPod(state.Pod{Ref: ref, Labels: map[string]string{"app": "5"}, ServiceAccount: "default"}))
			for b.Loop() {
				bubble.Must(b, e.Admit(ctx, state.Endpoint{ID: 1000, Pod: ref}))
				e.Forget(1000)
			}
		})
	}
}

func benchEnforcer(b *testing.B, policies int) (*Enforcer, context.Context) {
	b.Helper()
	tables, err := state.NewTables()
	bubble.Must(b, err)
	bubble.Must(b, tables.UpsertNamespace(state.Namespace{Name: ns}))
	for i := range 1000 {
		bubble.Must(b, tables.UpsertIdentity(state.Identity{ID: uint32(300 + i), Labels: map[string]string{
			"k8s:app": fmt.Sprint(i), "k8s:io.kubernetes.pod.namespace": ns,
			"k8s:io.cilium.k8s.policy.cluster": "default", "k8s:io.cilium.k8s.policy.serviceaccount": "default",
		}}))
	}
	for i := range policies {
		bubble.Must(b, tables.UpsertNetworkPolicy(state.NetworkPolicy{
			Namespace: ns, Name: fmt.Sprint(i), IsolatesIngress: true,
			Subject: state.Selector{MatchLabels: map[string]string{"app": fmt.Sprint(i)}},
			Ingress: []state.PolicyRule{{Peers: []state.PolicyPeer{{Pods: &state.Selector{MatchLabels: map[string]string{"app": fmt.Sprint(i + 1)}}}}}},
		}))
	}
	cluster := newFakeCluster()
	close(cluster.synced)
	e, err := New(Config{
		NodeName: here, ClusterName: "default", Mode: policy.ModeDefault, Interval: time.Hour, Tables: tables,
		Datapath: newFakeKernel(), Cluster: cluster, Meter: cluster, Log: slog.New(slog.DiscardHandler),
	})
	bubble.Must(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		bubble.Must(b, <-done)
	})
	for i := range 110 {
		ref := state.PodRef{Namespace: ns, Name: fmt.Sprint("pod-", i)}
		bubble.Must(b, tables.UpsertPod(state.Pod{Ref: ref, Labels: map[string]string{"app": fmt.Sprint(i)}, ServiceAccount: "default"}))
		bubble.Must(b, e.Admit(ctx, state.Endpoint{ID: uint32(i + 1), Pod: ref}))
	}
	return e, ctx
}
