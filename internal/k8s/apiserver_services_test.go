package k8s

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/placid-net/placid/internal/state"
)

// servicesAtTheServer checks the watches that services need, their selectors above
// all: an object that stops to be selected has to go.
func servicesAtTheServer(t *testing.T, f fixture, kube kubernetes.Interface) {
	t.Helper()
	ctx := t.Context()
	await(t, "ServicesSynced", f.ServicesSynced())
	inShop := func() served {
		all := f.served()
		other := func(line string) bool { return !strings.HasPrefix(line, "shop/") }
		return served{Services: slices.DeleteFunc(all.Services, other), Slices: slices.DeleteFunc(all.Slices, other)}
	}
	create := func(name string, spec corev1.ServiceSpec, labels map[string]string) *corev1.Service {
		t.Helper()
		spec.Ports = []corev1.ServicePort{{Port: 80}}
		s, err := kube.CoreV1().Services("shop").Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: spec,
		}, metav1.CreateOptions{})
		must(t, err)
		return s
	}
	web := create("web", corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, SessionAffinity: corev1.ServiceAffinityClientIP}, nil)
	create("headless", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}, nil)
	create("name", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}, nil)
	create("foreign", corev1.ServiceSpec{}, map[string]string{labelServiceProxyName: "other"})
	slice := func(name string, labels map[string]string) {
		t.Helper()
		_, err := kube.DiscoveryV1().EndpointSlices("shop").Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}}, Ports: []discoveryv1.EndpointPort{{Port: new(int32(8080))}},
		}, metav1.CreateOptions{})
		must(t, err)
	}
	slice("web-1", map[string]string{discoveryv1.LabelServiceName: "web"})
	slice("headless-1", map[string]string{discoveryv1.LabelServiceName: "headless", labelHeadless: ""})
	slice("foreign-1", map[string]string{discoveryv1.LabelServiceName: "foreign", labelServiceProxyName: "other"})
	slice("alone", nil)
	last := create("zz-last", corev1.ServiceSpec{}, nil)
	slice("zz-last-1", map[string]string{discoveryv1.LabelServiceName: "zz-last"})
	want := served{
		Services: []string{"shop/web " + web.Spec.ClusterIP, "shop/zz-last " + last.Spec.ClusterIP},
		Slices:   []string{"shop/web-1 of web 10.0.0.1", "shop/zz-last-1 of zz-last 10.0.0.1"},
	}
	eventually(t, "tables", want, inShop)

	row, ok, err := f.tables.ServiceByRef(state.ServiceRef{Namespace: "shop", Name: "web"})
	wantRow, problems, rowErr := ServiceRow(web)
	if diff := cmp.Diff(wantRow, row, comparers()); !ok || err != nil || rowErr != nil || len(problems) > 0 || diff != "" ||
		row.UID == "" || row.CreatedAt.IsZero() || row.Ports[0].NodePort == 0 || row.Affinity != defaultAffinity {
		t.Errorf("row %+v, %t, %v, %v, %v\n%s", row, ok, err, rowErr, problems, diff)
	}

	// Another proxy takes one over, and gives it back.
	patch := func(value string) {
		t.Helper()
		_, err := kube.CoreV1().Services("shop").Patch(ctx, "zz-last", types.MergePatchType,
			[]byte(`{"metadata":{"labels":{"`+labelServiceProxyName+`":`+value+`}}}`), metav1.PatchOptions{})
		must(t, err)
	}
	patch(`"other"`)
	eventually(t, "a Service of another proxy", want.Services[:1], func() []string { return inShop().Services })
	patch("null")
	eventually(t, "a Service that is back", want.Services, func() []string { return inShop().Services })

	eventually(t, "the zone is known", "z1", func() string { f.nodes.mu.Lock(); defer f.nodes.mu.Unlock(); return f.nodes.zone })

	f.EventService(state.ServiceRef{Namespace: "shop", Name: "web"}, EventWarning, "ServiceRefused", "no room")
	eventually(t, "event", true, func() bool {
		events, err := kube.CoreV1().Events("shop").List(context.WithoutCancel(ctx), metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Kind == "Service" && e.InvolvedObject.UID == web.UID && e.Reason == "ServiceRefused"
		})
	})
}
