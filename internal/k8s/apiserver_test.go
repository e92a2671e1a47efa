package k8s

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
	"github.com/placid-net/placid/internal/testutil"
)

// startAPIServer runs a real kube-apiserver with etcd.
func startAPIServer(t *testing.T) *rest.Config {
	t.Helper()
	env := &envtest.Environment{BinaryAssetsDirectory: testutil.APIServerBinaries(t), ControlPlaneStartTimeout: 2 * time.Minute}
	rc, err := env.Start()
	must(t, err)
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	rc.QPS, rc.Burst = 500, 500
	return rc
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAgainstARealAPIServer checks what a fake server cannot: that the requests
// are those that Kubernetes takes, and the answers those that it gives.
func TestAgainstARealAPIServer(t *testing.T) {
	rc := startAPIServer(t)
	kube, err := kubernetes.NewForConfig(rc)
	must(t, err)
	ctx := t.Context()
	node, err := kube.CoreV1().Nodes().Create(ctx, zoned("me", "z1"), metav1.CreateOptions{})
	must(t, err)
	shop := namespace("shop", map[string]string{"team": "a"})
	_, err = kube.CoreV1().Namespaces().Create(ctx, shop, metav1.CreateOptions{})
	must(t, err)
	spec := policyOf(t, `{"podSelector":{"matchLabels":{"app":"web"}},"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],
		"ports":[{"port":"http"},{"port":8000,"endPort":8080,"protocol":"UDP"},{}]}]}`).Spec
	policy, err := kube.NetworkingV1().NetworkPolicies("shop").Create(ctx, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{AnnotationAudit: "true"}}, Spec: spec,
	}, metav1.CreateOptions{})
	must(t, err)
	web := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName: "me", ServiceAccountName: "default", AutomountServiceAccountToken: new(false),
			Containers: []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}},
		},
	}
	_, err = kube.CoreV1().ServiceAccounts("shop").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	must(t, err)
	web, err = kube.CoreV1().Pods("shop").Create(ctx, web, metav1.CreateOptions{})
	must(t, err)

	tables, err := state.NewTables()
	must(t, err)
	log := &logBuffer{}
	c, err := New(Config{REST: rc, NodeName: "me", Tables: tables, Log: slog.New(slog.NewTextHandler(log, nil)), Policy: true, Services: true, CiliumPolicies: true, ClusterwidePolicies: true})
	must(t, err)
	f := fixture{Client: c, tables: tables, log: log}
	f.start(t)
	since := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	mine := state.PublishedEndpoint{
		Pod: state.PodRef{Namespace: "shop", Name: "web"}, Identity: state.IdentityInit, Since: since,
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
	}
	c.PublishEndpoints([]state.PublishedEndpoint{mine})
	eventually(t, "a line about the missing resource", true, func() bool { return log.count("apply its CustomResourceDefinition") > 0 })
	_, err = envtest.InstallCRDs(rc, envtest.CRDInstallOptions{Paths: []string{filepath.Join("..", "..", "deploy", "crd")}, ErrorIfPathMissing: true})
	must(t, err)
	awaitFor(t, "PolicySynced", c.PolicySynced(), time.Minute)

	t.Run("tables", func(t *testing.T) {
		policies, _, err := tables.NetworkPolicies()
		must(t, err)
		want := PolicyRow(policy)
		if diff := cmp.Diff([]state.NetworkPolicy{want}, policies, comparers()); diff != "" || want.UID == "" || !want.Audit || !want.IsolatesEgress {
			t.Errorf("policies (-want +got):\n%s", diff)
		}
		pod, ok, err := tables.PodByName("shop", "web")
		if err != nil || !ok || pod.ServiceAccount != "default" || len(pod.NamedPorts) != 1 || !pod.CreatedAt.Equal(web.CreationTimestamp.Time) {
			t.Errorf("pod %+v, %t, %v", pod, ok, err)
		}
		row, ok, err := tables.NamespaceByName("shop")
		if err != nil || !ok || row.Labels["team"] != "a" || row.Labels["kubernetes.io/metadata.name"] != "shop" {
			t.Errorf("namespace %+v, %t, %v", row, ok, err)
		}
		id := &v1alpha1.PlacidIdentity{
			ObjectMeta: metav1.ObjectMeta{Name: "300"}, Labels: map[string]string{"k8s:app": "web"},
			NamedPorts: []v1alpha1.NamedPort{{Name: "http", Protocol: "TCP", Port: 80}},
		}
		must(t, c.placid.Post().Resource("placididentities").Body(id).Do(ctx).Error())
		wantID := state.Identity{ID: 300, Labels: id.Labels, NamedPorts: []state.NamedPort{{Name: "http", Protocol: state.ProtocolTCP, Port: 80}}}
		eventually(t, "identity", wantID, func() state.Identity { i, _, _ := tables.IdentityByID(300); return i })
	})

	t.Run("endpoints", func(t *testing.T) {
		row := func() []state.PublishedEndpoint { n, _, _ := tables.NodeEndpointsOf("me"); return n.Endpoints }
		eventually(t, "endpoints", []state.PublishedEndpoint{mine}, row, comparers())
		obj, err := c.endpoints.get(ctx)
		must(t, err)
		if len(obj.OwnerReferences) != 1 || obj.OwnerReferences[0].UID != node.UID {
			t.Errorf("owners %+v", obj.OwnerReferences)
		}
		mine.Identity = 300
		bare := state.PublishedEndpoint{Pod: state.PodRef{Namespace: "shop", Name: "bare"}, Addrs: mine.Addrs[:1], Identity: state.IdentityInit}
		c.PublishEndpoints([]state.PublishedEndpoint{mine, bare})
		bare.Since = time.Unix(0, 0).UTC() // for none
		eventually(t, "endpoints", []state.PublishedEndpoint{bare, mine}, row, comparers())
		before := c.endpoints.seenVersion()
		c.PublishEndpoints([]state.PublishedEndpoint{bare, mine})
		time.Sleep(3 * endpointsMinWait)
		if after := c.endpoints.seenVersion(); after != before {
			t.Errorf("what is there was written again: version %s, was %s", after, before)
		}
		c.PublishEndpoints(nil)
		eventually(t, "endpoints", []state.PublishedEndpoint{}, row, comparers())
		c.WithdrawEndpoints()
		eventually(t, "object", false, func() bool { _, ok, _ := tables.NodeEndpointsOf("me"); return ok })
		if h := c.EndpointsHealth(); !h.OK || log.count("published again") == 0 {
			t.Errorf("health %+v", h)
		}
	})

	t.Run("services", func(t *testing.T) { servicesAtTheServer(t, f, kube) })
	t.Run("policies of Cilium's kinds", func(t *testing.T) { ciliumAtTheServer(t, f) })

	t.Run("event", func(t *testing.T) {
		c.PolicyEvent(PolicyRef{Namespace: "shop", Name: "web", UID: string(policy.UID)}, EventWarning, "PolicyRefused", "too many ports")
		eventually(t, "event", true, func() bool {
			events, err := kube.CoreV1().Events("shop").List(context.WithoutCancel(ctx), metav1.ListOptions{})
			return err == nil && slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
				return e.InvolvedObject.Kind == "NetworkPolicy" && e.InvolvedObject.UID == policy.UID && e.Reason == "PolicyRefused"
			})
		})
	})
}

func (p *endpointsPublisher) seenVersion() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}
