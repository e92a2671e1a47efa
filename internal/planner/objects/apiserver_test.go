package objects

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/placid-net/placid/internal/planner/snapshot"
	"github.com/placid-net/placid/internal/testutil"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAgainstARealAPIServer checks what a fake server cannot: that the requests are
// those that Kubernetes takes, and the answers those that it gives.
func TestAgainstARealAPIServer(t *testing.T) {
	env := &envtest.Environment{BinaryAssetsDirectory: testutil.APIServerBinaries(t), ControlPlaneStartTimeout: 2 * time.Minute}
	rc, err := env.Start()
	must(t, err)
	t.Cleanup(func() {
		if stopped := env.Stop(); stopped != nil {
			t.Errorf("stop the API server: %v", stopped)
		}
	})
	rc.QPS, rc.Burst = 500, 500
	user := func(name string, groups ...string) string {
		added, failed := env.AddUser(envtest.User{Name: name, Groups: groups}, nil)
		must(t, failed)
		text, failed := added.KubeConfig()
		must(t, failed)
		path := filepath.Join(t.TempDir(), "kubeconfig")
		must(t, os.WriteFile(path, text, 0o600))
		return path
	}
	admin := user("admin", "system:masters")
	fill(t, kubernetes.NewForConfigOrDie(rc))

	t.Run("without Cilium's kinds", func(t *testing.T) {
		s, err := Load(t.Context(), Options{Kubeconfig: admin})
		must(t, err)
		wantLines(t, problemLines(s, ""))
		if len(s.Slices) != pageSize+1 || policyNames(s) != "shop/deny" || s.Platform != snapshot.Cilium || s.ClusterName != "blue" {
			t.Errorf("%d slices, policies %s, platform %q, cluster %q", len(s.Slices), policyNames(s), s.Platform, s.ClusterName)
		}
		if len(s.Nodes) != 1 || s.Nodes[0].Memory != 16<<30 || s.Nodes[0].MaxPods != 110 {
			t.Errorf("nodes %+v", s.Nodes)
		}
	})
	t.Run("with them", func(t *testing.T) {
		_, err := envtest.InstallCRDs(rc, envtest.CRDInstallOptions{Paths: []string{"../../../deploy/crd"}, ErrorIfPathMissing: true})
		must(t, err)
		text := []byte(`{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"web"},"spec":{"endpointSelector":{},"ingress":[{}]}}`)
		client := kubernetes.NewForConfigOrDie(rc).RESTClient()
		must(t, client.Post().AbsPath("/apis/cilium.io/v2/namespaces/shop/ciliumnetworkpolicies").
			SetHeader("Content-Type", "application/json").Body(text).Do(t.Context()).Error())
		s, err := Load(t.Context(), Options{Kubeconfig: admin})
		must(t, err)
		wantLines(t, problemLines(s, ""))
		if policyNames(s) != "cnp/shop/web shop/deny" {
			t.Errorf("policies %s", policyNames(s))
		}
	})
	t.Run("without any right", func(t *testing.T) {
		s, err := Load(t.Context(), Options{Kubeconfig: user("nobody")})
		must(t, err)
		fatal := map[string]bool{}
		for _, p := range s.Problems {
			if p.Severity == snapshot.Fatal {
				fatal[p.Object.Kind] = true
			}
		}
		if !fatal[kindNetworkPolicy] || !fatal[kindCilium] || !fatal[kindClusterwide] || fatal["Pod"] || len(s.Problems) < 10 {
			t.Errorf("problems %q", problemLines(s, ""))
		}
	})
}

// fill makes objects, and one slice more than a page holds.
func fill(t *testing.T, kube kubernetes.Interface) {
	t.Helper()
	ctx, options := t.Context(), metav1.CreateOptions{}
	_, err := kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, options)
	must(t, err)
	node, err := kube.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, options)
	must(t, err)
	node.Status.Capacity = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Gi")}
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("110")}
	_, err = kube.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	must(t, err)
	_, err = kube.NetworkingV1().NetworkPolicies("shop").Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "deny"}}, options)
	must(t, err)
	for name, data := range map[string]string{"cilium-config": "blue", "other": "red"} {
		_, err = kube.CoreV1().ConfigMaps("kube-system").Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"cluster-name": data},
		}, options)
		must(t, err)
	}
	for i := range pageSize { // and one of the API server's own
		_, err = kube.DiscoveryV1().EndpointSlices("shop").Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("s%d", i), Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4,
		}, options)
		must(t, err)
	}
}
