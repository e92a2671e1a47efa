package operator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
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

// ciliumNames are the definitions of Cilium's that the operator installs.
func ciliumNames() []string {
	return []string{"ciliumcidrgroups.cilium.io", ciliumPolicyCRD, clusterwidePolicyCRD}
}

// establishing establishes each definition as soon as it is applied.
func establishing(t *testing.T, store client.WithWatch, applied *[]string) client.WithWatch {
	return interceptor.NewClient(store, interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := c.Apply(ctx, o, opts...); err != nil {
				return err
			}
			name := o.(interface{ GetName() string }).GetName()
			*applied = append(*applied, name)
			establish(t, store, name)
			return nil
		},
	})
}

func TestInstallCiliumCRDs(t *testing.T) {
	scheme, err := newScheme()
	mustDo(t, err)
	store := fake.NewClientBuilder().WithScheme(scheme).WithReturnManagedFields().
		WithTypeConverters(managedfields.NewDeducedTypeConverter()).Build()
	foreign := definition(ciliumPolicyCRD)
	foreign.SetLabels(map[string]string{"io.cilium.k8s.crd.schema.version": "1.31.0"})
	mustDo(t, store.Create(t.Context(), foreign))
	var applied []string
	c := establishing(t, store, &applied)
	for range 2 { // the second time it finds its own
		there, bad := installCiliumCRDs(t.Context(), c, slog.New(slog.DiscardHandler))
		mustDo(t, bad)
		for _, name := range ciliumNames() {
			if !there[name] {
				t.Errorf("%s is not there: %v", name, there)
			}
		}
	}
	if slices.Contains(applied, ciliumPolicyCRD) || len(applied) != 4 {
		t.Errorf("applied %v, want what is not somebody else's, twice", applied)
	}
	d, err := get(t.Context(), store, ciliumPolicyCRD, definition(ciliumPolicyCRD))
	if err != nil || d.Object["spec"] != nil || d.GetLabels()["io.cilium.k8s.crd.schema.version"] == "" {
		t.Errorf("somebody else's definition is now %v, %v", d, err)
	}
}

// TestCiliumCRDsForbidden: without permission and without definitions there are no
// such policies, and the operator works.
func TestCiliumCRDsForbidden(t *testing.T) {
	store := newStore(t)
	mustDo(t, store.Create(t.Context(), definition(clusterwidePolicyCRD)))
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "customresourcedefinitions"}, "any", errors.New("no"))
	there, err := installCiliumCRDs(t.Context(), interceptor.NewClient(store, interceptor.Funcs{
		Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
			return forbidden
		},
	}), slog.New(slog.DiscardHandler))
	mustDo(t, err)
	if len(there) != 1 || !there[clusterwidePolicyCRD] {
		t.Errorf("there are %v", there)
	}
}
