package operator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/placid-net/placid/api/v1alpha1"
)

func TestCreatesPlacidNodes(t *testing.T) {
	store := newStore(t, node("a", "192.0.2.1", "2001:db8::1", "192.0.2.1"), node("b"))
	r := newReplica(t, store, pool("10.0.0.0/8", 24), pool("fd00::/104", 120))
	r.settle("a", "b", "a")

	a := mustRead(t, store, "a")
	wantSpec := v1alpha1.PlacidNodeSpec{
		PodCIDRs:  []string{"10.0.0.0/24", "fd00::/120"},
		Addresses: []string{"192.0.2.1", "2001:db8::1"},
	}
	if diff := cmp.Diff(wantSpec, a.Spec); diff != "" {
		t.Errorf("spec of a (-want +got):\n%s", diff)
	}
	wantOwner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "a", UID: "uid-of-a"}}
	if diff := cmp.Diff(wantOwner, a.OwnerReferences); diff != "" {
		t.Errorf("owner of a (-want +got):\n%s", diff)
	}
	if got := mustRead(t, store, "b").Spec.PodCIDRs; !slices.Equal(got, []string{"10.0.1.0/24", "fd00::100/120"}) {
		t.Errorf("b got %v", got)
	}
}

func TestKubernetesMode(t *testing.T) {
	dual := node("dual")
	dual.Spec.PodCIDRs = []string{"10.1.0.0/24", "fd00:1::/64"}
	old := node("old")
	old.Spec.PodCIDR = "10.2.0.7/24"
	store := newStore(t, dual, old, node("none"))
	r := newReplica(t, store)
	r.settle("dual", "old", "none")

	want := map[string][]string{"dual": {"10.1.0.0/24", "fd00:1::/64"}, "old": {"10.2.0.0/24"}, "none": nil}
	if diff := cmp.Diff(want, all(t, store)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := mustRead(t, store, "none").Status.OperatorError; !strings.Contains(got, "--allocate-node-cidrs") {
		t.Errorf("operatorError %q does not say what to do", got)
	}
	n, err := get(t.Context(), store, "none", &corev1.Node{})
	mustDo(t, err)
	n.Spec.PodCIDRs = []string{"10.3.0.0/24"}
	mustDo(t, store.Update(t.Context(), n))
	r.settle("none")
	if got := mustRead(t, store, "none"); got.Status.OperatorError != "" || !slices.Equal(got.Spec.PodCIDRs, []string{"10.3.0.0/24"}) {
		t.Errorf("after the Node got its CIDR: %+v, %+v", got.Spec, got.Status)
	}
}

func TestAddressChange(t *testing.T) {
	store := newStore(t, node("a", "192.0.2.1"))
	r := newReplica(t, store, pool("10.0.0.0/8", 24))
	r.settle("a")
	n, err := get(t.Context(), store, "a", &corev1.Node{})
	mustDo(t, err)
	n.Status.Addresses[1].Address = "192.0.2.99"
	mustDo(t, store.Status().Update(t.Context(), n))
	r.settle("a")
	want := v1alpha1.PlacidNodeSpec{PodCIDRs: []string{"10.0.0.0/24"}, Addresses: []string{"192.0.2.99"}}
	if diff := cmp.Diff(want, mustRead(t, store, "a").Spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLabelChange: policies select nodes by the labels of their PlacidNodes.
func TestLabelChange(t *testing.T) {
	n := node("a", "192.0.2.1")
	n.Labels = map[string]string{"role": "db"}
	store := newStore(t, n)
	r := newReplica(t, store, pool("10.0.0.0/16", 24))
	r.settle("a")
	if diff := cmp.Diff(n.Labels, mustRead(t, store, "a").Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	before := n.DeepCopy()
	n.Labels = map[string]string{"role": "web"}
	if !nodeChanged(event.UpdateEvent{ObjectOld: before, ObjectNew: n}) {
		t.Error("other labels wake nobody")
	}
	mustDo(t, store.Update(t.Context(), n))
	r.settle("a")
	if diff := cmp.Diff(n.Labels, mustRead(t, store, "a").Labels); diff != "" {
		t.Errorf("other labels (-want +got):\n%s", diff)
	}
}

func TestExhaustedAndCleared(t *testing.T) {
	store := newStore(t, node("a"), node("b"), node("c"))
	r := newReplica(t, store, pool("10.0.0.0/25", 26))
	r.settle("a", "b", "c")

	c := mustRead(t, store, "c")
	for _, word := range []string{"10.0.0.0/25", "/26", "2 of 2"} {
		if !strings.Contains(c.Status.OperatorError, word) {
			t.Errorf("operatorError %q lacks %q", c.Status.OperatorError, word)
		}
	}
	if c.Spec.PodCIDRs != nil {
		t.Errorf("c has %v", c.Spec.PodCIDRs)
	}
	r.settle("c", "c")
	if n := len(r.events.Events); n != 1 {
		t.Fatalf("%d events, want 1 however often it is looked at", n)
	}
	if e := <-r.events.Events; !strings.HasPrefix(e, "Warning PodCIDRExhausted") {
		t.Errorf("event %q", e)
	}
	wantGauges(t, r, map[string]float64{"assigned": 2, "failed": 1, "total": 3, "capacity 10.0.0.0/25": 2, "used 10.0.0.0/25": 2})

	deleteNode(t, store, "a")
	r.settle("a") // wakes c
	c = mustRead(t, store, "c")
	if c.Status.OperatorError != "" || !slices.Equal(c.Spec.PodCIDRs, []string{"10.0.0.0/26"}) {
		t.Errorf("after room appeared: %+v %+v", c.Spec, c.Status)
	}
	if pn := read(t, store, "a"); pn != nil {
		t.Errorf("the PlacidNode of a deleted Node is still there")
	}
	wantGauges(t, r, map[string]float64{"assigned": 2, "failed": 0, "total": 2, "capacity 10.0.0.0/25": 2, "used 10.0.0.0/25": 2})
}

func wantGauges(t *testing.T, r *replica, want map[string]float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	mustDo(t, r.metrics.register(reg))
	families, err := reg.Gather()
	mustDo(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := m.Label[0].GetValue()
			switch f.GetName() {
			case "placid_operator_ipam_pool_capacity":
				key = "capacity " + key
			case "placid_operator_ipam_pool_used":
				key = "used " + key
			case "placid_operator_ipam_nodes":
			default:
				t.Errorf("unexpected metric %s", f.GetName())
			}
			got[key] = m.GetGauge().GetValue()
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("gauges (-want +got):\n%s", diff)
	}
}

func TestConflictIsReportedAndNotTouched(t *testing.T) {
	store := newStore(t, node("old"), node("young"),
		placidNode("young", 2000, "10.0.4.0/23"), placidNode("old", 1000, "10.0.5.0/24"))
	r := newReplica(t, store, pool("10.0.0.0/16", 24))
	r.settle("young", "old")

	young := mustRead(t, store, "young")
	if !slices.Equal(young.Spec.PodCIDRs, []string{"10.0.4.0/23"}) || !strings.Contains(young.Status.OperatorError, "node old keeps") {
		t.Errorf("young: %+v %+v", young.Spec, young.Status)
	}
	if old := mustRead(t, store, "old"); old.Status.OperatorError != "" {
		t.Errorf("old: %+v", old.Status)
	}
	if e := <-r.events.Events; !strings.HasPrefix(e, "Warning PodCIDRConflict") {
		t.Errorf("event %q", e)
	}
	// What the message says to do settles it.
	mustDo(t, store.Delete(t.Context(), young))
	r.settle("young")
	want := map[string][]string{"old": {"10.0.5.0/24"}, "young": {"10.0.6.0/24"}}
	if diff := cmp.Diff(want, all(t, store)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := mustRead(t, store, "young").Status.OperatorError; got != "" {
		t.Errorf("operatorError %q after the conflict was settled", got)
	}
}

func TestConflictEndsWithTheOlderNode(t *testing.T) {
	store := newStore(t, node("old"), node("young"),
		placidNode("young", 2000, "10.0.5.0/24"), placidNode("old", 1000, "10.0.5.0/24"))
	r := newReplica(t, store, pool("10.0.0.0/16", 24))
	r.settle("young", "old")
	deleteNode(t, store, "old")
	r.settle("old") // wakes young
	if got := mustRead(t, store, "young"); got.Status.OperatorError != "" || !slices.Equal(got.Spec.PodCIDRs, []string{"10.0.5.0/24"}) {
		t.Errorf("young: %+v %+v", got.Spec, got.Status)
	}
}

func TestExistingAssignmentsSurviveChangedPools(t *testing.T) {
	store := newStore(t, node("a"), node("b"), placidNode("a", 1, "192.168.7.0/24"), placidNode("b", 1, "nonsense", "10.9.0.77/24"))
	r := newReplica(t, store, pool("10.0.0.0/8", 24), pool("fd00::/104", 120))
	r.settle("a", "b")
	want := map[string][]string{"a": {"192.168.7.0/24", "fd00::/120"}, "b": {"10.9.0.0/24", "fd00::100/120"}}
	if diff := cmp.Diff(want, all(t, store)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	store := newStore(t)
	addNodes(t, store, names(5)...)
	newReplica(t, store, pool("10.0.0.0/8", 24)).settle(names(5)...)
	before := all(t, store)

	wrote := false
	watched := writes(store, func(what string, _ bool) error { wrote = true; t.Errorf("wrote: %s", what); return nil })
	newReplica(t, watched, pool("10.0.0.0/8", 24)).settle(names(5)...)
	if diff := cmp.Diff(before, all(t, store)); diff != "" || wrote {
		t.Errorf("a restart changed something:\n%s", diff)
	}
}

func TestAgentsStatusIsNotTouched(t *testing.T) {
	store := newStore(t, node("a"), node("b"))
	agent := func() {
		pn := mustRead(t, store, "b")
		pn.Status.MTU, pn.Status.AgentVersion = 8950, "v9"
		mustDo(t, store.Status().Update(t.Context(), pn))
	}
	// The agent writes its status right before the operator patches.
	racing := writes(store, func(what string, after bool) error {
		if what == "patch b" && !after {
			agent()
		}
		return nil
	})
	r := newReplica(t, racing, pool("10.0.0.0/24", 24))
	r.settle("a", "b")
	got := mustRead(t, store, "b").Status
	if got.MTU != 8950 || got.AgentVersion != "v9" || got.OperatorError == "" {
		t.Errorf("status %+v, want the agent's fields and operatorError", got)
	}
}

func TestDeletedPlacidNodeComesBackTheSame(t *testing.T) {
	store := newStore(t)
	addNodes(t, store, names(3)...)
	r := newReplica(t, store, pool("10.0.0.0/8", 24))
	r.settle(names(3)...)
	before := all(t, store)
	mustDo(t, store.Delete(t.Context(), mustRead(t, store, "node-1")))
	r.settle("node-1")
	if diff := cmp.Diff(before, all(t, store)); diff != "" {
		t.Errorf("its pods hold the addresses (-want +got):\n%s", diff)
	}
}

func TestHandWrittenCIDRIsAdopted(t *testing.T) {
	store := newStore(t)
	addNodes(t, store, names(2)...)
	r := newReplica(t, store, pool("10.0.0.0/8", 24))
	r.settle("node-0")
	pn := mustRead(t, store, "node-0")
	pn.Spec.PodCIDRs = []string{"10.0.1.0/24"}
	mustDo(t, store.Update(t.Context(), pn))
	r.settle("node-0", "node-1")
	want := map[string][]string{"node-0": {"10.0.1.0/24"}, "node-1": {"10.0.2.0/24"}}
	if diff := cmp.Diff(want, all(t, store)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNodeThatCameBackIsNotRemoved(t *testing.T) {
	store := newStore(t, node("a"))
	r := newReplica(t, store, pool("10.0.0.0/8", 24))
	r.settle("a")
	// The cache has seen the deletion and not the new Node.
	r.client = interceptor.NewClient(store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, isNode := o.(*corev1.Node); isNode {
				return apierrors.NewNotFound(corev1.Resource("nodes"), key.Name)
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	if err := r.step("a"); err == nil {
		t.Error("no error, so it would not be looked at again")
	}
	if read(t, store, "a") == nil {
		t.Error("the PlacidNode of an existing Node was deleted")
	}
}

func TestNewNodeOfTheSameNameTakesOver(t *testing.T) {
	store := newStore(t, node("a"))
	r := newReplica(t, store, pool("10.0.0.0/8", 24))
	r.settle("a")
	deleteNode(t, store, "a")
	again := node("a")
	again.UID = "second"
	mustDo(t, store.Create(t.Context(), again))
	r.settle("a")
	got := mustRead(t, store, "a")
	if len(got.OwnerReferences) != 1 || got.OwnerReferences[0].UID != "second" || got.Spec.PodCIDRs[0] != "10.0.0.0/24" {
		t.Errorf("owners %v, pod CIDRs %v", got.OwnerReferences, got.Spec.PodCIDRs)
	}
}

func TestReadErrorsAreReturned(t *testing.T) {
	store := newStore(t, node("a"))
	boom := errors.New("boom")
	for _, broken := range []string{"*v1.Node", "*v1alpha1.PlacidNode", "*v1.ConfigMap", "*v1alpha1.PlacidNodeList"} {
		r := newReplica(t, interceptor.NewClient(store, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if typeName(o) == broken {
					return boom
				}
				return c.Get(ctx, key, o, opts...)
			},
			List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
				if typeName(l) == broken {
					return boom
				}
				return c.List(ctx, l, opts...)
			},
		}), pool("10.0.0.0/8", 24))
		if err := r.step("a"); !errors.Is(err, boom) {
			t.Errorf("%s cannot be read: error %v, want boom", broken, err)
		}
		if read(t, store, "a") != nil {
			t.Fatalf("%s cannot be read, and a PlacidNode was written", broken)
		}
	}
}

func TestClip(t *testing.T) {
	if got := clip("äöü", 3); got != "ä" {
		t.Errorf("got %q", got)
	}
	if got := clip("abc", 3); got != "abc" {
		t.Errorf("got %q", got)
	}
}
