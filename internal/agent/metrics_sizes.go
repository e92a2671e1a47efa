package agent

import (
	"github.com/placid-net/placid/internal/agent/sizes"
	"github.com/placid-net/placid/internal/agentapi"
)

// collectMaps gives the numbers of BPF maps, as the kernel has them at this moment.
func (s *snapshot) collectMaps(gauge, counter emitter) {
	maps, err := s.datapath.Maps()
	if err != nil {
		s.log.Error("read the BPF maps", "error", err)
		return
	}
	size := desc("placid_bpf_map_max_entries", "Size of a BPF map in entries.", "map_name")
	entries := desc("placid_bpf_map_entries", "Entries of a BPF map.", "map_name")
	for _, m := range maps {
		gauge(size, float64(m.MaxEntries), m.Name)
		gauge(entries, float64(m.Entries), m.Name)
	}
	tables, err := s.sizes.Tables()
	if err != nil {
		s.log.Error("read the sizes of tables", "error", err)
		return
	}
	collectTables(tables, s.sizes.Tally(), gauge, counter)
}

// collectTables gives the numbers of tables that have a size. All are there from
// the start, also at 0.
func collectTables(t agentapi.Tables, tally sizes.Tally, gauge, counter emitter) {
	gauge(desc("placid_bpf_map_memory_budget_bytes", "Memory that the tables with a size may take together while they tune themselves."), float64(t.Budget))
	pressure := desc("cilium_bpf_map_pressure", "Entries of a BPF map to its size, exact at this moment.", "map_name")
	memory := desc("placid_bpf_map_memory_bytes", "Memory that a BPF map takes, what its entries are moving out of included.", "map_name")
	peak := desc("placid_bpf_map_peak_entries", "Most entries of a BPF map that were seen since the agent started.", "map_name")
	waiting := desc("placid_bpf_map_waiting_entries", "Entries that wait for room in a BPF map.", "map_name")
	fixed := desc("placid_bpf_map_fixed", "1 where the size of a BPF map was set, or nothing tunes itself.", "map_name")
	atBudget := desc("placid_bpf_map_autosize_at_budget", "1 while the budget keeps a BPF map from the size that it should have.", "map_name")
	inserts := desc("placid_bpf_map_inserts_total", "Entries that programs inserted into a BPF map.", "map_name")
	failures := desc("placid_bpf_map_insert_failures_total", "Entries that did not get into a BPF map.", "map_name", "cause")
	resizes := desc("placid_bpf_map_resizes_total", "Resizes of a BPF map by how they ended.", "map_name", "result")
	moved := desc("placid_bpf_map_resize_entries_total", "Entries that resizes of a BPF map moved.", "map_name")
	for _, info := range t.Tables {
		name := info.Name
		gauge(pressure, info.Pressure, name)
		gauge(memory, float64(info.Memory), name)
		gauge(peak, float64(info.Peak), name)
		gauge(waiting, float64(info.Waiting), name)
		gauge(fixed, number(info.Fixed), name)
		gauge(atBudget, number(info.Limit == agentapi.LimitBudget), name)
		counter(inserts, float64(info.Inserts.Inserted), name)
		counter(failures, float64(info.Inserts.Full), name, "full")
		counter(failures, float64(info.Inserts.Busy), name, "busy")
		counter(failures, float64(info.Inserts.Other), name, "other")
		c := tally[name]
		counter(resizes, float64(c.Success), name, "success")
		counter(resizes, float64(c.Waiting), name, "waiting")
		counter(resizes, float64(c.Failed), name, "failed")
		counter(resizes, float64(c.Refused), name, "refused")
		counter(moved, float64(c.Entries), name)
	}
}

// number is 1 for true.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
