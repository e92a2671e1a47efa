package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/placid-net/placid/api/v1alpha1"
)

// identitiesOnAPIServer: pods without a policy, the first policy, a namespace with
// another label, a change of leader, the last policy, on a real API server.
func identitiesOnAPIServer(t *testing.T, rc *rest.Config) {
	scheme, err := newScheme()
	mustDo(t, err)
	c, err := client.New(rc, client.Options{Scheme: scheme})
	mustDo(t, err)
	cfg := Config{
		IPAM: IPAMKubernetes, ClusterName: "lab", Labels: []string{"!color"}, NetworkPolicies: true, IdentityGCInterval: 3 * time.Second,
	}
	start := func() *running {
		o, newErr := New(cfg, rc, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
		mustDo(t, newErr)
		return runInBackground(t, o)
	}
	numbers := func(want int) func() error {
		return func() error {
			if got := byKey(t, c); len(got) != want {
				return fmt.Errorf("%d identities, want %d: %v", len(got), want, got)
			}
			return nil
		}
	}

	ns := namespace("ids", "team", "red")
	ns.UID = ""
	create(t, c, ns)
	for i := range 20 {
		p := pod("ids", fmt.Sprint("web-", i), "app", fmt.Sprint("app-", i%4), "color", fmt.Sprint(i))
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "x", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}}
		p.Spec.ServiceAccountName = "default"
		p.Spec.AutomountServiceAccountToken = new(false)
		create(t, c, &corev1.ServiceAccount{ObjectMeta: pod("ids", fmt.Sprint("sa-", i)).ObjectMeta}, p)
	}
	first := start()
	eventually(t, "the operator's definitions", func() error { return c.List(t.Context(), &v1alpha1.PlacidIdentityList{}) })
	create(t, c, listing("no-such-node"))
	eventually(t, "PlacidEndpoints of a node that is gone", func() error {
		pe, getErr := get(t.Context(), c, "no-such-node", listing(""))
		if pe != nil {
			return errors.New("it is still there")
		}
		return getErr
	})
	mustDo(t, numbers(0)())

	np := policyFrom("ids", "p", "color", "red")
	np.UID = ""
	create(t, c, np)
	eventually(t, "identities after the first policy", numbers(4))
	before := byKey(t, c)
	eventually(t, "an event about the filtered label", func() error {
		var list eventsv1.EventList
		mustDo(t, c.List(t.Context(), &list))
		if !slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Reason == reasonFilteredLabel && e.Regarding.Name == "p" && e.Regarding.Kind == "NetworkPolicy" && e.Regarding.UID == np.UID
		}) {
			return fmt.Errorf("no such event among %d", len(list.Items))
		}
		return nil
	})
	checkImmutable(t, c)
	checkColumns(t, rc)

	second := start()
	first.end(t)
	mustDo(t, c.DeleteAllOf(t.Context(), &v1alpha1.PlacidIdentity{}))
	eventually(t, "the next leader has the same numbers", func() error {
		if got := byKey(t, c); fmt.Sprint(got) != fmt.Sprint(before) {
			return fmt.Errorf("had %v, now %v", before, got)
		}
		return nil
	})
	ns, err = get(t.Context(), c, "ids", &corev1.Namespace{})
	mustDo(t, err)
	ns.Labels["team"] = "blue"
	mustDo(t, c.Update(t.Context(), ns))
	eventually(t, "identities of the namespace's new labels, the old ones collected", func() error {
		for k := range byKey(t, c) {
			if !strings.Contains(k, "team=blue") {
				return fmt.Errorf("there is %s", k)
			}
		}
		return numbers(4)()
	})
	mustDo(t, c.DeleteAllOf(t.Context(), &networkingv1.NetworkPolicy{}, client.InNamespace("ids")))
	eventually(t, "nothing after the last policy", numbers(0))
	second.end(t)
}

// checkImmutable demands that the API server refuses other labels for an identity.
func checkImmutable(t *testing.T, c client.Client) {
	t.Helper()
	var list v1alpha1.PlacidIdentityList
	mustDo(t, c.List(t.Context(), &list))
	id := list.Items[0].DeepCopy()
	id.Labels["k8s:app"] = "other"
	if err := c.Update(t.Context(), id); !apierrors.IsInvalid(err) {
		t.Errorf("other labels: %v, want that it is invalid", err)
	}
	id = list.Items[0].DeepCopy()
	id.NamedPorts = nil
	if err := c.Update(t.Context(), id); !apierrors.IsInvalid(err) {
		t.Errorf("no ports any more: %v, want that it is invalid", err)
	}
}

// checkColumns demands that `kubectl get placididentities` shows the namespace.
func checkColumns(t *testing.T, rc *rest.Config) {
	t.Helper()
	h, err := rest.HTTPClientFor(rc)
	mustDo(t, err)
	server, _, err := rest.DefaultServerUrlFor(rc)
	mustDo(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.JoinPath("apis/placid.io/v1alpha1/placididentities").String(), nil)
	mustDo(t, err)
	req.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	answer, err := h.Do(req)
	mustDo(t, err)
	defer answer.Body.Close()
	var table metav1.Table
	mustDo(t, json.NewDecoder(answer.Body).Decode(&table))
	if len(table.Rows) != 4 || !slices.Contains(table.Rows[0].Cells, any("ids")) {
		t.Errorf("columns %v, rows %+v, want the namespace", table.ColumnDefinitions, table.Rows)
	}
}
