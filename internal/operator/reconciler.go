package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/placid-net/placid/api/v1alpha1"
)

// retryProblem is how often a node with a problem is looked at again without
// being woken, e.g. because another operator freed a range.
const retryProblem = time.Minute

// maxEventNote is the longest text of an event that the API server takes, in
// bytes.
const maxEventNote = 1024

// reconciler makes the PlacidNode of one Node what it should be. It is run by
// one goroutine.
type reconciler struct {
	client  client.Client // reads from the cache, writes to the API server
	live    client.Reader // reads from the API server
	source  cidrSource
	events  events.EventRecorder
	metrics *metrics
	wake    func(node string)
	logger  *slog.Logger

	// starved are the nodes without pod CIDRs, those that wait longest first.
	starved *nameSet
}

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	defer r.metrics.update()
	node, err := get(ctx, r.client, req.Name, &corev1.Node{})
	if err != nil {
		return ctrl.Result{}, err
	}
	if node == nil {
		return ctrl.Result{}, r.remove(ctx, req.Name)
	}
	pn, err := get(ctx, r.client, req.Name, &v1alpha1.PlacidNode{})
	if err != nil {
		return ctrl.Result{}, err
	}
	a, ok, err := r.source.lookup(ctx, node)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !ok || pn == nil || !upToDate(pn, node, a.cidrs) {
		if pn, a, err = r.write(ctx, node); err != nil {
			r.metrics.setNode(node.Name, nodeFailed)
			return ctrl.Result{}, err
		}
	}
	r.source.written(node.Name)
	return r.setProblem(ctx, node, pn, a)
}

// write makes the spec of the PlacidNode right, reading it anew.
func (r *reconciler) write(ctx context.Context, node *corev1.Node) (*v1alpha1.PlacidNode, assignment, error) {
	pn, err := get(ctx, r.live, node.Name, &v1alpha1.PlacidNode{})
	if err != nil {
		return nil, assignment{}, err
	}
	a, err := r.source.prepare(ctx, node, pn)
	if err != nil {
		return nil, assignment{}, err
	}
	if pn == nil {
		pn = &v1alpha1.PlacidNode{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
		fill(pn, node, a.cidrs)
		if err := r.client.Create(ctx, pn); err != nil {
			return nil, a, fmt.Errorf("create PlacidNode %s: %w", node.Name, err)
		}
		r.logger.Info("created a PlacidNode", "node", node.Name, "cidrs", pn.Spec.PodCIDRs)
		return pn, a, nil
	}
	if upToDate(pn, node, a.cidrs) {
		return pn, a, nil
	}
	before := pn.Spec
	fill(pn, node, a.cidrs)
	// With the resource version that was read: a conflict means to start over.
	if err := r.client.Update(ctx, pn); err != nil {
		return nil, a, fmt.Errorf("update PlacidNode %s: %w", node.Name, err)
	}
	r.logger.Info("updated a PlacidNode", "node", node.Name, "before", before, "after", pn.Spec)
	return pn, a, nil
}

// setProblem tells the world, in the PlacidNode, in an event and in metrics,
// what stands between the node and its pod CIDRs, or that nothing does any more.
func (r *reconciler) setProblem(ctx context.Context, node *corev1.Node, pn *v1alpha1.PlacidNode, a assignment) (ctrl.Result, error) {
	message := ""
	if a.problem != nil {
		message = a.problem.message
	}
	if pn.Status.OperatorError != message {
		if err := r.patchError(ctx, pn, message); err != nil {
			return ctrl.Result{}, err
		}
		if a.problem != nil {
			r.logger.Error("a node has a problem with its pod CIDRs", "node", node.Name, "reason", a.problem.reason, "error", message)
			r.events.Eventf(node, nil, corev1.EventTypeWarning, a.problem.reason, "AssignPodCIDRs", "%s", clip(message, maxEventNote))
		}
	}
	if a.problem != nil {
		r.metrics.setNode(node.Name, nodeFailed)
		r.starved.add(node.Name)
		return ctrl.Result{RequeueAfter: retryProblem}, nil
	}
	r.metrics.setNode(node.Name, nodeAssigned)
	r.starved.remove(node.Name)
	return ctrl.Result{}, nil
}

// patchError writes status.operatorError and nothing else: the agent writes the
// rest of the status at the same time.
func (r *reconciler) patchError(ctx context.Context, pn *v1alpha1.PlacidNode, message string) error {
	var value any // null removes the field
	if message != "" {
		value = message
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"operatorError": value}})
	if err != nil {
		return fmt.Errorf("encode status of PlacidNode %s: %w", pn.Name, err)
	}
	target := &v1alpha1.PlacidNode{ObjectMeta: metav1.ObjectMeta{Name: pn.Name}}
	if err := r.client.Status().Patch(ctx, target, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("patch status of PlacidNode %s: %w", pn.Name, err)
	}
	return nil
}

// remove deletes the PlacidNode of a Node that is gone and frees what it had.
func (r *reconciler) remove(ctx context.Context, name string) error {
	node, err := get(ctx, r.live, name, &corev1.Node{})
	if err != nil {
		return err
	}
	if node != nil {
		return fmt.Errorf("look for Node %s: it exists again and the cache does not have it yet", name)
	}
	pn, err := get(ctx, r.live, name, &v1alpha1.PlacidNode{})
	if err != nil {
		return err
	}
	if pn != nil {
		// Only the object that was read: another may have come meanwhile.
		err := r.client.Delete(ctx, pn, client.Preconditions{UID: &pn.UID, ResourceVersion: &pn.ResourceVersion})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete PlacidNode %s: %w", name, err)
		}
		r.logger.Info("deleted a PlacidNode, its Node is gone", "node", name, "cidrs", pn.Spec.PodCIDRs)
	}
	r.metrics.forgetNode(name)
	r.starved.remove(name)
	for _, n := range r.source.release(name) {
		r.wake(n)
	}
	for _, n := range r.starved.take(1) { // one node left, one can have its place
		r.wake(n)
	}
	return nil
}

// get reads a cluster-wide object into obj; the result is the zero value when
// there is none.
func get[T client.Object](ctx context.Context, from client.Reader, name string, obj T) (T, error) {
	var none T
	err := from.Get(ctx, client.ObjectKey{Name: name}, obj)
	switch {
	case apierrors.IsNotFound(err):
		return none, nil
	case err != nil:
		return none, fmt.Errorf("get %T %s: %w", obj, name, err)
	}
	return obj, nil
}

// fill sets what the operator writes of a PlacidNode besides the status.
func fill(pn *v1alpha1.PlacidNode, node *corev1.Node, cidrs []netip.Prefix) {
	pn.Spec.PodCIDRs = prefixTexts(cidrs)
	pn.Spec.Addresses = internalIPs(node)
	pn.Labels = maps.Clone(node.Labels) // policies select nodes by them
	owner := ownerReference(node)
	pn.OwnerReferences = slices.DeleteFunc(pn.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == owner.Kind })
	pn.OwnerReferences = append(pn.OwnerReferences, owner)
}

// upToDate says whether fill would change nothing.
func upToDate(pn *v1alpha1.PlacidNode, node *corev1.Node, cidrs []netip.Prefix) bool {
	return slices.Equal(pn.Spec.PodCIDRs, prefixTexts(cidrs)) &&
		slices.Equal(pn.Spec.Addresses, internalIPs(node)) && maps.Equal(pn.Labels, node.Labels) &&
		slices.Contains(pn.OwnerReferences, ownerReference(node))
}

// ownerReference makes the garbage collector delete the PlacidNode with the
// Node, should no operator run then.
func ownerReference(node *corev1.Node) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
}

// internalIPs returns the Node's InternalIP addresses in its order.
func internalIPs(node *corev1.Node) []string {
	var out []string
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && !slices.Contains(out, a.Address) {
			out = append(out, a.Address)
		}
	}
	return out
}

func prefixTexts(in []netip.Prefix) []string {
	var out []string
	for _, p := range in {
		out = append(out, p.String())
	}
	return out
}

// clip cuts a text to at most n bytes of whole characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
