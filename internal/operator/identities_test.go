package operator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/placid-net/placid/api/v1alpha1"
)

func key(namespace, rest string) string {
	return "k8s:" + rest + "k8s:io.cilium.k8s.policy.cluster=lab;k8s:io.kubernetes.pod.namespace=" + namespace + ";"
}

// counter counts the writes to PlacidIdentities.
func counter(store client.WithWatch, n *int) client.WithWatch {
	return writes(store, func(_ string, after bool) error {
		if !after {
			*n++
		}
		return nil
	})
}

func TestNoIdentitiesWithoutPolicy(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), pod("a", "one", "app", "web"), pod("a", "two", "app", "db"))
	for _, mode := range []string{PolicyDefault, PolicyNever} {
		wrote := 0
		f := newOffice(t, counter(store, &wrote), store, newClock(), officeOptions{mode: mode})
		f.live(time.Hour)
		if wrote != 0 || len(byKey(t, store)) != 0 {
			t.Errorf("enable-policy=%s without a policy: %d writes", mode, wrote)
		}
	}
}

func TestNoIdentitiesWhenPoliciesAreOff(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), pod("a", "one", "app", "web"), policyFrom("a", "p", "app", "x"))
	f := newOffice(t, store, store, newClock(), officeOptions{mode: PolicyNever})
	f.live(time.Hour)
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("enable-policy=never: %v", got)
	}
}

func TestIdentitiesAlways(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), pod("a", "one", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{mode: PolicyAlways})
	f.settle()
	if got := byKey(t, store); len(got) != 1 || got[key("a", "app=web;")] == "" {
		t.Errorf("got %v", got)
	}
}

// TestLifeOfIdentities is the story of a cluster from its first policy to its
// last.
func TestLifeOfIdentities(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), namespace("b"))
	c := newClock()
	f := newOffice(t, store, store, c, officeOptions{})
	create(t, store, pod("a", "web-1", "app", "web", "pod-template-hash", "1"), pod("a", "web-2", "app", "web", "pod-template-hash", "2"),
		pod("b", "web-1", "app", "web"), pod("b", "db-1", "app", "db"))
	f.settle()
	if got := byKey(t, store); len(got) != 0 {
		t.Fatalf("before the first policy: %v", got)
	}

	create(t, store, policyFrom("a", "p", "app", "web"))
	f.settle()
	first := byKey(t, store)
	want := []string{key("b", "app=db;"), key("a", "app=web;"), key("b", "app=web;")}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(first))); diff != "" {
		t.Fatalf("after the first policy (-want +got):\n%s", diff)
	}

	// A pod that goes leaves its identity for the grace; one that comes back has
	// the same number.
	remove(t, store, pod("b", "db-1"))
	f.live(grace - time.Minute)
	create(t, store, pod("b", "db-2", "app", "db"))
	f.live(2 * time.Minute)
	if diff := cmp.Diff(first, byKey(t, store)); diff != "" {
		t.Errorf("a pod was away for less than the grace (-want +got):\n%s", diff)
	}
	remove(t, store, pod("b", "db-2"))
	f.live(grace + 2*time.Minute)
	if got := byKey(t, store); len(got) != 2 {
		t.Errorf("after the grace: %v", got)
	}
	create(t, store, pod("b", "db-3", "app", "db"))
	f.settle()
	if diff := cmp.Diff(first, byKey(t, store)); diff != "" {
		t.Errorf("the same labels came back (-want +got):\n%s", diff)
	}

	// The last policy goes.
	remove(t, store, policyFrom("a", "p", "", ""))
	f.live(grace - time.Minute)
	if got := byKey(t, store); len(got) != 3 {
		t.Errorf("the last policy went less than the grace ago: %v", got)
	}
	f.live(3 * time.Minute)
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("the last policy went the grace ago: %v", got)
	}
	create(t, store, pod("a", "late", "app", "late"))
	f.live(time.Hour)
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("there is no policy any more: %v", got)
	}
}

func TestManyPodsOfOneLabelSet(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"))
	wrote := 0
	f := newOffice(t, counter(store, &wrote), store, newClock(), officeOptions{})
	f.settle()
	events := f.podEvents()
	for i := range 10_000 {
		events.OnAdd(pod("a", fmt.Sprintf("web-%d", i), "app", "web"), false)
	}
	if len(f.woken) != 1 {
		t.Errorf("%d items of work, want 1", len(f.woken))
	}
	mustDo(t, f.workOnce())
	if wrote != 1 || len(f.sets.namespaces["a"].shapes) != 1 {
		t.Errorf("%d writes and %d shapes, want 1 each", wrote, len(f.sets.namespaces["a"].shapes))
	}
	if len(f.waits) != 10_000 {
		t.Errorf("%d waits were measured", len(f.waits))
	}
}

func TestNamespaceLabelChange(t *testing.T) {
	store := newIdentityStore(t, namespace("a", "team", "red"), policyFrom("a", "p", "app", "web"))
	wrote := 0
	f := newOffice(t, counter(store, &wrote), store, newClock(), officeOptions{})
	for i := range 60 {
		create(t, store, pod("a", fmt.Sprintf("pod-%d", i), "app", fmt.Sprintf("app-%d", i%5)))
	}
	f.settle()
	if wrote != 5 {
		t.Fatalf("%d writes for 5 label sets", wrote)
	}
	ns, err := get(t.Context(), store, "a", &corev1.Namespace{})
	mustDo(t, err)
	ns.Labels["team"] = "blue"
	mustDo(t, store.Update(t.Context(), ns))
	f.settle()
	if wrote != 10 {
		t.Errorf("%d writes after the namespace got another label, want 10", wrote)
	}
	f.live(grace + 2*time.Minute)
	got := byKey(t, store)
	if len(got) != 5 {
		t.Errorf("%d identities after the grace, want 5", len(got))
	}
	for k := range got {
		if !strings.Contains(k, "namespace.labels.team=blue;") {
			t.Errorf("identity of %s", k)
		}
	}
}

func TestPodsWithoutNetworkOfTheirOwn(t *testing.T) {
	host, done, dead := pod("a", "host", "app", "host"), pod("a", "done", "app", "done"), pod("a", "dead", "app", "dead")
	host.Spec.HostNetwork = true
	done.Status.Phase, dead.Status.Phase = corev1.PodSucceeded, corev1.PodFailed
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), host, done, dead)
	running := pod("a", "job", "app", "job")
	create(t, store, running)
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	if got := byKey(t, store); len(got) != 1 || got[key("a", "app=job;")] == "" {
		t.Errorf("got %v, want the running pod's alone", got)
	}
	running.Status.Phase = corev1.PodSucceeded
	mustDo(t, store.Status().Update(t.Context(), running))
	f.live(grace + 2*time.Minute)
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("the job has ended: %v", got)
	}
}

func TestNamedPortsAreAnotherIdentity(t *testing.T) {
	port := func(name string, number int32) *corev1.Pod {
		p := pod("a", name, "app", "web")
		p.Spec.Containers = []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: number}, {ContainerPort: 9}}}}
		return p
	}
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), port("one", 80), port("two", 80), port("three", 8080))
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	var list v1alpha1.PlacidIdentityList
	mustDo(t, store.List(t.Context(), &list))
	var got []v1alpha1.NamedPort
	for _, id := range list.Items {
		got = append(got, id.NamedPorts...)
	}
	slices.SortFunc(got, func(a, b v1alpha1.NamedPort) int { return int(a.Port - b.Port) })
	want := []v1alpha1.NamedPort{{Name: "http", Protocol: "TCP", Port: 80}, {Name: "http", Protocol: "TCP", Port: 8080}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListedIdentitiesStay(t *testing.T) {
	one := pod("a", "one", "app", "web")
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), one)
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	row, _, err := rowOf(f.sets.known[slices.Collect(maps.Keys(f.sets.known))[0]].object)
	mustDo(t, err)
	listing := &v1alpha1.PlacidEndpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Endpoints:  []v1alpha1.PublishedEndpoint{{Namespace: "a", Name: "one", Identity: int64(row.ID)}, {Identity: 5}},
	}
	create(t, store, listing)
	remove(t, store, one, policyFrom("a", "p", "", ""))
	f.live(3 * grace)
	if got := byKey(t, store); len(got) != 1 {
		t.Errorf("a node lists it: %v", got)
	}
	listing.Endpoints = nil
	mustDo(t, store.Update(t.Context(), listing))
	f.live(grace + 2*time.Minute)
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("no node lists it any more: %v", got)
	}
}

func TestRestartStartsTheGraceAgain(t *testing.T) {
	one := pod("a", "one", "app", "web")
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), one)
	c := newClock()
	f := newOffice(t, store, store, c, officeOptions{})
	f.settle()
	remove(t, store, one)
	f.live(grace - time.Minute)
	f = newOffice(t, store, store, c, officeOptions{})
	f.live(grace - time.Minute)
	if got := byKey(t, store); len(got) != 1 {
		t.Errorf("the new operator has not seen it unused for the grace: %v", got)
	}
	f.live(3 * time.Minute)
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("after the grace: %v", got)
	}
}

// TestSleepStartsTheGraceAgain stops the process for longer than the grace.
func TestSleepStartsTheGraceAgain(t *testing.T) {
	one := pod("a", "one", "app", "web")
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), one)
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	remove(t, store, one)
	f.live(3 * time.Minute)
	create(t, store, pod("a", "two", "app", "web"))
	f.clock.pass(time.Hour)
	f.collect(t.Context()) // wakes up, and has not heard of the new pod
	if got := byKey(t, store); len(got) != 1 {
		t.Errorf("deleted what a pod has: %v", got)
	}
}

func TestOneErrorDoesNotStopTheCollection(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"))
	var bad string
	flaky := writes(store, func(what string, after bool) error {
		if what == "delete "+bad && !after {
			return errors.New("boom")
		}
		return nil
	})
	f := newOffice(t, flaky, store, newClock(), officeOptions{})
	var pods []client.Object
	for i := range 5 {
		pods = append(pods, pod("a", fmt.Sprint("pod-", i), "app", fmt.Sprint(i)))
	}
	create(t, store, pods...)
	f.settle()
	bad = slices.Min(slices.Collect(maps.Values(byKey(t, store))))
	remove(t, store, pods...)
	f.live(grace + 2*time.Minute)
	if got := byKey(t, store); len(got) != 1 {
		t.Errorf("left %v, want %s alone", got, bad)
	}
	s := series(t, f.metrics)
	if s["placid_operator_identity_errors_total delete"] == 0 || s["cilium_operator_identity_gc_runs crd fail"] == 0 ||
		s["placid_operator_identity_deleted_total"] != 4 || s["placid_operator_identities unused"] != 1 {
		t.Errorf("series %v", s)
	}
	bad = ""
	f.live(2 * time.Minute)
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("the next pass left %v", got)
	}
	s = series(t, f.metrics)
	if s["cilium_operator_identity_gc_runs crd success"] == 0 || s["cilium_operator_identity_gc_entries crd alive"] != 0 {
		t.Errorf("series %v", s)
	}
}

func TestDeletedByHandComesBackTheSame(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), pod("a", "one", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	before := byKey(t, store)
	mustDo(t, store.DeleteAllOf(t.Context(), &v1alpha1.PlacidIdentity{}))
	f.settle()
	if diff := cmp.Diff(before, byKey(t, store)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDeletionIsNotOvertaken: the watch tells late of an identity that was made
// and deleted, after a pod came for it again.
func TestDeletionIsNotOvertaken(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), pod("a", "one", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.look()
	set, _, ok := f.sets.want(key("a", "app=web;"))
	if !ok {
		t.Fatal("no identity is wanted")
	}
	object, _, err := f.numbers.allocate(t.Context(), set.labels, set.ports)
	mustDo(t, err)
	mustDo(t, store.Delete(t.Context(), object.DeepCopy()))
	mustDo(t, f.sets.setIdentity(object))
	f.sets.removeIdentity(object)
	f.sets.made(set, object) // the answer comes last
	f.settle()
	if got := byKey(t, store); len(got) != 1 {
		t.Errorf("got %v, want one identity", got)
	}
}

func TestSenselessIdentitiesAreLeftAlone(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"))
	for _, name := range []string{"7", "0300", "web", "16777216"} {
		create(t, store, &v1alpha1.PlacidIdentity{ObjectMeta: metav1.ObjectMeta{Name: name}, Labels: map[string]string{"k8s:app": "x"}})
	}
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.live(2 * grace)
	var list v1alpha1.PlacidIdentityList
	mustDo(t, store.List(t.Context(), &list))
	if len(list.Items) != 4 || len(f.sets.known) != 0 {
		t.Errorf("%d objects are left, %d are counted", len(list.Items), len(f.sets.known))
	}
}

// TestSecondNumberMadeByHand: the lowest number is the one in use, as for agents.
func TestSecondNumberMadeByHand(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), pod("a", "one", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	var list v1alpha1.PlacidIdentityList
	mustDo(t, store.List(t.Context(), &list))
	create(t, store, &v1alpha1.PlacidIdentity{ObjectMeta: metav1.ObjectMeta{Name: "256"}, Labels: list.Items[0].Labels})
	f.live(grace + 2*time.Minute)
	if got := byKey(t, store); len(got) != 1 || got[key("a", "app=web;")] != "256" {
		t.Errorf("got %v, want 256 alone", got)
	}
}

func TestAllocationFails(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"), pod("a", "one", "app", "web"))
	broken := true
	flaky := writes(store, func(string, bool) error {
		if broken {
			return apierrors.NewForbidden(corev1.Resource("placididentities"), "x", errors.New("no"))
		}
		return nil
	})
	f := newOffice(t, flaky, store, newClock(), officeOptions{})
	f.look()
	for range 3 {
		if err := f.workOnce(); !apierrors.IsForbidden(err) {
			t.Fatalf("got %v", err)
		}
	}
	told := f.told()
	if len(told) != 1 || !strings.HasPrefix(told[0], "Warning IdentityAllocationFailed") || !strings.Contains(told[0], "k8s:app=web") {
		t.Errorf("events %q, want one that names the labels", told)
	}
	if s := series(t, f.metrics); s["placid_operator_identity_errors_total create"] != 3 || s["placid_operator_identities pending"] != 1 {
		t.Errorf("series %v", s)
	}
	broken = false
	f.settle()
	if s := series(t, f.metrics); s["placid_operator_identities pending"] != 0 || s["placid_operator_identities used"] != 1 || s["placid_operator_identity_created_total"] != 1 {
		t.Errorf("series %v", s)
	}
}

func TestExhausted(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{first: 1000, last: 1002})
	for i := range 4 {
		create(t, store, pod("a", fmt.Sprint("pod-", i), "app", fmt.Sprint(i)))
	}
	f.look()
	if err := f.workOnce(); !errors.Is(err, errNumbersTaken) || !strings.Contains(err.Error(), "key labels") {
		t.Errorf("got %v, want that no number is free and what to do", err)
	}
	if got := byKey(t, store); len(got) != 3 {
		t.Errorf("%d identities", len(got))
	}
	if s := series(t, f.metrics); s["placid_operator_identities pending"] != 1 {
		t.Errorf("series %v", s)
	}
	// Room comes when pods go, and the last pod's labels get a number.
	waits := ""
	for i := range 4 {
		name := fmt.Sprint("pod-", i)
		if len(f.sets.sets[key("a", fmt.Sprintf("app=%d;", i))].numbers) == 0 {
			waits = name
		} else {
			remove(t, store, pod("a", name))
		}
	}
	days := func() {
		for range 2 {
			for range 20 {
				f.clock.pass(collectEvery)
				f.look()
				_ = f.workOnce()
				f.collect(t.Context())
			}
			f.clock.pass(passRest)
		}
	}
	for range 3 {
		days()
	}
	if s := series(t, f.metrics); s["placid_operator_identities pending"] != 0 || s["placid_operator_identities used"] != 1 {
		t.Errorf("after the pods went: %v", s)
	}
	remove(t, store, pod("a", waits))
	for range 3 {
		days()
	}
	if got := byKey(t, store); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// TestWaits measures from the creation of a pod, and from when it was seen for what
// was there before.
func TestWaits(t *testing.T) {
	c := newClock()
	old := pod("a", "old", "app", "old")
	old.CreationTimestamp = metav1.NewTime(c.now().Add(-time.Hour))
	store := newIdentityStore(t, namespace("a"), old)
	f := newOffice(t, store, store, c, officeOptions{})
	create(t, store, policyFrom("a", "p", "app", "web"))
	f.look()
	if f.urgent[key("a", "app=old;")] {
		t.Error("a pod that was there is urgent")
	}
	c.pass(3 * time.Second)
	f.settle()
	fresh := pod("a", "new", "app", "new")
	fresh.CreationTimestamp = metav1.NewTime(c.now())
	create(t, store, fresh)
	c.pass(time.Second)
	f.look()
	if !f.urgent[key("a", "app=new;")] {
		t.Error("a pod that came is not urgent")
	}
	c.pass(time.Second)
	f.settle()
	create(t, store, pod("a", "same", "app", "new"))
	f.settle()
	if diff := cmp.Diff([]time.Duration{3 * time.Second, 2 * time.Second}, f.waits); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}

// TestPodBeforeItsNamespace: the watch of pods may be ahead of that of namespaces.
func TestPodBeforeItsNamespace(t *testing.T) {
	store := newIdentityStore(t, policyFrom("a", "p", "app", "web"), pod("a", "one", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	if got := byKey(t, store); len(got) != 0 {
		t.Fatalf("the namespace's labels are not known: %v", got)
	}
	create(t, store, namespace("a"))
	f.settle()
	if got := byKey(t, store); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	remove(t, store, pod("a", "one"), namespace("a"))
	f.live(grace + 2*time.Minute)
	if len(f.sets.namespaces)+len(f.sets.sets)+len(byKey(t, store)) != 0 {
		t.Errorf("left behind: %v, %v", f.sets.namespaces, f.sets.sets)
	}
}

func TestIdentityConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // part of the error; empty is none
	}{
		{"empty", Config{}, ""},
		{"all", Config{EnablePolicy: PolicyAlways, Labels: []string{"k8s:app", "!team"}, IdentityGCInterval: time.Minute}, ""},
		{"mode", Config{EnablePolicy: "sometimes"}, `enable-policy="sometimes": use default, always or never`},
		{"filter", Config{Labels: []string{"app", "!("}}, "labels: "},
		{"time", Config{IdentityGCInterval: -time.Second}, "identity-gc-interval=-1s"},
	} {
		tt.cfg.IPAM = IPAMKubernetes
		o, err := New(tt.cfg, nil, nil, nil)
		switch {
		case tt.want == "" && (err != nil || o.cfg.EnablePolicy == ""):
			t.Errorf("%s: %v, want none and a mode", tt.name, err)
		case tt.want != "" && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want ErrConfig with %q", tt.name, err, tt.want)
		}
	}
}
