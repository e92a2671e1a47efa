package operator

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const crdName = "placidnodes.placid.io"

// definition is an empty object of the kind.
func definition() *unstructured.Unstructured {
	d := &unstructured.Unstructured{}
	d.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	d.SetName(crdName)
	return d
}

// establish does what the API server does a moment after the definition came.
func establish(t *testing.T, store client.Client) {
	t.Helper()
	d, err := get(t.Context(), store, crdName, definition())
	mustDo(t, err)
	d.Object["status"] = map[string]any{"conditions": []any{
		map[string]any{"type": "NamesAccepted", "status": "True"},
		map[string]any{"type": "Established", "status": "True"},
	}}
	mustDo(t, store.Status().Update(t.Context(), d))
}

func TestInstallCRDWaitsUntilEstablished(t *testing.T) {
	store := newStore(t)
	looks := 0
	slow := interceptor.NewClient(store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if looks++; looks == 3 {
				establish(t, store)
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	mustDo(t, installCRD(t.Context(), slow, slog.New(slog.DiscardHandler)))
	if looks < 3 {
		t.Errorf("returned after %d looks, before the definition was established", looks)
	}
	d, err := get(t.Context(), store, crdName, definition())
	mustDo(t, err)
	if kind, _, err := unstructured.NestedString(d.Object, "spec", "names", "kind"); err != nil || kind != "PlacidNode" {
		t.Errorf("installed %v (%v)", d.Object["spec"], err)
	}
	mustDo(t, installCRD(t.Context(), store, slog.New(slog.DiscardHandler)))
}

func TestInstallCRDForbidden(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "customresourcedefinitions"}, crdName, errors.New("no"))
	noApply := interceptor.Funcs{
		Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
			return forbidden
		},
	}
	store := newStore(t)
	err := installCRD(t.Context(), interceptor.NewClient(store, noApply), slog.New(slog.DiscardHandler))
	if !errors.Is(err, errCRDMissing) {
		t.Errorf("no definition and no permission: %v, want errCRDMissing", err)
	}
	mustDo(t, store.Create(t.Context(), definition()))
	establish(t, store)
	if err := installCRD(t.Context(), interceptor.NewClient(store, noApply), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the definition is there: %v", err)
	}
}
