package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/internal/agentapi"
	loadgen "github.com/placid-net/placid/test/load"
)

// Ports of the node in the tests of host ports.
const (
	hostPortAny = 18080 // at every address of the node
	hostPortOne = 18081 // at its IPv4 address
)

// startHostPorts starts a pod with host ports on the first node, and lets it
// answer.
func (l *lab) startHostPorts(t *testing.T) backend {
	t.Helper()
	spec := barePod("host-ports", l.nodes[0].name)
	spec.Namespace = serviceSpace
	for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		spec.Spec.Containers[0].Ports = append(spec.Spec.Containers[0].Ports,
			corev1.ContainerPort{ContainerPort: backendPort, HostPort: hostPortAny, Protocol: p},
			corev1.ContainerPort{ContainerPort: backendPort, HostPort: hostPortOne, HostIP: l.nodes[0].addrs[ipv4].String(), Protocol: p})
	}
	p := l.startPods(t, spec)[0]
	b := backend{l.podPlace(t, p), p.node.name}
	serveName(t, b.place, backendPort)
	return b
}

// testHostPorts shows that ports of a node lead to a pod, at all of its addresses
// or at one, and no longer when the pod is gone.
func (l *lab) testHostPorts(t *testing.T, c *serviceCast) {
	b := l.startHostPorts(t)
	s := served{name: b.name, backends: []backend{b}}
	doors := []door{
		{name: "host port", addrs: l.nodes[0].addrs, tcp: hostPortAny, udp: hostPortAny, node: l.nodes[0].name},
		{name: "host port at one address", addrs: l.nodes[0].addrs, tcp: hostPortOne, udp: hostPortOne, node: l.nodes[0].name},
	}
	ways, gone := map[string][]wayIn{}, map[string][]wayIn{}
	for _, from := range c.callers {
		for _, d := range doors {
			for _, f := range families {
				for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
					want := s.expect(from, d, f, "", l.nodes)
					if d.tcp == hostPortOne && f == ipv6 {
						want = outcome{refused: true} // by the node's stack
					}
					name := fmt.Sprintf("%s to %s, %s/%s", from.name, d.name, p, f)
					at := netip.AddrPortFrom(d.addrs[f], uint16(d.port(p)))
					ways[from.name] = append(ways[from.name], wayIn{target: question(name, p, at, want), want: want})
					nobody := outcome{refused: true}
					gone[from.name] = append(gone[from.name], wayIn{target: question(name+", without the pod", p, at, nobody), want: nobody})
				}
			}
		}
	}
	wrong := c.generator.tryWays(t, ways, c.callers).wrong
	showWrong(t, wrong)
	l.kubectl(t, "-n", serviceSpace, "delete", "pod", "host-ports")
	eventually(t, serviceTimeout, "the host ports are free", func() error {
		if early := c.generator.tryWays(t, gone, c.callers[:1]).wrong; len(early) > 0 {
			return errors.New(strings.Join(early, "\n"))
		}
		return nil
	})
	wrong = c.generator.tryWays(t, gone, c.callers).wrong
	showWrong(t, wrong)
}

func showWrong(t *testing.T, wrong []string) {
	t.Helper()
	slices.Sort(wrong)
	for _, text := range wrong[:min(len(wrong), maxWrong)] {
		t.Error(text)
	}
	if len(wrong) > maxWrong {
		t.Errorf("and %d more", len(wrong)-maxWrong)
	}
}

// leavingFlows is how many flows a pod makes to the host outside over each protocol
// and family: more than go anywhere else, so that it is among the destinations that
// most source ports are taken for.
const leavingFlows = 100

// testMasquerade shows that a host outside sees pods with their node's address,
// and that answers come back.
func (l *lab) testMasquerade(t *testing.T, c *serviceCast) {
	ways := map[string][]wayIn{}
	var pods []caller
	for _, from := range c.callers {
		if from.node == "" || from.isNode {
			continue
		}
		pods = append(pods, from)
		for _, f := range families {
			want := outcome{answers: []string{seen(c.outsider.name, l.node(t, from.node).addrs[f])}}
			for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
				at := netip.AddrPortFrom(c.outsider.addrs[f], backendPort)
				q := question(fmt.Sprintf("%s to the host outside, %s/%s", from.name, p, f), p, at, want)
				q.Count = leavingFlows
				ways[from.name] = append(ways[from.name], wayIn{target: q, want: want})
			}
		}
	}
	wrong := c.generator.tryWays(t, ways, pods).wrong
	showWrong(t, wrong)
	for _, h := range l.nodes {
		l.placid(t, h, "bpf", "ct", "gc")
		metrics := l.metrics(t, h)
		for _, f := range families {
			for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
				to := netip.AddrPortFrom(c.outsider.addrs[f], backendPort)
				series := fmt.Sprintf("placid_nat_source_ports_used{destination=%q,protocol=%q}", to, p)
				if n := metrics[series]; n < leavingFlows || n > metrics["placid_nat_source_ports"] {
					t.Errorf("%s of %s is %v of %v", series, h.name, n, metrics["placid_nat_source_ports"])
				}
			}
		}
	}
	for i, at := range []backend{c.near, c.far} {
		for _, f := range families {
			netns := strings.Replace(at.netns, fmt.Sprintf("/proc/%d/root", l.nodes[i].pid), "", 1)
			out := l.on(t, l.nodes[i], append([]string{"nsenter", "--net=" + netns}, ping(c.outsider.addrs[f])...)...)
			lossless(t, "ping of the host outside by "+at.name, out)
		}
	}
}

// testHealthCheck shows that load balancers are told which nodes have backends of
// a Service with externalTrafficPolicy Local.
func (l *lab) testHealthCheck(t *testing.T) {
	port := int(get[corev1.Service](t, l, "-n", serviceSpace, "service", "external-local").Spec.HealthCheckNodePort)
	for i, h := range l.nodes {
		want, local := "200", 1
		if i != 0 {
			want, local = "503", 0
		}
		for _, f := range families {
			out := l.on(t, l.outside, "curl", "-sS", "-m", "8", "-w", " %{http_code}", url("http", h.addrs[f], port, "/healthz"))
			if !strings.HasSuffix(out, " "+want) || !strings.Contains(out, `"localEndpoints":`+strconv.Itoa(local)) {
				t.Errorf("the health check of %s answers %q, want %s with %d local endpoints", h.name, out, want, local)
			}
		}
	}
}

// testHeadless shows that a Service without an address is nobody's affair.
func (l *lab) testHeadless(t *testing.T) {
	s := (&served{name: "headless", selector: map[string]string{"spread": "yes"}}).manifest()
	s.Spec.ClusterIP = corev1.ClusterIPNone
	l.apply(t, s)
	for _, h := range l.nodes {
		text, err := l.tryPlacid(t, h, "service", "get", serviceSpace+"/headless", "-o", "json")
		if err == nil || !strings.Contains(err.Error(), "headless") {
			t.Errorf("placid service get of a headless Service on %s: %q, %v", h.name, text, err)
		}
	}
}

// testDuplicates shows that of two Services with one address and port the older
// keeps it, and that the other is named, and gets it when the older goes.
func (l *lab) testDuplicates(t *testing.T, c *serviceCast) {
	older := &served{name: "older", number: 20, backends: []backend{c.near}, selector: map[string]string{"pod": c.near.name}}
	l.createServices(t, older)
	younger := &served{name: "younger", number: 20, backends: []backend{c.far}, selector: map[string]string{"pod": c.far.name}}
	l.apply(t, younger.manifest())
	address := older.external()[ipv4].String()
	for _, h := range l.nodes {
		eventually(t, serviceTimeout, "the younger Service is named on "+h.name, func() error {
			text, err := l.tryPlacid(t, h, "service", "get", serviceSpace+"/younger", "-o", "json")
			if err != nil {
				return err
			}
			var info []agentapi.ServiceInfo
			decode(t, text, &info)
			if problems := fmt.Sprint(info[0].Problems); !strings.Contains(problems, address) || !strings.Contains(problems, "older") {
				return fmt.Errorf("problems: %s", problems)
			}
			return nil
		})
		if st := l.status(t, h).Services; !strings.Contains(fmt.Sprint(st.Problems), serviceSpace+"/younger") {
			t.Errorf("status of %s does not name the Service: %v", h.name, st.Problems)
		}
	}
	eventually(t, serviceTimeout, "an event of the younger Service", func() error {
		events := get[corev1.EventList](t, l, "-n", serviceSpace, "events", "--field-selector=involvedObject.name=younger,type=Warning").Items
		if len(events) == 0 || !strings.Contains(events[0].Message, address) {
			return fmt.Errorf("%v", events)
		}
		return nil
	})
	answers := func(b backend) error {
		for _, f := range families {
			at := netip.AddrPortFrom(older.external()[f], servicePort)
			from := c.callers[len(c.callers)-3] // the first node
			want := outcome{answers: []string{seen(b.name, from.addrs[f])}}
			q := question("the address that two claim, "+f.String(), corev1.ProtocolTCP, at, want)
			if err := (wayIn{target: q, want: want}).judge(c.generator.start(t, from, []loadgen.Target{q}).wait(t)[0]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := answers(c.near); err != nil {
		t.Error(err)
	}
	l.kubectl(t, "-n", serviceSpace, "delete", "service", "older")
	eventually(t, serviceTimeout, "the younger Service gets the address", func() error { return answers(c.far) })
}
