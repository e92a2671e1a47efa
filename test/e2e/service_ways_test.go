package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	loadgen "github.com/placid-net/placid/test/load"
)

// serviceCast is who takes part in the tests of Services: two pods on each node,
// of which one is served by packets and one at its sockets, and the hosts. A pod
// does not mix both, as the two would meet on the way to a backend.
type serviceCast struct {
	generator      *generator
	near, beside   backend
	far, away      backend
	host, outsider backend // the second node itself, and the host outside
	callers        []caller
}

// startServiceCast makes the namespace of the Services, starts the pods, and lets
// them and the hosts answer.
func (l *lab) startServiceCast(t *testing.T) *serviceCast {
	t.Helper()
	c := &serviceCast{generator: l.newGenerator(t)}
	l.createNamespaces(t, newNamespace(serviceSpace, nil))
	l.setZones(t)
	var specs []corev1.Pod
	for _, p := range []struct {
		name, spread string
		node         int
	}{{"near", "yes", 0}, {"beside", "no", 0}, {"far", "yes", 1}, {"away", "no", 1}} {
		s := barePod(p.name, l.nodes[p.node].name)
		s.Namespace, s.Labels = serviceSpace, map[string]string{"pod": p.name, "spread": p.spread}
		specs = append(specs, s)
	}
	pods := l.startPods(t, specs...)
	for i, b := range []*backend{&c.near, &c.beside, &c.far, &c.away} {
		*b = backend{l.podPlace(t, pods[i]), pods[i].node.name}
	}
	c.host = backend{l.nodes[1].place(), l.nodes[1].name}
	c.outsider = backend{l.outside.place(), ""}
	for _, b := range []backend{c.near, c.beside, c.far, c.host, c.outsider} {
		serveName(t, b.place, backendPort)
	}
	c.callers = []caller{
		podCaller(c.near, false), podCaller(c.beside, true), podCaller(c.far, false), podCaller(c.away, true),
		nodeCaller(l.nodes[0]), nodeCaller(l.nodes[1]),
		{place: c.outsider.place},
	}
	return c
}

// inside are the callers on the nodes.
func (c *serviceCast) inside() []caller {
	return slices.DeleteFunc(slices.Clone(c.callers), func(from caller) bool { return from.node == "" })
}

// setZones puts every node in a zone of its own.
func (l *lab) setZones(t *testing.T) {
	t.Helper()
	for _, h := range l.nodes {
		l.kubectl(t, "label", "node", h.name, corev1.LabelTopologyZone+"="+h.name)
		t.Cleanup(func() {
			if _, err := l.try(background(), nil, "kubectl", "label", "node", h.name, corev1.LabelTopologyZone+"-"); err != nil {
				t.Error(err)
			}
		})
	}
}

// services are one of every kind.
func (c *serviceCast) services(outside host) []*served {
	one := func(p backend) map[string]string { return map[string]string{"pod": p.name} }
	spread := map[string]string{"spread": "yes"}
	prefix := func(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
	return []*served{
		{name: "near", number: 1, backends: []backend{c.near}, selector: one(c.near)},
		{name: "beside", number: 2, backends: []backend{c.beside}, selector: one(c.beside)},
		{name: "both", number: 3, backends: []backend{c.near, c.far}, selector: spread},
		{name: "host", number: 4, backends: []backend{c.host}, byHand: true},
		{name: "by-hand", number: 5, backends: []backend{c.outsider}, byHand: true},
		{name: "external-local", number: 6, backends: []backend{c.beside}, selector: one(c.beside), externalLocal: true},
		{name: "internal-local", backends: []backend{c.beside}, selector: one(c.beside), internalLocal: true},
		{name: "sticky", number: 7, backends: []backend{c.near, c.far}, selector: spread, sticky: true},
		{
			name: "ranges-with", number: 8, backends: []backend{c.far}, selector: one(c.far),
			ranges: []string{prefix(outside.addrs[ipv4]), prefix(outside.addrs[ipv6])},
		},
		{
			name: "ranges-without", number: 9, backends: []backend{c.far}, selector: one(c.far),
			ranges: []string{"192.0.2.0/24", "2001:db8::/64"}, refuses: true,
		},
		{name: "nobody", number: 10, selector: map[string]string{"pod": "nobody"}},
		{name: "nearby", number: 11, backends: []backend{c.near, c.far}, selector: spread, nearby: true},
	}
}

// wayIn is a caller's questions at one door, and what they should come to.
type wayIn struct {
	target loadgen.Target
	want   outcome
	sticky bool // one backend answers all of them
	spread bool // either of two does
}

const (
	answerTimeout  = 4 * time.Second // long enough for a busy machine
	silenceTimeout = time.Second
	// spreadAsks are questions where several backends could answer.
	spreadAsks = 6
)

// waysIn are all ways of a caller into the Services.
func (l *lab) waysIn(t *testing.T, c caller, services []*served) []wayIn {
	t.Helper()
	var out []wayIn
	for _, s := range services {
		for _, d := range s.doors(t, l.nodes) {
			for _, f := range families {
				want := s.expect(c, d, f, l.nodes[0].name, l.nodes)
				for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
					name := fmt.Sprintf("%s to %s, %s, %s/%s", c.name, s.name, d.name, p, f)
					out = append(out, wayIn{question(name, p, netip.AddrPortFrom(d.addrs[f], uint16(d.port(p))), want), want, s.sticky, len(want.answers) > 1 && !s.sticky})
				}
			}
		}
	}
	return out
}

func question(name string, p corev1.Protocol, at netip.AddrPort, want outcome) loadgen.Target {
	q := loadgen.Target{
		Name: name, Protocol: loadgen.Protocol(network(p)), Addr: at, Socket: loadgen.Fresh, Ask: "/", Count: 1, Timeout: answerTimeout,
	}
	if want.silent || len(want.answers) == 0 && !want.refused {
		q.Timeout = silenceTimeout
	}
	if len(want.answers) > 1 {
		q.Count = spreadAsks
	}
	return q
}

// judge tells what went another way than it should.
func (w wayIn) judge(r loadgen.Result) error {
	bad := func(want string) error {
		return fmt.Errorf("%s (%s): answers %v, errors %v; want %s", w.target.Name, w.target.Addr, r.Answers, r.Errors, want)
	}
	switch {
	case w.want.refused:
		if r.Errors[loadgen.ReasonRefused] != r.Asked {
			return bad("refused")
		}
	case w.want.silent:
		if r.Errors[loadgen.ReasonTimeout] != r.Asked {
			return bad("silence")
		}
	case len(w.want.answers) == 0:
		if r.Answered > 0 {
			return bad("no answer")
		}
	case r.Answered != r.Asked:
		return bad(strings.Join(w.want.answers, " or "))
	case w.sticky && len(r.Answers) != 1:
		return bad("the same backend each time")
	}
	for text := range r.Answers {
		if !slices.Contains(w.want.answers, text) {
			return bad(strings.Join(w.want.answers, " or "))
		}
	}
	return nil
}

// tried is what came of ways: what went wrong, those ways by their callers, and for
// each caller how often each backend answered where either of two could.
type tried struct {
	wrong  []string
	ways   map[string][]wayIn
	spread map[string]map[string]int
}

// tryWays lets all callers ask at once.
func (g *generator) tryWays(t *testing.T, ways map[string][]wayIn, callers []caller) tried {
	t.Helper()
	asked := make([]*asking, len(callers))
	for i, c := range callers {
		var targets []loadgen.Target
		for _, w := range ways[c.name] {
			targets = append(targets, w.target)
		}
		asked[i] = g.start(t, c, targets)
	}
	out := tried{ways: map[string][]wayIn{}, spread: map[string]map[string]int{}}
	for i, c := range callers {
		out.spread[c.name] = map[string]int{}
		for k, r := range asked[i].wait(t) {
			w := ways[c.name][k]
			if err := w.judge(r); err != nil {
				out.wrong = append(out.wrong, err.Error())
				out.ways[c.name] = append(out.ways[c.name], w)
			}
			for text, n := range r.Answers {
				if name, _, _ := strings.Cut(text, " "); w.spread {
					out.spread[c.name][name] += n
				}
			}
		}
	}
	return out
}

// testWaysIn shows that every way into every Service leads where it should, with
// the address of the client that it should.
func (l *lab) testWaysIn(t *testing.T, c *serviceCast) {
	services := c.services(l.outside)
	l.createServices(t, services...)
	l.leadOutside(t, l.nodes[0])
	ways, total := map[string][]wayIn{}, 0
	for _, from := range c.callers {
		ways[from.name] = l.waysIn(t, from, services)
		total += len(ways[from.name])
	}
	began := time.Now()
	first := c.generator.tryWays(t, ways, c.callers)
	t.Logf("%d ways, %d wrong, tried in %s", total, len(first.wrong), time.Since(began).Round(10*time.Millisecond))
	wrong := first.wrong
	// A pod that asks services by packets and backends by their own addresses from
	// hundreds of ports may take one twice (docs/adr/0009-translation.md): it tries
	// again from another. More than a few are something else.
	if len(wrong) > 0 && len(wrong) <= total/100 {
		for _, w := range wrong {
			t.Log("tried again: ", w)
		}
		wrong = c.generator.tryWays(t, first.ways, c.callers).wrong
	}
	showWrong(t, wrong)
	for name, n := range first.spread {
		if n[c.near.name] == 0 || n[c.far.name] == 0 {
			t.Errorf("of two backends %s got answers %v", name, n)
		}
	}
}

// maxWrong is how many errors of one kind a test shows.
const maxWrong = 60
