package k8s

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/internal/state"
)

const (
	// defaultAffinity is how long a client keeps its backend unless the Service
	// says otherwise.
	defaultAffinity = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
	// maxAffinity is the longest that the API server lets a Service ask for.
	maxAffinity = 24 * time.Hour
)

// The beginnings of the annotations that rows keep.
const ciliumAnnotation, kubernetesAnnotation = "service.cilium.io/", "service.kubernetes.io/"

// errNoRow says that an object is fine and nothing to keep.
var errNoRow = errors.New("no row")

// ServiceRow converts a Service, with the API's defaults filled in. The error
// errNoRow is for one without addresses of its own: headless, or ExternalName.
// What the API server should not have let through (an address that is none, an
// impossible port, an unknown word) is left out and told: a sentence each that
// begins with the field.
func ServiceRow(obj *corev1.Service) (row state.Service, problems []string, err error) {
	if obj.Spec.Type == corev1.ServiceTypeExternalName || obj.Spec.ClusterIP == corev1.ClusterIPNone {
		return state.Service{}, nil, errNoRow
	}
	c := serviceConverter{}
	spec := &obj.Spec
	row = state.Service{
		Ref: state.ServiceRef{Namespace: obj.Namespace, Name: obj.Name}, UID: string(obj.UID), CreatedAt: obj.CreationTimestamp.UTC(),
		ClusterIPs:      c.addrs("spec.clusterIPs", clusterIPs(spec)),
		ExternalIPs:     c.addrs("spec.externalIPs", spec.ExternalIPs),
		Ports:           c.ports(spec),
		ExternalLocal:   spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		InternalLocal:   spec.InternalTrafficPolicy != nil && *spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		PublishNotReady: spec.PublishNotReadyAddresses,
		Affinity:        c.affinity(spec),
		Distribution:    c.distribution(spec),
		Annotations:     serviceAnnotations(obj.Annotations),
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		row.LoadBalancers = c.addrs("status.loadBalancer.ingress", vips(&obj.Status.LoadBalancer))
		row.SourceRanges = c.sourceRanges(spec.LoadBalancerSourceRanges)
		if row.ExternalLocal {
			row.HealthCheckPort = c.port("spec.healthCheckNodePort", spec.HealthCheckNodePort)
		}
	}
	return row, c.problems, nil
}

// clusterIPs are those of all families; older objects have the first alone.
func clusterIPs(spec *corev1.ServiceSpec) []string {
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		return []string{spec.ClusterIP}
	}
	return spec.ClusterIPs
}

// vips are the addresses that packets keep on their way to a node. Those with
// ipMode Proxy are the load balancer's own: clients in the cluster are to go
// there, and nothing comes from there with such an address.
func vips(status *corev1.LoadBalancerStatus) []string {
	var out []string
	for _, in := range status.Ingress {
		if in.IP != "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP) {
			out = append(out, in.IP)
		}
	}
	return out
}

// serviceAnnotations keeps what internal/loadbalance reads; nil for nothing.
func serviceAnnotations(all map[string]string) map[string]string {
	var out map[string]string
	for key, value := range all {
		if !strings.HasPrefix(key, ciliumAnnotation) && !strings.HasPrefix(key, kubernetesAnnotation) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out
}

// serviceConverter collects what it does not understand.
type serviceConverter struct{ problems []string }

func (c *serviceConverter) problem(field, format string, args ...any) {
	c.problems = append(c.problems, field+": "+fmt.Sprintf(format, args...))
}

func (c *serviceConverter) addrs(field string, texts []string) []netip.Addr {
	var out []netip.Addr
	for i, text := range texts {
		a, err := parseServiceAddr(text)
		if err != nil {
			c.problem(fmt.Sprintf("%s[%d]", field, i), "%q: %v; it is left out", text, err)
			continue
		}
		out = append(out, a)
	}
	return out
}

// parseServiceAddr reads an address as the API server does, which takes leading
// zeros and the IPv6 form of IPv4.
func parseServiceAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		plain, _, _ := strings.Cut(trimZeros(s), "/")
		a, err = netip.ParseAddr(plain)
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("not an IP address")
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return netip.Addr{}, errors.New("not an address that other machines can reach")
	}
	return a, nil
}

// ports converts the ports; one that is not understood is left out.
func (c *serviceConverter) ports(spec *corev1.ServiceSpec) []state.ServicePort {
	nodePorts := spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer
	var out []state.ServicePort
	for i, p := range spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		protocol, known := parseProtocol(cmp.Or(p.Protocol, corev1.ProtocolTCP))
		if !known {
			c.problem(field+".protocol", "%q is none of TCP, UDP and SCTP; the port is left out", p.Protocol)
			continue
		}
		if p.Port < 1 || p.Port > maxPort {
			c.problem(field+".port", "%d is not a port from 1 to %d; the port is left out", p.Port, maxPort)
			continue
		}
		port := state.ServicePort{Name: p.Name, Protocol: protocol, Port: uint16(p.Port)}
		if nodePorts {
			port.NodePort = c.port(field+".nodePort", p.NodePort)
		}
		out = append(out, port)
	}
	return out
}

// port converts a port of the node; 0 is none.
func (c *serviceConverter) port(field string, port int32) uint16 {
	if port < 0 || port > maxPort {
		c.problem(field, "%d is not a port from 1 to %d; it is left out", port, maxPort)
		return 0
	}
	return uint16(port)
}

func (c *serviceConverter) affinity(spec *corev1.ServiceSpec) time.Duration {
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityClientIP:
	case "", corev1.ServiceAffinityNone:
		return 0
	default:
		c.problem("spec.sessionAffinity", "%q is neither ClientIP nor None; there is none", spec.SessionAffinity)
		return 0
	}
	config := spec.SessionAffinityConfig
	if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil {
		return defaultAffinity
	}
	timeout := time.Duration(*config.ClientIP.TimeoutSeconds) * time.Second
	if timeout <= 0 || timeout > maxAffinity {
		c.problem("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "%d is not from 1 to %d; it is %d",
			*config.ClientIP.TimeoutSeconds, maxAffinity/time.Second, defaultAffinity/time.Second)
		return defaultAffinity
	}
	return timeout
}

func (c *serviceConverter) distribution(spec *corev1.ServiceSpec) state.Distribution {
	if spec.TrafficDistribution == nil {
		return state.DistributeAny
	}
	switch d := *spec.TrafficDistribution; d {
	case "":
		return state.DistributeAny
	case corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferClose:
		return state.DistributeSameZone
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return state.DistributeSameNode
	default:
		c.problem("spec.trafficDistribution", "%q is not known; traffic goes to all backends", d)
		return state.DistributeAny
	}
}

// sourceRanges converts the ranges of clients. One that is not understood lets
// nobody in; if none is left, the unspecified address stands for them, which no
// client has: no ranges at all would let everybody in.
func (c *serviceConverter) sourceRanges(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for i, text := range texts {
		p, err := parseBlock(strings.TrimSpace(text))
		if err != nil {
			c.problem(fmt.Sprintf("spec.loadBalancerSourceRanges[%d]", i), "%v; it lets nobody in", err)
			continue
		}
		out = append(out, p)
	}
	if len(texts) > 0 && len(out) == 0 {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 32), netip.PrefixFrom(netip.IPv6Unspecified(), 128)}
	}
	return out
}

// trimService returns the parts of a Service that ServiceRow reads.
func trimService(obj *corev1.Service) *corev1.Service {
	meta := trimMeta(obj)
	meta.CreationTimestamp, meta.Annotations = obj.CreationTimestamp, serviceAnnotations(obj.Annotations)
	spec := obj.Spec
	spec.Selector = nil
	return &corev1.Service{ObjectMeta: meta, Spec: spec, Status: corev1.ServiceStatus{LoadBalancer: obj.Status.LoadBalancer}}
}
