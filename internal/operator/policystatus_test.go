package operator

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

func TestValidity(t *testing.T) {
	for name, c := range map[string]struct {
		rows           []state.NetworkPolicy
		status, reason string
		message        string
	}{
		"fine": {[]state.NetworkPolicy{{}, {}}, "True", "", "Policy validation succeeded"},
		"not enforced": {
			[]state.NetworkPolicy{{}, {Unsupported: []string{"a", "b"}}}, "True", reasonNotSupported, "a. b",
		},
		"not understood": {
			[]state.NetworkPolicy{{Unsupported: []string{"a"}}, {Problems: []string{"b"}}}, "False", reasonNotUnderstood, "b",
		},
		"long": {
			[]state.NetworkPolicy{{Problems: []string{strings.Repeat("x", 2*maxConditionMessage)}}},
			"False", reasonNotUnderstood,
			strings.Repeat("x", maxConditionMessage),
		},
	} {
		if got, want := validity(c.rows), (v2.Condition{Type: "Valid", Status: c.status, Reason: c.reason, Message: c.message}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestSetCondition(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	other := v2.Condition{Type: "Other", Status: "Unknown"}
	all := []v2.Condition{other}
	for i, c := range []struct {
		status, message string
		changed         bool
		since           time.Duration // of the condition's last change
	}{
		{"True", "fine", true, 0},
		{"True", "fine", false, 0},
		{"True", "fine too", true, 0},
		{"False", "broken", true, 3 * time.Minute},
		{"False", "broken", false, 3 * time.Minute},
	} {
		now := begin.Add(time.Duration(i) * time.Minute)
		if got := setCondition(&all, v2.Condition{Type: conditionValid, Status: c.status, Message: c.message}, now); got != c.changed {
			t.Errorf("step %d: changed: %t", i, got)
		}
		want := v2.Condition{Type: conditionValid, Status: c.status, Message: c.message, LastTransitionTime: metav1.NewTime(begin.Add(c.since))}
		if len(all) != 2 || all[0] != other || all[1] != want {
			t.Errorf("step %d: %+v, want %+v after the other", i, all, want)
		}
	}
}

// policyStatusOnAPIServer: policies of both kinds, as they are written and after they
// were mended, on a real API server; what others wrote stays.
func policyStatusOnAPIServer(t *testing.T, rc *rest.Config) {
	scheme, err := newScheme()
	mustDo(t, err)
	c, err := client.New(rc, client.Options{Scheme: scheme})
	mustDo(t, err)
	o, err := New(Config{IPAM: IPAMKubernetes, CiliumPolicies: true, ClusterwidePolicies: true}, rc, prometheus.NewRegistry(),
		slog.New(slog.NewTextHandler(t.Output(), nil)))
	mustDo(t, err)
	r := runInBackground(t, o)
	eventually(t, "the definitions of policies", func() error { return c.List(t.Context(), &v2.CiliumClusterwideNetworkPolicyList{}) })

	rule := func(cidr string) *v2.Rule {
		return &v2.Rule{EndpointSelector: &metav1.LabelSelector{}, Ingress: []v2.IngressRule{{FromCIDR: []string{cidr}}}}
	}
	namespaced := &v2.CiliumNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "broken"}, Spec: rule("nowhere")}
	everywhere := &v2.CiliumClusterwideNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "fine"}, Spec: rule("192.0.2.0/24")}
	create(t, c, namespaced, everywhere)
	valid := func(obj client.Object, conditions *[]v2.Condition, want string) func() error {
		return func() error {
			mustDo(t, c.Get(t.Context(), client.ObjectKeyFromObject(obj), obj))
			for _, have := range *conditions {
				if have.Type == conditionValid && have.Status == want && have.Message != "" && !have.LastTransitionTime.IsZero() {
					return nil
				}
			}
			return fmt.Errorf("%s has %+v, want Valid to be %s", obj.GetName(), *conditions, want)
		}
	}
	eventually(t, "a policy that is not valid", valid(namespaced, &namespaced.Status.Conditions, "False"))
	eventually(t, "one that is", valid(everywhere, &everywhere.Status.Conditions, "True"))

	namespaced.Status.Conditions = append(namespaced.Status.Conditions, v2.Condition{Type: "Other", Status: "True"})
	mustDo(t, c.Status().Update(t.Context(), namespaced))
	namespaced.Spec = rule("192.0.2.0/24")
	mustDo(t, c.Update(t.Context(), namespaced))
	eventually(t, "the policy that was mended", valid(namespaced, &namespaced.Status.Conditions, "True"))
	if all := namespaced.Status.Conditions; len(all) != 2 || all[0].Type != conditionValid && all[1].Type != conditionValid {
		t.Errorf("conditions %+v, want the other one too", all)
	}
	r.end(t)
}
