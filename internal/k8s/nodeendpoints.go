package k8s

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// endpointsSink turns PlacidEndpoints objects into rows, and shows the
// publisher this node's own object.
type endpointsSink struct {
	*rowSink[*v1alpha1.PlacidEndpoints, state.NodeEndpoints]
	self      string
	publisher *endpointsPublisher
}

func newEndpointsSink(t *state.Tables, self string, p *endpointsPublisher, log *slog.Logger) *endpointsSink {
	return &endpointsSink{
		rowSink: &rowSink[*v1alpha1.PlacidEndpoints, state.NodeEndpoints]{
			row: func(obj *v1alpha1.PlacidEndpoints) (state.NodeEndpoints, error) {
				row, problems := nodeEndpointsRow(obj)
				for _, problem := range problems {
					log.Warn("skip a part of a PlacidEndpoints", "node", obj.Name, "problem", problem)
				}
				return row, nil
			},
			put:  t.UpsertNodeEndpoints,
			drop: func(key types.NamespacedName) error { return t.DeleteNodeEndpoints(key.Name) },
			keys: keysOf(t.NodeEndpoints, func(n state.NodeEndpoints) types.NamespacedName {
				return types.NamespacedName{Name: n.Node}
			}),
			synced: newOnce(), log: log,
		},
		self: self, publisher: p,
	}
}

func (s *endpointsSink) upsert(obj *v1alpha1.PlacidEndpoints) error {
	if obj.Name == s.self {
		s.publisher.observe(obj)
	}
	return s.rowSink.upsert(obj)
}

func (s *endpointsSink) remove(obj *v1alpha1.PlacidEndpoints) error {
	if obj.Name == s.self {
		s.publisher.observeGone(obj.ResourceVersion)
	}
	return s.rowSink.remove(obj)
}

func (s *endpointsSink) replace(objs []*v1alpha1.PlacidEndpoints) error {
	own := slices.IndexFunc(objs, func(obj *v1alpha1.PlacidEndpoints) bool { return obj.Name == s.self })
	if own >= 0 {
		s.publisher.observe(objs[own])
	} else {
		s.publisher.doubt()
	}
	s.publisher.retryNow() // the API server answers, and knows the resource
	return s.rowSink.replace(objs)
}

// nodeEndpointsRow converts what a node publishes. What makes no sense is left
// out and told: an address, or a pod without any; a number that is no identity
// is replaced by init, which no policy speaks of.
func nodeEndpointsRow(obj *v1alpha1.PlacidEndpoints) (row state.NodeEndpoints, problems []string) {
	row.Node = obj.Name
	row.Endpoints = make([]state.PublishedEndpoint, 0, len(obj.Endpoints))
	for i, e := range obj.Endpoints {
		skip := func(field string, value any, why string) {
			problems = append(problems, fmt.Sprintf("endpoints[%d].%s of pod %s/%s: %q: %s", i, field, e.Namespace, e.Name, fmt.Sprint(value), why))
		}
		out := state.PublishedEndpoint{
			Pod: state.PodRef{Namespace: e.Namespace, Name: e.Name}, Identity: state.IdentityInit, Since: e.Since.UTC(),
		}
		for _, s := range e.Addresses {
			if a, err := parseAddr(s); err != nil {
				skip("addresses", s, err.Error())
			} else {
				out.Addrs = append(out.Addrs, a)
			}
		}
		if len(out.Addrs) == 0 {
			skip("addresses", e.Addresses, "no address is left")
			continue
		}
		switch {
		case e.Identity >= int64(state.IdentityMin) && e.Identity <= int64(state.IdentityMax):
			out.Identity = uint32(e.Identity)
		case e.Identity != int64(state.IdentityInit):
			skip("identity", e.Identity, errIdentityRange.Error())
		}
		row.Endpoints = append(row.Endpoints, out)
	}
	return row, problems
}

// trimEndpoints drops what nobody reads. The rest of the metadata is needed to
// write this node's own object.
func trimEndpoints(obj *v1alpha1.PlacidEndpoints) *v1alpha1.PlacidEndpoints {
	obj.ManagedFields = nil
	return obj
}

// publishedForm converts endpoints to their form in the API, ordered.
func publishedForm(eps []state.PublishedEndpoint) []v1alpha1.PublishedEndpoint {
	out := make([]v1alpha1.PublishedEndpoint, 0, len(eps))
	for _, e := range eps {
		addrs := make([]string, 0, len(e.Addrs))
		for _, a := range e.Addrs {
			addrs = append(addrs, a.String())
		}
		since := e.Since
		if since.IsZero() {
			since = time.Unix(0, 0) // no time is null, which the API server refuses
		}
		out = append(out, v1alpha1.PublishedEndpoint{
			Namespace: e.Pod.Namespace, Name: e.Pod.Name, Addresses: addrs, Identity: int64(e.Identity),
			Since: metav1.NewMicroTime(since.Truncate(time.Microsecond)),
		})
	}
	slices.SortFunc(out, func(a, b v1alpha1.PublishedEndpoint) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name),
			slices.Compare(a.Addresses, b.Addresses), cmp.Compare(a.Identity, b.Identity))
	})
	return out
}

func samePublished(a, b []v1alpha1.PublishedEndpoint) bool {
	return slices.EqualFunc(a, b, func(a, b v1alpha1.PublishedEndpoint) bool {
		return a.Namespace == b.Namespace && a.Name == b.Name && a.Identity == b.Identity &&
			a.Since.Time.Equal(b.Since.Time) && slices.Equal(a.Addresses, b.Addresses)
	})
}
