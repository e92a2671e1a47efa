package agent

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/placid-net/placid/internal/datapath"
)

// metrics are the agent's Prometheus series. Those that operators know carry
// Cilium's names and labels; those that only Placid has begin with placid_.
type metrics struct {
	registry *prometheus.Registry
	cni      *prometheus.HistogramVec
	policyMetrics
	serviceMetrics
}

func newMetrics(a *Agent) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		cni: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "placid_cni_duration_seconds", Help: "Time that the agent takes for a CNI request.",
			Buckets: []float64{.002, .005, .01, .015, .02, .025, .05, .1, .25, .5, 1, 5, 15, 60},
		}, []string{"operation", "outcome"}),
	}
	m.policyMetrics, m.serviceMetrics = newPolicyMetrics(), newServiceMetrics()
	m.registry.MustRegister(m.policyMetrics.all()...)
	m.registry.MustRegister(m.serviceMetrics.all()...)
	m.registry.MustRegister(m.cni, &snapshot{a}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) observeCNI(operation string, err error, took time.Duration) {
	outcome := "success"
	if err != nil {
		outcome = "fail"
	}
	m.cni.WithLabelValues(operation, outcome).Observe(took.Seconds())
}

// snapshot reads kernel and tables when it is scraped; it holds no numbers.
type snapshot struct{ *Agent }

// descriptions of the series that snapshot gives.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector; the series are unchecked, because
// their labels depend on what the kernel counted.
func (s *snapshot) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *snapshot) Collect(ch chan<- prometheus.Metric) {
	emit := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { emit(d, prometheus.GaugeValue, v, labels...) }
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		emit(d, prometheus.CounterValue, v, labels...)
	}
	gauge(desc("cilium_version", "Version of the agent.", "version", "revision", "arch"), 1, s.version, "", runtime.GOARCH)
	if eps, _, err := s.tables.Endpoints(); err == nil {
		gauge(desc("cilium_endpoint", "Endpoints of this node."), float64(len(eps)))
	}
	s.collectPackets(counter)
	s.collectAddresses(gauge)
	s.collectControllers(gauge, counter)
	s.collectPolicy(gauge)
	s.collectServices(gauge, counter)
	s.collectConntrack(ch, gauge, counter)
	s.collectMaps(gauge, counter)
}

type emitter func(d *prometheus.Desc, v float64, labels ...string)

// collectPackets turns the datapath's exact counters into Cilium's series. A
// packet that crosses two programs counts once as forwarded: where the pod's
// side of the node saw it.
func (s *snapshot) collectPackets(counter emitter) {
	counters, err := s.datapath.Counters()
	if err != nil {
		s.log.Error("read counters", "error", err)
		return
	}
	own := [2]*prometheus.Desc{
		desc("placid_datapath_packets_total", "Packets by program and by what became of them.", "program", "reason"),
		desc("placid_datapath_bytes_total", "Bytes by program and by what became of them.", "program", "reason"),
	}
	type key struct{ reason, direction string }
	drops, forwards := map[key]datapath.Counter{}, map[key]datapath.Counter{}
	add := func(m map[key]datapath.Counter, k key, c datapath.Counter) {
		sum := m[k]
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
		m[k] = sum
	}
	for _, c := range counters {
		counter(own[0], float64(c.Packets), c.Program, c.Reason)
		counter(own[1], float64(c.Bytes), c.Program, c.Reason)
		switch {
		case c.Drop:
			add(drops, key{c.Reason, c.Direction}, c)
		case c.PodForward:
			add(forwards, key{direction: c.Direction}, c)
		}
	}
	for _, direction := range []string{datapath.DirectionEgress, datapath.DirectionIngress} {
		add(forwards, key{direction: direction}, datapath.Counter{}) // there from the start
	}
	dropCount := desc("cilium_drop_count_total", "Dropped packets.", "reason", "direction")
	dropBytes := desc("cilium_drop_bytes_total", "Bytes of dropped packets.", "reason", "direction")
	for k, c := range drops {
		counter(dropCount, float64(c.Packets), k.reason, k.direction)
		counter(dropBytes, float64(c.Bytes), k.reason, k.direction)
	}
	forwardCount := desc("cilium_forward_count_total", "Forwarded packets.", "direction")
	forwardBytes := desc("cilium_forward_bytes_total", "Bytes of forwarded packets.", "direction")
	for k, c := range forwards {
		counter(forwardCount, float64(c.Packets), k.direction)
		counter(forwardBytes, float64(c.Bytes), k.direction)
	}
}

func (s *snapshot) collectAddresses(gauge emitter) {
	capacity := desc("cilium_ipam_capacity", "Addresses that pods can get.", "family", "cidr")
	held := desc("cilium_ip_addresses", "Addresses that pods hold.", "family")
	resting := desc("placid_ipam_quarantined_addresses", "Addresses that were given back and rest.", "family")
	used, quarantined := map[string]int{"ipv4": 0, "ipv6": 0}, map[string]int{"ipv4": 0, "ipv6": 0}
	for _, p := range s.ipamPools() {
		family := "ipv4"
		if p.CIDR.Addr().Is6() {
			family = "ipv6"
		}
		gauge(capacity, float64(p.Capacity), family, p.CIDR.String())
		used[family] += p.Used
		quarantined[family] += p.Quarantined
	}
	for family := range used {
		gauge(held, float64(used[family]), family)
		gauge(resting, float64(quarantined[family]), family)
	}
}

func (s *snapshot) collectControllers(gauge, counter emitter) {
	desired := desc("placid_reconcile_desired_rows", "Rows that should exist.", "controller")
	failing := desc("placid_reconcile_failing_rows", "Rows that are not realised.", "controller")
	repaired := desc("placid_reconcile_repaired_total", "Differences that audits found and mended.", "controller")
	for _, c := range s.datapath.Controllers() {
		gauge(desired, float64(c.Desired), c.Name)
		gauge(failing, float64(c.Failing), c.Name)
		counter(repaired, float64(c.Repaired), c.Name)
	}
}
