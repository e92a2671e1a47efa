package policytest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/placid-net/placid/internal/state"
)

// What labels and ports are made of: little, so that things meet.
var (
	podKeys        = []string{"app", "tier", "env", "pod-hash"}
	namespaceKeys  = []string{"team", "env", "owner-hash"}
	labelValues    = []string{"a", "b", "c"}
	portNames      = []string{"http", "dns", "admin"}
	portNumbers    = []uint16{1, 53, 80, 81, 443, 8080, 9000, 65535}
	protocols      = []state.Protocol{state.ProtocolTCP, state.ProtocolUDP, state.ProtocolSCTP}
	hiddenPods     = []string{"pod-hash"}
	hiddenNames    = []string{"owner-hash"}
	accounts       = []string{"default", "a", "b"}
	prefixLengths4 = []int{0, 1, 8, 12, 16, 20, 24, 28, 30, 31, 32}
	prefixLengths6 = []int{0, 1, 8, 48, 64, 80, 90, 96, 112, 120, 126, 127, 128}
)

// The types of echo requests.
const (
	echo4 = 8
	echo6 = 128
)

// random draws parts of a cluster.
type random struct {
	*rand.Rand
	cluster *Cluster
}

// Random makes a cluster of up to 4 namespaces, 14 pods and 12 policies.
func Random(rng *rand.Rand) Cluster {
	c := Cluster{
		HiddenPodLabels: hiddenPods, HiddenNamespaceLabels: hiddenNames,
		Node: addrs("192.168.0.1", "fd01::1"), Nodes: addrs("192.168.0.2", "192.168.0.3", "fd01::2"),
		World: addrs("8.8.8.8", "10.200.0.1", "1.1.1.1", "203.0.113.77", "2001:db8::1", "2001:db8::ffff", "::5", "fe00::1"),
	}
	r := random{rng, &c}
	switch r.IntN(12) {
	case 0:
		c.Mode = ModeAlways
	case 1:
		c.Mode = ModeNever
	}
	c.AuditAll = r.chance(12)
	switch r.IntN(16) {
	case 0:
		c.HiddenDerivedLabels = []string{namespaceKey}
	case 1, 2:
		c.HiddenDerivedLabels = []string{accountKey}
	}
	for i := range 1 + r.IntN(4) {
		name := fmt.Sprintf("ns%d", i)
		labels := r.labels(namespaceKeys)
		labels["kubernetes.io/metadata.name"] = name
		c.Namespaces = append(c.Namespaces, state.Namespace{Name: name, Labels: labels})
	}
	for i := range 2 + r.IntN(13) {
		c.Pods = append(c.Pods, r.pod(i))
	}
	c.Number()
	for i := range r.IntN(13) {
		c.Policies = append(c.Policies, r.policy(i))
	}
	return c
}

// RandomPolicy makes one more policy for the cluster, with the name "policyN".
func (c *Cluster) RandomPolicy(rng *rand.Rand, n int) state.NetworkPolicy {
	return random{rng, c}.policy(n)
}

// RandomPod makes one more pod for the cluster, with the name "podN" and its own
// addresses; its identity is 0 until Number.
func (c *Cluster) RandomPod(rng *rand.Rand, n int) Pod { return random{rng, c}.pod(n) }

// Packets makes packets that touch pods of this node, most of them at the edges of
// what the policies say.
func (c Cluster) Packets(rng *rand.Rand, n int) []Packet {
	r := random{rng, &c}
	var local, all []netip.Addr
	for _, p := range c.Pods {
		all = append(all, p.Addrs...)
		if p.Endpoint != 0 {
			local = append(local, p.Addrs...)
		}
	}
	all = slices.Concat(all, all, c.Node, c.Nodes, c.World)
	for _, np := range c.Policies {
		all = append(all, edges(np)...)
	}
	ports := c.interestingPorts()
	var out []Packet
	for len(out) < n && len(local) > 0 {
		p := Packet{From: pick(r, local), To: pick(r, all), Protocol: pick(r, protocols), Port: pick(r, ports)}
		if p.From.Is4() != p.To.Is4() || p.From == p.To || c.same(p) {
			continue
		}
		if r.chance(2) {
			p.From, p.To = p.To, p.From
		}
		if r.chance(12) {
			p.Protocol, p.Port = state.ProtocolICMP, echo4
			if p.From.Is6() {
				p.Protocol, p.Port = state.ProtocolICMPv6, echo6
			}
		}
		out = append(out, p)
	}
	return out
}

// same tells whether both addresses are the same pod's.
func (c Cluster) same(p Packet) bool {
	from := c.PodAt(p.From)
	return from != nil && from == c.PodAt(p.To)
}

// edges gives the first and the last address of the policy's blocks, and those
// just outside.
func edges(np state.NetworkPolicy) []netip.Addr {
	var out []netip.Addr
	for _, r := range allRules(np) {
		for _, peer := range r.Peers {
			if peer.Block == nil {
				continue
			}
			for _, p := range append(slices.Clone(peer.Block.Except), peer.Block.CIDR) {
				if !p.IsValid() {
					continue
				}
				first, last := p.Addr(), lastOf(p)
				for _, a := range []netip.Addr{first, last, first.Prev(), last.Next()} {
					if a.IsValid() && !a.Is4In6() {
						out = append(out, a)
					}
				}
			}
		}
	}
	return out
}

func allRules(np state.NetworkPolicy) []state.PolicyRule {
	return slices.Concat(np.Ingress, np.Egress, np.IngressDeny, np.EgressDeny)
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (c Cluster) interestingPorts() []uint16 {
	out := slices.Clone(portNumbers)
	for _, p := range c.Pods {
		for _, n := range p.NamedPorts {
			out = append(out, n.Port)
		}
	}
	for _, np := range c.Policies {
		for _, r := range allRules(np) {
			for _, x := range r.Ports {
				out = append(out, x.Port, x.Port-1, x.Port+1, x.EndPort, x.EndPort+1)
			}
		}
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, a := range list {
		out[i] = netip.MustParseAddr(a)
	}
	return out
}

// chance is true once in n times.
func (r random) chance(n int) bool { return r.IntN(n) == 0 }

func pick[T any](r random, list []T) T { return list[r.IntN(len(list))] }

func (r random) labels(keys []string) map[string]string {
	out := map[string]string{}
	for _, key := range keys {
		if !r.chance(3) {
			out[key] = pick(r, labelValues)
		}
	}
	return out
}

func (r random) pod(i int) Pod {
	p := Pod{
		Ref:    state.PodRef{Namespace: pick(r, r.cluster.Namespaces).Name, Name: fmt.Sprintf("pod%d", i)},
		Labels: r.labels(podKeys), ServiceAccount: pick(r, accounts), Init: r.chance(16),
	}
	node := byte(1)
	if r.chance(2) {
		node = 2
	} else {
		p.Endpoint = uint32(i) + 1
	}
	p.Addrs = []netip.Addr{
		netip.AddrFrom4([4]byte{10, 0, node, byte(i + 1)}),
		netip.AddrFrom16([16]byte{0: 0xfd, 14: node, 15: byte(i + 1)}),
	}
	for _, name := range portNames {
		if r.chance(3) {
			p.NamedPorts = append(p.NamedPorts, state.NamedPort{Name: name, Protocol: pick(r, protocols), Port: pick(r, portNumbers)})
		}
	}
	slices.SortFunc(p.NamedPorts, func(a, b state.NamedPort) int { return int(a.Name[0]) - int(b.Name[0]) })
	return p
}

func (r random) policy(i int) state.NetworkPolicy {
	if r.chance(2) {
		return r.cilium(i)
	}
	np := state.NetworkPolicy{
		Namespace: pick(r, r.cluster.Namespaces).Name, Name: fmt.Sprintf("policy%d", i),
		Subject: r.selector(podKeys), Audit: r.chance(8),
		IsolatesIngress: !r.chance(3), IsolatesEgress: r.chance(2),
	}
	for range r.IntN(4) {
		np.Ingress = append(np.Ingress, r.rule())
	}
	for range r.IntN(4) {
		np.Egress = append(np.Egress, r.rule())
	}
	return np
}

func (r random) selector(keys []string) state.Selector {
	var s state.Selector
	if r.chance(3) {
		return s
	}
	key := func() string {
		if r.chance(10) {
			return keys[len(keys)-1]
		}
		return keys[r.IntN(len(keys)-1)]
	}
	for range r.IntN(2) {
		s.MatchLabels = map[string]string{key(): pick(r, labelValues)}
	}
	for range r.IntN(3) {
		x := state.Requirement{
			Key:      key(),
			Operator: pick(r, []state.Operator{state.OperatorIn, state.OperatorNotIn, state.OperatorExists, state.OperatorDoesNotExist}),
		}
		if x.Operator == state.OperatorIn || x.Operator == state.OperatorNotIn {
			for range 1 + r.IntN(3) {
				x.Values = append(x.Values, pick(r, labelValues))
			}
		}
		s.Expressions = append(s.Expressions, x)
	}
	return s
}

func (r random) rule() state.PolicyRule {
	var out state.PolicyRule
	if !r.chance(6) {
		for range 1 + r.IntN(3) {
			out.Peers = append(out.Peers, r.peer())
		}
	}
	if !r.chance(3) {
		for range 1 + r.IntN(4) {
			out.Ports = append(out.Ports, r.port())
		}
	}
	return out
}

func (r random) peer() state.PolicyPeer {
	switch r.IntN(20) {
	case 0:
		return state.PolicyPeer{}
	case 1, 2, 3, 4:
		return state.PolicyPeer{Pods: new(r.selector(podKeys))}
	case 5, 6, 7, 8:
		return state.PolicyPeer{Namespaces: new(r.namespaceSelector())}
	case 9, 10, 11:
		return state.PolicyPeer{Pods: new(r.selector(podKeys)), Namespaces: new(r.namespaceSelector())}
	}
	return state.PolicyPeer{Block: new(r.block())}
}

func (r random) namespaceSelector() state.Selector {
	if r.chance(4) {
		return state.Selector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": pick(r, r.cluster.Namespaces).Name}}
	}
	return r.selector(namespaceKeys)
}

func (r random) block() state.IPBlock {
	b := state.IPBlock{CIDR: r.prefix()}
	for range r.IntN(3) {
		except := r.prefix()
		if inside := netip.PrefixFrom(except.Addr(), min(b.CIDR.Bits()+1+r.IntN(8), b.CIDR.Addr().BitLen())); r.chance(2) &&
			b.CIDR.Addr().Is4() == except.Addr().Is4() {
			except = inside.Masked()
		}
		b.Except = append(b.Except, except)
	}
	return b
}

// prefix gives one around an address of the cluster or the world.
func (r random) prefix() netip.Prefix {
	all := slices.Concat(r.cluster.Node, r.cluster.Nodes, r.cluster.World)
	for _, p := range r.cluster.Pods {
		all = append(all, p.Addrs...)
	}
	a := pick(r, all)
	lengths := prefixLengths6
	if a.Is4() {
		lengths = prefixLengths4
	}
	return netip.PrefixFrom(a, pick(r, lengths)).Masked()
}

func (r random) port() state.PolicyPort {
	p := state.PolicyPort{Protocol: pick(r, protocols)}
	switch r.IntN(5) {
	case 0:
	case 1, 2:
		p.Name = pick(r, portNames)
	case 3:
		p.Port = pick(r, portNumbers)
	case 4:
		p.Port = pick(r, portNumbers)
		p.EndPort = max(p.Port, pick(r, portNumbers))
	}
	return p
}
