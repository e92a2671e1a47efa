package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/ipam"
	"github.com/placid-net/placid/internal/testutil"
)

// startAPIServer runs a real kube-apiserver with etcd.
func startAPIServer(t *testing.T) *rest.Config {
	t.Helper()
	env := &envtest.Environment{BinaryAssetsDirectory: testutil.APIServerBinaries(t)}
	rc, err := env.Start()
	mustDo(t, err)
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	rc.QPS, rc.Burst = 500, 500
	return rc
}

// running is an operator in a goroutine.
type running struct {
	stop context.CancelFunc
	done chan struct{}
	err  error
}

func runOperator(t *testing.T, rc *rest.Config, pools ...ipam.Pool) *running {
	t.Helper()
	o, err := New(Config{IPAM: IPAMClusterPool, Pools: pools}, rc, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	mustDo(t, err)
	return runInBackground(t, o)
}

func runInBackground(t *testing.T, o *Operator) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = o.Run(ctx)
	}()
	t.Cleanup(func() { r.end(t) })
	return r
}

// end stops the operator and waits for it.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case <-r.done:
		if r.err != nil {
			t.Errorf("operator ended with %v", r.err)
		}
	case <-time.After(time.Minute):
		t.Error("the operator does not end")
	}
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for range 600 {
		if err = check(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err)
}

func TestOnAPIServer(t *testing.T) {
	rc := startAPIServer(t)
	t.Run("life of a cluster", func(t *testing.T) { lifeOfACluster(t, rc) })
	t.Run("identities", func(t *testing.T) { identitiesOnAPIServer(t, rc) })
	t.Run("status of policies", func(t *testing.T) { policyStatusOnAPIServer(t, rc) })
	t.Run("lost lease", func(t *testing.T) { lostLease(t, rc) })
}

// lifeOfACluster: two operators start on an empty API server, nodes join, the
// leader goes, the pool runs out, a node leaves and room appears.
func lifeOfACluster(t *testing.T, rc *rest.Config) {
	scheme, err := newScheme()
	mustDo(t, err)
	c, err := client.New(rc, client.Options{Scheme: scheme})
	mustDo(t, err)
	pools := []ipam.Pool{pool("10.0.0.0/18", 24), pool("fd00::/114", 120)} // 64 nodes

	nodes := names(64)
	addNodes(t, c, nodes[:40]...)
	first := runOperator(t, rc, pools...)
	complete := func(nodes []string) func() error {
		return func() error {
			got := all(t, c)
			for _, n := range nodes {
				if len(got[n]) != 2 {
					return fmt.Errorf("node %s has %v", n, got[n])
				}
			}
			return nil
		}
	}
	eventually(t, "the definition of PlacidNode", func() error { return c.List(t.Context(), &v1alpha1.PlacidNodeList{}) })
	eventually(t, "first nodes", complete(nodes[:40]))
	before := all(t, c)

	second := runOperator(t, rc, pools...)
	addNodes(t, c, nodes[40:50]...)
	first.end(t) // gives the lease back
	addNodes(t, c, nodes[50:]...)
	eventually(t, "nodes after the change of leader", complete(nodes))
	for n, cidrs := range before {
		if got := all(t, c)[n]; !slices.Equal(got, cidrs) {
			t.Errorf("node %s had %v, now %v", n, cidrs, got)
		}
	}

	addNodes(t, c, "late")
	eventually(t, "a full pool", func() error {
		if pn := read(t, c, "late"); pn == nil || pn.Status.OperatorError == "" {
			return fmt.Errorf("no error in %+v", pn)
		}
		var list eventsv1.EventList
		mustDo(t, c.List(t.Context(), &list))
		if !slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Reason == reasonExhausted && e.Regarding.Name == "late" }) {
			return fmt.Errorf("no event among %d", len(list.Items))
		}
		return nil
	})
	deleteNode(t, c, nodes[7])
	eventually(t, "room for the last", func() error {
		if read(t, c, nodes[7]) != nil {
			return fmt.Errorf("the PlacidNode of a deleted Node is there")
		}
		if pn := mustRead(t, c, "late"); pn.Status.OperatorError != "" {
			return fmt.Errorf("still %q", pn.Status.OperatorError)
		}
		return complete([]string{"late"})()
	})
	second.end(t)
}

// lostLease takes the lease from the leader, which must end with an error. Its
// controllers may live on for a while, as the process is to exit then: they must
// not write to the output of a test that has ended.
func lostLease(t *testing.T, rc *rest.Config) {
	scheme, err := newScheme()
	mustDo(t, err)
	c, err := client.New(rc, client.Options{Scheme: scheme})
	mustDo(t, err)
	o, err := New(Config{IPAM: IPAMKubernetes}, rc, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	mustDo(t, err)
	done := make(chan error, 1)
	go func() { done <- o.Run(t.Context()) }()

	lease := &coordinationv1.Lease{}
	held := func() error {
		err := c.Get(t.Context(), client.ObjectKey{Namespace: "kube-system", Name: operatorName}, lease)
		if err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
			err = errors.New("nobody holds the lease")
		}
		return err
	}
	eventually(t, "election", held)
	eventually(t, "theft", func() error {
		mustDo(t, held())
		lease.Spec.HolderIdentity = new("thief")
		lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now().Add(time.Hour)}
		return c.Update(t.Context(), lease)
	})
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "leader election lost") {
			t.Errorf("ended with %v, want that the election is lost", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it still runs without its lease")
	}
}
