package operator

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/placid-net/placid/api/v1alpha1"
)

// endpointsReaper deletes the PlacidEndpoints of nodes that do not exist. The
// garbage collector of Kubernetes does the same by the owner reference; without
// it, or without the reference, the other nodes would keep addresses of pods that
// are gone and identities would never be collected.
type endpointsReaper struct {
	client client.Client // reads from the cache, writes to the API server
	live   client.Reader // reads from the API server
	logger *slog.Logger
}

// watchEndpoints adds the reaper to the manager.
func watchEndpoints(mgr ctrl.Manager, logger *slog.Logger) error {
	gone := handler.Funcs{DeleteFunc: func(_ context.Context, e event.DeleteEvent, q workQueue) {
		q.Add(requestFor(e.Object.GetName()))
	}}
	never := func(event.UpdateEvent) bool { return false }
	return ctrl.NewControllerManagedBy(mgr).
		Named("placidendpoints").
		WithOptions(controller.Options{
			SkipNameValidation: new(true), // see watch
			RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
		}).
		Watches(&corev1.Node{}, gone).
		Watches(&v1alpha1.PlacidEndpoints{}, &handler.EnqueueRequestForObject{}, updates(never)).
		Complete(&endpointsReaper{client: mgr.GetClient(), live: mgr.GetAPIReader(), logger: logger})
}

// Reconcile implements reconcile.Reconciler.
func (r *endpointsReaper) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	for _, from := range []client.Reader{r.client, r.live} {
		node, err := get(ctx, from, req.Name, &corev1.Node{})
		if err != nil || node != nil {
			return ctrl.Result{}, err
		}
	}
	pe, err := get(ctx, r.live, req.Name, &v1alpha1.PlacidEndpoints{})
	if err != nil || pe == nil {
		return ctrl.Result{}, err
	}
	// Only the object that was read: the node may come back with another.
	err = r.client.Delete(ctx, pe, client.Preconditions{UID: &pe.UID, ResourceVersion: &pe.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete PlacidEndpoints %s: %w", pe.Name, err)
	}
	r.logger.Info("deleted a PlacidEndpoints, its Node is gone", "node", pe.Name, "endpoints", len(pe.Endpoints))
	return ctrl.Result{}, nil
}
