package agent

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/prometheus/procfs"

	"github.com/placid-net/placid/internal/agent/sizes"
	"github.com/placid-net/placid/internal/config"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/sizing"
)

// errSmallBudget is returned for a budget that the tables exceed from the start.
var errSmallBudget = errors.New("the tables take more from the start")

// tableSizes plans for this machine.
func tableSizes(cfg config.Config) (sizes.Settings, error) {
	memory, err := totalMemory()
	if err != nil {
		return sizes.Settings{}, err
	}
	return planSizes(cfg, memory)
}

// planSizes plans for a machine with that much memory, in bytes.
func planSizes(cfg config.Config, memory uint64) (sizes.Settings, error) {
	planned, err := sizing.Plan(cfg.SizeInput(memory))
	if err != nil {
		return sizes.Settings{}, err
	}
	out := sizes.Settings{Sizes: planned, Ratio: cfg.MapDynamicSizeRatio, Auto: cfg.MapAutosize, Budget: uint64(cfg.MapMemoryBudget)}
	if out.Budget == 0 {
		out.Budget = sizing.DefaultBudget(memory, planned)
	}
	if least := planned.Empty(); out.Auto && out.Budget < least {
		return sizes.Settings{}, fmt.Errorf("key bpf-map-memory-budget: %w: %s; set at least that, twice as much to let the largest move, or smaller sizes, or bpf-map-autosize=false",
			errSmallBudget, humanize.IBytes(least))
	}
	return out, nil
}

// tableEntries are the sizes as the datapath takes them.
func tableEntries(s sizes.Settings) datapath.TableSizes {
	of := func(name string) uint32 { return uint32(s.Entries(name)) }
	return datapath.TableSizes{
		TCP: of(datapath.CTTCPMap), Any: of(datapath.CTAnyMap), Embryonic: of(datapath.CTNewMap), Policy: of(datapath.PolicyMap),
		Service: of(datapath.FrontendMap), Backend: of(datapath.BackendMap), Maglev: of(datapath.MaglevMap),
		Affinity: of(datapath.AffinityMap), SourceRange: of(datapath.SourceRangeMap), Sock: of(datapath.SockMap),
	}
}

// applySizes takes changed keys of sizes.
func (a *Agent) applySizes(cfg config.Config) error {
	settings, err := tableSizes(cfg)
	if err != nil {
		return err
	}
	return a.sizes.Apply(settings)
}

// totalMemory is the memory of the machine, in bytes; 0 if the kernel does not say.
func totalMemory() (uint64, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, fmt.Errorf("read the memory of the machine: %w", err)
	}
	info, err := proc.Meminfo()
	if err != nil {
		return 0, fmt.Errorf("read the memory of the machine: %w", err)
	}
	if info.MemTotalBytes == nil {
		return 0, nil
	}
	return *info.MemTotalBytes, nil
}
