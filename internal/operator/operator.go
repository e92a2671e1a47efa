package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	v2 "github.com/placid-net/placid/api/cilium/v2"
	"github.com/placid-net/placid/api/v1alpha1"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/ipam"
	"github.com/placid-net/placid/internal/state"
)

const (
	operatorName = "placid-operator"
	// addrOff is how controller-runtime spells a server that is switched off.
	addrOff = "0"
	// readyTimeout bounds the readiness probe.
	readyTimeout = time.Second
)

// The values of Config.IPAM.
const (
	IPAMKubernetes  = "kubernetes"
	IPAMClusterPool = "cluster-pool"
)

// ErrConfig is what New returns for a Config that cannot work.
var ErrConfig = errors.New("operator configuration")

// Config is what the operator needs to know.
type Config struct {
	// IPAM is IPAMKubernetes or IPAMClusterPool.
	IPAM string
	// Pools are what pod CIDRs are carved from; used by IPAMClusterPool alone.
	Pools []ipam.Pool
	// Namespace holds the lease of the leader election and the ConfigMap of
	// the intents; empty is kube-system.
	Namespace string
	// ClusterName is a label of every identity.
	ClusterName string
	// Labels are the items of the label filter, see identity.ParseFilter.
	Labels []string
	// EnablePolicy is PolicyDefault, PolicyAlways or PolicyNever; empty is
	// PolicyDefault.
	EnablePolicy string
	// NetworkPolicies says that NetworkPolicies of Kubernetes are enforced.
	NetworkPolicies bool
	// CiliumPolicies and ClusterwidePolicies say it of CiliumNetworkPolicies and
	// CiliumClusterwideNetworkPolicies, whose definitions are installed then.
	CiliumPolicies, ClusterwidePolicies bool
	// IdentityGCInterval is how long an identity is kept that no pod has; 0 keeps
	// it forever.
	IdentityGCInterval time.Duration
	// MetricsAddr and HealthAddr are listen addresses; empty is off.
	MetricsAddr string
	HealthAddr  string
	// Version is logged.
	Version string
}

// Operator is one replica of placid-operator.
type Operator struct {
	cfg      Config
	rest     *rest.Config
	registry prometheus.Registerer
	filter   identity.Filter
	logger   *slog.Logger
	scheme   *runtime.Scheme
}

// New returns an operator that talks to the API server of rc and adds its
// metrics to registry, the one that controller-runtime serves. It does no I/O.
// The error is ErrConfig.
func New(cfg Config, rc *rest.Config, registry prometheus.Registerer, logger *slog.Logger) (*Operator, error) {
	switch cfg.IPAM {
	case IPAMKubernetes:
	case IPAMClusterPool:
		if len(cfg.Pools) == 0 {
			return nil, fmt.Errorf("%w: ipam=%s needs a pool in cluster-pool-ipv4-cidr or cluster-pool-ipv6-cidr", ErrConfig, cfg.IPAM)
		}
		if _, err := ipam.NewCarver(cfg.Pools); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	default:
		return nil, fmt.Errorf("%w: ipam=%q: use %s or %s", ErrConfig, cfg.IPAM, IPAMKubernetes, IPAMClusterPool)
	}
	filter, err := checkIdentities(&cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Namespace == "" {
		cfg.Namespace = "kube-system"
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	return &Operator{cfg: cfg, rest: rc, registry: registry, filter: filter, logger: logger, scheme: scheme}, nil
}

// Run installs the definitions of Placid's objects, waits to be elected, and works
// until ctx is done, which is success. Losing the lease is an error: the process
// must end at once and start again as a follower.
func (o *Operator) Run(ctx context.Context) error {
	o.logger.Info("starting", "version", o.cfg.Version, "ipam", o.cfg.IPAM, "pools", o.cfg.Pools, "policyMode", o.cfg.EnablePolicy)
	direct, err := client.New(o.rest, client.Options{Scheme: o.scheme})
	if err != nil {
		return fmt.Errorf("create client of %s: %w", o.rest.Host, err)
	}
	if err = installCRDs(ctx, direct, o.logger); err != nil {
		return err
	}
	there := map[string]bool{}
	if o.cfg.CiliumPolicies || o.cfg.ClusterwidePolicies {
		if there, err = installCiliumCRDs(ctx, direct, o.logger); err != nil {
			return err
		}
	}
	mgr, err := ctrl.NewManager(o.rest, o.managerOptions())
	if err != nil {
		return fmt.Errorf("create manager: %w", err)
	}
	if err := o.addController(mgr); err != nil {
		return fmt.Errorf("add controller: %w", err)
	}
	cilium, clusterwide := o.cfg.CiliumPolicies && there[ciliumPolicyCRD], o.cfg.ClusterwidePolicies && there[clusterwidePolicyCRD]
	if err := o.addIdentities(mgr, cilium, clusterwide); err != nil {
		return fmt.Errorf("add identities: %w", err)
	}
	if err := watchPolicyStatuses(mgr, cilium, clusterwide); err != nil {
		return fmt.Errorf("add controllers of the status of policies: %w", err)
	}
	if err := watchEndpoints(mgr, o.logger); err != nil {
		return fmt.Errorf("add controller of PlacidEndpoints: %w", err)
	}
	if err := addProbes(mgr); err != nil {
		return fmt.Errorf("add probes: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run controllers: %w", err)
	}
	return nil
}

func (o *Operator) managerOptions() ctrl.Options {
	return ctrl.Options{
		Scheme:                        o.scheme,
		Logger:                        logr.FromSlogHandler(o.logger.Handler()),
		LeaderElection:                true,
		LeaderElectionID:              operatorName,
		LeaderElectionNamespace:       o.cfg.Namespace,
		LeaderElectionReleaseOnCancel: true, // Run's caller exits when it returns
		Metrics:                       metricsserver.Options{BindAddress: orOff(o.cfg.MetricsAddr)},
		HealthProbeBindAddress:        orOff(o.cfg.HealthAddr),
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Node{}:              {Transform: stripNode},
				&corev1.Pod{}:               {Transform: stripPod},
				&corev1.Namespace{}:         {Transform: stripNamespace},
				&v1alpha1.PlacidEndpoints{}: {Transform: stripEndpoints},
			},
		},
	}
}

func (o *Operator) addController(mgr ctrl.Manager) error {
	w := &waker{}
	joining := newNameSet()
	r := &reconciler{
		client:  mgr.GetClient(),
		live:    mgr.GetAPIReader(),
		events:  mgr.GetEventRecorder(operatorName),
		wake:    w.wake,
		logger:  o.logger,
		starved: newNameSet(),
	}
	usage := func() []ipam.PoolUsage { return nil }
	if o.cfg.IPAM == IPAMKubernetes {
		r.source = nodeCIDRs{}
	} else {
		pool := &clusterPool{
			pools:   o.cfg.Pools,
			cached:  r.client,
			live:    r.live,
			intents: intentStore{client: r.client, live: r.live, namespace: o.cfg.Namespace},
			joining: joining,
			wake:    w.wake,
			logger:  o.logger,
		}
		r.source, usage = pool, pool.usage
	}
	r.metrics = newMetrics(usage)
	if err := r.metrics.register(o.registry); err != nil {
		return err
	}
	return watch(mgr, r, joining, w)
}

// addIdentities adds what keeps the identities; cilium and clusterwide tell which of
// Cilium's policies count.
func (o *Operator) addIdentities(mgr ctrl.Manager, cilium, clusterwide bool) error {
	sets := newLabelSets(o.cfg.ClusterName, o.filter, time.Now)
	m := newIdentityMetrics(sets)
	if err := m.register(o.registry); err != nil {
		return err
	}
	recorder := mgr.GetEventRecorder(operatorName)
	d := &identities{
		informers: mgr.GetCache(),
		sets:      sets,
		numbers: &numbers{
			client: mgr.GetClient(), live: mgr.GetAPIReader(),
			first: state.IdentityMin, last: state.IdentityMax, now: time.Now,
		},
		queue:    newQueue(),
		reports:  newReports(o.filter, sets, recorder, m, o.logger, time.Now),
		events:   recorder,
		metrics:  m,
		logger:   o.logger,
		now:      time.Now,
		pause:    pauseFor,
		mode:     o.cfg.EnablePolicy,
		policies: o.cfg.NetworkPolicies,
		cilium:   cilium, clusterwide: clusterwide,
		grace:    o.cfg.IdentityGCInterval,
		first:    make(chan struct{}),
		troubled: map[string]bool{},
	}
	sets.wake, sets.waited = d.wake, func(t time.Duration) { m.wait.Observe(t.Seconds()) }
	return mgr.Add(d)
}

// checkIdentities checks what cfg says about identities, fills in defaults, and
// returns the label filter.
func checkIdentities(cfg *Config) (identity.Filter, error) {
	switch cfg.EnablePolicy {
	case "":
		cfg.EnablePolicy = PolicyDefault
	case PolicyDefault, PolicyAlways, PolicyNever:
	default:
		return identity.Filter{}, fmt.Errorf("%w: enable-policy=%q: use %s, %s or %s", ErrConfig, cfg.EnablePolicy, PolicyDefault, PolicyAlways, PolicyNever)
	}
	if cfg.IdentityGCInterval < 0 {
		return identity.Filter{}, fmt.Errorf("%w: identity-gc-interval=%s: use 0 or more", ErrConfig, cfg.IdentityGCInterval)
	}
	filter, err := identity.ParseFilter(cfg.Labels)
	if err != nil {
		return filter, fmt.Errorf("%w: labels: %w", ErrConfig, err)
	}
	return filter, nil
}

// addProbes makes /healthz tell that the process lives, and /readyz that its
// watches have caught up; followers are ready too.
func addProbes(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("watches", func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), readyTimeout)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the watches have not caught up with the API server")
		}
		return nil
	})
}

func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, v2.AddToScheme} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("build scheme: %w", err)
		}
	}
	return s, nil
}

// stripNode keeps of a Node what the operator reads, so that 5,000 of them fit
// into little memory.
func stripNode(in any) (any, error) {
	n, ok := in.(*corev1.Node)
	if !ok {
		return in, nil
	}
	n.ManagedFields, n.Annotations = nil, nil
	n.Spec = corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses}
	return n, nil
}

func orOff(addr string) string {
	if addr == "" {
		return addrOff
	}
	return addr
}
