package operator

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/ipam"
)

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func newStore(t tb, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithGlobalResourceVersionCounter().
		WithTypeConverters(managedfields.NewDeducedTypeConverter()). // cheaper than the default
		WithStatusSubresource(&v1alpha1.PlacidNode{}, &corev1.Node{}).Build()
}

// replica is an operator on a store, without the controller around it: what
// it wakes is queued in woken.
type replica struct {
	*reconciler
	t      tb
	pool   *clusterPool
	woken  map[string]bool
	events *events.FakeRecorder
}

func newReplica(t tb, store client.Client, pools ...ipam.Pool) *replica {
	r := &replica{t: t, woken: map[string]bool{}, events: events.NewFakeRecorder(10000)}
	wake := func(n string) { r.woken[n] = true }
	logger := slog.New(slog.DiscardHandler)
	r.reconciler = &reconciler{
		client: store, live: store, events: r.events, wake: wake, logger: logger, starved: newNameSet(),
		source: nodeCIDRs{},
	}
	usage := func() []ipam.PoolUsage { return nil }
	if pools != nil {
		r.pool = &clusterPool{
			pools: pools, cached: store, live: store, wake: wake, logger: logger, joining: newNameSet(),
			intents: intentStore{client: store, live: store, namespace: "kube-system"},
		}
		r.source, usage = r.pool, r.pool.usage
	}
	r.metrics = newMetrics(usage)
	return r
}

// step reconciles one node once.
func (r *replica) step(name string) error {
	delete(r.woken, name)
	_, err := r.Reconcile(context.Background(), requestFor(name))
	return err
}

// settle reconciles the named nodes and what that wakes until nothing fails,
// for at most some rounds.
func (r *replica) settle(names ...string) {
	r.t.Helper()
	todo := slices.Clone(names)
	var err error
	for range 50 {
		var again []string
		for _, n := range todo {
			if e := r.step(n); e != nil {
				again, err = append(again, n), e
			}
		}
		again = append(again, slices.Sorted(maps.Keys(r.woken))...)
		if len(again) == 0 {
			return
		}
		todo = again
	}
	r.t.Fatalf("does not settle: %v, last error %v", todo, err)
}

func node(name string, ips ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, ip := range ips {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	return n
}

func placidNode(name string, second int, cidrs ...string) *v1alpha1.PlacidNode {
	return &v1alpha1.PlacidNode{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(int64(second), 0)},
		Spec:       v1alpha1.PlacidNodeSpec{PodCIDRs: cidrs},
	}
}

func pool(cidr string, mask int) ipam.Pool {
	return ipam.Pool{CIDR: netip.MustParsePrefix(cidr), NodeMask: mask}
}

func read(t tb, store client.Client, name string) *v1alpha1.PlacidNode {
	t.Helper()
	pn, err := get(context.Background(), store, name, &v1alpha1.PlacidNode{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return pn
}

func mustRead(t tb, store client.Client, name string) *v1alpha1.PlacidNode {
	t.Helper()
	pn := read(t, store, name)
	if pn == nil {
		t.Fatalf("there is no PlacidNode %s", name)
	}
	return pn
}

// all returns the pod CIDRs of all PlacidNodes and fails if two nodes' overlap.
func all(t tb, store client.Client) map[string][]string {
	t.Helper()
	var list v1alpha1.PlacidNodeList
	if err := store.List(context.Background(), &list); err != nil {
		t.Fatalf("%v", err)
	}
	out := map[string][]string{}
	held := map[netip.Prefix]string{}
	for _, pn := range list.Items {
		out[pn.Name] = pn.Spec.PodCIDRs
		for _, text := range pn.Spec.PodCIDRs {
			p := netip.MustParsePrefix(text)
			if other, ok := held[p]; ok {
				t.Fatalf("nodes %s and %s both have %s", other, pn.Name, p)
			}
			held[p] = pn.Name
		}
	}
	return out
}

func mustDo(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "node-" + strconv.Itoa(i)
	}
	return out
}

func addNodes(t tb, store client.Client, names ...string) {
	t.Helper()
	for _, n := range names {
		mustDo(t, store.Create(context.Background(), node(n, "192.0.2.1")))
	}
}

func deleteNode(t tb, store client.Client, name string) {
	t.Helper()
	mustDo(t, store.Delete(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
}

// writes calls hook before and after every write that goes through the client.
// A hook that returns an error before keeps the write from happening; one that
// returns it after hides that it did.
func writes(store client.WithWatch, hook func(what string, after bool) error) client.WithWatch {
	around := func(what string, do func() error) error {
		if err := hook(what, false); err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
		return hook(what, true)
	}
	return interceptor.NewClient(store, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return around("create "+o.GetName(), func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return around("update "+o.GetName(), func() error { return c.Update(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return around("delete "+o.GetName(), func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return around("patch "+o.GetName(), func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	})
}

var _ tb = (*testing.T)(nil)
