package upstream

import (
	"context"
	"fmt"
	"time"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/kubernetes/test/e2e/framework"
)

const (
	podAddressInterval = 200 * time.Millisecond
	podAddressTimeout  = 2 * time.Minute
)

// usePodAddresses makes the specs of the framework reach pods without services.
//
// The specs of NetworkPolicy make a service for every pod, and connect to the
// cluster IP that the API server answers with. They have no option for the pod's
// own address. So their client answers with that in its place; the service in
// the cluster is what the spec asked for.
func usePodAddresses(f *framework.Framework) {
	ginkgo.BeforeEach(func() { f.ClientSet = client{f.ClientSet} })
}

type client struct{ kubernetes.Interface }

func (c client) CoreV1() typedcorev1.CoreV1Interface { return coreClient{c.Interface.CoreV1()} }

type coreClient struct{ typedcorev1.CoreV1Interface }

func (c coreClient) Services(namespace string) typedcorev1.ServiceInterface {
	return serviceClient{c.CoreV1Interface.Services(namespace), c.Pods(namespace)}
}

type serviceClient struct {
	typedcorev1.ServiceInterface
	pods typedcorev1.PodInterface
}

// Create makes the service, waits until its pod has an address, and returns the
// service with that address for its cluster IP.
func (c serviceClient) Create(ctx context.Context, service *corev1.Service, options metav1.CreateOptions) (*corev1.Service, error) {
	created, err := c.ServiceInterface.Create(ctx, service, options)
	if err != nil {
		return nil, err
	}
	address, err := c.podAddress(ctx, created.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("address of the pod of service %s/%s: %w", created.Namespace, created.Name, err)
	}
	created.Spec.ClusterIP = address
	created.Spec.ClusterIPs = []string{address}
	return created, nil
}

// podAddress waits for the only pod of the selector to have an address.
func (c serviceClient) podAddress(ctx context.Context, selector map[string]string) (string, error) {
	var address string
	options := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()}
	err := wait.PollUntilContextTimeout(ctx, podAddressInterval, podAddressTimeout, true, func(ctx context.Context) (bool, error) {
		pods, err := c.pods.List(ctx, options)
		if err != nil {
			return false, err
		}
		if len(pods.Items) != 1 {
			return false, fmt.Errorf("%d pods have the labels %q: -pod-addresses needs exactly one", len(pods.Items), options.LabelSelector)
		}
		address = pods.Items[0].Status.PodIP
		return address != "", nil
	})
	return address, err
}
