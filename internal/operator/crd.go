package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/placid-net/placid/deploy/crd"
)

const (
	crdPoll    = 200 * time.Millisecond
	crdTimeout = time.Minute
)

// errCRDMissing: a definition is not in the cluster and the operator may not
// create it.
var errCRDMissing = errors.New("the definition is missing and the operator may not create it; " +
	"apply the files of deploy/crd or let the operator create and patch customresourcedefinitions")

// installCRDs creates or updates the definitions of Placid's objects and waits
// until the API server serves them. Not being allowed to change one that is there
// is no error.
func installCRDs(ctx context.Context, c client.Client, logger *slog.Logger) error {
	definitions, err := crd.All()
	if err != nil {
		return err
	}
	for _, text := range definitions {
		if err := installCRD(ctx, c, text, logger); err != nil {
			return err
		}
	}
	return nil
}

// installCiliumCRDs installs the definitions of the objects of Cilium's that Placid
// reads, unless somebody else has, whose they stay. It returns the names of those
// that are there.
func installCiliumCRDs(ctx context.Context, c client.Client, logger *slog.Logger) (there map[string]bool, err error) {
	definitions, err := crd.Cilium()
	if err != nil {
		return nil, err
	}
	there = map[string]bool{}
	for _, text := range definitions {
		found := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &found.Object); err != nil {
			return nil, fmt.Errorf("decode a CustomResourceDefinition: %w", err)
		}
		name := found.GetName()
		err := c.Get(ctx, client.ObjectKey{Name: name}, found)
		switch {
		case err == nil && !ours(found):
			logger.Info("using a definition that somebody else installed", "name", name)
			there[name] = true
			continue
		case err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
			return nil, fmt.Errorf("get CustomResourceDefinition %s: %w", name, err)
		}
		err = installCRD(ctx, c, text, logger)
		if errors.Is(err, errCRDMissing) {
			logger.Warn("policies of this kind cannot be; apply the file of deploy/crd and restart the operator", "name", name, "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		there[name] = true
	}
	return there, nil
}

// ours tells whether the operator wrote the object.
func ours(o *unstructured.Unstructured) bool {
	return slices.ContainsFunc(o.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager == operatorName })
}

// installCRD does it for one definition.
func installCRD(ctx context.Context, c client.Client, text []byte, logger *slog.Logger) error {
	want := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &want.Object); err != nil {
		return fmt.Errorf("decode a CustomResourceDefinition: %w", err)
	}
	name, kind := want.GetName(), want.GroupVersionKind()
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(operatorName), client.ForceOwnership)
	forbidden := apierrors.IsForbidden(err)
	switch {
	case forbidden:
		logger.Warn("not allowed to install a definition; using the one that is there", "name", name, "error", err)
	case err != nil:
		return fmt.Errorf("apply CustomResourceDefinition %s: %w", name, err)
	}

	var last error
	err = wait.PollUntilContextTimeout(ctx, crdPoll, crdTimeout, true, func(ctx context.Context) (bool, error) {
		found := &unstructured.Unstructured{}
		found.SetGroupVersionKind(kind)
		last = c.Get(ctx, client.ObjectKey{Name: name}, found)
		switch {
		case apierrors.IsNotFound(last) && forbidden:
			return false, errCRDMissing
		case apierrors.IsForbidden(last) && forbidden:
			return true, nil // may not even look: the watch will tell
		case last != nil:
			return false, nil
		}
		return established(found), nil
	})
	if err != nil {
		return fmt.Errorf("wait for CustomResourceDefinition %s: %w", name, errors.Join(err, last))
	}
	return nil
}

// established says whether the API server serves the definition.
func established(definition *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(definition.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Established" {
			return m["status"] == "True"
		}
	}
	return false
}
