package agent

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collectConntrack gives the collector's numbers with Cilium's names.
func (s *snapshot) collectConntrack(ch chan<- prometheus.Metric, gauge, counter emitter) {
	st := s.datapath.Conntrack().Stats()
	gauge(desc("cilium_datapath_conntrack_gc_interval_seconds", "Time between two collections of conntrack entries.", "global"),
		st.Interval.Seconds(), "global")
	entries := desc("cilium_datapath_conntrack_gc_entries", "Entries that the last complete collection found.", "family", "protocol", "status")
	for _, e := range st.Entries {
		gauge(entries, float64(e.Alive), e.Family, e.Protocol, "alive")
		gauge(entries, float64(e.Deleted), e.Family, e.Protocol, "deleted")
	}
	runs := desc("cilium_datapath_conntrack_gc_runs_total", "Collections of conntrack entries.", "family", "protocol", "status")
	took := desc("cilium_datapath_conntrack_gc_duration_seconds", "Time that collections of conntrack entries worked.", "family", "protocol", "status")
	fallbacks := desc("cilium_datapath_conntrack_gc_key_fallbacks_total", "Times that a collection lost its place and began again: never, the kernel walks.", "family", "protocol")
	resets := desc("cilium_datapath_conntrack_dump_resets_total", "Times that reading a table began again: never, the kernel walks.", "area", "name", "family")
	for _, r := range st.Runs {
		counter(runs, float64(r.Runs), r.Family, r.Protocol, r.Status)
		ch <- prometheus.MustNewConstHistogram(took, r.Runs, r.Seconds, r.Buckets, r.Family, r.Protocol, r.Status)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, protocol := range []string{"TCP", "non-TCP"} {
			counter(fallbacks, 0, family, protocol)
		}
		counter(resets, 0, "conntrack", "dump_interrupts", family)
	}
}
