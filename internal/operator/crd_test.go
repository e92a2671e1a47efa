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

// crdNames are the definitions that the operator installs, and their kinds.
func crdNames() map[string]string {
	return map[string]string{
		"placidnodes.placid.io": "PlacidNode", "placididentities.placid.io": "PlacidIdentity", "placidendpoints.placid.io": "PlacidEndpoints",
	}
}

// definition is an empty object of the kind.
func definition(name string) *unstructured.Unstructured {
	d := &unstructured.Unstructured{}
	d.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	d.SetName(name)
	return d
}

// establish does what the API server does a moment after the definition came.
func establish(t *testing.T, store client.Client, name string) {
	t.Helper()
	d, err := get(t.Context(), store, name, definition(name))
	mustDo(t, err)
	d.Object["status"] = map[string]any{"conditions": []any{
		map[string]any{"type": "NamesAccepted", "status": "True"},
		map[string]any{"type": "Established", "status": "True"},
	}}
	mustDo(t, store.Status().Update(t.Context(), d))
}

func TestInstallCRDWaitsUntilEstablished(t *testing.T) {
	store := newStore(t)
	looks := map[string]int{}
	slow := interceptor.NewClient(store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if looks[key.Name]++; looks[key.Name] == 3 {
				establish(t, store, key.Name)
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	mustDo(t, installCRDs(t.Context(), slow, slog.New(slog.DiscardHandler)))
	for name, want := range crdNames() {
		if looks[name] < 3 {
			t.Errorf("returned after %d looks, before %s was established", looks[name], name)
		}
		d, err := get(t.Context(), store, name, definition(name))
		mustDo(t, err)
		if d == nil {
			t.Errorf("%s is not installed", name)
			continue
		}
		if kind, _, err := unstructured.NestedString(d.Object, "spec", "names", "kind"); err != nil || kind != want {
			t.Errorf("installed %v (%v)", d.Object["spec"], err)
		}
	}
	mustDo(t, installCRDs(t.Context(), store, slog.New(slog.DiscardHandler)))
}

func TestInstallCRDForbidden(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "customresourcedefinitions"}, "any", errors.New("no"))
	noApply := interceptor.Funcs{
		Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
			return forbidden
		},
	}
	store := newStore(t)
	err := installCRDs(t.Context(), interceptor.NewClient(store, noApply), slog.New(slog.DiscardHandler))
	if !errors.Is(err, errCRDMissing) {
		t.Errorf("no definition and no permission: %v, want errCRDMissing", err)
	}
	for name := range crdNames() {
		mustDo(t, store.Create(t.Context(), definition(name)))
		establish(t, store, name)
	}
	if err := installCRDs(t.Context(), interceptor.NewClient(store, noApply), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the definition is there: %v", err)
	}
}
