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
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/state"
)

// Config describes one Client. All fields are required.
type Config struct {
	REST     *rest.Config  // from Connection.RESTConfig
	NodeName string        // this node's name
	Tables   *state.Tables // whose nodes the Client writes
	Log      *slog.Logger
}

// Client watches and writes what the agent of one node needs. Create it with
// New; its methods are safe for concurrent use.
type Client struct {
	log      *slog.Logger
	nodeName string
	core     rest.Interface // Kubernetes' own objects, protobuf
	placid   rest.Interface // Placid's objects, JSON

	nodes  *nodeSink
	pods   *podSink
	status *publisher
	events *eventQueue
	health *health
}

// New returns a client that does nothing until Run. It reads the files that
// the REST configuration names, but does not contact the API server.
func New(cfg Config) (*Client, error) {
	if cfg.REST == nil || cfg.NodeName == "" || cfg.Tables == nil || cfg.Log == nil {
		return nil, errors.New("create Kubernetes client: REST, NodeName, Tables and Log are required")
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
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
	placid, err := clientFor(cfg.REST, conn, scheme, v1alpha1.GroupVersion(), "/apis", runtime.ContentTypeJSON)
	if err != nil {
		return nil, err
	}
	status := newPublisher(placid, cfg.NodeName, cfg.Log)
	return &Client{
		log:      cfg.Log,
		nodeName: cfg.NodeName,
		core:     core,
		placid:   placid,
		nodes:    newNodeSink(cfg.Tables, cfg.NodeName, status, cfg.Log),
		pods:     newPodSink(),
		status:   status,
		events:   newEventQueue(core, cfg.NodeName, cfg.Log),
		health:   newHealth(cfg.Log),
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
	start(func(ctx context.Context) {
		watch(ctx, watchConfig[*v1alpha1.PlacidNode]{
			client: c.placid, resource: "placidnodes", example: &v1alpha1.PlacidNode{},
			fields: fields.Everything(), sink: c.nodes, health: c.health, log: c.log,
		})
	})
	start(func(ctx context.Context) {
		watch(ctx, watchConfig[*corev1.Pod]{
			client: c.core, resource: "pods", example: &corev1.Pod{},
			fields: fields.OneTermEqualSelector("spec.nodeName", c.nodeName),
			sink:   c.pods, health: c.health, log: c.log, trim: trimPod,
		})
	})
	start(c.status.run)
	start(c.events.run)
	return g.Wait()
}
