package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/placid-net/placid/internal/agentapi"
)

// largeService is how many backends a Service has of which one fits beside the
// others of the tests, and two do not: each takes a slot for both protocols in
// both families.
const largeService = 200

// large is a Service with many backends, none of which is there.
func large(name string) *served {
	s := &served{name: name, byHand: true}
	for i := range largeService {
		s.backends = append(s.backends, backend{place: place{name: fmt.Sprint(name, "-", i), addrs: addresses{
			netip.AddrFrom4([4]byte{198, 19, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00:18:2::%x", i+1)),
		}}})
	}
	return s
}

// testDoesNotFit shows that a Service that the tables have no room for is named
// with what it needs, that others are served meanwhile, and that it comes in when
// there is room.
func (l *lab) testDoesNotFit(t *testing.T, c *serviceCast) {
	first, second := large("fits"), large("does-not-fit")
	l.createServices(t, first)
	l.apply(t, append(second.slices(), second.manifest())...)
	for _, h := range l.nodes {
		eventually(t, serviceTimeout, h.name+" names the Service that does not fit", func() error { return l.refused(t, h, second.name) })
	}
	eventually(t, serviceTimeout, "an event of the Service that does not fit", func() error { return l.refusalEvents(t, second.name) })

	// A small one fits, and is served.
	small := &served{name: "fits-too", number: 60, backends: []backend{c.near}, selector: map[string]string{"pod": c.near.name}}
	l.createServices(t, small)
	ways := map[string][]wayIn{}
	for _, from := range c.callers {
		if from.node != "" {
			ways[from.name] = l.waysIn(t, from, []*served{small})
		}
	}
	showWrong(t, c.generator.tryWays(t, ways, c.inside()).wrong)

	l.kubectl(t, "-n", serviceSpace, "delete", "service", first.name)
	l.waitServed(t, map[string]int{second.name: largeService, small.name: 1})
	for _, h := range l.nodes {
		eventually(t, serviceTimeout, h.name+" names no Service any more", func() error {
			if st := l.status(t, h).Services; len(st.Refused) > 0 {
				return fmt.Errorf("status: %q", st.Refused)
			}
			if n := l.metrics(t, h)[refusedSeries]; n != 0 {
				return fmt.Errorf("%s is %v", refusedSeries, n)
			}
			return nil
		})
	}
	l.kubectl(t, "-n", serviceSpace, "delete", "service", second.name, small.name)
}

const refusedSeries = "placid_services_refused_ports"

// refused is nil when the node says everywhere that it has no room for the Service.
func (l *lab) refused(t *testing.T, h host, name string) error {
	t.Helper()
	text, err := l.tryPlacid(t, h, "service", "get", serviceSpace+"/"+name, "-o", "json")
	if err != nil {
		return err
	}
	var info []agentapi.ServiceInfo
	decode(t, text, &info)
	var errs []error
	for _, p := range info[0].Ports {
		r := p.Refusal
		if p.State != agentapi.ServiceRefused || r == nil || r.Table != "backend" || r.Needs != largeService || r.Free >= largeService {
			errs = append(errs, fmt.Errorf("port %s/%s IPv6 %t is %s: %+v", p.Name, p.Protocol, p.IPv6, p.State, r))
		}
	}
	ports := 2 * len(families)
	if len(info[0].Ports) != ports {
		errs = append(errs, fmt.Errorf("%d ports, want %d", len(info[0].Ports), ports))
	}
	if st := l.status(t, h).Services; len(st.Refused) != ports || !strings.Contains(fmt.Sprint(st.Refused), serviceSpace+"/"+name) {
		errs = append(errs, fmt.Errorf("status: %q", st.Refused))
	}
	if n := l.metrics(t, h)[refusedSeries]; n != float64(ports) {
		errs = append(errs, fmt.Errorf("%s is %v, want %d", refusedSeries, n, ports))
	}
	return errors.Join(errs...)
}

// refusalEvents is nil when each node has told of the Service, and what to do.
func (l *lab) refusalEvents(t *testing.T, name string) error {
	t.Helper()
	events := get[corev1.EventList](t, l, "-n", serviceSpace, "events", "--field-selector=involvedObject.name="+name+",reason=ServiceRefused").Items
	for _, h := range l.nodes {
		told := false
		for _, e := range events {
			told = told || strings.Contains(e.Message, h.name) && strings.Contains(e.Message, "bpf-lb-service-backend-map-max")
		}
		if !told {
			return fmt.Errorf("%s tells nothing: %v", h.name, events)
		}
	}
	return nil
}
