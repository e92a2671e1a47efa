package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/placid-net/placid/internal/agent/security"
)

// policyMetrics are the times that identities and policies take. It is the
// security.Meter of the agent.
type policyMetrics struct {
	propagation prometheus.Histogram
	identity    prometheus.Histogram
	implemented prometheus.Observer
	delays      *prometheus.HistogramVec
}

var _ security.Meter = policyMetrics{}

func newPolicyMetrics() policyMetrics {
	buckets := []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	m := policyMetrics{
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "placid_identity_propagation_seconds", Buckets: buckets,
			Help: "Time from an endpoint of another node getting its identity there to this node knowing it, by the two nodes' clocks.",
		}),
		identity: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "placid_endpoint_identity_seconds", Buckets: buckets,
			Help: "Time from the creation of a pod, or from the first policy when that was later, to its identity being known on its node.",
		}),
		delays: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cilium_policy_implementation_delay", Buckets: buckets,
			Help: "Seconds from a change of policies being known on this node to it being in the kernel.",
		}, []string{"source"}),
	}
	m.implemented = m.delays.WithLabelValues("k8s")
	return m
}

func (m policyMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.propagation, m.identity, m.delays}
}

// Propagated implements security.Meter.
func (m policyMetrics) Propagated(took time.Duration) { m.propagation.Observe(took.Seconds()) }

// Identified implements security.Meter.
func (m policyMetrics) Identified(took time.Duration) { m.identity.Observe(took.Seconds()) }

// Implemented implements security.Meter.
func (m policyMetrics) Implemented(took time.Duration) { m.implemented.Observe(took.Seconds()) }

// collectPolicy gives the numbers of identities, policies and sets.
func (s *snapshot) collectPolicy(gauge emitter) {
	st := s.security.Status()
	identities := desc("cilium_identity", "Identities that this node knows.", "type")
	gauge(identities, float64(st.Identities), "cluster_local")
	gauge(identities, float64(len(security.ReservedIdentities())), "reserved")
	gauge(desc("cilium_policy", "Policies that this node knows."), float64(st.Policies))
	enforcement := desc("cilium_policy_endpoint_enforcement_status", "Endpoints by the directions that policies isolate.", "enforcement")
	for word, n := range st.Enforcement {
		gauge(enforcement, float64(n), word)
	}
	gauge(desc("placid_policy_sets", "Policy sets that endpoints of this node are under."), float64(st.Sets))
	gauge(desc("placid_policy_refused_sets", "Policy sets that are not in force, or not whole, because they do not fit."), float64(len(st.Problems)))
	gauge(desc("placid_endpoints_without_identity", "Endpoints of pods of this node whose labels have no identity yet."), float64(st.Init))
	staged := 0.0
	if st.Staged != "" {
		staged = 1
	}
	gauge(desc("placid_policy_staged", "1 while the first policies wait until the nodes know each other's pods."), staged)
}
