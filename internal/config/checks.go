package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

const (
	minMTUIPv6     = 1280 // RFC 8200
	minMTUIPv4     = 576  // RFC 791: what every host must take
	minOverhead    = 50   // of VXLAN over IPv4; over IPv6 it is 70
	defaultCluster = "default"

	ipamClusterPool = "cluster-pool"
	routingTunnel   = "tunnel"
	routingNative   = "native"
)

// check finds settings that contradict each other. It is skipped when any of its
// keys has a wrong value.
type check struct {
	keys []string
	// conflict says what is wrong and what to do, "" if nothing is. set tells
	// whether a source set a key.
	conflict func(c Config, set func(key string) bool) string
}

func checks() []check {
	return []check{
		{[]string{"enable-ipv4", "enable-ipv6"}, noFamily},
		{[]string{"mtu", "enable-ipv6", "routing-mode"}, smallMTU},
		{[]string{"cluster-id", "cluster-name"}, unnamedCluster},
		{[]string{"k8s-client-burst", "k8s-client-qps"}, smallBurst},
		{[]string{"agent-health-port", "prometheus-serve-addr"}, agentPorts},
		{[]string{"operator-api-serve-addr", "operator-prometheus-serve-addr"}, operatorPorts},
		{[]string{"bpf-lb-sock", "kube-proxy-replacement"}, socketsAlone},
		{[]string{"bpf-nat-global-max", "bpf-ct-global-tcp-max", "bpf-ct-global-any-max", "bpf-map-dynamic-size-ratio"}, sizesConflict},
		{[]string{"enable-ip-masq-agent", "enable-ipv4-masquerade", "enable-ipv6-masquerade"}, idleMasqAgent},
		{[]string{"ipv4-native-routing-cidr", "enable-ipv4-masquerade", "routing-mode", "ipam"}, func(c Config, _ func(string) bool) string {
			return unboundedMasquerade(c, familyIPv4, c.EnableIPv4 && c.EnableIPv4Masquerade)
		}},
		{[]string{"ipv6-native-routing-cidr", "enable-ipv6-masquerade", "routing-mode", "ipam"}, func(c Config, _ func(string) bool) string {
			return unboundedMasquerade(c, familyIPv6, c.EnableIPv6 && c.EnableIPv6Masquerade)
		}},
		{[]string{"cluster-pool-ipv4-cidr", "enable-ipv4"}, func(c Config, set func(string) bool) string {
			return unusedPool(c.EnableIPv4, set("cluster-pool-ipv4-cidr"), c.ClusterPoolIPv4CIDR)
		}},
		{[]string{"cluster-pool-ipv6-cidr", "enable-ipv6"}, func(c Config, set func(string) bool) string {
			return unusedPool(c.EnableIPv6, set("cluster-pool-ipv6-cidr"), c.ClusterPoolIPv6CIDR)
		}},
		{[]string{"cluster-pool-ipv4-cidr", "ipam", "enable-ipv4"}, func(c Config, _ func(string) bool) string {
			return missingPool(c.IPAM, c.EnableIPv4, c.ClusterPoolIPv4CIDR)
		}},
		{[]string{"cluster-pool-ipv6-cidr", "ipam", "enable-ipv6"}, func(c Config, _ func(string) bool) string {
			return missingPool(c.IPAM, c.EnableIPv6, c.ClusterPoolIPv6CIDR)
		}},
		{[]string{"cluster-pool-ipv4-cidr", "cluster-pool-ipv4-mask-size"}, func(c Config, _ func(string) bool) string {
			return smallPool(c.IPAM, c.EnableIPv4, c.ClusterPoolIPv4CIDR, c.ClusterPoolIPv4Mask)
		}},
		{[]string{"cluster-pool-ipv6-cidr", "cluster-pool-ipv6-mask-size"}, func(c Config, _ func(string) bool) string {
			return smallPool(c.IPAM, c.EnableIPv6, c.ClusterPoolIPv6CIDR, c.ClusterPoolIPv6Mask)
		}},
		{[]string{"cluster-pool-ipv4-cidr"}, func(c Config, _ func(string) bool) string {
			return overlap(c.ClusterPoolIPv4CIDR)
		}},
		{[]string{"cluster-pool-ipv6-cidr"}, func(c Config, _ func(string) bool) string {
			return overlap(c.ClusterPoolIPv6CIDR)
		}},
	}
}

func noFamily(c Config, _ func(string) bool) string {
	if c.EnableIPv4 || c.EnableIPv6 {
		return ""
	}
	return "pods would get no address at all; set one of them to true"
}

func smallMTU(c Config, _ func(string) bool) string {
	if c.MTU == 0 {
		return ""
	}
	need, what := minMTUIPv4, "IPv4"
	if c.EnableIPv6 {
		need, what = minMTUIPv6, "IPv6"
	}
	if c.RoutingMode == routingTunnel {
		need, what = need+minOverhead, fmt.Sprintf("%s inside the tunnel (%d bytes of headers)", what, minOverhead)
	}
	if c.MTU >= need {
		return ""
	}
	text := fmt.Sprintf("%s needs an mtu of at least %d", what, need)
	if c.EnableIPv6 {
		text += "; set a larger one or enable-ipv6=false"
	}
	return text
}

func unnamedCluster(c Config, _ func(string) bool) string {
	if c.ClusterID == 0 || c.ClusterName != defaultCluster {
		return ""
	}
	return fmt.Sprintf("a cluster with a number needs a name of its own, other than %q", defaultCluster)
}

func smallBurst(c Config, _ func(string) bool) string {
	if float64(c.ClientBurst) >= c.ClientQPS {
		return ""
	}
	return "the burst must be at least the sustained rate"
}

func agentPorts(c Config, _ func(string) bool) string {
	// The health server listens on the loopback addresses of both families.
	if sameListener(c.PrometheusAddr, net.JoinHostPort("localhost", strconv.Itoa(c.HealthPort))) {
		return "two servers of the agent would listen on the same port; change one"
	}
	return ""
}

func operatorPorts(c Config, _ func(string) bool) string {
	if sameListener(c.OperatorPrometheusAddr, c.OperatorHealthAddr) {
		return "two servers of the operator would listen on the same port; change one"
	}
	return ""
}

// sameListener tells whether two host:port addresses cannot be listened on at the
// same time. An empty address is a server that is off.
func sameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portNumber(portA) != portNumber(portB) {
		return false
	}
	return hostA == hostB || isWildcard(hostA) || isWildcard(hostB) || (isLoopback(hostA) && isLoopback(hostB))
}

func portNumber(text string) int {
	n, _ := strconv.Atoi(text) // formats.go has checked it
	return n
}

func isWildcard(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || (err == nil && a.IsUnspecified())
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && a.IsLoopback())
}

func unusedPool(enabled, set bool, pools []netip.Prefix) string {
	if enabled || !set || len(pools) == 0 {
		return ""
	}
	return "a pool is set for an address family that is off; remove the pool or switch the family on"
}

func missingPool(ipam string, enabled bool, pools []netip.Prefix) string {
	if ipam != ipamClusterPool || !enabled || len(pools) > 0 {
		return ""
	}
	return "the address family has no pool; set one or switch the family off"
}

func smallPool(ipam string, enabled bool, pools []netip.Prefix, mask int) string {
	if ipam != ipamClusterPool || !enabled {
		return ""
	}
	for _, p := range pools {
		if p.Bits() > mask {
			return fmt.Sprintf("the pool %s is smaller than the /%d of one node; use larger pools or a longer mask", p, mask)
		}
	}
	return ""
}

func overlap(pools []netip.Prefix) string {
	sorted := slices.SortedFunc(slices.Values(pools), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	// Sorted so, a pool that overlaps any earlier one overlaps its neighbour too:
	// of two prefixes either one holds the other or they share nothing.
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].Overlaps(sorted[i]) {
			return fmt.Sprintf("the pools %s and %s overlap", sorted[i-1], sorted[i])
		}
	}
	return ""
}
