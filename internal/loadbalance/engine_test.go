package loadbalance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/placid-net/placid/internal/loadbalance"
	"github.com/placid-net/placid/internal/state"
)

// change writes an Update in a form that tests can say.
func change(u loadbalance.Update) string {
	var b strings.Builder
	for _, k := range u.Delete {
		fmt.Fprintf(&b, "delete %s %s %d/%s\n", k.Service, k.Name, k.Port, k.Protocol)
	}
	b.WriteString(text(u.Upsert, nil))
	if len(u.Open) > 0 {
		fmt.Fprintf(&b, "open %s\n", strings.Trim(fmt.Sprint(u.Open), "[]"))
	}
	if len(u.Gone) > 0 {
		fmt.Fprintf(&b, "gone %s\n", strings.Trim(fmt.Sprint(u.Gone), "[]"))
	}
	return b.String()
}

func named(name string, age int, changes ...func(*state.Service)) *state.Service {
	s := web(changes...)
	s.Ref, s.CreatedAt = ref(name), at(age)
	return s
}

// TestUpdates is the life of a Service.
func TestUpdates(t *testing.T) {
	e := engine(t, config())
	same(t, "nothing", "", change(e.Take()))
	e.UpsertSlice(slice("a", "10.0.0.1 node=n1"))
	same(t, "a slice alone", "", change(e.Take()))
	e.UpsertService(web())
	same(t, "the Service", `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		all 10.0.0.1:8080
		open 10.96.0.1`, change(e.Take()))
	e.UpsertService(web())
	same(t, "the same again", "", change(e.Take()))
	e.UpsertSlice(slice("b", "10.0.0.2 node=n2"))
	e.DeleteSlice("default", "b")
	same(t, "there and back", "", change(e.Take()))
	e.UpsertSlice(slice("a", "10.0.0.1 node=n1 terminating; 10.0.0.2 node=n2"))
	same(t, "one terminates", `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		all 10.0.0.2:8080
		draining 10.0.0.1:8080`, change(e.Take()))
	moved := slice("a", "10.0.0.9")
	moved.Service = "other"
	e.UpsertSlice(moved)
	same(t, "the slice is another Service's", `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all`, change(e.Take()))
	e.UpsertService(web(func(s *state.Service) { s.Ports[0].Name = "https"; s.ClusterIPs = addrs("10.96.0.2") }))
	same(t, "another port and address", `
		delete default/web http 80/TCP
		default/web https 80/TCP
		10.96.0.2:80 ClusterIP outside: cluster:all
		open 10.96.0.2
		gone 10.96.0.1`, change(e.Take()))
	e.DeleteService(ref("default/web"))
	e.DeleteService(ref("default/web"))
	e.DeleteSlice("default", "nothing")
	same(t, "the end", "delete default/web https 80/TCP\ngone 10.96.0.2", change(e.Take()))
	if len(e.Ports())+len(e.Addresses())+len(e.Problems())+len(e.Services()) > 0 {
		t.Errorf("left: %v %v %v %v", e.Ports(), e.Addresses(), e.Problems(), e.Services())
	}
}

// TestNode changes what the node is.
func TestNode(t *testing.T) {
	e, err := loadbalance.New(config())
	if err != nil {
		t.Fatal(err)
	}
	e.UpsertService(web(nodePort(30080), func(s *state.Service) {
		s.ExternalLocal, s.LoadBalancers = true, addrs("203.0.113.1 172.18.0.9")
	}))
	e.UpsertService(named("default/inside", 0, func(s *state.Service) { s.ClusterIPs = addrs("10.96.0.9") }))
	e.UpsertSlice(slice("a", "10.0.0.1 node=n1; 10.0.0.2 node=n2"))
	head := `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		`
	tail := `172.18.0.9:80 LoadBalancer outside:local cluster:all
		203.0.113.1:80 LoadBalancer outside:local cluster:all
		all 10.0.0.1:8080 10.0.0.2:8080
		`
	same(t, "no node yet", "default/inside http 80/TCP\n10.96.0.9:80 ClusterIP outside: cluster:all"+head+tail+
		"open 10.96.0.1 10.96.0.9 172.18.0.9 203.0.113.1", change(e.Take()))
	e.SetNode(loadbalance.Node{Name: "n1", Addrs: addrs("172.18.0.3 172.18.0.2 172.18.0.3"), Nodes: addrs("172.18.0.2 172.18.0.9")})
	same(t, "the node, and another that has an address of the Service", head+`
		172.18.0.2:30080 NodePort outside:local cluster:all
		172.18.0.3:30080 NodePort outside:local cluster:all
		`+tail+"local 10.0.0.1:8080\ngone 172.18.0.9", change(e.Take()))
	e.SetNode(loadbalance.Node{Name: "n2", Addrs: addrs("172.18.0.2")})
	same(t, "another name, fewer addresses", head+"172.18.0.2:30080 NodePort outside:local cluster:all\n"+tail+"local 10.0.0.2:8080\nopen 172.18.0.9", change(e.Take()))
	e.SetNode(loadbalance.Node{Name: "n2", Addrs: addrs("172.18.0.2 203.0.113.1")})
	same(t, "the node itself has an address of the Service", head+`
		172.18.0.2:30080 NodePort outside:local cluster:all
		172.18.0.9:80 LoadBalancer outside:local cluster:all
		203.0.113.1:80 LoadBalancer outside:local cluster:all
		203.0.113.1:30080 NodePort outside:local cluster:all
		all 10.0.0.1:8080 10.0.0.2:8080
		local 10.0.0.2:8080
		gone 203.0.113.1`, change(e.Take()))
	if s, ok := e.Service(ref("default/web"), false); !ok || s.Entries.Frontends != 5+2 || s.Estimate != 2 {
		t.Errorf("summary %+v", s)
	}
}

// TestClaims has Services that want the same.
func TestClaims(t *testing.T) {
	e := engine(t, config())
	older := named("z/older", 1, nodePort(30080))
	younger := named("a/younger", 2, nodePort(30080), func(s *state.Service) { s.ExternalIPs = addrs("198.51.100.1") })
	e.UpsertService(younger)
	e.Take()
	e.UpsertService(older)
	same(t, "the older comes later", `
		a/younger http 80/TCP
		198.51.100.1:80 ExternalIP outside:all cluster:all
		z/older http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		172.18.0.2:30080 NodePort outside:all cluster:all`, change(e.Take()))
	same(t, "problems", `
		problem a/younger spec.clusterIPs: 10.96.0.1:80/TCP belongs to Service z/older, which goes before: Service a/younger gets it when that goes
		problem a/younger spec.ports.nodePort: 172.18.0.2:30080/TCP belongs to Service z/older, which goes before: Service a/younger gets it when that goes`,
		text(nil, e.Problems()))
	third := named("a/third", 2)
	e.UpsertService(third)
	same(t, "a third waits", "", change(e.Take()))
	e.DeleteService(older.Ref)
	same(t, "of the same age, the first by name", `
		delete z/older http 80/TCP
		a/third http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		a/younger http 80/TCP
		172.18.0.2:30080 NodePort outside:all cluster:all
		198.51.100.1:80 ExternalIP outside:all cluster:all`, change(e.Take()))
	same(t, "problems", `problem a/younger spec.clusterIPs: 10.96.0.1:80/TCP belongs to Service a/third, which goes before: Service a/younger gets it when that goes`,
		text(nil, e.Problems()))
	third = named("a/third", 3)
	e.UpsertService(third)
	same(t, "made anew it is the youngest", `
		delete a/third http 80/TCP
		a/younger http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		172.18.0.2:30080 NodePort outside:all cluster:all
		198.51.100.1:80 ExternalIP outside:all cluster:all`, change(e.Take()))
	e.UpsertService(named("a/younger", 2, func(s *state.Service) { s.Ports[0].Protocol = state.ProtocolUDP }))
	same(t, "another protocol is another claim", `
		delete a/younger http 80/TCP
		a/third http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		a/younger http 80/UDP
		10.96.0.1:80 ClusterIP outside: cluster:all
		gone 198.51.100.1`, change(e.Take()))
	same(t, "no problems", "", text(nil, e.Problems()))
}

// TestManyNodeAddresses: what is lost at each address of the node is one problem.
func TestManyNodeAddresses(t *testing.T) {
	e := engine(t, config())
	e.SetNode(loadbalance.Node{Name: "n1", Addrs: addrs("172.18.0.2 172.18.0.3 172.18.0.4 fd02::2")})
	e.UpsertService(named("a/first", 1, nodePort(30080)))
	e.UpsertService(named("b/second", 2, nodePort(30080), func(s *state.Service) { s.ClusterIPs = addrs("10.96.0.2") }))
	same(t, "problems", `problem b/second spec.ports.nodePort: 172.18.0.2:30080/TCP belongs to Service a/first, which goes before: Service b/second gets it when that goes`,
		text(nil, e.Problems()))
}

func hostPort(ip string, port, container uint16) state.HostPort {
	h := state.HostPort{Protocol: state.ProtocolTCP, HostPort: port, ContainerPort: container}
	if ip != "" {
		h.HostIP = addrs(ip)[0]
	}
	return h
}

// TestHostPorts serves ports of pods.
func TestHostPorts(t *testing.T) {
	sctp := func(p state.HostPort) state.HostPort {
		p.Protocol = state.ProtocolSCTP
		return p
	}
	for _, c := range []struct {
		name, addrs string
		ports       []state.HostPort
		want        string
	}{
		{"every address of both families", "10.0.0.1 fd01::1", []state.HostPort{hostPort("", 80, 8080)}, `
			ns/pod  80/TCP
			172.18.0.2:80 HostPort outside:all cluster:all
			all 10.0.0.1:8080
			ns/pod  80/TCP IPv6
			[fd02::2]:80 HostPort outside:all cluster:all
			all [fd01::1]:8080`},
		{"the unspecified address is every one", "10.0.0.1", []state.HostPort{hostPort("0.0.0.0", 80, 80)}, `
			ns/pod  80/TCP
			172.18.0.2:80 HostPort outside:all cluster:all
			all 10.0.0.1:80`},
		{"one address, also one that is not served else", "10.0.0.1 fd01::1", []state.HostPort{hostPort("127.0.0.1", 80, 80)}, `
			ns/pod 127.0.0.1 80/TCP
			127.0.0.1:80 HostPort outside:all cluster:all
			all 10.0.0.1:80`},
		{"one address goes before all", "10.0.0.1", []state.HostPort{hostPort("", 80, 1), hostPort("172.18.0.2", 80, 2), hostPort("172.18.0.7", 80, 3)}, `
			ns/pod 172.18.0.2 80/TCP
			172.18.0.2:80 HostPort outside:all cluster:all
			all 10.0.0.1:2
			ns/pod 172.18.0.7 80/TCP
			172.18.0.7:80 HostPort outside:all cluster:all
			all 10.0.0.1:3`},
		{"bad ones", "10.0.0.1", []state.HostPort{
			hostPort("", 0, 80), hostPort("", 80, 0),
			{HostPort: 81, ContainerPort: 81},
			sctp(hostPort("", 82, 83)), sctp(hostPort("", 84, 84)),
			hostPort("fd02::2", 85, 85), hostPort("224.0.0.1", 86, 86), hostPort("", 87, 1), hostPort("", 87, 2),
		}, `
			ns/pod  84/SCTP
			172.18.0.2:84 HostPort outside:all cluster:all
			all 10.0.0.1:84
			ns/pod  87/TCP
			172.18.0.2:87 HostPort outside:all cluster:all
			all 10.0.0.1:1
			problem ns/pod hostPort 0/TCP: 0 is no port: it leads to containerPort 80
			problem ns/pod hostPort 80/TCP: 0 is no port: it leads to containerPort 0
			problem ns/pod hostPort 81/ANY: only TCP, UDP and SCTP are served
			problem ns/pod hostPort 82/SCTP: ports of SCTP packets cannot be changed: containerPort 83 must be the same
			problem ns/pod hostPort 85/TCP: the pod has no address of a family that it is served in
			problem ns/pod hostPort 86/TCP: hostIP 224.0.0.1 is not an address that a node can have
			problem ns/pod hostPort 87/TCP: the pod has it twice: it leads to the first containerPort`},
		{"no address", "", []state.HostPort{hostPort("", 80, 80)}, `
			problem ns/pod hostPort 80/TCP: the pod has no address of a family that it is served in`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := engine(t, config())
			e.SetHostPorts(ref("ns/pod"), addrs(c.addrs), at(0), c.ports)
			same(t, "ports", c.want, text(e.Ports(), e.Problems()))
			e.DeleteHostPorts(ref("ns/pod"))
			e.DeleteHostPorts(ref("ns/pod"))
			same(t, "after it", "", text(e.Ports(), e.Problems()))
		})
	}
}

// TestHostPortClaims: a Service goes before a pod, an older pod before a younger.
func TestHostPortClaims(t *testing.T) {
	e := engine(t, config())
	e.SetHostPorts(ref("ns/old"), addrs("10.0.0.1"), at(1), []state.HostPort{hostPort("", 30080, 1)})
	e.SetHostPorts(ref("ns/new"), addrs("10.0.0.2"), at(2), []state.HostPort{hostPort("172.18.0.2", 30080, 2)})
	e.UpsertService(named("default/web", 9, nodePort(30080)))
	same(t, "all", `
		default/web http 80/TCP
		10.96.0.1:80 ClusterIP outside: cluster:all
		172.18.0.2:30080 NodePort outside:all cluster:all
		problem ns/new hostPort: 172.18.0.2:30080/TCP belongs to Service default/web, which goes before: Pod ns/new gets it when that goes
		problem ns/old hostPort: 172.18.0.2:30080/TCP belongs to Service default/web, which goes before: Pod ns/old gets it when that goes`,
		text(e.Ports(), e.Problems()))
	if p := e.Problems(); !p[0].HostPort {
		t.Error("the problem is not said to be a pod's")
	}
	e.DeleteService(ref("default/web"))
	same(t, "without the Service", `
		ns/old  30080/TCP
		172.18.0.2:30080 HostPort outside:all cluster:all
		all 10.0.0.1:1
		problem ns/new hostPort: 172.18.0.2:30080/TCP belongs to Pod ns/old, which goes before: Pod ns/new gets it when that goes`,
		text(e.Ports(), e.Problems()))
	e.DeleteHostPorts(ref("ns/old"))
	same(t, "without the older", `
		ns/new 172.18.0.2 30080/TCP
		172.18.0.2:30080 HostPort outside:all cluster:all
		all 10.0.0.2:2`, text(e.Ports(), e.Problems()))
}

// TestHealth counts the ready pods of this node, once each.
func TestHealth(t *testing.T) {
	e := engine(t, config())
	healthy := func(s *state.Service) { s.ExternalLocal, s.HealthCheckPort = true, 31000 }
	e.UpsertService(web(healthy))
	e.UpsertSlice(slice("a", "10.0.0.1 node=n1; 10.0.0.2 node=n1; 10.0.0.3 node=n2; 10.0.0.4 node=n1 terminating; 10.0.0.5 node=n1 notready"))
	e.UpsertSlice(slice("b", "10.0.0.1 node=n1; fd01::1 node=n1"))
	e.UpsertService(named("a/other", 0, healthy))
	e.UpsertService(named("a/cluster", 0, healthy, func(s *state.Service) { s.ExternalLocal = false }))
	e.UpsertService(named("a/none", 0))
	want := []loadbalance.HealthPort{{Service: ref("a/other"), Port: 31000}, {Service: ref("default/web"), Port: 31000, Local: 2}}
	if got := e.Health(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	e.UpsertService(web())
	e.DeleteService(ref("a/other"))
	if got := e.Health(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestNew names what is wrong with a configuration.
func TestNew(t *testing.T) {
	for _, c := range []struct {
		change func(*loadbalance.Config)
		want   string
	}{
		{func(c *loadbalance.Config) { c.IPv4, c.IPv6 = false, false }, "enable-ipv4"},
		{func(c *loadbalance.Config) { c.Algorithm = "least" }, `bpf-lb-algorithm "least": want random or maglev`},
		{func(c *loadbalance.Config) { c.NodePortFirst = 0 }, "node-port-range 0-32767"},
		{func(c *loadbalance.Config) { c.NodePortLast = 29999 }, "node-port-range 30000-29999"},
		{func(c *loadbalance.Config) { c.Algorithm, c.MaglevSize = loadbalance.AlgorithmMaglev, 1000 }, "bpf-lb-maglev-table-size 1000"},
		{func(c *loadbalance.Config) { c.AlgorithmByAnnotation, c.MaglevSize = true, 0 }, "bpf-lb-maglev-table-size 0"},
	} {
		cfg := config()
		c.change(&cfg)
		if _, err := loadbalance.New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	if _, err := loadbalance.New(loadbalance.Config{IPv6: true, NodePortFirst: 1, NodePortLast: 1}); err != nil {
		t.Errorf("random needs no table: %v", err)
	}
}

// TestCost counts what the datapath stores.
func TestCost(t *testing.T) {
	maglev := func(c *loadbalance.Config) { c.Algorithm = loadbalance.AlgorithmMaglev }
	for _, c := range []struct {
		name     string
		config   func(*loadbalance.Config)
		change   func(*state.Service)
		slices   string
		cost     loadbalance.Entries
		service  loadbalance.Entries
		estimate int
	}{
		{"nobody serves", nil, func(*state.Service) {}, "", loadbalance.Entries{Frontends: 1}, loadbalance.Entries{Frontends: 2}, 0},
		{"frontends share a list", nil, everyKind, three, loadbalance.Entries{Frontends: 4, Backends: 3}, loadbalance.Entries{Frontends: 7, Backends: 3}, 3},
		{
			"two lists", maglev, func(s *state.Service) { everyKind(s); s.ExternalLocal = true }, three,
			loadbalance.Entries{Frontends: 4, Backends: 4, Maglev: 1},
			loadbalance.Entries{Frontends: 7, Backends: 4, Maglev: 1},
			3,
		},
		{
			"equal lists are one", maglev, func(s *state.Service) { everyKind(s); s.ExternalLocal = true }, "10.0.0.1 node=n1",
			loadbalance.Entries{Frontends: 4, Backends: 1, Maglev: 1},
			loadbalance.Entries{Frontends: 7, Backends: 1, Maglev: 1},
			1,
		},
		{
			"only what is reached, twice with affinity", nil, func(s *state.Service) { s.InternalLocal, s.Affinity = true, time.Minute }, three,
			loadbalance.Entries{Frontends: 1, Backends: 2},
			loadbalance.Entries{Frontends: 2, Backends: 2},
			3,
		},
		{
			"no table for clients inside", maglev, func(*state.Service) {}, three,
			loadbalance.Entries{Frontends: 1, Backends: 3},
			loadbalance.Entries{Frontends: 2, Backends: 3},
			3,
		},
		{
			"source ranges", nil, func(s *state.Service) {
				everyKind(s)
				s.SourceRanges = prefixes("192.0.2.0/24 10.0.0.0/8 10.1.0.0/16 fd00::/8")
			}, "",
			loadbalance.Entries{Frontends: 4, SourceRanges: 2},
			loadbalance.Entries{Frontends: 7, SourceRanges: 2},
			0,
		},
		{
			"a backend that drains takes one entry", nil, func(s *state.Service) { s.Affinity = time.Minute },
			"10.0.0.1; 10.0.0.2 terminating; 10.0.0.3 stopping",
			loadbalance.Entries{Frontends: 1, Backends: 4},
			loadbalance.Entries{Frontends: 2, Backends: 4},
			1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config()
			if c.config != nil {
				c.config(&cfg)
			}
			e := engine(t, cfg)
			e.UpsertService(web(c.change))
			e.UpsertSlice(slice("a", c.slices))
			s, ok := e.Service(ref("default/web"), false)
			if !ok || len(s.Ports) != 1 {
				t.Fatalf("summary %+v", s)
			}
			if got := loadbalance.Cost(s.Ports[0]); got != c.cost {
				t.Errorf("the port takes %+v, want %+v", got, c.cost)
			}
			if got := loadbalance.ServiceCost(s.Ports); s.Entries != c.service || got != c.service {
				t.Errorf("the Service takes %+v, its ports say %+v, want %+v", s.Entries, got, c.service)
			}
			if s.Estimate != c.estimate || loadbalance.DocumentedEstimate(s.Ports...) != c.estimate {
				t.Errorf("estimate %d, want %d", s.Estimate, c.estimate)
			}
		})
	}
}

// TestEstimate is backends times ports of the larger family.
func TestEstimate(t *testing.T) {
	e := engine(t, config())
	s := web(func(s *state.Service) {
		s.ClusterIPs = addrs("10.96.0.1 fd00::1")
		s.Ports = append(s.Ports, state.ServicePort{Name: "other", Protocol: state.ProtocolTCP, Port: 81})
	})
	e.UpsertService(s)
	for _, list := range []string{"10.0.0.1; 10.0.0.2", "fd01::1; fd01::2; fd01::3"} {
		x := slice(list[:2], list)
		x.Ports = append(x.Ports, state.SlicePort{Name: "other", Protocol: state.ProtocolTCP, Port: 8081})
		e.UpsertSlice(x)
	}
	all := e.Services()
	if len(all) != 1 || all[0].Estimate != 6 || all[0].Entries != (loadbalance.Entries{Frontends: 4 + 2, Backends: 10}) {
		t.Errorf("%+v", all)
	}
	if _, known := e.Service(ref("default/web"), true); known {
		t.Error("a pod of that name is known")
	}
}
