package operator

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/placid-net/placid/api/v1alpha1"
)

// Backoff of a node whose reconciliation failed.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = time.Minute
)

type workQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// waker puts nodes into the work queue once there is one.
type waker struct{ queue atomic.Pointer[workQueue] }

func (w *waker) wake(node string) {
	if q := w.queue.Load(); q != nil {
		(*q).Add(requestFor(node))
	}
}

// watch adds the reconciler to the manager as its only controller. joining gets
// the nodes as they appear.
func watch(mgr ctrl.Manager, r reconcile.Reconciler, joining *nameSet, w *waker) error {
	nodes := handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q workQueue) {
			joining.add(e.Object.GetName())
			q.Add(requestFor(e.Object.GetName()))
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workQueue) {
			q.Add(requestFor(e.ObjectNew.GetName()))
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q workQueue) {
			q.Add(requestFor(e.Object.GetName()))
		},
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("placidnode").
		WithOptions(controller.Options{
			// One goroutine carves.
			MaxConcurrentReconciles: 1,
			// The name labels metrics; two operators in one process, in a test,
			// may share it.
			SkipNameValidation: new(true),
			RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
		}).
		Watches(&corev1.Node{}, nodes, updates(nodeChanged)).
		Watches(&v1alpha1.PlacidNode{}, &handler.EnqueueRequestForObject{}, updates(placidNodeChanged)).
		WatchesRawSource(source.Func(func(_ context.Context, q workQueue) error {
			w.queue.Store(&q)
			return nil
		})).
		Complete(r)
}

// updates lets the updates through that wanted accepts, and all other events.
func updates(wanted func(event.UpdateEvent) bool) builder.Predicates {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: wanted})
}

func requestFor(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Name: name}}
}

// nodeChanged leaves out the heartbeats.
func nodeChanged(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*corev1.Node)
	after, ok2 := e.ObjectNew.(*corev1.Node)
	return !ok || !ok2 || before.UID != after.UID || !maps.Equal(before.Labels, after.Labels) ||
		!slices.Equal(internalIPs(before), internalIPs(after)) ||
		before.Spec.PodCIDR != after.Spec.PodCIDR || !slices.Equal(before.Spec.PodCIDRs, after.Spec.PodCIDRs)
}

// placidNodeChanged leaves out what the agent writes.
func placidNodeChanged(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*v1alpha1.PlacidNode)
	after, ok2 := e.ObjectNew.(*v1alpha1.PlacidNode)
	return !ok || !ok2 || before.Generation != after.Generation || before.UID != after.UID ||
		before.Status.OperatorError != after.Status.OperatorError || !maps.Equal(before.Labels, after.Labels) ||
		len(before.OwnerReferences) != len(after.OwnerReferences)
}
