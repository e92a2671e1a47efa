package loadbalance_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// TestBadInput has what cannot be served, and what is served all the same.
func TestBadInput(t *testing.T) {
	head := `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		`
	sctp := func(s *state.Service) { s.Ports[0].Protocol = state.ProtocolSCTP }
	tell(t, []story{
		{
			name: "ports that are none",
			service: web(func(s *state.Service) {
				s.Ports = append(s.Ports, state.ServicePort{Name: "zero", Protocol: state.ProtocolTCP}, state.ServicePort{Name: "any", Port: 81},
					state.ServicePort{Name: "icmp", Protocol: 1, Port: 82}, state.ServicePort{Name: "http", Protocol: state.ProtocolTCP, Port: 80, NodePort: 30080})
			}), want: head + `
			problem default/web spec.ports[1].port: 0 is no port
			problem default/web spec.ports[2].protocol: ANY is not served, only TCP, UDP and SCTP are
			problem default/web spec.ports[3].protocol: ICMP is not served, only TCP, UDP and SCTP are
			problem default/web spec.ports[4]: the same name, protocol and port as spec.ports[0]`,
		},
		{
			name: "two names for one port",
			service: web(nodePort(30080), func(s *state.Service) {
				s.Ports = append(s.Ports, state.ServicePort{Name: "again", Protocol: state.ProtocolTCP, Port: 80, NodePort: 30080},
					state.ServicePort{Name: "more", Protocol: state.ProtocolTCP, Port: 80, NodePort: 30081})
			}), want: head + `172.18.0.2:30080 NodePort outside:all cluster:all
			default/web more 80/TCP
			172.18.0.2:30081 NodePort outside:all cluster:all
			problem default/web spec.ports[1]: 10.96.0.1:80/TCP is served as spec.ports[0] already
			problem default/web spec.ports[1]: 172.18.0.2:30080/TCP is served as spec.ports[0] already
			problem default/web spec.ports[2]: 10.96.0.1:80/TCP is served as spec.ports[0] already`,
		},
		{name: "a node port below the range", service: web(nodePort(29999)), want: head + `
			problem default/web spec.ports[0].nodePort: 29999 is not served, because node-port-range is 30000-32767`},
		{name: "a node port above the range", service: web(nodePort(32768)), want: head + `
			problem default/web spec.ports[0].nodePort: 32768 is not served, because node-port-range is 30000-32767`},
		{
			name: "the ends of the range", want: head + `172.18.0.2:30000 NodePort outside:all cluster:all
			default/web last 81/TCP
			10.96.0.1:81 ClusterIP outside: cluster:all
			172.18.0.2:32767 NodePort outside:all cluster:all`,
			service: web(nodePort(30000), func(s *state.Service) {
				s.Ports = append(s.Ports, state.ServicePort{Name: "last", Protocol: state.ProtocolTCP, Port: 81, NodePort: 32767})
			}),
		},
		{
			name: "addresses that are none",
			service: web(func(s *state.Service) {
				s.ExternalIPs = append(addrs("0.0.0.0 127.0.0.1 224.0.0.1 169.254.1.1 255.255.255.255 :: ::1 fe80::1 ff02::1 ::ffff:198.51.100.1 198.51.100.1"), netip.Addr{})
			}), want: head + `198.51.100.1:80 ExternalIP outside:all cluster:all
			problem default/web spec.externalIPs: 0.0.0.0 is not an address that a Service can have
			problem default/web spec.externalIPs: 127.0.0.1 is not an address that a Service can have
			problem default/web spec.externalIPs: 169.254.1.1 is not an address that a Service can have
			problem default/web spec.externalIPs: 224.0.0.1 is not an address that a Service can have
			problem default/web spec.externalIPs: 255.255.255.255 is not an address that a Service can have
			problem default/web spec.externalIPs: :: is not an address that a Service can have
			problem default/web spec.externalIPs: ::1 is not an address that a Service can have
			problem default/web spec.externalIPs: ::ffff:198.51.100.1 is not an address that a Service can have
			problem default/web spec.externalIPs: fe80::1 is not an address that a Service can have
			problem default/web spec.externalIPs: ff02::1 is not an address that a Service can have
			problem default/web spec.externalIPs: invalid IP is not an address that a Service can have`,
		},
		{
			name: "a family that is off", config: func(c *loadbalance.Config) { c.IPv6 = false },
			service: web(func(s *state.Service) {
				s.ClusterIPs, s.LoadBalancers = addrs("10.96.0.1 fd00::1"), addrs("2001:db8::1 203.0.113.1")
			}), slices: list(slice("a", "10.0.0.1; fd01::1")), want: head + `203.0.113.1:80 LoadBalancer outside:all cluster:all
			all 10.0.0.1:8080
			problem default/web spec.clusterIPs: fd00::1 is not served, because enable-ipv6 is false
			problem default/web status.loadBalancer.ingress: 2001:db8::1 is not served, because enable-ipv6 is false`,
		},
		{
			name: "a family without cluster IP", service: web(nodePort(30080), func(s *state.Service) { s.LoadBalancers = addrs("2001:db8::1") }),
			slices: list(slice("a", "10.0.0.1; fd01::1; fd01::2")), want: head + `172.18.0.2:30080 NodePort outside:all cluster:all
			all 10.0.0.1:8080
			problem default/web endpoints: fd01::1 in EndpointSlice "a" is IPv6, and the Service has no such cluster IP: 2 such are not used
			problem default/web status.loadBalancer.ingress: 2001:db8::1 is not served, because the Service has no IPv6 cluster IP`,
		},
		{
			name: "backends that are none", service: web(),
			slices: list(slice("a", "10.0.0.1; 0.0.0.0; 127.0.0.1; 224.0.0.1; 169.254.0.1"), func() *state.EndpointSlice {
				s := slice("b", "10.0.0.2")
				s.Ports[0].Port = 0
				return s
			}()), want: head + `all 10.0.0.1:8080
			problem default/web endpoints: 0.0.0.0 in EndpointSlice "a" is not an address that a backend can have: 4 such are not used
			problem default/web endpoints: EndpointSlice "b" has a port without a number: 1 such are not used`,
		},
		{
			name: "SCTP with the same port everywhere", service: web(sctp), want: `
			default/web http 80/SCTP
			10.96.0.1:80 ClusterIP outside: cluster:all
			all 10.0.0.1:80`,
			slices: list(func() *state.EndpointSlice {
				s := slice("a", "10.0.0.1")
				s.Ports[0] = state.SlicePort{Name: "http", Protocol: state.ProtocolSCTP, Port: 80}
				return s
			}()),
		},
		{
			name: "SCTP ports that would have to change", service: web(sctp, nodePort(30080)), want: `
			default/web http 80/SCTP
			10.96.0.1:80 ClusterIP outside: cluster:all
			problem default/web spec.ports[0].nodePort: 30080 is not served, because ports of SCTP packets cannot be changed: it must be 80, as port is
			problem default/web spec.ports[0]: 10.0.0.1 in EndpointSlice "a" listens on another port than 80, and ports of SCTP packets cannot be changed: 2 such are not used, targetPort must be the same as port`,
			slices: list(func() *state.EndpointSlice {
				s := slice("a", "10.0.0.1; 10.0.0.2")
				s.Ports[0].Protocol = state.ProtocolSCTP
				return s
			}()),
		},
		{name: "nothing at all", service: &state.Service{Ref: ref("default/web")}, want: ""},
	})
}

// TestManyBackends has 5,000 backends in slices of 100, as Kubernetes makes them.
func TestManyBackends(t *testing.T) {
	cfg, n := config(), node()
	cfg.Algorithm = loadbalance.AlgorithmMaglev
	var all []*state.EndpointSlice
	var want []loadbalance.Backend
	for i := range 50 {
		s := slice(fmt.Sprint("web-", i), "")
		for k := range 100 {
			a := netip.AddrFrom4([4]byte{10, 1, byte((i*100 + k) >> 8), byte(i*100 + k)})
			s.Backends = append(s.Backends, state.SliceEndpoint{Addr: a, Ready: true, Serving: true})
			want = append(want, loadbalance.Backend{Addr: netip.AddrPortFrom(a, 8080)})
		}
		all = append(all, s)
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	got := loadbalance.Compile(&cfg, &n, web(nodePort(30080)), all)
	if len(got.Ports) != 1 || !slices.Equal(got.Ports[0].All, want) {
		t.Fatalf("ports %d, not the 5,000 backends in order", len(got.Ports))
	}
	same(t, "problems", `problem default/web spec.ports[0]: of 5000 backends only 1021 get connections from outside, because bpf-lb-maglev-table-size is 1021: it should be 100 times the backends`,
		text(nil, got.Problems))
	if e := loadbalance.Cost(got.Ports[0]); e != (loadbalance.Entries{Frontends: 2, Backends: 5000, Maglev: 1}) {
		t.Errorf("entries %+v", e)
	}
}

// TestLongNames has names as long as Kubernetes allows.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("n", 63)
	s := web(func(s *state.Service) {
		s.Ref = state.ServiceRef{Namespace: strings.Repeat("s", 63), Name: long}
		s.Ports[0].Name = strings.Repeat("p", 63)
	})
	e := slice(strings.Repeat("e", 253), "10.0.0.1")
	e.Namespace, e.Service, e.Ports[0].Name = s.Ref.Namespace, s.Ref.Name, s.Ports[0].Name
	other := web(func(o *state.Service) { o.Ref.Name = long + "2" })
	eng := engine(t, config())
	eng.UpsertService(s)
	eng.UpsertSlice(e)
	eng.UpsertService(other)
	ports := eng.Ports()
	if len(ports) != 1 || ports[0].Key.Service.Namespace != "default" {
		t.Fatalf("ports %+v", ports)
	}
	for _, p := range eng.Problems() {
		if !strings.Contains(p.Message, s.Ref.String()) || len(p.Message) > 1024 {
			t.Errorf("problem %q: %d bytes, an event takes 1024", p.Message, len(p.Message))
		}
	}
	if len(eng.Problems()) != 1 {
		t.Errorf("problems %+v", eng.Problems())
	}
}

// TestSourceRanges tells whose clients are let in.
func TestSourceRanges(t *testing.T) {
	dual := func(ranges string) func(*state.Service) {
		return func(s *state.Service) {
			s.ClusterIPs, s.LoadBalancers, s.SourceRanges = addrs("10.96.0.1 fd00::1"), addrs("203.0.113.1 2001:db8::1"), prefixes(ranges)
		}
	}
	deny := func(s *state.Service) {
		s.Annotations = map[string]string{"service.cilium.io/src-ranges-policy": "Deny"}
	}
	v4 := "default/web http 80/TCP\n10.96.0.1:80 ClusterIP outside: cluster:all\n203.0.113.1:80 LoadBalancer outside:all cluster:all"
	v6 := "default/web http 80/TCP IPv6\n[2001:db8::1]:80 LoadBalancer outside:all cluster:all%s\n[fd00::1]:80 ClusterIP outside: cluster:all\n"
	tell(t, []story{
		{name: "none", service: web(dual("")), want: v4 + "\n" + fmt.Sprintf(v6, "")},
		{
			name: "of each family", service: web(dual("192.0.2.7/24 10.1.0.0/16 10.1.2.0/24 2001:db8:1::/48 192.0.2.0/24 ::ffff:10.2.0.0/112")),
			want: v4 + " ranges\nfrom 10.1.0.0/16 10.2.0.0/16 192.0.2.0/24\n" + fmt.Sprintf(v6, " ranges") + "from 2001:db8:1::/48",
		},
		{name: "of one family", service: web(dual("192.0.2.0/24")), want: v4 + " ranges\nfrom 192.0.2.0/24\n" + fmt.Sprintf(v6, " ranges")},
		{
			name: "for load balancers only", service: web(everyKind, func(s *state.Service) { s.SourceRanges = prefixes("192.0.2.0/24") }), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			172.18.0.2:30080 NodePort outside:all cluster:all
			198.51.100.1:80 ExternalIP outside:all cluster:all
			203.0.113.1:80 LoadBalancer outside:all cluster:all ranges
			from 192.0.2.0/24`,
		},
		{
			name: "for all types", service: web(everyKind, func(s *state.Service) { s.SourceRanges = prefixes("192.0.2.0/24") }),
			config: func(c *loadbalance.Config) { c.SourceRangeAllTypes = true }, want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all
			172.18.0.2:30080 NodePort outside:all cluster:all ranges
			198.51.100.1:80 ExternalIP outside:all cluster:all ranges
			203.0.113.1:80 LoadBalancer outside:all cluster:all ranges
			from 192.0.2.0/24`,
		},
		{
			name: "for all types, the cluster IP from outside", service: web(func(s *state.Service) { s.SourceRanges = prefixes("192.0.2.0/24") }),
			config: func(c *loadbalance.Config) { c.SourceRangeAllTypes, c.ExternalClusterIP = true, true }, want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside:all cluster:all ranges
			from 192.0.2.0/24`,
		},
		{
			name: "of nobody where a load balancer is", service: web(func(s *state.Service) { s.SourceRanges = prefixes("192.0.2.0/24") }), want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside: cluster:all`,
		},
		{
			name: "denied are left out", service: web(dual("128.0.0.0/2 64.0.0.0/3"), deny),
			want: v4 + " ranges\nfrom 0.0.0.0/2 96.0.0.0/3 192.0.0.0/2\n" + fmt.Sprintf(v6, ""),
		},
		{name: "all denied", service: web(dual("0.0.0.0/0"), deny), want: v4 + " ranges\n" + fmt.Sprintf(v6, "")},
		{name: "none denied", service: web(dual(""), deny), want: v4 + "\n" + fmt.Sprintf(v6, "")},
		{
			name: "a policy that is none lets in whom it would without", service: web(dual("192.0.2.0/24"), func(s *state.Service) {
				s.Annotations = map[string]string{"service.cilium.io/src-ranges-policy": "maybe"}
			}),
			want: v4 + " ranges\nfrom 192.0.2.0/24\n" + fmt.Sprintf(v6, " ranges") + `
			problem default/web metadata.annotations[service.cilium.io/src-ranges-policy]: "maybe" is not supported, want allow or deny: only clients in loadBalancerSourceRanges are served`,
		},
		{
			name: "ranges that are none", want: "default/web http 80/TCP\n10.96.0.1:80 ClusterIP outside: cluster:all\n203.0.113.1:80 LoadBalancer outside:all cluster:all ranges\n" +
				"problem default/web spec.loadBalancerSourceRanges: invalid Prefix is no range of addresses",
			service: web(func(s *state.Service) {
				s.LoadBalancers, s.SourceRanges = addrs("203.0.113.1"), []netip.Prefix{{}}
			}),
		},
	})
}

// TestDenied compares what is left of random ranges with the ranges.
func TestDenied(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	cfg, n := config(), node()
	inside := func(list []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for range 300 {
		s := web(func(s *state.Service) {
			s.ClusterIPs, s.LoadBalancers = addrs("10.96.0.1 fd00::1"), addrs("203.0.113.1 2001:db8::1")
			s.Annotations = map[string]string{"service.cilium.io/src-ranges-policy": "deny"}
		})
		var probes []netip.Addr
		for range rng.IntN(6) + 1 {
			a := randomAddr(rng)
			p := netip.PrefixFrom(a, rng.IntN(a.BitLen()+1))
			s.SourceRanges = append(s.SourceRanges, p)
			probes = append(probes, a, p.Masked().Addr(), p.Masked().Addr().Prev(), randomAddr(rng))
		}
		for _, p := range loadbalance.Compile(&cfg, &n, s, nil).Ports {
			limited := slices.ContainsFunc(p.Frontends, func(f loadbalance.Frontend) bool { return f.SourceRanges })
			for _, a := range probes {
				if a.IsValid() && a.Is6() == p.Key.IPv6 && (!limited || inside(p.SourceRanges, a)) == inside(s.SourceRanges, a) {
					t.Fatalf("%s and denied %v: limited %v to %v", a, s.SourceRanges, limited, p.SourceRanges)
				}
			}
		}
	}
}

func randomAddr(rng *rand.Rand) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if rng.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	b[0] = 0x20
	return netip.AddrFrom16(b)
}

// TestAnnotations has those that are understood, those that ask for nothing, and
// those that are named.
func TestAnnotations(t *testing.T) {
	annotated := func(list ...string) *state.Service {
		return web(nodePort(30080), func(s *state.Service) {
			s.Annotations = map[string]string{}
			for i := 0; i < len(list); i += 2 {
				s.Annotations[list[i]] = list[i+1]
			}
		})
	}
	byAnnotation := func(c *loadbalance.Config) { c.AlgorithmByAnnotation = true }
	plain := `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		172.18.0.2:30080 NodePort outside:all cluster:all`
	maglev := plain + " maglev"
	const algorithm = "service.cilium.io/lb-algorithm"
	tell(t, []story{
		{name: "maglev is for clients outside", service: annotated(), config: func(c *loadbalance.Config) { c.Algorithm = loadbalance.AlgorithmMaglev }, want: maglev},
		{
			name: "maglev for the cluster IP from outside", service: web(),
			config: func(c *loadbalance.Config) { c.Algorithm, c.ExternalClusterIP = loadbalance.AlgorithmMaglev, true }, want: `
			default/web http 80/TCP
			10.96.0.1:80 ClusterIP outside:all cluster:all maglev`,
		},
		{name: "maglev by annotation", config: byAnnotation, service: annotated(algorithm, " Maglev"), want: maglev},
		{
			name: "random by annotation", service: annotated(algorithm, "random"), want: plain,
			config: func(c *loadbalance.Config) { c.Algorithm, c.AlgorithmByAnnotation = loadbalance.AlgorithmMaglev, true },
		},
		{name: "an algorithm that is none", config: byAnnotation, service: annotated(algorithm, "least-request"), want: plain + `
			problem default/web metadata.annotations[service.cilium.io/lb-algorithm]: "least-request" is not supported, want random or maglev`},
		{name: "annotations choose nothing", service: annotated(algorithm, "maglev"), want: plain + `
			problem default/web metadata.annotations[service.cilium.io/lb-algorithm]: "maglev" is not used, because bpf-lb-algorithm-annotation is false`},
		{name: "what is so anyway", service: annotated(algorithm, "random", "service.cilium.io/global", "false", "service.cilium.io/shared", "false",
			"service.cilium.io/affinity", "none", "service.cilium.io/forwarding-mode", "SNAT", "service.cilium.io/src-ranges-policy", "allow",
			"service.kubernetes.io/topology-mode", "Disabled", "service.kubernetes.io/something", "of a cloud's", "example.com/x", "y"), want: plain},
		{name: "what is not supported", service: annotated("service.cilium.io/global", "true", "service.cilium.io/affinity", "local",
			"service.cilium.io/forwarding-mode", "dsr", "service.cilium.io/node", "a", "service.cilium.io/type", "LoadBalancer",
			"service.cilium.io/tomorrow", "", "service.cilium.io/weight", strings.Repeat("long\n", 100)), want: plain + `
			problem default/web metadata.annotations[service.cilium.io/affinity]: "local" is not supported
			problem default/web metadata.annotations[service.cilium.io/forwarding-mode]: "dsr" is not supported
			problem default/web metadata.annotations[service.cilium.io/global]: "true" is not supported
			problem default/web metadata.annotations[service.cilium.io/node]: "a" is not supported
			problem default/web metadata.annotations[service.cilium.io/tomorrow]: "" is not supported
			problem default/web metadata.annotations[service.cilium.io/type]: "loadbalancer" is not supported
			problem default/web metadata.annotations[service.cilium.io/weight]: "` + strings.Repeat("long\uFFFD", 12) + `long…" is not supported`},
	})
}

// FuzzAnnotation: whatever an annotation says, the Service is served, and what is
// not understood is named in a message that fits into an event.
func FuzzAnnotation(f *testing.F) {
	for _, seed := range [][2]string{
		{"service.cilium.io/lb-algorithm", "maglev"},
		{"service.cilium.io/src-ranges-policy", "deny"},
		{"service.cilium.io/global", "true"},
		{"service.kubernetes.io/topology-mode", "auto"},
		{"service.cilium.io/\x00", "\xff\""},
	} {
		f.Add(seed[0], seed[1])
	}
	cfg, n := config(), node()
	cfg.AlgorithmByAnnotation = true
	f.Fuzz(func(t *testing.T, key, value string) {
		s := web(nodePort(30080), func(s *state.Service) { s.Annotations = map[string]string{key: value} })
		got := loadbalance.Compile(&cfg, &n, s, nil)
		if len(got.Ports) != 1 || len(got.Ports[0].Frontends) != 2 {
			t.Fatalf("ports %+v", got.Ports)
		}
		asked := strings.ToLower(strings.TrimSpace(value))
		if maglev := got.Ports[0].Frontends[1].Maglev; maglev != (key == "service.cilium.io/lb-algorithm" && asked == "maglev") {
			t.Fatalf("%q = %q: maglev %v", key, value, maglev)
		}
		if !strings.HasPrefix(key, "service.cilium.io/") && !strings.HasPrefix(key, "service.kubernetes.io/topology") && len(got.Problems) > 0 {
			t.Fatalf("%q is not ours: %v", key, got.Problems)
		}
		for _, p := range got.Problems {
			if !strings.Contains(p.Message, key) || len(p.Message) > len(key)+500 {
				t.Fatalf("%q = %q: message of %d bytes: %s", key, value, len(p.Message), p.Message)
			}
		}
	})
}
