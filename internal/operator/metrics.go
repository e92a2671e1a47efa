package operator

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/placid-net/placid/internal/ipam"
)

const (
	nodeAssigned = "assigned"
	nodeFailed   = "failed"
	nodeTotal    = "total"
)

// metrics are the operator's gauges. They are written by the reconciling
// goroutine.
type metrics struct {
	nodes    *prometheus.GaugeVec
	capacity *prometheus.GaugeVec
	used     *prometheus.GaugeVec

	usage  func() []ipam.PoolUsage
	states map[string]string
	counts map[string]int
}

// newMetrics returns unregistered gauges; usage may return nil.
func newMetrics(usage func() []ipam.PoolUsage) *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "placid", Subsystem: "operator_ipam", Name: name, Help: help}, labels)
	}
	m := &metrics{
		nodes:    gauge("nodes", "Nodes by state of their pod CIDRs: total, assigned, failed.", "state"),
		capacity: gauge("pool_capacity", "Node ranges that a pool can be carved into.", "pool"),
		used:     gauge("pool_used", "Node ranges of a pool that a node holds.", "pool"),
		usage:    usage,
		states:   map[string]string{},
		counts:   map[string]int{},
	}
	m.update()
	return m
}

// register adds the gauges to a registry.
func (m *metrics) register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range []prometheus.Collector{m.nodes, m.capacity, m.used} {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// setNode records the state of a node: nodeAssigned or nodeFailed.
func (m *metrics) setNode(name, state string) {
	m.forgetNode(name)
	m.states[name] = state
	m.counts[state]++
}

// forgetNode drops a node that is gone.
func (m *metrics) forgetNode(name string) {
	if old, ok := m.states[name]; ok {
		delete(m.states, name)
		m.counts[old]--
	}
}

// update sets the gauges.
func (m *metrics) update() {
	m.nodes.WithLabelValues(nodeTotal).Set(float64(len(m.states)))
	for _, s := range []string{nodeAssigned, nodeFailed} {
		m.nodes.WithLabelValues(s).Set(float64(m.counts[s]))
	}
	for _, u := range m.usage() {
		pool := u.Pool.CIDR.String()
		m.capacity.WithLabelValues(pool).Set(float64(u.Total))
		m.used.WithLabelValues(pool).Set(float64(u.Used))
	}
}
