package k8s

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/internal/state"
)

// sliceController is who writes the EndpointSlices of Services that select pods.
const sliceController = "endpointslice-controller.k8s.io"

// ciliumWatches is what Config.CiliumPolicies and Config.ClusterwidePolicies have
// the client watch. Where the cluster does not have the definition of a kind there
// are no objects of it.
type ciliumWatches struct {
	namespaced, clusterwide bool

	client   rest.Interface // objects of cilium.io, JSON
	ofSlices labels.Selector

	policies *partsSink[*v2.CiliumNetworkPolicy]
	wide     *partsSink[*v2.CiliumClusterwideNetworkPolicy]
	groups   *rowSink[*v2.CiliumCIDRGroup, state.CIDRGroup]
	services *rowSink[*corev1.Service, state.PolicyService]
	slices   *rowSink[*discoveryv1.EndpointSlice, state.EndpointSlice]
}

func newCiliumWatches(cfg Config, client rest.Interface) (w ciliumWatches, err error) {
	t, log := cfg.Tables, cfg.Log
	w = ciliumWatches{
		namespaced: cfg.CiliumPolicies, clusterwide: cfg.ClusterwidePolicies, client: client,
		policies: newPartsSink(t, log, CiliumRows),
		wide:     newPartsSink(t, log, CiliumClusterwideRows),
		groups:   newGroupSink(t, log), services: newPolicyServiceSink(t, log), slices: newSliceSink(t.UpsertPolicySlice, t.DeletePolicySlice, t.PolicySlices, log),
	}
	w.ofSlices, err = labels.Parse(discoveryv1.LabelServiceName + "," + discoveryv1.LabelManagedBy + "!=" + sliceController)
	if err != nil {
		return w, fmt.Errorf("watch EndpointSlices that policies need: %w", err)
	}
	return w, nil
}

// watchCilium starts what Cilium's policies need, and returns what is to be
// complete before they are.
func (c *Client) watchCilium(start func(func(context.Context))) (parts []<-chan struct{}) {
	w := &c.cilium
	if !w.namespaced && !w.clusterwide {
		return nil
	}
	if w.namespaced {
		start(follow(c, watchConfig[*v2.CiliumNetworkPolicy]{
			client: w.client, resource: "ciliumnetworkpolicies", example: &v2.CiliumNetworkPolicy{}, sink: w.policies,
			trim: trimCiliumPolicy, absent: &v2.CiliumNetworkPolicyList{},
		}))
		parts = append(parts, w.policies.synced.ch)
	}
	if w.clusterwide {
		start(follow(c, watchConfig[*v2.CiliumClusterwideNetworkPolicy]{
			client: w.client, resource: "ciliumclusterwidenetworkpolicies", example: &v2.CiliumClusterwideNetworkPolicy{}, sink: w.wide,
			trim: trimClusterwidePolicy, absent: &v2.CiliumClusterwideNetworkPolicyList{},
		}))
		parts = append(parts, w.wide.synced.ch)
	}
	start(follow(c, watchConfig[*v2.CiliumCIDRGroup]{
		client: w.client, resource: "ciliumcidrgroups", example: &v2.CiliumCIDRGroup{}, sink: w.groups,
		trim: trimGroup, absent: &v2.CiliumCIDRGroupList{},
	}))
	start(follow(c, watchConfig[*corev1.Service]{
		client: c.core, resource: "services", example: &corev1.Service{}, sink: w.services, trim: trimPolicyService,
	}))
	start(follow(c, watchConfig[*discoveryv1.EndpointSlice]{
		client: c.discovery, resource: "endpointslices", example: &discoveryv1.EndpointSlice{}, sink: w.slices, trim: trimSlice, labels: w.ofSlices,
	}))
	return append(parts, w.groups.synced.ch, w.services.synced.ch, w.slices.synced.ch, c.NodesSynced())
}

// partsSink turns the objects of a watch into the rows of policies, several for
// one object.
type partsSink[O apiObject] struct {
	tables *state.Tables
	rows   func(O) []state.NetworkPolicy
	have   map[types.NamespacedName][]string // the keys of the rows of each object
	synced *once
	log    *slog.Logger
}

func newPartsSink[O apiObject](t *state.Tables, log *slog.Logger, rows func(O) []state.NetworkPolicy) *partsSink[O] {
	return &partsSink[O]{tables: t, rows: rows, have: map[types.NamespacedName][]string{}, synced: newOnce(), log: log}
}

func (s *partsSink[O]) upsert(obj O) error {
	name := keyOf(obj)
	before := s.have[name]
	var now []string
	for _, p := range s.rows(obj) {
		key := p.Key()
		for _, problem := range p.Problems {
			s.log.Warn("a policy is not understood as a whole", "policy", key, "problem", problem)
		}
		for _, problem := range p.Unsupported {
			s.log.Warn("a policy asks for what is not enforced", "policy", key, "problem", problem)
		}
		now = append(now, key)
		if err := s.tables.UpsertNetworkPolicy(p); err != nil {
			return err
		}
	}
	s.have[name] = now
	return s.delete(slices.DeleteFunc(before, func(key string) bool { return slices.Contains(now, key) }))
}

func (s *partsSink[O]) remove(obj O) error { return s.drop(keyOf(obj)) }

func (s *partsSink[O]) drop(name types.NamespacedName) error {
	if err := s.delete(s.have[name]); err != nil {
		return err
	}
	delete(s.have, name)
	return nil
}

func (s *partsSink[O]) delete(keys []string) error {
	for _, key := range keys {
		if err := s.tables.DeleteNetworkPolicy(key); err != nil {
			return err
		}
	}
	return nil
}

func (s *partsSink[O]) replace(objs []O) error {
	seen := make(map[types.NamespacedName]bool, len(objs))
	for _, obj := range objs {
		seen[keyOf(obj)] = true
		if err := s.upsert(obj); err != nil {
			return err
		}
	}
	for _, name := range slices.Collect(maps.Keys(s.have)) {
		if seen[name] {
			continue
		}
		if err := s.drop(name); err != nil {
			return err
		}
	}
	s.synced.done()
	return nil
}

func newGroupSink(t *state.Tables, log *slog.Logger) *rowSink[*v2.CiliumCIDRGroup, state.CIDRGroup] {
	return &rowSink[*v2.CiliumCIDRGroup, state.CIDRGroup]{
		row: func(obj *v2.CiliumCIDRGroup) (state.CIDRGroup, error) {
			g := CIDRGroupRow(obj)
			for _, problem := range g.Problems {
				log.Warn("a CiliumCIDRGroup is not understood as a whole", "group", g.Name, "problem", problem)
			}
			return g, nil
		},
		put:    t.UpsertCIDRGroup,
		drop:   func(key types.NamespacedName) error { return t.DeleteCIDRGroup(key.Name) },
		keys:   keysOf(t.CIDRGroups, func(g state.CIDRGroup) types.NamespacedName { return types.NamespacedName{Name: g.Name} }),
		synced: newOnce(), log: log,
	}
}

// PolicyServiceRow converts a Service to what policies need of it.
func PolicyServiceRow(obj *corev1.Service) state.PolicyService {
	return state.PolicyService{Ref: state.ServiceRef(keyOf(obj)), Labels: obj.Labels, Selector: obj.Spec.Selector}
}

func newPolicyServiceSink(t *state.Tables, log *slog.Logger) *rowSink[*corev1.Service, state.PolicyService] {
	return &rowSink[*corev1.Service, state.PolicyService]{
		row:  func(obj *corev1.Service) (state.PolicyService, error) { return PolicyServiceRow(obj), nil },
		put:  t.UpsertPolicyService,
		drop: func(key types.NamespacedName) error { return t.DeletePolicyService(state.ServiceRef(key)) },
		keys: keysOf(t.PolicyServices, func(s state.PolicyService) types.NamespacedName {
			return types.NamespacedName(s.Ref)
		}),
		synced: newOnce(), log: log,
	}
}

// trimCiliumPolicy returns the parts of a CiliumNetworkPolicy that CiliumRows
// reads.
func trimCiliumPolicy(p *v2.CiliumNetworkPolicy) *v2.CiliumNetworkPolicy {
	return &v2.CiliumNetworkPolicy{ObjectMeta: trimPolicyMeta(&p.ObjectMeta), Spec: p.Spec, Specs: p.Specs}
}

func trimClusterwidePolicy(p *v2.CiliumClusterwideNetworkPolicy) *v2.CiliumClusterwideNetworkPolicy {
	return &v2.CiliumClusterwideNetworkPolicy{ObjectMeta: trimPolicyMeta(&p.ObjectMeta), Spec: p.Spec, Specs: p.Specs}
}

func trimGroup(g *v2.CiliumCIDRGroup) *v2.CiliumCIDRGroup {
	meta := trimMeta(g)
	meta.Labels = g.Labels
	return &v2.CiliumCIDRGroup{ObjectMeta: meta, Spec: g.Spec}
}

func trimPolicyService(s *corev1.Service) *corev1.Service {
	meta := trimMeta(s)
	meta.Labels = s.Labels
	return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: s.Spec.Selector}}
}

// trimPolicyMeta keeps of the metadata of a policy what its rows need.
func trimPolicyMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	out := metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
	if v, ok := m.Annotations[AnnotationAudit]; ok {
		out.Annotations = map[string]string{AnnotationAudit: v}
	}
	return out
}
