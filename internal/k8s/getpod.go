package k8s

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/placid-net/placid/internal/state"
)

// Pod asks the API server for one pod of this node, for whoever cannot wait for
// the watch. ok is false when it does not exist, is on another node, or is
// another pod of the same name. An empty ref.UID stands for any.
func (c *Client) Pod(ctx context.Context, ref state.PodRef) (pod state.Pod, ok bool, err error) {
	var obj corev1.Pod
	err = c.core.Get().MaxRetries(0).Namespace(ref.Namespace).Resource("pods").Name(ref.Name).Do(ctx).Into(&obj)
	if apierrors.IsNotFound(err) {
		return state.Pod{}, false, nil
	}
	if err != nil {
		return state.Pod{}, false, fmt.Errorf("get pod %s: %w", ref, err)
	}
	if obj.Spec.NodeName != c.nodeName || ref.UID != "" && ref.UID != podRef(&obj).UID {
		return state.Pod{}, false, nil
	}
	return PodRow(&obj), true, nil
}
