package capacity

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/placid-net/placid/internal/planner/snapshot"
)

// addressGauges are the addresses of pods: those of each node's ranges or
// interfaces, the pods that a node takes, and the ranges of the cluster's pools.
func addressGauges(c *census, opts Options) (gauges []*gauge, notes []string) {
	unknown := map[string]bool{}
	cloud := c.fromCloud()
	for _, n := range c.nodes {
		if n.node.MaxPods > 0 {
			gauges = append(gauges, &gauge{
				kind: KindAddresses, name: "max-pods", node: n.node.Name, need: n.all.at, size: n.node.MaxPods, limit: n.node.MaxPods,
				exact: true, key: "kubelet maxPods", full: "the scheduler places no more pods on the node",
			})
		}
		if g, typ := c.interfaceGauge(n, opts); g != nil {
			gauges = append(gauges, g)
			continue
		} else if cloud {
			unknown[typ] = true
		}
		if g := c.rangeGauge(n); g != nil && !cloud {
			gauges = append(gauges, g)
		}
	}
	if unknown[""] {
		notes = append(notes, "Some nodes do not say of which type they are (node.kubernetes.io/instance-type), so that their interfaces are not known: --instance-types TYPE tells.")
		delete(unknown, "")
	}
	if len(unknown) > 0 {
		var types []string
		for typ := range unknown {
			types = append(types, typ)
		}
		slices.Sort(types)
		notes = append(notes, fmt.Sprintf("Interfaces and addresses of %s are not known: say what they have, e.g. --instance-types %s=4x15.", strings.Join(types, ", "), types[0]))
	}
	return append(gauges, c.poolGauges()...), notes
}

// fromCloud tells whether pods' addresses are those of the cloud's interfaces.
func (c *census) fromCloud() bool {
	return slices.Contains([]string{"eni", "alibabacloud", "azure", "delegated-plugin"}, c.settings.values["ipam"]) ||
		c.settings.platform == snapshot.Terway
}

// addressesFull is what becomes of a pod without an address.
const addressesFull = "new pods on the node get no address and wait in ContainerCreating"

// rangeGauge is for the IPv4 addresses of a node's pod CIDRs.
func (c *census) rangeGauge(n *nodeCensus) *gauge {
	room := 0
	for _, p := range n.node.PodCIDRs {
		if p.Addr().Is4() {
			room += usable(p)
		}
	}
	if room == 0 {
		return nil
	}
	own := form{}
	own.join(n.own, 1)
	if c.settings.platform != snapshot.Placid {
		own.add(1) // cilium_host
		if c.settings.on("enable-endpoint-health-checking", true) {
			own.add(1)
		}
	}
	key := "cluster-pool-ipv4-mask-size"
	if c.settings.values["ipam"] == "kubernetes" {
		key = "kube-controller-manager --node-cidr-mask-size"
	}
	return &gauge{
		kind: KindAddresses, name: "pod CIDR addresses", node: n.node.Name, need: own.at, size: room, limit: room,
		exact: true, key: key, full: addressesFull,
	}
}

// usable is how many addresses of an IPv4 range pods can have: not its first nor its
// last, unless there are no others.
func usable(p netip.Prefix) int {
	host := 32 - p.Bits()
	if host <= 1 {
		return 1 << host
	}
	return 1<<min(host, 16) - 2
}

// prefixBlock is the addresses of a /28, which interfaces of AWS take in the place of
// single ones.
const prefixBlock = 16

// interfaceGauge is for the addresses that a node's interfaces can have. It also
// gives the node's type.
func (c *census) interfaceGauge(n *nodeCensus, opts Options) (g *gauge, typ string) {
	typ = n.node.InstanceType
	if typ == "" {
		typ = opts.DefaultInstance
	}
	i, ok := opts.Instances[typ]
	if !ok {
		i, ok = knownInstance(typ)
	}
	if !ok || !c.fromCloud() && len(opts.Instances) == 0 && opts.DefaultInstance == "" {
		return nil, typ
	}
	first := c.settings.number("eni-first-interface-index", 0)
	if c.settings.platform == snapshot.Terway {
		first = 1 // the node keeps its own interface
	}
	room := max(i.Interfaces-first, 0) * (i.Addresses - 1)
	what := fmt.Sprintf("%s: %d interfaces of %d addresses", typ, i.Interfaces, i.Addresses)
	if c.settings.on("aws-enable-prefix-delegation", false) {
		room *= prefixBlock
		what += ", a /28 in the place of each"
	}
	return &gauge{
		kind: KindAddresses, name: "interface addresses", node: n.node.Name, what: what, need: n.own.at, size: room, limit: room,
		exact: true, key: "instance type", full: addressesFull,
	}, typ
}

// poolGauges are for the ranges of nodes that the cluster's pools have room for.
func (c *census) poolGauges() []*gauge {
	if mode := c.settings.values["ipam"]; c.fromCloud() || mode != "" && mode != "cluster-pool" || c.settings.platform == snapshot.Terway {
		return nil
	}
	cfg := c.settings.cfg
	var out []*gauge
	for _, f := range []struct {
		on    bool
		name  string
		pools []netip.Prefix
		mask  int
	}{
		{cfg.EnableIPv4, "ipv4", cfg.ClusterPoolIPv4CIDR, cfg.ClusterPoolIPv4Mask},
		{cfg.EnableIPv6 && c.hasRanges(true), "ipv6", cfg.ClusterPoolIPv6CIDR, cfg.ClusterPoolIPv6Mask},
	} {
		room := 0
		for _, p := range f.pools {
			room += 1 << min(max(f.mask-p.Bits(), 0), 24)
		}
		if !f.on || room == 0 || len(c.nodes) == 0 {
			continue
		}
		nodes := form{}
		nodes.add(float64(len(c.nodes)), byNodes)
		out = append(out, &gauge{
			kind: KindAddresses, name: f.name + " pool ranges", need: nodes.at, size: room, limit: room,
			what: "a /" + strconv.Itoa(f.mask) + " for each node", exact: true, key: "cluster-pool-" + f.name + "-cidr",
			full: "new nodes get no pod CIDR and run no pods",
		})
	}
	return out
}

func (c *census) hasRanges(ipv6 bool) bool {
	return slices.ContainsFunc(c.nodes, func(n *nodeCensus) bool {
		return slices.ContainsFunc(n.node.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() == ipv6 })
	})
}

// identityGauge is for the numbers of identities.
func (c *census) identityGauge() *gauge {
	g := &gauge{
		kind: KindIdentities, name: "identities", need: c.identityForm().at, exact: true,
		key: "labels", size: 1<<24 - 256, full: "pods with new labels keep the identity init, and policies do not see their labels",
	}
	if c.settings.platform != snapshot.Placid {
		g.size = 65535 - 255
		if c.settings.number("max-connected-clusters", 255) > 255 {
			g.size = math.MaxInt16
		}
		g.full = "pods with new labels are not created: allocation fails after 16 tries"
	}
	g.limit = g.size
	if !c.settings.isolates() && len(c.snap.Policies) == 0 {
		g.need = func(scale) float64 { return 0 } // nothing needs them, so none are made
	}
	return g
}
