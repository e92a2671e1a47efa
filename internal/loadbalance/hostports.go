package loadbalance

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/placid-net/placid/internal/state"
)

// HostPorts are the ports of the node that lead to one pod.
type HostPorts struct {
	Pod       state.ServiceRef
	Addrs     []netip.Addr // the pod's
	CreatedAt time.Time
	Ports     []state.HostPort
}

// CompileHostPorts gives what the host ports of a pod are to be served as. The
// arguments are kept, and must not change afterwards.
func CompileHostPorts(cfg *Config, node *Node, pod *HostPorts) Compiled {
	c := hostCompiler{cfg: cfg, node: node, pod: pod, taken: map[claim]struct{}{}, keys: map[PortKey]struct{}{}}
	// A port at one address goes before the same port at all.
	for _, specific := range []bool{true, false} {
		for i := range pod.Ports {
			if atOneAddress(pod.Ports[i].HostIP) == specific && c.portIsValid(&pod.Ports[i]) {
				c.compilePort(&pod.Ports[i])
			}
		}
	}
	slices.SortFunc(c.out.Ports, func(a, b Port) int { return a.Key.compare(b.Key) })
	c.out.Problems = ordered(c.out.Problems)
	return c.out
}

type hostCompiler struct {
	cfg   *Config
	node  *Node
	pod   *HostPorts
	out   Compiled
	taken map[claim]struct{}
	keys  map[PortKey]struct{}
}

func atOneAddress(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

func (c *hostCompiler) problem(p *state.HostPort, format string, args ...any) {
	c.out.Problems = append(c.out.Problems, Problem{
		Service: c.pod.Pod, HostPort: true,
		Message: fmt.Sprintf("hostPort %d/%s: ", p.HostPort, p.Protocol) + fmt.Sprintf(format, args...),
	})
}

func (c *hostCompiler) portIsValid(p *state.HostPort) bool {
	switch {
	case p.HostPort == 0 || p.ContainerPort == 0:
		c.problem(p, "0 is no port: it leads to containerPort %d", p.ContainerPort)
	case !known(p.Protocol):
		c.problem(p, "only TCP, UDP and SCTP are served")
	case p.Protocol == state.ProtocolSCTP && p.HostPort != p.ContainerPort:
		c.problem(p, "ports of SCTP packets cannot be changed: containerPort %d must be the same", p.ContainerPort)
	case p.HostIP.Is4In6() || p.HostIP.IsMulticast():
		c.problem(p, "hostIP %s is not an address that a node can have", p.HostIP)
	default:
		return true
	}
	return false
}

// compilePort makes the Ports of one host port: one in each family of the pod, or
// in that of its address.
func (c *hostCompiler) compilePort(p *state.HostPort) {
	served := false
	for _, ipv6 := range []bool{false, true} {
		i := slices.IndexFunc(c.pod.Addrs, func(a netip.Addr) bool { return usable(a) && a.Is6() == ipv6 })
		if i < 0 || !c.cfg.serves(ipv6) || atOneAddress(p.HostIP) && p.HostIP.Is6() != ipv6 {
			continue
		}
		served = true
		key := PortKey{Service: c.pod.Pod, HostPort: true, Protocol: p.Protocol, Port: p.HostPort, IPv6: ipv6}
		if atOneAddress(p.HostIP) {
			key.Name = p.HostIP.String()
		}
		if _, twice := c.keys[key]; twice {
			c.problem(p, "the pod has it twice: it leads to the first containerPort")
			continue
		}
		c.keys[key] = struct{}{}
		port := Port{Key: key, Frontends: c.frontends(p, ipv6), All: []Backend{{Addr: netip.AddrPortFrom(c.pod.Addrs[i], p.ContainerPort)}}}
		if len(port.Frontends) > 0 {
			c.out.Ports = append(c.out.Ports, port)
		}
	}
	if !served {
		c.problem(p, "the pod has no address of a family that it is served in")
	}
}

// frontends are where a host port is served, without what another one of the pod
// has at one address.
func (c *hostCompiler) frontends(p *state.HostPort, ipv6 bool) []Frontend {
	addrs := c.node.Addrs
	if atOneAddress(p.HostIP) {
		addrs = []netip.Addr{p.HostIP}
	}
	var out []Frontend
	for _, a := range addrs {
		f := Frontend{Addr: netip.AddrPortFrom(a, p.HostPort), Kind: KindHostPort, Outside: ReachAll, Cluster: ReachAll}
		key := claim{f.Addr, p.Protocol}
		if _, taken := c.taken[key]; taken || a.Is6() != ipv6 {
			continue
		}
		c.taken[key] = struct{}{}
		out = append(out, f)
	}
	return out
}
