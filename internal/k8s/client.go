package k8s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// Config describes one Client. REST, NodeName, Tables and Log are required.
type Config struct {
	REST     *rest.Config  // from Connection.RESTConfig
	NodeName string        // this node's name
	Tables   *state.Tables // whose rows the Client writes, all but endpoints
	Log      *slog.Logger
	// Policy has the Client also watch NetworkPolicies, namespaces,
	// PlacidIdentities and all nodes' PlacidEndpoints.
	Policy bool
	// CiliumPolicies and ClusterwidePolicies have the Client, with Policy, also
	// watch CiliumNetworkPolicies and CiliumClusterwideNetworkPolicies, and what
	// they name: CiliumCIDRGroups, Services, and the EndpointSlices of Services that
	// select no pods.
	CiliumPolicies, ClusterwidePolicies bool
	// Services has the Client also watch Services, EndpointSlices and this node's
	// Node object.
	Services bool
	// ServiceProxyName is the value of the label
	// service.kubernetes.io/service-proxy-name of the Services that count; empty
	// for those without the label.
	ServiceProxyName string
}

// Client watches and writes what the agent of one node needs. Create it with
// New; its methods are safe for concurrent use.
type Client struct {
	log      *slog.Logger
	tables   *state.Tables
	nodeName string
	policy   bool

	core      rest.Interface // Kubernetes' own objects, protobuf
	network   rest.Interface // those of networking.k8s.io, protobuf
	discovery rest.Interface // those of discovery.k8s.io, protobuf
	placid    rest.Interface // Placid's objects, JSON

	nodes      *nodeSink
	pods       *podSink
	policies   *rowSink[*networkingv1.NetworkPolicy, state.NetworkPolicy]
	namespaces *rowSink[*corev1.Namespace, state.Namespace]
	identities *rowSink[*v1alpha1.PlacidIdentity, state.Identity]
	published  *endpointsSink
	services   serviceWatches
	cilium     ciliumWatches

	policySynced *once
	status       *publisher
	endpoints    *endpointsPublisher
	events       *eventQueue
	health       *health
}

// New returns a client that does nothing until Run. It reads the files that
// the REST configuration names, but does not contact the API server.
func New(cfg Config) (*Client, error) {
	if cfg.REST == nil || cfg.NodeName == "" || cfg.Tables == nil || cfg.Log == nil {
		return nil, errors.New("create Kubernetes client: REST, NodeName, Tables and Log are required")
	}
	scheme := runtime.NewScheme()
	err := errors.Join(corev1.AddToScheme(scheme), networkingv1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme),
		v2.AddToScheme(scheme))
	if err != nil {
		return nil, fmt.Errorf("create Kubernetes client: %w", err)
	}
	conn, err := rest.HTTPClientFor(cfg.REST)
	if err != nil {
		return nil, fmt.Errorf("create Kubernetes client: %w", err)
	}
	core, err := clientFor(cfg.REST, conn, scheme, corev1.SchemeGroupVersion, "/api", runtime.ContentTypeProtobuf)
	if err != nil {
		return nil, err
	}
	network, err := clientFor(cfg.REST, conn, scheme, networkingv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf)
	if err != nil {
		return nil, err
	}
	discovery, err := clientFor(cfg.REST, conn, scheme, discoveryv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf)
	if err != nil {
		return nil, err
	}
	placid, err := clientFor(cfg.REST, conn, scheme, v1alpha1.GroupVersion(), "/apis", runtime.ContentTypeJSON)
	if err != nil {
		return nil, err
	}
	ciliumClient, err := clientFor(cfg.REST, conn, scheme, v2.GroupVersion(), "/apis", runtime.ContentTypeJSON)
	if err != nil {
		return nil, err
	}
	cilium, err := newCiliumWatches(cfg, ciliumClient)
	if err != nil {
		return nil, err
	}
	status := newPublisher(placid, cfg.NodeName, cfg.Log)
	endpoints := newEndpointsPublisher(core, placid, cfg.NodeName, cfg.Log)
	nodes := newNodeSink(cfg.Tables, cfg.NodeName, status, cfg.Log)
	services, err := newServiceWatches(cfg, nodes)
	if err != nil {
		return nil, err
	}
	return &Client{
		log: cfg.Log, tables: cfg.Tables, nodeName: cfg.NodeName, policy: cfg.Policy,
		core: core, network: network, discovery: discovery, placid: placid,
		nodes:        nodes,
		services:     services,
		cilium:       cilium,
		pods:         newPodSink(cfg.Tables),
		policies:     newPolicySink(cfg.Tables, cfg.Log),
		namespaces:   newNamespaceSink(cfg.Tables, cfg.Log),
		identities:   newIdentitySink(cfg.Tables, cfg.Log),
		published:    newEndpointsSink(cfg.Tables, cfg.NodeName, endpoints, cfg.Log),
		policySynced: newOnce(),
		status:       status,
		endpoints:    endpoints,
		events:       newEventQueue(core, cfg.NodeName, cfg.Log),
		health:       newHealth(cfg.Log),
	}, nil
}

// clientFor makes a client of one API group on a shared HTTP connection.
func clientFor(base *rest.Config, conn *http.Client, scheme *runtime.Scheme, gv schema.GroupVersion, path, contentType string) (rest.Interface, error) {
	cfg := rest.CopyConfig(base)
	cfg.GroupVersion = &gv
	cfg.APIPath = path
	cfg.ContentType = contentType
	cfg.AcceptContentTypes = contentType
	if contentType != runtime.ContentTypeJSON {
		cfg.AcceptContentTypes += "," + runtime.ContentTypeJSON
	}
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c, err := rest.RESTClientForConfigAndClient(cfg, conn)
	if err != nil {
		return nil, fmt.Errorf("create client of %s: %w", gv, err)
	}
	return c, nil
}

// Run watches and writes until ctx ends, and then returns nil. Errors of the
// API server are retried and shown by Health. It is called once.
func (c *Client) Run(ctx context.Context) error {
	// client-go reports through klog; this sends it to our log.
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(c.log.Handler()))
	var g errgroup.Group
	start := func(run func(context.Context)) {
		g.Go(func() error {
			run(ctx)
			return nil
		})
	}
	start(follow(c, watchConfig[*v1alpha1.PlacidNode]{
		client: c.placid, resource: "placidnodes", example: &v1alpha1.PlacidNode{}, sink: c.nodes,
	}))
	start(follow(c, watchConfig[*corev1.Pod]{
		client: c.core, resource: "pods", example: &corev1.Pod{}, sink: c.pods, trim: trimPod,
		fields: fields.OneTermEqualSelector("spec.nodeName", c.nodeName),
	}))
	if c.policy {
		start(follow(c, watchConfig[*networkingv1.NetworkPolicy]{
			client: c.network, resource: "networkpolicies", example: &networkingv1.NetworkPolicy{}, sink: c.policies, trim: trimPolicy,
		}))
		start(follow(c, watchConfig[*corev1.Namespace]{
			client: c.core, resource: "namespaces", example: &corev1.Namespace{}, sink: c.namespaces, trim: trimNamespace,
		}))
		start(follow(c, watchConfig[*v1alpha1.PlacidIdentity]{
			client: c.placid, resource: "placididentities", example: &v1alpha1.PlacidIdentity{}, sink: c.identities, trim: trimIdentity,
		}))
		start(follow(c, watchConfig[*v1alpha1.PlacidEndpoints]{
			client: c.placid, resource: endpointsResource, example: &v1alpha1.PlacidEndpoints{}, sink: c.published, trim: trimEndpoints,
		}))
		more := c.watchCilium(start)
		start(func(ctx context.Context) { c.awaitPolicy(ctx, more...) })
	}
	if c.services.on {
		c.watchServices(start)
	}
	start(c.status.run)
	start(c.endpoints.run)
	start(c.events.run)
	return g.Wait()
}

// follow makes a watch to start of what its configuration leaves open.
func follow[T runtime.Object](c *Client, cfg watchConfig[T]) func(context.Context) {
	cfg.health, cfg.log = c.health, c.log
	if cfg.fields == nil {
		cfg.fields = fields.Everything()
	}
	if cfg.labels == nil {
		cfg.labels = labels.Everything()
	}
	return func(ctx context.Context) { watch(ctx, cfg) }
}
