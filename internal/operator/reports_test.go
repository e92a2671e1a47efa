package operator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/api/v1alpha1"
)

// seriesOf returns those of the series that begin with the name.
func seriesOf(t *testing.T, f *office, name string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for k, v := range series(t, f.metrics) {
		if rest, ok := strings.CutPrefix(k, name+" "); ok {
			out[rest] = v
		}
	}
	return out
}

func TestPolicyOnFilteredLabel(t *testing.T) {
	const gauge = "placid_operator_policy_filtered_labels"
	store := newIdentityStore(t, namespace("a"))
	f := newOffice(t, store, store, newClock(), officeOptions{labels: []string{"!color"}})
	bad := policyFrom("a", "bad", "color", "red")
	bad.Spec.Ingress[0].From[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "x"}}
	create(t, store, bad, policyFrom("a", "good", "app", "web"))
	f.look()
	told := f.told()
	if len(told) != 1 || !strings.HasPrefix(told[0], "Warning PolicyUsesFilteredLabel") || !strings.Contains(told[0], `"color"`) ||
		!strings.Contains(told[0], "spec.ingress[0].from[0].podSelector") {
		t.Errorf("events %q, want one that names the label and the field", told)
	}
	if diff := cmp.Diff(map[string]float64{"color a bad": 1}, seriesOf(t, f, gauge)); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}

	// Told once, however often the policy changes otherwise.
	bad.Spec.PolicyTypes = append(bad.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	mustDo(t, store.Update(t.Context(), bad))
	f.look()
	if told := f.told(); len(told) != 0 {
		t.Errorf("told again: %q", told)
	}
	bad.Spec.Ingress[0].From[0].PodSelector.MatchLabels = map[string]string{"app": "red"}
	mustDo(t, store.Update(t.Context(), bad))
	f.look()
	if got := seriesOf(t, f, gauge); len(got) != 0 || len(f.told()) != 0 {
		t.Errorf("mended, and there is %v", got)
	}
	bad.Spec.Ingress[0].From[0].PodSelector.MatchLabels = map[string]string{"color": "red"}
	mustDo(t, store.Update(t.Context(), bad))
	f.look()
	if told := f.told(); len(told) != 1 {
		t.Errorf("it came back: %q, want one event", told)
	}
	remove(t, store, bad)
	f.look()
	if got := seriesOf(t, f, gauge); len(got) != 0 {
		t.Errorf("the policy is gone, and there is %v", got)
	}
}

func TestCiliumPolicies(t *testing.T) {
	const gauge = "placid_operator_policy_filtered_labels"
	store := newIdentityStore(t, namespace("a"), pod("a", "web", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{labels: []string{"!color"}})
	f.settle()
	if got := identitiesIn(t, store); got != 0 {
		t.Fatalf("%d identities without a policy", got)
	}
	everyone := &metav1.LabelSelector{}
	cnp := &v2.CiliumNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Specs: []*v2.Rule{
		{EndpointSelector: everyone, Ingress: []v2.IngressRule{{FromEndpoints: []*metav1.LabelSelector{{MatchLabels: map[string]string{"color": "red"}}}}}},
		{EndpointSelector: everyone, Egress: []v2.EgressRule{{ToFQDNs: []v2.FQDNSelector{{MatchName: "a"}}}, {ToEntities: []v2.Entity{"moon"}}}},
	}}
	create(t, store, cnp)
	f.settle()
	if got := identitiesIn(t, store); got != 1 {
		t.Errorf("%d identities with a CiliumNetworkPolicy, want 1", got)
	}
	told := f.told()
	for _, want := range []string{"PolicyUsesFilteredLabel", "PolicyNotUnderstood specs[1].egress[1].toEntities[0]", "PolicyNotSupported specs[1].egress[0].toFQDNs"} {
		if !slices.ContainsFunc(told, func(e string) bool { return strings.HasPrefix(e, "Warning "+want) }) {
			t.Errorf("events %q, none is %s", told, want)
		}
	}
	if diff := cmp.Diff(map[string]float64{"color a cnp/p": 1}, seriesOf(t, f, gauge)); diff != "" || len(told) != 3 {
		t.Errorf("%d events; series (-want +got):\n%s", len(told), diff)
	}

	// Told once; and again when something else is wrong.
	cnp.Annotations = map[string]string{"x": "y"}
	mustDo(t, store.Update(t.Context(), cnp))
	f.settle()
	if told := f.told(); len(told) != 0 {
		t.Errorf("told again: %q", told)
	}
	cnp.Specs[1].Egress[1].ToEntities[0] = "sun"
	mustDo(t, store.Update(t.Context(), cnp))
	f.settle()
	if told := f.told(); len(told) != 1 || !strings.Contains(told[0], "sun") {
		t.Errorf("events %q, want one about the other entity", told)
	}

	// Kinds are counted together.
	create(t, store, policyFrom("a", "p", "app", "web"), &v2.CiliumClusterwideNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}})
	f.settle()
	for i, o := range []client.Object{cnp, policyFrom("a", "p", "", ""), &v2.CiliumClusterwideNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}} {
		f.settle()
		if needed := f.sets.isNeeded(); !needed {
			t.Errorf("identities are not needed with %d policies left", 3-i)
		}
		remove(t, store, o)
	}
	f.settle()
	if f.sets.isNeeded() || len(seriesOf(t, f, gauge)) != 0 {
		t.Error("all policies are gone, and identities are needed")
	}
}

// isNeeded is what setNeeded said last.
func (s *labelSets) isNeeded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.needed
}

func identitiesIn(t *testing.T, store client.Client) int {
	t.Helper()
	var list v1alpha1.PlacidIdentityList
	mustDo(t, store.List(t.Context(), &list))
	return len(list.Items)
}

func TestPodsWithoutLabels(t *testing.T) {
	const gauge = "placid_operator_pods_without_labels"
	store := newIdentityStore(t, namespace("a"), namespace("b"), policyFrom("a", "p", "app", "web"),
		pod("a", "web-1", "color", "red"), pod("a", "web-2", "color", "red"), pod("a", "plain"), pod("b", "db", "app", "db", "color", "red"))
	f := newOffice(t, store, store, newClock(), officeOptions{labels: []string{"!color"}})
	f.settle()
	for range 2 {
		f.reports.update()
	}
	if diff := cmp.Diff(map[string]float64{"a": 2}, seriesOf(t, f, gauge)); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	told := f.told()
	if len(told) != 1 || !strings.HasPrefix(told[0], "Warning PodsWithoutLabels") || !strings.Contains(told[0], "2 pods such as a/web-1 (color)") {
		t.Errorf("events %q, want one that names a pod and the label", told)
	}
	remove(t, store, pod("a", "web-1"), pod("a", "web-2"))
	f.settle()
	f.reports.update()
	if got := seriesOf(t, f, gauge); len(got) != 0 {
		t.Errorf("the pods are gone, and there is %v", got)
	}
	create(t, store, pod("a", "web-3", "color", "red"))
	f.settle()
	f.reports.update()
	if told := f.told(); len(told) != 1 {
		t.Errorf("they came back: %q, want one event", told)
	}
	remove(t, store, policyFrom("a", "p", "", ""))
	f.settle()
	f.reports.update()
	if got := seriesOf(t, f, gauge); len(got) != 0 {
		t.Errorf("identities are not needed, and there is %v", got)
	}
}

func TestLabelThatMakesIdentities(t *testing.T) {
	const gauge = "placid_operator_identity_label_churn"
	c := newClock()
	store := newIdentityStore(t, namespace("a"))
	// What is there when the first policy comes is no churn.
	for i := range 150 {
		create(t, store, pod("a", fmt.Sprint("old-", i), "app", fmt.Sprint(i)))
	}
	create(t, store, policyFrom("a", "p", "app", "web"))
	f := newOffice(t, store, store, c, officeOptions{})
	f.settle()
	f.reports.update()
	if got := seriesOf(t, f, gauge); len(got) != 0 || len(f.told()) != 0 {
		t.Errorf("for what was there: %v", got)
	}
	for i := range 130 {
		c.pass(20 * time.Second)
		p := pod("a", fmt.Sprint("job-", i), "run.example.com/id", fmt.Sprint("x", i), "team", "blue")
		p.CreationTimestamp = metav1.NewTime(c.now())
		f.podEvents().OnAdd(p, false)
		mustDo(t, f.workOnce())
		f.reports.update()
	}
	got := seriesOf(t, f, gauge)
	if got["k8s:run.example.com/id a"] < churnLimit || len(got) != 1 {
		t.Errorf("series %v, want the label of the jobs alone", got)
	}
	told := f.told()
	if len(told) != 1 || !strings.HasPrefix(told[0], "Warning LabelMakesIdentities") || !strings.Contains(told[0], `labels=!run\.example\.com/id$`) {
		t.Errorf("events %q, want one that names the label and what to do", told)
	}
	c.pass(2 * time.Hour)
	f.reports.update()
	if got := seriesOf(t, f, gauge); len(got) != 0 {
		t.Errorf("two hours later: %v", got)
	}
}

func TestEventsAreAboutTheNamespaceObject(t *testing.T) {
	store := newIdentityStore(t, namespace("a"), policyFrom("a", "p", "app", "web"))
	f := newOffice(t, store, store, newClock(), officeOptions{})
	f.settle()
	if got := f.sets.namespace("a"); got.UID != "uid-of-a" {
		t.Errorf("UID %q", got.UID)
	}
	if got := f.sets.namespace("gone"); got.Name != "gone" || got.UID != "" {
		t.Errorf("a namespace that is not known: %+v", got.ObjectMeta)
	}
}

func TestRegexpKeyMatchesOneKey(t *testing.T) {
	store := newIdentityStore(t)
	f := newOffice(t, store, store, newClock(), officeOptions{labels: []string{"!" + regexpKey("a.b/c")}})
	got := []bool{f.reports.filter.KeepPodLabel("a.b/c"), f.reports.filter.KeepPodLabel("a.b/cc"), f.reports.filter.KeepPodLabel("axb/c")}
	if !slices.Equal(got, []bool{false, true, true}) {
		t.Errorf("kept a.b/c, a.b/cc, axb/c: %v", got)
	}
}
