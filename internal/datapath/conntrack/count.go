package conntrack

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/internal/datapath/bpf"
)

// Counter counts the entries of whole tables. The kernel keeps the numbers: they
// are exact at the moment of the call, whatever the size of the tables.
type Counter struct {
	program *ebpf.Program
	counted []string
}

// countable are the maps whose entries the kernel counts; not LPM tries.
func countable(c *bpf.TablesCounts) map[string]uint64 {
	return map[string]uint64{
		bpf.TablesMapEndpointMap: c.Endpoint, bpf.TablesMapIdentityMap: c.Identity,
		bpf.TablesMapPolicyMap: c.Policy, bpf.TablesMapPortMap: c.Port,
		bpf.TablesMapCtTcpMap: c.CtTcp, bpf.TablesMapCtAnyMap: c.CtAny, bpf.TablesMapCtNewMap: c.CtNew,
		bpf.TablesMapFragmentMap: c.Fragment, bpf.TablesMapFrontendMap: c.Frontend, bpf.TablesMapBackendMap: c.Backend,
		bpf.TablesMapMaglevMap: c.Maglev, bpf.TablesMapAffinityMap: c.Affinity, bpf.TablesMapSockMap: c.Sock,
	}
}

// NewCounter loads the program that counts the given maps, by their names: outer
// maps, of which it counts the table in slot TABLE_CURRENT, and fragment_map. The
// maps stay the caller's. Close the counter after use.
func NewCounter(counted map[string]*ebpf.Map) (*Counter, error) {
	spec, err := bpf.LoadTables()
	if err != nil {
		return nil, fmt.Errorf("read compiled object: %w", err)
	}
	c := &Counter{}
	known := countable(&bpf.TablesCounts{})
	for name := range counted {
		if _, ok := known[name]; !ok {
			return nil, fmt.Errorf("count map %s: the kernel keeps no count of it", name)
		}
		c.counted = append(c.counted, name)
	}
	// The program refers to every map; those that are not given are as small as can be.
	for name := range known {
		if counted[name] != nil {
			continue
		}
		if ms := spec.Maps[name]; ms.InnerMap != nil {
			ms.InnerMap.MaxEntries = 1
		} else {
			ms.MaxEntries = 1
		}
	}
	var objects struct {
		TableCounts *ebpf.Program `ebpf:"table_counts"`
	}
	if err := spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{MapReplacements: counted}); err != nil {
		return nil, fmt.Errorf("load program table_counts: %w", err)
	}
	c.program = objects.TableCounts
	return c, nil
}

// Count returns the number of entries by map name, and the kernel's jiffies.
func (c *Counter) Count() (entries map[string]uint64, jiffies uint64, err error) {
	var counts bpf.TablesCounts
	// The context is what the program writes into.
	if _, err := c.program.Run(&ebpf.RunOptions{Context: &counts, ContextOut: &counts}); err != nil {
		return nil, 0, fmt.Errorf("count entries of tables: %w", err)
	}
	all := countable(&counts)
	entries = make(map[string]uint64, len(c.counted))
	for _, name := range c.counted {
		entries[name] = all[name]
	}
	return entries, counts.Jiffies, nil
}

// Close unloads the program.
func (c *Counter) Close() error { return c.program.Close() }
