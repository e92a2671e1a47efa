package k8s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// apiObject is an object of the API with its name.
type apiObject interface {
	runtime.Object
	metav1.Object
}

// rowSink turns the objects of a watch into the rows of a table.
type rowSink[O apiObject, T any] struct {
	// row converts an object; an error says that it is no row at all, errNoRow
	// that it is not meant to be one.
	row    func(obj O) (T, error)
	put    func(row T) error
	drop   func(key types.NamespacedName) error
	keys   func() ([]types.NamespacedName, error)
	synced *once
	log    *slog.Logger
}

func (s *rowSink[O, T]) upsert(obj O) error {
	row, err := s.row(obj)
	if errors.Is(err, errNoRow) {
		return s.drop(keyOf(obj))
	}
	if err != nil {
		s.log.Warn("skip an object that makes no sense", "type", fmt.Sprintf("%T", obj), "name", keyOf(obj).String(), "error", err)
		return s.drop(keyOf(obj)) // it may have made sense before
	}
	return s.put(row)
}

func (s *rowSink[O, T]) remove(obj O) error { return s.drop(keyOf(obj)) }

func (s *rowSink[O, T]) replace(objs []O) error {
	have, err := s.keys()
	if err != nil {
		return err
	}
	seen := make(map[types.NamespacedName]struct{}, len(objs))
	for _, obj := range objs {
		seen[keyOf(obj)] = struct{}{}
		if err := s.upsert(obj); err != nil {
			return err
		}
	}
	for _, key := range have {
		if _, ok := seen[key]; ok {
			continue
		}
		if err := s.drop(key); err != nil {
			return err
		}
	}
	s.synced.done()
	return nil
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// keysOf makes the keys function of a sink from a snapshot of its table.
func keysOf[T any](rows func() ([]T, <-chan struct{}, error), key func(T) types.NamespacedName) func() ([]types.NamespacedName, error) {
	return func() ([]types.NamespacedName, error) {
		all, _, err := rows()
		out := make([]types.NamespacedName, 0, len(all))
		for _, r := range all {
			out = append(out, key(r))
		}
		return out, err
	}
}

func newPolicySink(t *state.Tables, log *slog.Logger) *rowSink[*networkingv1.NetworkPolicy, state.NetworkPolicy] {
	return &rowSink[*networkingv1.NetworkPolicy, state.NetworkPolicy]{
		row: func(obj *networkingv1.NetworkPolicy) (state.NetworkPolicy, error) {
			p := PolicyRow(obj)
			for _, problem := range p.Problems {
				log.Warn("a NetworkPolicy is not understood as a whole", "policy", p.Key(), "problem", problem)
			}
			return p, nil
		},
		put:  t.UpsertNetworkPolicy,
		drop: func(key types.NamespacedName) error { return t.DeleteNetworkPolicy(key.String()) },
		keys: func() ([]types.NamespacedName, error) {
			all, _, err := t.NetworkPolicies()
			var out []types.NamespacedName
			for _, p := range all {
				if p.Kind == state.PolicyKubernetes {
					out = append(out, types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
				}
			}
			return out, err
		},
		synced: newOnce(), log: log,
	}
}

func newNamespaceSink(t *state.Tables, log *slog.Logger) *rowSink[*corev1.Namespace, state.Namespace] {
	return &rowSink[*corev1.Namespace, state.Namespace]{
		row:    func(obj *corev1.Namespace) (state.Namespace, error) { return NamespaceRow(obj), nil },
		put:    t.UpsertNamespace,
		drop:   func(key types.NamespacedName) error { return t.DeleteNamespace(key.Name) },
		keys:   keysOf(t.Namespaces, func(n state.Namespace) types.NamespacedName { return types.NamespacedName{Name: n.Name} }),
		synced: newOnce(), log: log,
	}
}

func newIdentitySink(t *state.Tables, log *slog.Logger) *rowSink[*v1alpha1.PlacidIdentity, state.Identity] {
	return &rowSink[*v1alpha1.PlacidIdentity, state.Identity]{
		row: IdentityRow,
		put: t.UpsertIdentity,
		drop: func(key types.NamespacedName) error {
			id, err := parseIdentity(key.Name)
			if err != nil {
				return nil //nolint:nilerr // such an object never was a row
			}
			return t.DeleteIdentity(id)
		},
		keys: keysOf(t.Identities, func(i state.Identity) types.NamespacedName {
			return types.NamespacedName{Name: strconv.FormatUint(uint64(i.ID), 10)}
		}),
		synced: newOnce(), log: log,
	}
}

// PoliciesSynced is closed when the table of network policies is complete for
// the first time. Without Config.Policy it never is, nor are those below.
func (c *Client) PoliciesSynced() <-chan struct{} { return c.policies.synced.ch }

// NamespacesSynced is closed when the table of namespaces is complete for the
// first time.
func (c *Client) NamespacesSynced() <-chan struct{} { return c.namespaces.synced.ch }

// IdentitiesSynced is closed when the table of identities is complete for the
// first time.
func (c *Client) IdentitiesSynced() <-chan struct{} { return c.identities.synced.ch }

// NodeEndpointsSynced is closed when the table of what the nodes publish is
// complete for the first time.
func (c *Client) NodeEndpointsSynced() <-chan struct{} { return c.published.synced.ch }

// PolicySynced is closed when policies and what they name, namespaces, identities,
// what the nodes publish and this node's pods are all complete for the first time.
func (c *Client) PolicySynced() <-chan struct{} { return c.policySynced.ch }

// awaitPolicy closes PolicySynced when its time has come, and more is complete.
func (c *Client) awaitPolicy(ctx context.Context, more ...<-chan struct{}) {
	awaitAll(ctx, c.policySynced, append(more,
		c.PoliciesSynced(), c.NamespacesSynced(), c.IdentitiesSynced(), c.NodeEndpointsSynced(), c.PodsSynced())...)
}

// awaitAll closes all when every part is closed.
func awaitAll(ctx context.Context, all *once, parts ...<-chan struct{}) {
	for _, ch := range parts {
		select {
		case <-ctx.Done():
			return
		case <-ch:
		}
	}
	all.done()
}
