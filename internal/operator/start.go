package operator

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/ipam"
	"github.com/placid-net/placid/internal/k8s"
)

// Start builds an operator from a checked configuration and runs it until ctx
// ends. The error is ErrConfig when the configuration cannot work.
func Start(ctx context.Context, cfg config.Config, version string, log *slog.Logger) error {
	rc, err := k8s.Connection{
		Kubeconfig: cfg.KubeconfigPath, APIServer: cfg.APIServerURL, QPS: cfg.OperatorClientQPS, Burst: cfg.OperatorClientBurst,
		UserAgent: operatorName + "/" + version,
	}.RESTConfig()
	if err != nil {
		return err
	}
	// What client-go and controller-runtime log without a context.
	klog.SetSlogLogger(log)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	op, err := New(Config{
		IPAM: cfg.IPAM, Pools: poolsOf(cfg), ClusterName: cfg.ClusterName, Labels: strings.Fields(cfg.Labels),
		EnablePolicy: cfg.EnablePolicy, NetworkPolicies: cfg.EnableK8sNetworkPolicy,
		CiliumPolicies: cfg.EnableCiliumNetworkPolicy, ClusterwidePolicies: cfg.EnableCiliumClusterwideNetworkPolicy, IdentityGCInterval: cfg.IdentityGCInterval,
		MetricsAddr: cfg.OperatorPrometheusAddr, HealthAddr: cfg.OperatorHealthAddr, Version: version,
	}, rc, ctrlmetrics.Registry, log)
	if err != nil {
		return err
	}
	return op.Run(ctx)
}

// poolsOf gives the pools of the families that are on.
func poolsOf(cfg config.Config) []ipam.Pool {
	var pools []ipam.Pool
	add := func(on bool, cidrs []netip.Prefix, mask int) {
		for _, c := range cidrs {
			if on {
				pools = append(pools, ipam.Pool{CIDR: c, NodeMask: mask})
			}
		}
	}
	add(cfg.EnableIPv4, cfg.ClusterPoolIPv4CIDR, cfg.ClusterPoolIPv4Mask)
	add(cfg.EnableIPv6, cfg.ClusterPoolIPv6CIDR, cfg.ClusterPoolIPv6Mask)
	return pools
}
