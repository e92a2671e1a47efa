package operator

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label operation.
const (
	operationCreate = "create"
	operationDelete = "delete"
)

// identityMetrics are the series about identities. Those that operators know carry
// Cilium's names.
type identityMetrics struct {
	sets *labelSets // for the gauges by state

	created    prometheus.Counter
	deleted    prometheus.Counter
	errors     *prometheus.CounterVec
	wait       prometheus.Histogram
	filtered   *prometheus.GaugeVec
	unlabelled *prometheus.GaugeVec
	churn      *prometheus.GaugeVec
	gcEntries  *prometheus.GaugeVec
	gcRuns     *prometheus.GaugeVec
	gcLatency  *prometheus.GaugeVec
}

// passResult is one pass of the collection of unused identities.
type passResult struct {
	alive, deleted, failed int
	took                   time.Duration
}

func newIdentityMetrics(sets *labelSets) *identityMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &identityMetrics{
		sets:    sets,
		created: counter("placid_operator_identity_created_total", "Identities that this operator created."),
		deleted: counter("placid_operator_identity_deleted_total", "Unused identities that this operator deleted."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "placid_operator_identity_errors_total", Help: "Failed attempts to create or delete an identity.",
		}, []string{"operation"}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "placid_operator_identity_allocation_seconds",
			Help: "Time from the creation of a pod, which has whole seconds, until its identity existed; pods whose identity was there are left out.",
			// A creation time can be up to a second too early.
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 1.5, 2, 5, 10, 30, 60, 120, 300},
		}),
		filtered: gauge("placid_operator_policy_filtered_labels",
			"1 for each label that a NetworkPolicy selects peers by and that the label filter leaves out of identities.", "namespace", "policy", "key"),
		unlabelled: gauge("placid_operator_pods_without_labels",
			"Pods whose own labels are all left out of identities by the label filter, in the namespaces that have most.", "namespace"),
		churn: gauge("placid_operator_identity_label_churn",
			"New values of a label an hour in new identities, of the labels that have most.", "namespace", "label"),
		gcEntries: gauge("cilium_operator_identity_gc_entries",
			"Identities that the last pass of the collection left alive and deleted.", "status", "identity_type"),
		gcRuns: gauge("cilium_operator_identity_gc_runs", "Passes of the collection of unused identities.", "outcome", "identity_type"),
		gcLatency: gauge("cilium_operator_identity_gc_latency",
			"Duration of the last pass of the collection of unused identities, in seconds.", "outcome", "identity_type"),
	}
}

// register adds the series to a registry.
func (m *identityMetrics) register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range []prometheus.Collector{
		m, m.created, m.deleted, m.errors, m.wait, m.filtered, m.unlabelled, m.churn, m.gcEntries, m.gcRuns, m.gcLatency,
	} {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("register metrics of identities: %w", err)
	}
	return nil
}

// failed counts an error of operationCreate or operationDelete.
func (m *identityMetrics) failed(operation string) { m.errors.WithLabelValues(operation).Inc() }

// pass sets what a pass of the collection did.
func (m *identityMetrics) pass(p passResult) {
	const kind = "crd"
	outcome := "success"
	if p.failed > 0 {
		outcome = "fail"
	}
	m.gcEntries.WithLabelValues("alive", kind).Set(float64(p.alive))
	m.gcEntries.WithLabelValues("deleted", kind).Set(float64(p.deleted))
	m.gcRuns.WithLabelValues(outcome, kind).Inc()
	m.gcLatency.WithLabelValues(outcome, kind).Set(p.took.Seconds())
}

// forgetPolicy drops the series of a policy.
func (m *identityMetrics) forgetPolicy(namespace, name string) {
	m.filtered.DeletePartialMatch(prometheus.Labels{"namespace": namespace, "policy": name})
}

// identitiesDesc describes the gauge that Collect counts when it is scraped.
func identitiesDesc() *prometheus.Desc {
	return prometheus.NewDesc("placid_operator_identities",
		"Identities by state: used, unused (no pod has them any more), pending (pods wait for them).", []string{"state"}, nil)
}

// Describe implements prometheus.Collector.
func (m *identityMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- identitiesDesc() }

// Collect implements prometheus.Collector.
func (m *identityMetrics) Collect(ch chan<- prometheus.Metric) {
	c := m.sets.count()
	for state, n := range map[string]int{"used": c.used, "unused": c.unused, "pending": c.pending} {
		ch <- prometheus.MustNewConstMetric(identitiesDesc(), prometheus.GaugeValue, float64(n), state)
	}
}

// identityCount counts identities by state.
type identityCount struct{ used, unused, pending int }

func (s *labelSets) count() identityCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c identityCount
	for number, k := range s.known {
		if s.usedLocked(number, k) {
			c.used++
		} else {
			c.unused++
		}
	}
	if !s.needed {
		return c
	}
	for _, set := range s.sets {
		if set.pods > 0 && len(set.numbers) == 0 {
			c.pending++
		}
	}
	return c
}
