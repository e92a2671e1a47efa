package loadbalance_test

import (
	"testing"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// story is one Service, its slices, and what it is served as.
type story struct {
	name    string
	config  func(*loadbalance.Config)
	node    func(*loadbalance.Node)
	service *state.Service
	slices  []*state.EndpointSlice
	want    string
}

func tell(t *testing.T, stories []story) {
	t.Helper()
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			cfg, n := config(), node()
			if s.config != nil {
				s.config(&cfg)
			}
			if s.node != nil {
				s.node(&n)
			}
			got := loadbalance.Compile(&cfg, &n, s.service, s.slices)
			same(t, "compiled", s.want, text(got.Ports, got.Problems))
		})
	}
}

const three = `10.0.0.1 node=n1; 10.0.0.2 node=n2; 10.0.0.3 node=n3`

func list(s ...*state.EndpointSlice) []*state.EndpointSlice { return s }

// everyKind has a frontend of every kind.
func everyKind(s *state.Service) {
	s.ExternalIPs, s.LoadBalancers, s.Ports[0].NodePort = addrs("198.51.100.1"), addrs("203.0.113.1"), 30080
}

// TestFrontends tells who is served where, and gets which backends.
func TestFrontends(t *testing.T) {
	tell(t, []story{
		{name: "cluster IP", service: web(), slices: list(slice("a", three)), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			all 10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080`},
		{name: "every kind", service: web(everyKind), slices: list(slice("a", three)), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			172.18.0.2:30080 NodePort outside:all cluster:all
			198.51.100.1:80 ExternalIP outside:all cluster:all
			203.0.113.1:80 LoadBalancer outside:all cluster:all
			all 10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080`},
		{
			name: "external traffic policy is for clients outside", slices: list(slice("a", three)),
			service: web(everyKind, func(s *state.Service) { s.ExternalLocal = true }), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			172.18.0.2:30080 NodePort outside:local cluster:all
			198.51.100.1:80 ExternalIP outside:local cluster:all
			203.0.113.1:80 LoadBalancer outside:local cluster:all
			all 10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080
			local 10.0.0.1:8080`,
		},
		{
			name: "internal traffic policy is for the cluster IP", slices: list(slice("a", three)),
			service: web(everyKind, func(s *state.Service) { s.InternalLocal = true }), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:local
			172.18.0.2:30080 NodePort outside:all cluster:all
			198.51.100.1:80 ExternalIP outside:all cluster:all
			203.0.113.1:80 LoadBalancer outside:all cluster:all
			all 10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080
			local 10.0.0.1:8080`,
		},
		{
			name: "nobody here, but elsewhere", slices: list(slice("a", "10.0.0.2 node=n2")),
			service: web(func(s *state.Service) { s.InternalLocal = true }), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:local
			all 10.0.0.2:8080`,
		},
		{
			name: "cluster IP from outside", config: func(c *loadbalance.Config) { c.ExternalClusterIP = true },
			service: web(), slices: list(slice("a", "10.0.0.1")), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside:all cluster:all
			all 10.0.0.1:8080`,
		},
		{
			name: "cluster IP from outside, internal traffic policy", config: func(c *loadbalance.Config) { c.ExternalClusterIP = true },
			service: web(func(s *state.Service) { s.InternalLocal = true }), slices: list(slice("a", "10.0.0.1 node=n1")), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside:local cluster:local
			all 10.0.0.1:8080
			local 10.0.0.1:8080`,
		},
		{
			name: "both families", slices: list(slice("a", "10.0.0.1"), slice("b", "fd01::1; fd01::2")),
			service: web(func(s *state.Service) { s.ClusterIPs, s.Ports[0].NodePort = addrs("fd00::1 10.96.0.1"), 30080 }), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			172.18.0.2:30080 NodePort outside:all cluster:all
			all 10.0.0.1:8080
			default/web http 80/TCP IPv6
			[fd00::1]:80 ClusterIP outside: cluster:all
			[fd02::2]:30080 NodePort outside:all cluster:all
			all [fd01::1]:8080 [fd01::2]:8080`,
		},
		{
			name: "several node addresses", service: web(nodePort(30080)),
			node: func(n *loadbalance.Node) { n.Addrs = addrs("172.18.0.2 172.18.0.3 192.168.1.2 fd02::2") }, want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			172.18.0.2:30080 NodePort outside:all cluster:all
			172.18.0.3:30080 NodePort outside:all cluster:all
			192.168.1.2:30080 NodePort outside:all cluster:all`,
		},
		{
			name: "one address as load balancer and external IP is the former",
			service: web(func(s *state.Service) {
				s.ExternalIPs, s.LoadBalancers, s.SourceRanges = addrs("203.0.113.1"), addrs("203.0.113.1 203.0.113.1"), prefixes("192.0.2.0/24")
			}), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			203.0.113.1:80 LoadBalancer outside:all cluster:all ranges
			from 192.0.2.0/24`,
		},
		{name: "affinity", service: web(func(s *state.Service) { s.Affinity = 3 * time.Hour }), want: `
			default/web http 80/TCP affinity 10800s
			10.96.0.1:80 ClusterIP outside: cluster:all`},
		{name: "affinity of less than a second", service: web(func(s *state.Service) { s.Affinity = 1 }), want: `
			default/web http 80/TCP affinity 1s
			10.96.0.1:80 ClusterIP outside: cluster:all`},
		{name: "affinity longer than can be said", service: web(func(s *state.Service) { s.Affinity = 1<<63 - 1 }), want: `
			default/web http 80/TCP affinity 4294967295s
			10.96.0.1:80 ClusterIP outside: cluster:all`},
	})
}

// TestBackends tells which endpoints take new flows, and which may finish.
func TestBackends(t *testing.T) {
	service := web(nodePort(30080), func(s *state.Service) { s.ExternalLocal = true })
	head := `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		172.18.0.2:30080 NodePort outside:local cluster:all
		`
	udp := func(s *state.EndpointSlice) *state.EndpointSlice {
		s.Ports[0].Protocol = state.ProtocolUDP
		return s
	}
	overUDP := web(func(s *state.Service) { s.Ports[0].Protocol = state.ProtocolUDP })
	udpHead := `
		default/web http 80/UDP
		10.96.0.1:80 ClusterIP outside: cluster:all
		`
	tell(t, []story{
		{name: "none", service: service, want: head},
		{name: "none ready", service: service, slices: list(slice("a", "10.0.0.1 node=n1 notready")), want: head + "draining 10.0.0.1:8080"},
		{
			name: "terminating ones drain beside ready ones", service: service,
			slices: list(slice("a", "10.0.0.1 node=n2; 10.0.0.2 node=n2 terminating; 10.0.0.3 stopping; 10.0.0.4 serving; 10.0.0.5 notready")),
			want: head + `all 10.0.0.1:8080
			draining 10.0.0.2:8080 10.0.0.3:8080 10.0.0.4:8080 10.0.0.5:8080`,
		},
		{
			name: "terminating ones that serve take the place of ready ones", service: service,
			slices: list(slice("a", "10.0.0.1 node=n2 terminating; 10.0.0.2 node=n1 terminating; 10.0.0.3 stopping; 10.0.0.4 serving")),
			want: head + `all 10.0.0.1:8080 10.0.0.2:8080
			local 10.0.0.2:8080
			draining 10.0.0.3:8080 10.0.0.4:8080`,
		},
		{
			name: "each list has its own last resort", service: service,
			slices: list(slice("a", "10.0.0.1 node=n2; 10.0.0.2 node=n1 terminating")),
			want: head + `all 10.0.0.1:8080
			local 10.0.0.2:8080`,
		},
		{
			name: "a ready one here ends that", service: service,
			slices: list(slice("a", "10.0.0.1 node=n1; 10.0.0.2 node=n1 terminating")),
			want: head + `all 10.0.0.1:8080
			local 10.0.0.1:8080
			draining 10.0.0.2:8080`,
		},
		{
			name: "UDP flows stay only with who serves", service: overUDP,
			slices: list(udp(slice("a", "10.0.0.1; 10.0.0.2 terminating; 10.0.0.3 stopping; 10.0.0.4 serving; 10.0.0.5 notready"))),
			want: udpHead + `all 10.0.0.1:8080
			draining 10.0.0.2:8080 10.0.0.4:8080`,
		},
		{
			name: "an endpoint in two slices is one, as it is in the better", service: service,
			slices: list(slice("b", "10.0.0.1 node=n1 terminating; 10.0.0.2 node=n1"), slice("a", "10.0.0.1 node=n1; 10.0.0.2 node=n1 notready")),
			want: head + `all 10.0.0.1:8080 10.0.0.2:8080
			local 10.0.0.1:8080 10.0.0.2:8080`,
		},
		{
			name: "an endpoint without a node is not here, even when the node has no name", service: service,
			node: func(n *loadbalance.Node) { n.Name = "" }, slices: list(slice("a", "10.0.0.1")),
			want: head + `all 10.0.0.1:8080`,
		},
		{
			name: "slices of one port have other numbers", service: web(),
			slices: list(slice("a", "10.0.0.1"), func() *state.EndpointSlice {
				s := slice("b", "10.0.0.1; 10.0.0.2")
				s.Ports[0].Port = 9090
				return s
			}()), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			all 10.0.0.1:8080 10.0.0.1:9090 10.0.0.2:9090`,
		},
		{
			name: "ports of slices are found by name and protocol",
			service: web(func(s *state.Service) {
				s.Ports = append(s.Ports, state.ServicePort{Name: "dns", Protocol: state.ProtocolUDP, Port: 80}, state.ServicePort{Name: "dns-tcp", Protocol: state.ProtocolTCP, Port: 53})
			}),
			slices: list(func() *state.EndpointSlice {
				s := slice("a", "10.0.0.1")
				s.Ports = append(s.Ports, state.SlicePort{Name: "dns", Protocol: state.ProtocolTCP, Port: 1}, state.SlicePort{Name: "dns", Protocol: state.ProtocolUDP, Port: 53})
				return s
			}()), want: `
			default/web dns-tcp 53/TCP
			10.96.0.1:53 ClusterIP outside: cluster:all
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			all 10.0.0.1:8080
			default/web dns 80/UDP
			10.96.0.1:80 ClusterIP outside: cluster:all
			all 10.0.0.1:53`,
		},
	})
}

// TestTopology tells which of the ready endpoints are near enough.
func TestTopology(t *testing.T) {
	hints := func(c *loadbalance.Config) { c.TopologyHints = true }
	head := `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		`
	both := "all 10.0.0.1:8080 10.0.0.2:8080"
	tell(t, []story{
		{
			name: "hints are not followed", service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=a; 10.0.0.2 hintzones=b")), want: head + both,
		},
		{
			name: "our zone", config: hints, service: web(), slices: list(slice("a", "10.0.0.1 hintzones=a,c; 10.0.0.2 hintzones=b")),
			want: head + "all 10.0.0.1:8080\ndraining 10.0.0.2:8080",
		},
		{
			name: "one has no hint", config: hints, service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=a; 10.0.0.2")), want: head + both,
		},
		{
			name: "one that is not ready has no hint", config: hints, service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=a; 10.0.0.2 hintzones=b; 10.0.0.3 notready")),
			want:   head + "all 10.0.0.1:8080\ndraining 10.0.0.2:8080 10.0.0.3:8080",
		},
		{
			name: "none is for our zone", config: hints, service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=b; 10.0.0.2 hintzones=c")), want: head + both,
		},
		{
			name: "the node has no zone", config: hints, node: func(n *loadbalance.Node) { n.Zone = "" }, service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=b; 10.0.0.2 hintzones=c")), want: head + both,
		},
		{
			name: "our node goes before our zone", config: hints, service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=a hintnodes=n2; 10.0.0.2 hintzones=b hintnodes=n1")),
			want:   head + "all 10.0.0.2:8080\ndraining 10.0.0.1:8080",
		},
		{
			name: "none is for our node, one for our zone", config: hints, service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=a hintnodes=n2; 10.0.0.2 hintzones=b hintnodes=n3")),
			want:   head + "all 10.0.0.1:8080\ndraining 10.0.0.2:8080",
		},
		{
			name: "hints say nothing of terminating endpoints", config: hints, service: web(),
			slices: list(slice("a", "10.0.0.1 hintzones=a terminating; 10.0.0.2 hintzones=b terminating")), want: head + both,
		},
		{
			name: "hints say nothing of local traffic", config: hints, service: web(func(s *state.Service) { s.InternalLocal = true }),
			slices: list(slice("a", "10.0.0.1 hintzones=a node=n2; 10.0.0.2 hintzones=b node=n1")), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:local
			all 10.0.0.1:8080
			local 10.0.0.2:8080`,
		},
		{
			name: "wishes that may not be followed are named", slices: list(slice("a", "10.0.0.1; 10.0.0.2")),
			service: web(func(s *state.Service) {
				s.Distribution = state.DistributeSameZone
				s.Annotations = map[string]string{"service.kubernetes.io/topology-mode": "Auto"}
			}), want: head + both + `
			problem default/web metadata.annotations[service.kubernetes.io/topology-mode]: hints are not followed, because enable-service-topology is false
			problem default/web spec.trafficDistribution: "PreferSameZone" is not followed, because enable-service-topology is false`,
		},
	})
}
