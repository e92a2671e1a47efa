package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

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
	name := want.GetName()
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
		found := &apiextensionsv1.CustomResourceDefinition{}
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

func established(d *apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range d.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}
