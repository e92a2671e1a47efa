package k8s

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/placid-net/placid/internal/state"
)

// The labels that say who serves a Service.
const (
	// labelHeadless is on what has no address to be served at.
	labelHeadless = corev1.IsHeadlessService
	// labelServiceProxyName names another proxy than kube-proxy.
	labelServiceProxyName = "service.kubernetes.io/service-proxy-name"
)

// selectors make the label selectors of the watches of Services and of
// EndpointSlices. Slices that somebody wrote by hand need not have the labels of
// their Service, so that with a proxyName all slices are watched.
func selectors(proxyName string) (services, slices labels.Selector, err error) {
	proxy, sliceProxy := "!"+labelServiceProxyName, ",!"+labelServiceProxyName
	if proxyName != "" {
		proxy, sliceProxy = labelServiceProxyName+"="+proxyName, ""
	}
	services, err = labels.Parse("!" + labelHeadless + "," + proxy)
	if err != nil {
		return nil, nil, fmt.Errorf("watch Services of the proxy %q: %w", proxyName, err)
	}
	slices, err = labels.Parse(discoveryv1.LabelServiceName + ",!" + labelHeadless + sliceProxy)
	if err != nil {
		return nil, nil, fmt.Errorf("watch EndpointSlices: %w", err)
	}
	return services, slices, nil
}

// serviceWatches is what Config.Services has the client watch.
type serviceWatches struct {
	on         bool
	services   *rowSink[*corev1.Service, state.Service]
	slices     *rowSink[*discoveryv1.EndpointSlice, state.EndpointSlice]
	zone       *zoneSink
	synced     *once
	ofServices labels.Selector
	ofSlices   labels.Selector
}

func newServiceWatches(cfg Config, nodes *nodeSink) (w serviceWatches, err error) {
	w = serviceWatches{
		on: cfg.Services, services: newServiceSink(cfg.Tables, cfg.Log), slices: newSliceSink(cfg.Tables.UpsertSlice, cfg.Tables.DeleteSlice, cfg.Tables.Slices, cfg.Log),
		zone: newZoneSink(cfg.NodeName, nodes), synced: newOnce(),
	}
	w.ofServices, w.ofSlices, err = selectors(cfg.ServiceProxyName)
	return w, err
}

// watchServices starts what services need.
func (c *Client) watchServices(start func(func(context.Context))) {
	w := &c.services
	start(follow(c, watchConfig[*corev1.Service]{
		client: c.core, resource: "services", example: &corev1.Service{}, sink: w.services, trim: trimService, labels: w.ofServices,
	}))
	start(follow(c, watchConfig[*discoveryv1.EndpointSlice]{
		client: c.discovery, resource: "endpointslices", example: &discoveryv1.EndpointSlice{}, sink: w.slices, trim: trimSlice, labels: w.ofSlices,
	}))
	start(follow(c, watchConfig[*corev1.Node]{
		client: c.core, resource: "nodes", example: &corev1.Node{}, sink: w.zone, trim: trimNode,
		fields: fields.OneTermEqualSelector("metadata.name", c.nodeName),
	}))
	start(func(ctx context.Context) {
		awaitAll(ctx, w.synced, w.services.synced.ch, w.slices.synced.ch, w.zone.synced.ch)
	})
}

// ServicesSynced is closed when the tables of Services and of EndpointSlices are
// complete for the first time, and this node's zone is known. Without
// Config.Services it never is.
func (c *Client) ServicesSynced() <-chan struct{} { return c.services.synced.ch }

func newServiceSink(t *state.Tables, log *slog.Logger) *rowSink[*corev1.Service, state.Service] {
	return &rowSink[*corev1.Service, state.Service]{
		row: func(obj *corev1.Service) (state.Service, error) {
			row, problems, err := ServiceRow(obj)
			for _, problem := range problems {
				log.Warn("a Service is not understood as a whole", "service", row.Ref.String(), "problem", problem)
			}
			return row, err
		},
		put:  t.UpsertService,
		drop: func(key types.NamespacedName) error { return t.DeleteService(state.ServiceRef(key)) },
		keys: keysOf(t.Services, func(s state.Service) types.NamespacedName {
			return types.NamespacedName(s.Ref)
		}),
		synced: newOnce(), log: log,
	}
}

// newSliceSink fills a table of slices: put and drop write it, rows gives what is in it.
func newSliceSink(
	put func(state.EndpointSlice) error, drop func(namespace, name string) error,
	rows func() ([]state.EndpointSlice, <-chan struct{}, error), log *slog.Logger,
) *rowSink[*discoveryv1.EndpointSlice, state.EndpointSlice] {
	return &rowSink[*discoveryv1.EndpointSlice, state.EndpointSlice]{
		row: func(obj *discoveryv1.EndpointSlice) (state.EndpointSlice, error) {
			row, problems, err := SliceRow(obj)
			for _, problem := range problems {
				log.Warn("an EndpointSlice is not understood as a whole", "slice", keyOf(obj).String(), "problem", problem)
			}
			return row, err
		},
		put:  put,
		drop: func(key types.NamespacedName) error { return drop(key.Namespace, key.Name) },
		keys: keysOf(rows, func(s state.EndpointSlice) types.NamespacedName {
			return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		}),
		synced: newOnce(), log: log,
	}
}
