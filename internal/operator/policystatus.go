package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// conditionValid is the condition of Cilium's policies that `kubectl get` has a
// column for.
const conditionValid = "Valid"

// maxConditionMessage is what metav1.Condition allows, in bytes.
const maxConditionMessage = 32768

// policyStatus writes into the status of the policies of one of Cilium's kinds
// whether they are understood.
type policyStatus[T client.Object] struct {
	client     client.Client // reads from the cache, writes to the API server
	empty      func() T
	of         func(T) policyObject
	conditions func(T) *[]v2.Condition
	now        func() time.Time
}

// watchPolicyStatuses adds a controller for each kind that counts.
func watchPolicyStatuses(mgr ctrl.Manager, cilium, clusterwide bool) error {
	if cilium {
		err := watchPolicyStatus(mgr, "ciliumnetworkpolicies", &policyStatus[*v2.CiliumNetworkPolicy]{
			client: mgr.GetClient(), empty: func() *v2.CiliumNetworkPolicy { return &v2.CiliumNetworkPolicy{} }, of: ciliumPolicy,
			conditions: func(p *v2.CiliumNetworkPolicy) *[]v2.Condition { return &p.Status.Conditions }, now: time.Now,
		})
		if err != nil {
			return err
		}
	}
	if !clusterwide {
		return nil
	}
	return watchPolicyStatus(mgr, "ciliumclusterwidenetworkpolicies", &policyStatus[*v2.CiliumClusterwideNetworkPolicy]{
		client: mgr.GetClient(), empty: func() *v2.CiliumClusterwideNetworkPolicy { return &v2.CiliumClusterwideNetworkPolicy{} }, of: clusterwidePolicy,
		conditions: func(p *v2.CiliumClusterwideNetworkPolicy) *[]v2.Condition { return &p.Status.Conditions }, now: time.Now,
	})
}

func watchPolicyStatus[T client.Object](mgr ctrl.Manager, name string, r *policyStatus[T]) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named(name).
		WithOptions(controller.Options{
			SkipNameValidation: new(true), // see watch
			RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
		}).
		// What is written to a status, by whomever, is no reason to look again.
		Watches(r.empty(), &handler.EnqueueRequestForObject{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}

// Reconcile implements reconcile.Reconciler.
func (r *policyStatus[T]) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	obj := r.empty()
	if err := r.client.Get(ctx, req.NamespacedName, obj); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	after, ok := obj.DeepCopyObject().(T)
	if !ok || !setCondition(r.conditions(after), validity(r.of(obj).rows), r.now()) {
		return ctrl.Result{}, nil
	}
	// The lock keeps the conditions that others write at this moment: they are one list.
	err := r.client.Status().Patch(ctx, after, client.MergeFromWithOptions(obj, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("write the status of policy %s: %w", req, err)
	}
	return ctrl.Result{}, nil
}

// validity is what the rows of a policy say about it. A policy of which a part is
// not understood is not valid; one of which a part is not enforced is.
func validity(rows []state.NetworkPolicy) v2.Condition {
	var problems, unsupported []string
	for _, row := range rows {
		problems, unsupported = append(problems, row.Problems...), append(unsupported, row.Unsupported...)
	}
	c := v2.Condition{Type: conditionValid, Status: string(metav1.ConditionTrue), Message: "Policy validation succeeded"}
	switch {
	case len(problems) > 0:
		c.Status, c.Reason, c.Message = string(metav1.ConditionFalse), reasonNotUnderstood, strings.Join(problems, ". ")
	case len(unsupported) > 0:
		c.Reason, c.Message = reasonNotSupported, strings.Join(unsupported, ". ")
	}
	c.Message = clip(c.Message, maxConditionMessage)
	return c
}

// setCondition puts c among the conditions, and tells whether that changed them. The
// time of a condition is that of the last change of its status.
func setCondition(all *[]v2.Condition, c v2.Condition, now time.Time) bool {
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	i := slices.IndexFunc(*all, func(o v2.Condition) bool { return o.Type == c.Type })
	if i < 0 {
		*all = append(*all, c)
		return true
	}
	if was := (*all)[i]; was.Status == c.Status {
		c.LastTransitionTime = was.LastTransitionTime
		if was == c {
			return false
		}
	}
	(*all)[i] = c
	return true
}
