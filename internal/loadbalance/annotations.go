package loadbalance

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Annotations of Services.
const (
	annotationPrefix    = "service.cilium.io/"
	annotationAlgorithm = annotationPrefix + "lb-algorithm"
	annotationRanges    = annotationPrefix + "src-ranges-policy"
	annotationTopology  = "service.kubernetes.io/topology-mode"
	annotationHints     = "service.kubernetes.io/topology-aware-hints" // the older name
)

// asServed says what value of an annotation asks for no more than what is done
// anyway.
func asServed(key string) string {
	switch strings.TrimPrefix(key, annotationPrefix) {
	case "global", "shared", "global-sync-endpoint-slices":
		return "false"
	case "affinity", "proxy-delegation":
		return "none"
	case "forwarding-mode":
		return "snat"
	default:
		return ""
	}
}

// readAnnotations takes from annotations what is understood, and names the rest.
// Those of service.kubernetes.io/ that are not about topology are for others.
func (c *compiler) readAnnotations() {
	for _, key := range slices.Sorted(maps.Keys(c.svc.Annotations)) {
		value := strings.ToLower(strings.TrimSpace(c.svc.Annotations[key]))
		switch {
		case key == annotationAlgorithm:
			c.readAlgorithm(value)
		case key == annotationRanges:
			c.readRangesPolicy(value)
		case key == annotationTopology, key == annotationHints:
			if value == "auto" && !c.cfg.TopologyHints {
				c.problem("metadata.annotations[%s]: hints are not followed, because enable-service-topology is false", key)
			}
		case !strings.HasPrefix(key, annotationPrefix), value == asServed(key) && value != "":
		default:
			c.problem("metadata.annotations[%s]: %s is not supported", key, quote(value))
		}
	}
}

func (c *compiler) readAlgorithm(value string) {
	a := Algorithm(value)
	switch configured := c.algorithm; {
	case a != AlgorithmRandom && a != AlgorithmMaglev:
		c.problem("metadata.annotations[%s]: %s is not supported, want %s or %s", annotationAlgorithm, quote(value), AlgorithmRandom, AlgorithmMaglev)
	case c.cfg.AlgorithmByAnnotation:
		c.algorithm = a
	case a != configured:
		c.problem("metadata.annotations[%s]: %s is not used, because bpf-lb-algorithm-annotation is false", annotationAlgorithm, quote(value))
	}
}

func (c *compiler) readRangesPolicy(value string) {
	switch value {
	case "allow":
	case "deny":
		c.deny = true
	default:
		c.problem("metadata.annotations[%s]: %s is not supported, want allow or deny: only clients in loadBalancerSourceRanges are served",
			annotationRanges, quote(value))
	}
}

// readDistribution names a wish that the configuration forbids to follow.
func (c *compiler) readDistribution() {
	if c.svc.Distribution != "" && !c.cfg.TopologyHints {
		c.problem("spec.trafficDistribution: %s is not followed, because enable-service-topology is false", quote(string(c.svc.Distribution)))
	}
}

// quote makes text of any length and content fit into a message.
func quote(text string) string {
	const most = 64
	runes := []rune(strings.ToValidUTF8(text, "\uFFFD"))
	if len(runes) > most {
		runes = append(runes[:most], '…')
	}
	return `"` + strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, string(runes)) + `"`
}

// readSourceRanges finds the clients outside that are served, of each family.
func (c *compiler) readSourceRanges() {
	if len(c.svc.SourceRanges) == 0 {
		return
	}
	for _, p := range c.svc.SourceRanges {
		if !p.IsValid() {
			c.problem("spec.loadBalancerSourceRanges: %s is no range of addresses", p)
			continue
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		f := order(p.Addr().Is6())
		c.ranges[f] = append(c.ranges[f], p.Masked())
	}
	for f := range c.ranges {
		c.ranges[f] = widest(c.ranges[f])
		c.limited[f] = !c.deny || len(c.ranges[f]) > 0
		if c.deny && c.limited[f] {
			c.ranges[f] = without(allAddresses(f == 1), c.ranges[f])
		}
	}
}

func allAddresses(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// widest sorts prefixes of one family and leaves out those inside others.
func widest(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	out := prefixes[:0]
	for _, p := range prefixes {
		if len(out) == 0 || !out[len(out)-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// without gives the prefixes of what is left of p, sorted.
func without(p netip.Prefix, holes []netip.Prefix) []netip.Prefix {
	var inside []netip.Prefix
	for _, h := range holes {
		if h.Bits() <= p.Bits() && h.Contains(p.Addr()) {
			return nil
		}
		if p.Contains(h.Addr()) {
			inside = append(inside, h)
		}
	}
	if len(inside) == 0 {
		return []netip.Prefix{p}
	}
	lower := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(bytes)
	return append(without(lower, inside), without(netip.PrefixFrom(upper, p.Bits()+1), inside)...)
}
