package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/placid-net/placid/internal/agent/services"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/state"
)

// Values of the label action of cilium_service_implementation_delay.
const (
	delayUpdated = "service-updated"
	delayDeleted = "service-deleted"
)

// serviceMetrics are the changes of Services and the times that they take. It is
// the services.Meter of the agent.
type serviceMetrics struct {
	events *prometheus.CounterVec
	delays *prometheus.HistogramVec
}

var _ services.Meter = serviceMetrics{}

func newServiceMetrics() serviceMetrics {
	m := serviceMetrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cilium_services_events_total", Help: "Changes of Services and of their EndpointSlices.",
		}, []string{"action"}),
		delays: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cilium_service_implementation_delay",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
			Help:    "Seconds from a change of Services or EndpointSlices being known on this node to the datapath using it, the oldest of those that are written together.",
		}, []string{"action"}),
	}
	for _, action := range []string{services.ActionAdd, services.ActionUpdate, services.ActionDelete} {
		m.events.WithLabelValues(action)
	}
	for _, action := range []string{delayUpdated, delayDeleted} {
		m.delays.WithLabelValues(action)
	}
	return m
}

func (m serviceMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.events, m.delays}
}

// Changed implements services.Meter.
func (m serviceMetrics) Changed(action string) { m.events.WithLabelValues(action).Inc() }

// Programmed implements services.Meter.
func (m serviceMetrics) Programmed(took time.Duration, deleted bool) {
	action := delayUpdated
	if deleted {
		action = delayDeleted
	}
	m.delays.WithLabelValues(action).Observe(took.Seconds())
}

// protocolName is a protocol as metrics have it.
func protocolName(number uint8) string {
	switch number {
	case unix.IPPROTO_ICMP:
		return "ICMP"
	case unix.IPPROTO_ICMPV6:
		return "ICMPv6"
	}
	return state.Protocol(number).String()
}

// collectSourcePorts tells how near masqueraded flows are to having no source port
// left, by the destinations that they take most ports towards.
func collectSourcePorts(st conntrack.Stats, gauge emitter) {
	if st.SourcePorts == 0 {
		return
	}
	gauge(desc("placid_nat_source_ports", "Source ports that masqueraded flows have towards each destination."), float64(st.SourcePorts))
	used := desc("placid_nat_source_ports_used", "Source ports that masqueraded flows take towards a destination: the ten fullest, at the last collection.", "destination", "protocol")
	for _, f := range st.Fullest {
		gauge(used, float64(f.Used), f.Destination.String(), protocolName(f.Proto))
	}
}

// collectServices gives the numbers of services. All are there from the start.
func (s *snapshot) collectServices(gauge, counter emitter) {
	collectSourcePorts(s.datapath.Conntrack().Stats(), gauge)
	st := s.services.Status()
	gauge(desc("placid_services", "Services that this node serves."), float64(st.Services))
	gauge(desc("placid_services_host_port_pods", "Pods of this node with host ports."), float64(st.HostPorts))
	gauge(desc("placid_services_ports", "Ports of Services that should be served, in each family."), float64(st.Ports))
	gauge(desc("placid_services_frontends", "Addresses and ports where Services should be served."), float64(st.Frontends))
	gauge(desc("placid_services_backends", "Backends of the ports of Services."), float64(st.Backends))
	gauge(desc("placid_services_refused_ports", "Ports of Services that are not served as they should be because they do not fit."), float64(len(st.Refused)))
	gauge(desc("placid_services_problems", "Parts of Services that cannot be served as they are written."), float64(len(st.Problems)))
	failing := 0.0
	if st.Problem != "" {
		failing = 1
	}
	gauge(desc("placid_services_failing", "1 while the kernel may not have the Services that it should."), failing)
	counter(desc("placid_services_repaired_total", "Differences of services that audits found in the kernel and mended."), float64(s.services.Repaired()))
	entries := desc("placid_services_table_entries", "Entries of a table of services.", "table")
	size := desc("placid_services_table_max_entries", "Size of a table of services in entries.", "table")
	for _, t := range st.Tables {
		gauge(entries, float64(t.Entries), t.Name)
		gauge(size, float64(t.Size), t.Name)
	}
}
