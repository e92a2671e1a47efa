package operator

import (
	"context"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/placid-net/placid/api/v1alpha1"
)

func listing(node string) *v1alpha1.PlacidEndpoints {
	return &v1alpha1.PlacidEndpoints{ObjectMeta: metav1.ObjectMeta{Name: node}}
}

func TestEndpointsOfNodesThatAreGone(t *testing.T) {
	store := newIdentityStore(t, node("here"), listing("here"), listing("gone"))
	r := &endpointsReaper{client: store, live: store, logger: slog.New(slog.DiscardHandler)}
	for _, name := range []string{"here", "gone", "never", "gone"} {
		_, err := r.Reconcile(t.Context(), requestFor(name))
		mustDo(t, err)
	}
	for name, want := range map[string]bool{"here": true, "gone": false} {
		pe, err := get(t.Context(), store, name, &v1alpha1.PlacidEndpoints{})
		mustDo(t, err)
		if (pe != nil) != want {
			t.Errorf("PlacidEndpoints %s exists: %v, want %v", name, pe != nil, want)
		}
	}
}

// TestEndpointsOfANodeThatCameBack: the cache does not have the Node, or the agent
// writes its object while it is deleted.
func TestEndpointsOfANodeThatCameBack(t *testing.T) {
	store := newIdentityStore(t, node("a"), listing("a"), listing("b"))
	noNodes := interceptor.NewClient(store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.Node); ok {
				return apierrors.NewNotFound(corev1.Resource("nodes"), key.Name)
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	r := &endpointsReaper{client: noNodes, live: store, logger: slog.New(slog.DiscardHandler)}
	_, err := r.Reconcile(t.Context(), requestFor("a"))
	mustDo(t, err)

	r.client = writes(store, func(what string, after bool) error {
		if what == "delete b" && !after {
			pe, err := get(t.Context(), store, "b", listing("b"))
			mustDo(t, err)
			pe.Endpoints = []v1alpha1.PublishedEndpoint{{Namespace: "x", Name: "y", Addresses: []string{"10.0.0.1"}, Identity: 5}}
			mustDo(t, store.Update(t.Context(), pe))
		}
		return nil
	})
	if _, err := r.Reconcile(t.Context(), requestFor("b")); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	for _, name := range []string{"a", "b"} {
		if pe, err := get(t.Context(), store, name, listing(name)); err != nil || pe == nil {
			t.Errorf("PlacidEndpoints %s is gone (%v)", name, err)
		}
	}
}
