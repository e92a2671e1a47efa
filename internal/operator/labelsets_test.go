package operator

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/state"
)

func noFilter(t tb) identity.Filter {
	t.Helper()
	f, err := identity.ParseFilter(nil)
	mustDo(t, err)
	return f
}

// TestLabelSetsAgainstModel compares the counts after any events with those that
// are taken from the pods and namespaces there are.
func TestLabelSetsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newLabelSets("lab", noFilter(t), newClock().now)
		pods, namespaces, ids := map[state.PodRef]state.Pod{}, map[string]map[string]string{}, map[uint32]*v1alpha1.PlacidIdentity{}
		letter := func(t *rapid.T, what string) string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, what) }
		draw := func(t *rapid.T) state.Pod {
			return state.Pod{
				Ref:    state.PodRef{Namespace: letter(t, "namespace"), Name: letter(t, "name")},
				Labels: map[string]string{"app": letter(t, "app"), "pod-template-hash": letter(t, "hash")},
			}
		}
		model := func() map[string]int {
			out := map[string]int{}
			for _, p := range pods {
				if labels, ok := namespaces[p.Ref.Namespace]; ok {
					l, ports := identity.Of(p, state.Namespace{Name: p.Ref.Namespace, Labels: labels}, "lab", noFilter(t))
					out[identity.Key(l, ports)]++
				}
			}
			return out
		}
		t.Repeat(map[string]func(*rapid.T){
			"pod": func(t *rapid.T) {
				p := draw(t)
				pods[p.Ref] = p
				s.setPod(p, rapid.Bool().Draw(t, "came"))
			},
			"no pod": func(t *rapid.T) {
				p := draw(t)
				delete(pods, p.Ref)
				s.removePod(p.Ref.Namespace, p.Ref.Name)
			},
			"namespace": func(t *rapid.T) {
				name, labels := letter(t, "name"), map[string]string{"team": letter(t, "team")}
				namespaces[name] = labels
				s.setNamespace(name, types.UID(name), labels)
			},
			"no namespace": func(t *rapid.T) {
				name := letter(t, "name")
				if slices.ContainsFunc(slices.Collect(maps.Keys(pods)), func(r state.PodRef) bool { return r.Namespace == name }) {
					t.Skip("it has pods")
				}
				delete(namespaces, name)
				s.removeNamespace(name)
			},
			"identity": func(t *rapid.T) {
				number := rapid.Uint32Range(300, 305).Draw(t, "number")
				id := newIdentity(number, map[string]string{"k8s:app": letter(t, "app")}, nil)
				if wanted := slices.Sorted(maps.Keys(model())); len(wanted) > 0 && rapid.Bool().Draw(t, "in use") {
					id.Labels = maps.Clone(s.sets[wanted[0]].labels)
				}
				ids[number] = id
				mustDo(t, s.setIdentity(id))
			},
			"no identity": func(t *rapid.T) {
				number := rapid.Uint32Range(300, 305).Draw(t, "number")
				s.removeIdentity(newIdentity(number, nil, nil))
				delete(ids, number)
			},
			"needed": func(t *rapid.T) { s.setNeeded(rapid.Bool().Draw(t, "needed")) },
			"": func(t *rapid.T) {
				got, numbers := map[string]int{}, 0
				for k, set := range s.sets {
					if set.pods > 0 {
						got[k] = set.pods
					}
					numbers += len(set.numbers)
					if set.pods == 0 && len(set.numbers) == 0 || !slices.IsSorted(set.numbers) {
						t.Fatalf("label set %s is kept for nothing, or has %v", k, set.numbers)
					}
				}
				if diff := cmp.Diff(model(), got); diff != "" {
					t.Fatalf("pods by label set (-want +got):\n%s", diff)
				}
				if numbers != len(ids) || len(s.known) != len(ids) {
					t.Fatalf("%d numbers of %d identities, want %d", numbers, len(s.known), len(ids))
				}
				for name, ns := range s.namespaces {
					shapes := 0
					for _, sh := range ns.shapes {
						shapes += sh.pods
					}
					if shapes != len(ns.pods) || !ns.known && len(ns.pods) == 0 {
						t.Fatalf("namespace %s: %d pods, %d in shapes", name, len(ns.pods), shapes)
					}
				}
			},
		})
	})
}

// fullPod is a pod about as large as real ones are.
func fullPod(i int) *corev1.Pod {
	p := pod("a", fmt.Sprint("pod-", i), "app", fmt.Sprint("app-", i%500), "pod-template-hash", fmt.Sprint(i%500), "tier", "backend", "team", "blue")
	p.UID, p.ResourceVersion = types.UID(fmt.Sprintf("%036d", i)), fmt.Sprint(i)
	p.Annotations = map[string]string{"checksum/config": fmt.Sprintf("%0512d", i)}
	p.Finalizers = []string{"example.com/hold"}
	p.Spec.ServiceAccountName, p.Spec.NodeName = "default", "node"
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = []corev1.Container{{Name: "once", Ports: []corev1.ContainerPort{{Name: "setup", ContainerPort: 1}}}, {
		Name: "proxy", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: 9000, Protocol: corev1.ProtocolTCP}},
	}}
	p.Spec.Containers = []corev1.Container{{
		Name: "c", Image: "example.com/image:1", Env: []corev1.EnvVar{{Name: "X", Value: fmt.Sprintf("%0512d", i)}},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 81}},
	}}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x", FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(`{"f:x":"%02048d"}`, i))}}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = make([]corev1.PodCondition, 5)
	return p
}

func TestStripPodKeepsTheIdentity(t *testing.T) {
	full := fullPod(7)
	stripped, err := stripPod(full.DeepCopy())
	mustDo(t, err)
	twice, err := stripPod(stripped.(*corev1.Pod).DeepCopy())
	mustDo(t, err)
	if diff := cmp.Diff(stripped, twice); diff != "" {
		t.Errorf("stripping again changes it:\n%s", diff)
	}
	if diff := cmp.Diff(k8s.PodRow(full), k8s.PodRow(stripped.(*corev1.Pod))); diff != "" {
		t.Errorf("(-full +stripped):\n%s", diff)
	}
	for _, what := range []any{stripped.(*corev1.Pod).Annotations, stripped.(*corev1.Pod).ManagedFields, stripped.(*corev1.Pod).Status.Conditions} {
		if fmt.Sprint(what) != "map[]" && fmt.Sprint(what) != "[]" {
			t.Errorf("kept %v", what)
		}
	}
	if other, err := stripPod("x"); err != nil || other != "x" {
		t.Errorf("another type: %v, %v", other, err)
	}
}

func TestStripOthers(t *testing.T) {
	ns := namespace("a", "team", "red")
	ns.Annotations, ns.Status.Phase = map[string]string{"x": "y"}, corev1.NamespaceActive
	got, err := stripNamespace(ns)
	mustDo(t, err)
	if diff := cmp.Diff(namespace("a", "team", "red"), got); diff != "" {
		t.Errorf("namespace (-want +got):\n%s", diff)
	}
	pe := listing("a")
	pe.Endpoints = []v1alpha1.PublishedEndpoint{{Name: "x", Identity: 300}, {Name: "y", Identity: 5}, {Name: "z", Identity: 300}}
	got, err = stripEndpoints(pe)
	mustDo(t, err)
	want := listing("a")
	want.Endpoints = []v1alpha1.PublishedEndpoint{{Identity: 5}, {Identity: 300}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
}

// BenchmarkPods measures what 50,000 pods cost: memory of the cached objects and
// of the label sets together, and time for each as it appears.
func BenchmarkPods(b *testing.B) {
	for b.Loop() {
		const count = 50_000
		filter, err := identity.ParseFilter(nil)
		if err != nil {
			b.Fatal(err)
		}
		s := newLabelSets("lab", filter, newClock().now)
		s.setNamespace("a", "uid", map[string]string{"team": "red"})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		cached := make([]any, 0, count)
		for i := range count {
			stripped, err := stripPod(fullPod(i))
			if err != nil {
				b.Fatal(err)
			}
			cached = append(cached, stripped)
			s.setPod(k8s.PodRow(stripped.(*corev1.Pod)), true)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/count, "bytes/pod")
		runtime.KeepAlive(cached)
		runtime.KeepAlive(s)
	}
}
