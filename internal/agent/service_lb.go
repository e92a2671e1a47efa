package agent

import (
	"context"
	"fmt"

	"github.com/placid-net/placid/internal/agent/services"
	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/loadbalance"
)

// Services tells what this node serves.
func (s service) Services(_ context.Context, ref string) ([]agentapi.ServiceInfo, error) {
	out, err := s.services.Services(ref)
	if err == nil && ref != "" && len(out) == 0 {
		return nil, &agentapi.Error{Code: agentapi.CodeNotFound, Message: fmt.Sprintf(
			"no service %s is served on node %s, nor has a pod of that name host ports here; headless Services and those of type ExternalName are not served", ref, s.nodeName)}
	}
	return out, err
}

// servicesStatus is what status shows of services.
func (a *Agent) servicesStatus() *agentapi.ServicesStatus {
	out := a.services.Status()
	return &out
}

// servicesConfig is what the keys say of services.
func (a *Agent) servicesConfig(cfg config.Config) services.Config {
	return services.Config{
		NodeName: a.nodeName, Off: !cfg.KubeProxyReplacement, HealthChecks: cfg.HealthCheckNodePort, Interval: cfg.ReconcileInterval,
		Tables: a.tables, Datapath: a.datapath, Cluster: a.kubernetes, Meter: a.metrics, Log: a.log,
		Compiler: loadbalance.Config{
			IPv4: cfg.EnableIPv4, IPv6: cfg.EnableIPv6, Algorithm: loadbalance.Algorithm(cfg.LBAlgorithm), AlgorithmByAnnotation: cfg.LBAlgorithmAnnotation,
			ExternalClusterIP: cfg.LBExternalClusterIP, SourceRangeAllTypes: cfg.LBSourceRangeAllTypes,
			NodePortFirst: cfg.NodePortRange.First, NodePortLast: cfg.NodePortRange.Last,
			TopologyHints: cfg.ServiceTopology, MaglevSize: uint32(cfg.LBMaglevTableSize),
		},
	}
}

// serviceConfig is what the datapath needs to know of services.
func serviceConfig(cfg config.Config) datapath.ServiceConfig {
	return datapath.ServiceConfig{
		Enabled: cfg.KubeProxyReplacement, Reject: cfg.ServiceNoBackend == "reject", SocketsOfHostOnly: cfg.LBSockHostnsOnly,
		MaglevSize: uint32(cfg.LBMaglevTableSize), MaglevSeed: cfg.MaglevSeed(),
		NodePortFirst: cfg.NodePortRange.First, NodePortLast: cfg.NodePortRange.Last, NodePortAddresses: cfg.NodePortAddresses,
	}
}

// masqueradeConfig is what pods send with the node's address.
func masqueradeConfig(cfg config.Config) (datapath.MasqueradeConfig, error) {
	out := datapath.MasqueradeConfig{
		IPv4: cfg.EnableIPv4 && cfg.EnableIPv4Masquerade, IPv6: cfg.EnableIPv6 && cfg.EnableIPv6Masquerade, Native: cfg.NativeCIDRs(),
	}
	if !cfg.EnableIPMasqAgent {
		return out, nil
	}
	excluded, err := config.MasqueradeExclusions(cfg.IPMasqAgentConfigPath)
	if err != nil {
		return out, err
	}
	out.Native = append(out.Native, excluded...)
	return out, nil
}

// masqueraded names the families whose pods leave the cluster with the node's
// address.
func masqueraded(cfg config.Config) []string {
	var out []string
	if cfg.EnableIPv4 && cfg.EnableIPv4Masquerade {
		out = append(out, "IPv4")
	}
	if cfg.EnableIPv6 && cfg.EnableIPv6Masquerade {
		out = append(out, "IPv6")
	}
	return out
}

// LB tells what the kernel has of services.
func (s service) LB(context.Context) (agentapi.LBTables, error) { return s.services.LB() }
