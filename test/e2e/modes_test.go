package e2e

import (
	"strconv"
	"testing"

	"github.com/placid-net/placid/internal/state"
)

const (
	underlayMTU   = 1500
	vxlanOverhead = 50
	// The pool of the tunnel lab: 10.50.0.0/24 in ranges of /28.
	poolRanges = 16
	// As often as can be, so that audits run into everything else.
	frequentAudits      = "reconcile-interval=1s"
	frequentCollections = "endpoint-gc-interval=10s"
	shortLives          = "identity-gc-interval=1s"
	followHints         = "enable-service-topology=true"
	// So small that the tests can fill it.
	fewSlots = "bpf-lb-service-backend-map-max=1024"
)

// TestNative is a cluster with native routing, whose pod CIDRs are those of the
// Node objects; the address of a deleted pod answers host unreachable.
func TestNative(t *testing.T) {
	t.Parallel()
	l := startLab(t, "native", "--max-pods", strconv.Itoa(manyPods+20),
		"--set", "ipam=kubernetes", "--set", "routing-mode=native", "--set", "enable-unreachable-routes=true",
		"--set", "ipam-address-reuse-delay=30s", "--set", frequentAudits, "--set", frequentCollections, "--set", shortLives)
	c := l.startCast(t)
	l.run(t, "connectivity", func(t *testing.T) { l.testConnectivity(t, c, underlayMTU) })
	l.run(t, "command line", func(t *testing.T) { l.testCommandLine(t, c, state.RoutingNative) })
	l.run(t, "network policy", func(t *testing.T) { l.testNetworkPolicy(t, c) })
	c.guarded = l.startGuarded(t)
	l.run(t, "bandwidth annotations limit a pod", func(t *testing.T) { l.testBandwidth(t, c) })
	l.run(t, "restarts under load", func(t *testing.T) { l.testRestarts(t, c) })
	l.run(t, "upgrade to a newer build loses nothing", func(t *testing.T) { l.testUpgrade(t, c) })
	l.run(t, "a node without the API server", func(t *testing.T) { l.testAway(t, c) })
	l.run(t, "unused identities go", l.testOutdatedIdentities)
	l.run(t, "scale", func(t *testing.T) { l.testScale(t, c) })
	l.run(t, "the address of a deleted pod answers host unreachable", func(t *testing.T) { l.testVacant(t, c, true) })
	l.run(t, "status names a node with another MTU", l.testMTUMismatch)
	l.run(t, "an unknown key stops the agent and not the traffic", func(t *testing.T) { l.testBadConfig(t, c) })
	l.run(t, "cleanup leaves no trace", func(t *testing.T) { l.testCleanup(t, c.a.node) })
}

// TestTunnel is a cluster whose nodes are on segments of their own, joined by
// VXLAN, with pod CIDRs from a small pool; the address of a deleted pod is
// silent.
func TestTunnel(t *testing.T) {
	t.Parallel()
	l := startLab(t, "tunnel", "--topology", "routed",
		"--set", "ipam=cluster-pool", "--set", "routing-mode=tunnel",
		"--set", "cluster-pool-ipv4-cidr=10.50.0.0/24", "--set", "cluster-pool-ipv4-mask-size=28",
		"--set", "cluster-pool-ipv6-cidr=fd00:50::/108", "--set", "cluster-pool-ipv6-mask-size=120",
		"--set", "bpf-lb-sock-hostns-only=true", "--set", followHints,
		"--set", "ipam-address-reuse-delay=5s", "--set", frequentAudits, "--set", frequentCollections, "--set", shortLives)
	c := l.startCast(t)
	l.run(t, "connectivity", func(t *testing.T) { l.testConnectivity(t, c, underlayMTU-vxlanOverhead) })
	l.run(t, "command line", func(t *testing.T) { l.testCommandLine(t, c, state.RoutingTunnel) })
	l.run(t, "Services", l.testTunnelServices)
	l.run(t, "network policy", func(t *testing.T) { l.testNetworkPolicy(t, c) })
	c.guarded = l.startGuarded(t)
	l.run(t, "restarts under load", func(t *testing.T) { l.testRestarts(t, c) })
	l.run(t, "the address of a deleted pod is silent", func(t *testing.T) { l.testVacant(t, c, false) })
	l.run(t, "unused identities go", l.testOutdatedIdentities)
	l.run(t, "full pool", func(t *testing.T) { l.testFullPool(t, c) })
	l.run(t, "operators", func(t *testing.T) { l.testOperators(t, poolRanges) })
	l.run(t, "cleanup leaves no trace", func(t *testing.T) { l.testCleanup(t, c.a.node) })
}

// testNetworkPolicy is what both labs show of policies and of the flows that
// they are about. The first policy of the lab comes first.
func (l *lab) testNetworkPolicy(t *testing.T, c cast) {
	l.run(t, "first policy", l.testFirstPolicy)
	l.run(t, "policies", l.testPolicies)
	l.run(t, "flows", l.testFlows)
	l.run(t, "no packet at pod start", func(t *testing.T) { l.testPodStart(t, c) })
}
