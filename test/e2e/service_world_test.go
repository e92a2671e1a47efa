package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/placid-net/placid/internal/agentapi"
)

const (
	serviceSpace   = "services"
	servicePort    = 80
	serviceTimeout = 30 * time.Second // until both nodes serve a change
	backendPort    = 7080             // of what answers in pods and on hosts
)

// backend is a place that answers for services.
type backend struct {
	place
	node string // empty outside the cluster
}

// served is a Service of the test, and what is known to be true of it.
type served struct {
	name     string
	backends []backend
	number   int // of its external addresses; 0: it has only cluster IPs
	selector map[string]string
	byHand   bool // it has no selector, and EndpointSlices of the test

	externalLocal, internalLocal, sticky bool
	nearby                               bool     // backends of the client's zone are preferred; each node is one
	ranges                               []string // loadBalancerSourceRanges
	refuses                              bool     // ... leave the outside host out

	object corev1.Service // as Kubernetes has it
}

// external and balancer are the addresses of the Service that Kubernetes does not
// give it.
func (s *served) external() addresses {
	return addresses{netip.AddrFrom4([4]byte{198, 18, 0, byte(s.number)}), netip.MustParseAddr(fmt.Sprintf("fd00:18::%x", s.number))}
}

func (s *served) balancer() addresses {
	return addresses{netip.AddrFrom4([4]byte{198, 18, 1, byte(s.number)}), netip.MustParseAddr(fmt.Sprintf("fd00:18:1::%x", s.number))}
}

// foreign are the ranges of addresses that the outside host has to be led to a
// node for.
var foreign = []string{"198.18.0.0/15", "fd00:18::/32", "10.96.0.0/16", "fd00:96::/108"}

// manifest is the Service as it is created.
func (s *served) manifest() corev1.Service {
	out := corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Namespace: serviceSpace},
		Spec: corev1.ServiceSpec{
			Selector: s.selector, IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack), LoadBalancerSourceRanges: s.ranges,
			Ports: []corev1.ServicePort{
				{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: servicePort, TargetPort: intstr.FromInt32(backendPort)},
				{Name: "udp", Protocol: corev1.ProtocolUDP, Port: servicePort, TargetPort: intstr.FromInt32(backendPort)},
			},
		},
	}
	if s.number > 0 {
		out.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, a := range s.external() {
			out.Spec.ExternalIPs = append(out.Spec.ExternalIPs, a.String())
		}
	}
	if s.externalLocal {
		out.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if s.internalLocal {
		out.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if s.nearby {
		out.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferClose)
	}
	if s.sticky {
		out.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	return out
}

// slices are the EndpointSlices of a Service without a selector.
func (s *served) slices() []any {
	var out []any
	for _, f := range families {
		slice := discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("%s-%d", s.name, f), Namespace: serviceSpace,
				Labels: map[string]string{discoveryv1.LabelServiceName: s.name, discoveryv1.LabelManagedBy: "e2e"},
			},
			AddressType: [...]discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}[f],
			Ports: []discoveryv1.EndpointPort{
				{Name: new("tcp"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(backendPort))},
				{Name: new("udp"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(backendPort))},
			},
		}
		for _, b := range s.backends {
			e := discoveryv1.Endpoint{Addresses: []string{b.addrs[f].String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}
			if b.node != "" {
				e.NodeName = &b.node
			}
			slice.Endpoints = append(slice.Endpoints, e)
		}
		out = append(out, slice)
	}
	return out
}

// createServices creates Services and what belongs to them, and waits until both
// nodes serve them. The namespace, which goes with the test, takes them along.
func (l *lab) createServices(t *testing.T, services ...*served) {
	t.Helper()
	var objects []any
	for _, s := range services {
		objects = append(objects, s.manifest())
		if s.byHand {
			objects = append(objects, s.slices()...)
		}
	}
	l.apply(t, objects...)
	for _, s := range services {
		if s.number > 0 {
			l.setBalancer(t, s)
		}
		s.object = get[corev1.Service](t, l, "-n", serviceSpace, "service", s.name)
	}
	backends := map[string]int{}
	for _, s := range services {
		backends[s.name] = len(s.backends)
		if s.nearby { // as many on each node
			backends[s.name] /= len(l.nodes)
		}
	}
	l.waitServed(t, backends)
}

// setBalancer gives the Service the addresses that a load balancer would.
func (l *lab) setBalancer(t *testing.T, s *served) {
	t.Helper()
	var status corev1.ServiceStatus
	for _, a := range s.balancer() {
		status.LoadBalancer.Ingress = append(status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String()})
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		t.Fatal(err)
	}
	l.kubectl(t, "-n", serviceSpace, "patch", "service", s.name, "--subresource=status", "--type=merge", "-p", string(patch))
}

// waitServed waits until each node's kernel serves every port of the Services with
// as many backends.
func (l *lab) waitServed(t *testing.T, backends map[string]int) {
	t.Helper()
	l.waitServedFor(t, serviceTimeout, backends)
}

// waitServedFor is waitServed for backends that take their time.
func (l *lab) waitServedFor(t *testing.T, timeout time.Duration, backends map[string]int) {
	t.Helper()
	for _, h := range l.nodes {
		eventually(t, timeout, h.name+" serves the Services", func() error {
			missing := maps.Clone(backends)
			var errs []error
			for _, info := range placidJSON[[]agentapi.ServiceInfo](t, l, h, "service", "list", "-n", serviceSpace) {
				want, ours := backends[info.Service.Name]
				delete(missing, info.Service.Name)
				if err := servedWith(info, want); ours && err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", info.Service, err))
				}
			}
			for name := range missing {
				errs = append(errs, fmt.Errorf("%s is not served", name))
			}
			return errors.Join(errs...)
		})
	}
}

func servedWith(info agentapi.ServiceInfo, backends int) error {
	errs := []error{}
	for _, problem := range info.Problems {
		errs = append(errs, errors.New(problem))
	}
	if len(info.Ports) != 2*len(families) {
		errs = append(errs, fmt.Errorf("%d ports, want two of each family", len(info.Ports)))
	}
	for _, p := range info.Ports {
		active := 0
		for _, b := range p.Backends {
			if b.State == agentapi.BackendActive {
				active++
			}
		}
		if p.State != agentapi.ServiceRealised || active != backends {
			errs = append(errs, fmt.Errorf("port %s/%s IPv6 %t is %s with %d backends, want %d", p.Name, p.Protocol, p.IPv6, p.State, active, backends))
		}
	}
	return errors.Join(errs...)
}

// ledTable is the routing table of the router for packets of the outside host.
const ledTable = "198"

// leadOutside has what the outside host sends to the addresses of Services, and to
// the cluster's own, go by way of a node; where a router is between them, the
// router does it, and for nobody else.
func (l *lab) leadOutside(t *testing.T, by host) {
	t.Helper()
	where, table := []string{"exec", l.outside.name}, "main"
	if near, err := by.addrs[ipv4].Prefix(24); err != nil || !near.Contains(l.outside.addrs[ipv4]) {
		where, table = []string{"ctl"}, ledTable
		for _, f := range families {
			rule := []string{"from", l.outside.addrs[f].String(), "lookup", ledTable}
			l.ipUntilEnd(t, where, f, "rule", "add", rule)
		}
	}
	for _, prefix := range foreign {
		f := ipv4
		if netip.MustParsePrefix(prefix).Addr().Is6() {
			f = ipv6
		}
		l.ipUntilEnd(t, where, f, "route", "replace", []string{prefix, "via", by.addrs[f].String(), "table", table})
	}
}

// ipUntilEnd gives a host a rule or route until the test ends.
func (l *lab) ipUntilEnd(t *testing.T, where []string, f family, object, verb string, what []string) {
	t.Helper()
	ip := append(slices.Clone(where), "ip", map[family]string{ipv4: "-4", ipv6: "-6"}[f], object)
	l.must(t, slices.Concat(ip, []string{verb}, what)...)
	t.Cleanup(func() {
		if _, err := l.try(background(), nil, slices.Concat(ip, []string{"del"}, what)...); err != nil {
			t.Error(err)
		}
	})
}

// door is one way into a Service.
type door struct {
	name  string
	addrs addresses
	tcp   int    // port
	udp   int    // port
	node  string // whose own address it is; empty: every node's affair
	// cluster: only for those inside; balancer: source ranges apply.
	cluster, balancer bool
}

func (d door) port(p corev1.Protocol) int {
	if p == corev1.ProtocolUDP {
		return d.udp
	}
	return d.tcp
}

// doors are all ways into a Service.
func (s *served) doors(t *testing.T, nodes []host) []door {
	t.Helper()
	cluster := door{name: "ClusterIP", tcp: servicePort, udp: servicePort, cluster: true}
	for _, text := range s.object.Spec.ClusterIPs {
		a := netip.MustParseAddr(text)
		cluster.addrs[map[bool]family{false: ipv4, true: ipv6}[a.Is6()]] = a
	}
	out := []door{cluster}
	if s.number == 0 {
		return out
	}
	out = append(out,
		door{name: "ExternalIP", addrs: s.external(), tcp: servicePort, udp: servicePort},
		door{name: "load balancer", addrs: s.balancer(), tcp: servicePort, udp: servicePort, balancer: true})
	nodePort := func(name string) int {
		i := slices.IndexFunc(s.object.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == name })
		return int(cmp.Or(s.object.Spec.Ports[i].NodePort, -1))
	}
	for _, h := range nodes {
		out = append(out, door{name: "NodePort of " + h.name, addrs: h.addrs, tcp: nodePort("tcp"), udp: nodePort("udp"), node: h.name})
	}
	return out
}
