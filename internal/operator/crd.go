package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// errCRDMissing: the PlacidNode definition is not in the cluster and the
// operator may not create it.
var errCRDMissing = errors.New("the definition of PlacidNode is missing and the operator may not create it; " +
	"apply deploy/crd/placid.io_placidnodes.yaml or let the operator create and patch customresourcedefinitions")

// installCRD creates or updates the definition of PlacidNode and waits until the
// API server serves it. Not being allowed to change one that is there is no
// error.
func installCRD(ctx context.Context, c client.Client, logger *slog.Logger) error {
	want := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(crd.PlacidNodes(), &want.Object); err != nil {
		return fmt.Errorf("decode the definition of PlacidNode: %w", err)
	}
	name, kind := want.GetName(), want.GroupVersionKind()
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(operatorName), client.ForceOwnership)
	forbidden := apierrors.IsForbidden(err)
	switch {
	case forbidden:
		logger.Warn("not allowed to install the definition of PlacidNode; using the one that is there", "error", err)
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
