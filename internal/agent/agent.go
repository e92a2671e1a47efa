package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/placid-net/placid/internal/agent/security"
	"github.com/placid-net/placid/internal/agent/services"
	"github.com/placid-net/placid/internal/agent/sizes"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/cni"
	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/identity"
	"github.com/placid-net/placid/internal/ipam"
	"github.com/placid-net/placid/internal/k8s"
	"github.com/placid-net/placid/internal/policy"
	"github.com/placid-net/placid/internal/state"
)

// pendingFolder and cniBinary are names below state-dir and cni-bin-dir.
const (
	pendingFolder = "pending-del"
	cniBinary     = "placid-cni"
)

// Agent is one node's agent. Create it with New; Run does all the work.
type Agent struct {
	version   string
	nodeName  string
	startedAt time.Time
	loaded    *config.Loaded
	log       *slog.Logger
	now       func() time.Time

	tables     *state.Tables
	datapath   *datapath.Datapath
	kubernetes *k8s.Client
	addresses  *addresses
	endpoints  *endpoints
	filter     identity.Filter
	security   *security.Enforcer
	services   *services.Runner
	sizes      *sizes.Runner
	live       *live
	metrics    *metrics
	swept      atomic.Bool // the DELs that were left while no agent ran are done
	confState  atomic.Pointer[string]
}

// New builds the parts from a checked configuration. It does no I/O beyond
// reading credentials.
func New(loaded *config.Loaded, version string, log *slog.Logger) (*Agent, error) {
	cfg := loaded.Config
	name, err := nodeName(cfg)
	if err != nil {
		return nil, err
	}
	tables, err := state.NewTables()
	if err != nil {
		return nil, err
	}
	rest, err := k8s.Connection{
		Kubeconfig: cfg.KubeconfigPath, APIServer: cfg.APIServerURL, QPS: cfg.ClientQPS, Burst: cfg.ClientBurst,
		UserAgent: "placid-agent/" + version,
	}.RESTConfig()
	if err != nil {
		return nil, err
	}
	mode := policyMode(cfg)
	kubernetes, err := k8s.New(k8s.Config{
		REST: rest, NodeName: name, Tables: tables, Policy: mode != policy.ModeNever,
		CiliumPolicies: cfg.EnableCiliumNetworkPolicy, ClusterwidePolicies: cfg.EnableCiliumClusterwideNetworkPolicy,
		Services: cfg.KubeProxyReplacement, ServiceProxyName: cfg.ServiceProxyName, Log: log,
	})
	if err != nil {
		return nil, err
	}
	filter, err := identity.ParseFilter(strings.Fields(cfg.Labels))
	if err != nil {
		return nil, fmt.Errorf("key labels: %w", err)
	}
	dp, err := datapathConfig(cfg, name, log)
	if err != nil {
		return nil, err
	}
	settings, err := tableSizes(cfg)
	if err != nil {
		return nil, err
	}
	dp.Tables, dp.FixedTables = tableEntries(settings), settings.Fixed()
	a := &Agent{
		version: version, nodeName: name, startedAt: time.Now(), loaded: loaded, log: log, now: time.Now, filter: filter,
		tables: tables, kubernetes: kubernetes, datapath: datapath.New(dp, tables),
	}
	a.metrics = newMetrics(a)
	a.security, err = security.New(security.Config{
		NodeName: name, ClusterName: cfg.ClusterName, Mode: mode, Ignore: !cfg.EnableK8sNetworkPolicy, AuditAll: cfg.PolicyAuditMode,
		Filter: filter, Interval: cfg.ReconcileInterval, Tables: tables, Datapath: a.datapath, Cluster: kubernetes, Meter: a.metrics, Log: log,
	})
	if err != nil {
		return nil, err
	}
	if a.services, err = services.New(a.servicesConfig(cfg)); err != nil {
		return nil, err
	}
	if a.sizes, err = sizes.New(sizes.Config{Settings: settings, Datapath: a.datapath, Events: kubernetes, Log: log}); err != nil {
		return nil, err
	}
	a.live = &live{loaded: loaded, apply: a.applyLive, log: log}
	a.addresses = &addresses{alloc: ipam.NewAllocator(cfg.AddressReuseDelay), families: families(cfg), now: a.now}
	a.endpoints = &endpoints{
		tables: tables, datapath: a.datapath, security: a.security, addresses: a.addresses, log: log, now: a.now,
		locks: map[state.AttachmentID]*attachmentLock{},
		report: func(pod state.PodRef, reason, message string) {
			kubernetes.Event(pod, k8s.EventWarning, reason, message)
		},
	}
	return a, nil
}

// policyMode is what the key enable-policy and those that enable kinds of policies
// say together: where no policy can be and none is asked for, nothing is watched.
func policyMode(cfg config.Config) policy.Mode {
	mode := policy.Mode(cfg.EnablePolicy)
	if mode == policy.ModeDefault && !cfg.EnableK8sNetworkPolicy && !cfg.EnableCiliumNetworkPolicy && !cfg.EnableCiliumClusterwideNetworkPolicy {
		return policy.ModeNever
	}
	return mode
}

func nodeName(cfg config.Config) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the node's name: %w", err)
	}
	return cmp.Or(cfg.NodeName, os.Getenv("K8S_NODE_NAME"), host), nil
}

func families(cfg config.Config) ipam.Families {
	var f ipam.Families
	if cfg.EnableIPv4 {
		f |= ipam.IPv4
	}
	if cfg.EnableIPv6 {
		f |= ipam.IPv6
	}
	return f
}

// datapathConfig reads the file of ip-masq-agent-config-path too, and looks for
// the node's cgroup.
func datapathConfig(cfg config.Config, node string, log *slog.Logger) (datapath.Config, error) {
	masquerade, err := masqueradeConfig(cfg)
	if err != nil {
		return datapath.Config{}, err
	}
	var cgroup string
	if cfg.KubeProxyReplacement {
		if cgroup, err = datapath.FindCgroup(cfg.CgroupRoot); err != nil {
			return datapath.Config{}, fmt.Errorf("key cgroup-root: %w", err)
		}
	}
	return datapath.Config{
		NodeName: node, BPFRoot: cfg.BPFRoot, CgroupRoot: cgroup, IPv4: cfg.EnableIPv4, IPv6: cfg.EnableIPv6,
		Tunnel: cfg.RoutingMode == string(state.RoutingTunnel), TunnelPort: cfg.TunnelPort,
		AutoDirectRoutes: cfg.AutoDirectNodeRoutes, UnreachableRoutes: cfg.UnreachableRoutes,
		Devices: cfg.Devices, MTU: cfg.MTU,
		ReconcileInterval: cfg.ReconcileInterval, Timeouts: timeouts(cfg), CTSchedule: schedule(cfg), Log: log,
		Services: serviceConfig(cfg), Masquerade: masquerade,
	}, nil
}

// Run serves the node until ctx ends. What it made in the kernel stays and
// works on. An error says what is wrong with the node or the configuration.
func (a *Agent) Run(ctx context.Context) error {
	cfg := a.loaded.Config
	for _, w := range a.loaded.Warnings {
		a.log.Warn(w) //nolint:sloglint // a warning is a whole sentence about a key
	}
	var err error
	if a.endpoints.store, err = openStore(cfg.StateDir); err != nil {
		return err
	}
	a.addresses.store = a.endpoints.store
	if err := a.datapath.Open(); err != nil {
		return err
	}
	defer func() { _ = a.datapath.Close() }()
	if err := a.endpoints.restore(); err != nil {
		return err
	}
	a.kubernetes.SetStatus(k8s.NodeStatus{
		MTU: a.datapath.MTU().Route, RoutingMode: state.RoutingMode(cfg.RoutingMode), AgentVersion: a.version,
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.kubernetes.Run(ctx) })
	g.Go(func() error {
		return a.datapath.Run(ctx, datapath.Known{Nodes: a.kubernetes.NodesSynced(), NodeEndpoints: a.kubernetes.NodeEndpointsSynced()})
	})
	g.Go(func() error { return a.security.Run(ctx) })
	g.Go(func() error { return a.services.Run(ctx) })
	g.Go(func() error { return a.sizes.Run(ctx) })
	g.Go(func() error { return a.live.run(ctx) })
	g.Go(func() error { return a.followCIDRs(ctx) })
	g.Go(func() error { return a.becomeReady(ctx) })
	c := &collector{endpoints: a.endpoints, pods: a.kubernetes, interval: cfg.EndpointGCInterval}
	g.Go(func() error { return c.run(ctx) })
	if err := a.serveAll(ctx, g); err != nil {
		g.Go(func() error { return err }) // ends the others
		return g.Wait()
	}
	a.log.Info("placid-agent started", "version", a.version, "node", a.nodeName, "routingMode", cfg.RoutingMode)
	return g.Wait()
}

// serveAll opens every listener before it serves any, so that a port in use is
// an error at once.
func (a *Agent) serveAll(ctx context.Context, g *errgroup.Group) error {
	cfg := a.loaded.Config
	socket, err := agentapi.Listen(cfg.SocketPath)
	if err != nil {
		return fmt.Errorf("key socket-path: %w", err)
	}
	g.Go(func() error { return serve(ctx, socket, agentapi.Handler(service{a})) })
	health, err := listenHealth(cfg.HealthPort)
	if err != nil {
		return err
	}
	g.Go(func() error { return serve(ctx, health, healthHandler(a.ready)) })
	if cfg.PrometheusAddr == "" {
		return nil
	}
	scrape, err := listenMetrics(cfg.PrometheusAddr)
	if err != nil {
		return err
	}
	g.Go(func() error { return serve(ctx, scrape, metricsHandler(a.metrics.registry)) })
	return nil
}

// followCIDRs gives the allocator this node's pod CIDRs.
func (a *Agent) followCIDRs(ctx context.Context) error {
	var have []netip.Prefix
	for {
		nodes, changed, err := a.tables.Nodes()
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Name != a.nodeName || slices.Equal(have, n.PodCIDRs) || len(n.PodCIDRs) == 0 {
				continue
			}
			if err := a.addresses.alloc.SetCIDRs(n.PodCIDRs, a.now()); err != nil {
				a.log.Error("take pod CIDRs", "cidrs", n.PodCIDRs, "error", err)
				continue
			}
			have = n.PodCIDRs
			a.log.Info("pod CIDRs", "cidrs", have)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// readyPoll is how often the agent looks whether it became ready.
const readyPoll = 20 * time.Millisecond

// becomeReady carries out the DELs that were left while no agent ran, and tells
// the container runtime that pods can come, each as soon as it can be done.
func (a *Agent) becomeReady(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.datapath.Attached():
	}
	a.log.Info("programs attached", "after", time.Since(a.startedAt).String())
	a.sweepPending(ctx)
	a.swept.Store(true)
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for a.ready() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	if err := a.installCNI(); err != nil {
		return err
	}
	a.log.Info("ready for pods", "after", time.Since(a.startedAt).String())
	return a.sweepForever(ctx)
}

// sweepInterval is how often DELs are looked for that the plugin left although
// an agent ran: it gave up waiting for a slow one.
const sweepInterval = 10 * time.Second

func (a *Agent) sweepForever(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.sweepPending(ctx)
		}
	}
}

func (a *Agent) pendingDir() agentapi.PendingDir {
	return agentapi.PendingDir(filepath.Join(a.loaded.Config.StateDir, pendingFolder))
}

// sweepPending carries out the DELs that the plugin left while no agent ran.
func (a *Agent) sweepPending(ctx context.Context) {
	reqs, junk, err := a.pendingDir().List()
	if err != nil {
		a.log.Error("read pending DELs", "error", err)
	}
	for _, err := range junk {
		a.log.Error("pending DEL set aside", "error", err)
	}
	for _, req := range reqs {
		err := a.endpoints.del(ctx, req.Attachment)
		if err == nil { // one that fails is tried again
			err = a.pendingDir().Remove(req.Attachment)
		}
		if err != nil {
			a.log.Error("carry out pending DEL", "attachment", req.Attachment.String(), "error", err)
		}
	}
}

// installCNI puts the plugin and then its configuration into place.
func (a *Agent) installCNI() error {
	cfg := a.loaded.Config
	if cfg.CNIBinDir != "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find %s: %w", cniBinary, err)
		}
		if err := cni.InstallBinary(filepath.Join(filepath.Dir(self), cniBinary), cfg.CNIBinDir); err != nil {
			return fmt.Errorf("key cni-bin-dir: %w", err)
		}
	}
	if cfg.CNIConfPath == "" {
		return nil
	}
	err := cni.WriteConf(cfg.CNIConfPath, cni.ConfOptions{
		SocketPath: cfg.SocketPath, PendingDir: string(a.pendingDir()), Exclusive: cfg.CNIExclusive,
		WithoutHostPorts: !cfg.KubeProxyReplacement,
	})
	if err != nil {
		return fmt.Errorf("key write-cni-conf-when-ready: %w", err)
	}
	a.confState.Store(&cfg.CNIConfPath)
	a.log.Info("CNI configuration written", "path", cfg.CNIConfPath)
	return nil
}

// cniConf is what status shows.
func (a *Agent) cniConf() string {
	if p := a.confState.Load(); p != nil {
		return *p
	}
	if a.loaded.Config.CNIConfPath == "" {
		return "not managed (write-cni-conf-when-ready is empty)"
	}
	return "not written yet"
}

// Cleanup removes every trace of Placid from the node: CNI configuration and
// plugin, pod interfaces, routes, programs, maps, state. Pods lose their
// network. It goes on after an error and returns all of them.
func Cleanup(cfg config.Config) error {
	var errs []error
	if cfg.CNIConfPath != "" {
		errs = append(errs, cni.RemoveConf(cfg.CNIConfPath), cni.RestoreConfs(filepath.Dir(cfg.CNIConfPath)))
	}
	errs = append(errs, datapath.Cleanup(cfg.BPFRoot), removeState(cfg.StateDir))
	if cfg.CNIBinDir != "" {
		errs = append(errs, removeFile(filepath.Join(cfg.CNIBinDir, cniBinary)))
	}
	return errors.Join(errs...)
}
