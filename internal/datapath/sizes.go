package datapath

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/procfs"

	"github.com/placid-net/placid/internal/datapath/abi"
	"github.com/placid-net/placid/internal/datapath/resize"
	"github.com/placid-net/placid/internal/sizing"
)

var errNoMeminfo = errors.New("/proc/meminfo does not say how much memory is available")

// Inserts counts attempts to insert into one table.
type Inserts struct {
	Inserted uint64 // ever
	MovedOn  uint64 // of those, into another table
	Full     uint64 // refused for lack of room
	Busy     uint64 // refused because another CPU held the bucket's lock
	Failed   uint64 // refused for any other cause: memory, above all
}

// SizedTable is one table that has a size, as it is now.
type SizedTable struct {
	sizing.Table
	Entries, Size uint64
	// Old is the size of the table that entries are moving out of; 0: they are not.
	Old uint64
	// Memory is what the table takes, in bytes, the old one included.
	Memory uint64
	Inserts
}

// writtenByPackets names the tables whose inserts the programs count.
func writtenByPackets() map[string]abi.CTableId {
	return map[string]abi.CTableId{
		CTTCPMap: abi.CTableIdTABLE_CT_TCP, CTAnyMap: abi.CTableIdTABLE_CT_ANY, CTNewMap: abi.CTableIdTABLE_CT_NEW,
		AffinityMap: abi.CTableIdTABLE_AFFINITY, SockMap: abi.CTableIdTABLE_SOCK,
	}
}

// openSizes makes the manager of sizes. Everything that writes tables exists.
func (d *Datapath) openSizes() {
	var tables []resize.Table
	for _, t := range sizing.Tables(int(d.node.maglevSize())) {
		m := d.loader.Map(t.Map)
		if m == nil || t.Map == FragmentMap { // it is no map of maps: what it holds lives for moments
			continue
		}
		tables = append(tables, resize.Table{
			Map: m, Kind: kindOf(t.Map), Writer: d.writerOf(t.Map), Bytes: t.Bytes,
			Entries: func() (uint64, error) { return d.entriesOf(t.Map) },
		})
	}
	d.sizes = resize.New(resize.Config{
		Tables: tables, Flows: d.conntrack, Available: availableMemory, Done: d.resized, Log: d.node.cfg.Log,
	})
}

func kindOf(mapName string) resize.Kind {
	switch mapName {
	case CTTCPMap, CTAnyMap, CTNewMap:
		return resize.Flow
	case AffinityMap, SockMap:
		return resize.Kept
	}
	return resize.Written
}

// writerOf is what is held while a change of several tables is written.
func (d *Datapath) writerOf(mapName string) sync.Locker {
	switch mapName {
	case PolicyMap, PortMap, CIDRMap:
		return &d.policy.mu
	case FrontendMap, BackendMap, MaglevMap, SourceRangeMap:
		if d.services != nil {
			return &d.services.mu
		}
	}
	return nil
}

// availableMemory is what the kernel says can be had without swapping, in bytes.
func availableMemory() (uint64, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, fmt.Errorf("read available memory: %w", err)
	}
	m, err := proc.Meminfo()
	if err != nil {
		return 0, fmt.Errorf("read available memory: %w", err)
	}
	if m.MemAvailableBytes == nil {
		return 0, errNoMeminfo
	}
	return *m.MemAvailableBytes, nil
}

func (d *Datapath) entriesOf(mapName string) (uint64, error) {
	counts, _, err := d.counter.Count()
	if err != nil {
		return 0, err
	}
	n, _ := d.tableSize(d.loader.Map(mapName), counts)
	return n, nil
}

// resized lets in what waited for room.
func (d *Datapath) resized(move resize.Move) {
	if move.State == resize.Done && d.services != nil {
		d.services.roomAppeared()
	}
}

// Resize gives the table of that map another size while packets use it; the name
// may lack "_map". See resize.Manager.Resize for the errors.
func (d *Datapath) Resize(ctx context.Context, mapName string, entries uint32, why string) (resize.Move, error) {
	if d.loader.Map(mapName) == nil && d.loader.Map(mapName+"_map") != nil {
		mapName += "_map"
	}
	return d.sizes.Resize(ctx, mapName, entries, why)
}

// Moves lists the last change of size of every table that had one.
func (d *Datapath) Moves() []resize.Move { return d.sizes.Moves() }

// runSizes ends moves that an earlier agent began, gives tables the sizes that the
// configuration insists on, and then ends what waits for room.
func (d *Datapath) runSizes(ctx context.Context) error {
	d.bringFlows(ctx)
	d.sizes.Resume(ctx)
	wanted := d.node.cfg.Tables.sizes()
	for _, name := range d.node.cfg.FixedTables {
		m := d.loader.Map(name)
		if m == nil || wanted[name] == 0 || m.Table.MaxEntries() == wanted[name] {
			continue
		}
		if _, err := d.sizes.Resize(ctx, name, wanted[name], "configuration"); err != nil {
			d.node.cfg.Log.Error("give a table the size of the configuration", "map", name, "error", err)
		}
	}
	return d.sizes.Run(ctx)
}

// bringFlows takes over the flows that programs with another layout of entries left.
func (d *Datapath) bringFlows(ctx context.Context) {
	for _, m := range d.loader.Converted() {
		foreign, segments := m.Foreign()
		lost, added := m.Differences()
		log := d.node.cfg.Log.With("map", m.Name, "lost", lost, "added", added)
		moves, err := d.conntrack.Bring(ctx, m.Name, foreign, segments, nil)
		if err == nil {
			err = d.loader.DropForeign(m)
		}
		if err != nil {
			log.Error("take over flows of another layout; those that are left work on until the agent starts again", "error", err)
			continue
		}
		log.Info("flows of another layout were taken over", "moved", moves.Moved, "present", moves.Present, "ended", moves.Ended)
	}
}

// SizedTables lists every table that has a size, in the order of sizing.Tables.
// Numbers of entries are the kernel's, of this moment; of a trie, which the kernel
// does not count, they are what the agent wrote.
func (d *Datapath) SizedTables() ([]SizedTable, error) {
	counts, _, err := d.counter.Count()
	if err != nil {
		return nil, err
	}
	inserts, err := d.inserts()
	if err != nil {
		return nil, err
	}
	var out []SizedTable
	for _, t := range sizing.Tables(int(d.node.maglevSize())) {
		m := d.loader.Map(t.Map)
		if m == nil {
			continue
		}
		s := SizedTable{Table: t, Size: uint64(m.Table.MaxEntries())}
		s.Entries, _ = d.tableSize(m, counts)
		refused := m.Table.Refused()
		s.Inserts = inserts[t.Map]
		s.Full, s.Busy, s.Failed = s.Full+refused.Full, s.Busy+refused.Busy, s.Failed+refused.Failed
		if s.Old, err = m.OldSize(); err != nil {
			return nil, err
		}
		s.Memory = t.Bytes(int(s.Size), int(s.Entries))
		if s.Old > 0 {
			s.Memory += t.Bytes(int(s.Old), int(s.Entries))
		}
		out = append(out, s)
	}
	return out, nil
}

// inserts sums what the programs counted on all CPUs.
func (d *Datapath) inserts() (map[string]Inserts, error) {
	out := map[string]Inserts{}
	m := d.loader.Map(TableStatsMap)
	for name, id := range writtenByPackets() {
		var perCPU []abi.CTableStats
		if err := m.Table.Lookup(uint32(id), &perCPU); err != nil {
			return nil, fmt.Errorf("read %s: %w", TableStatsMap, err)
		}
		var sum Inserts
		for _, c := range perCPU {
			sum.Inserted += c.Inserted
			sum.MovedOn += c.MovedOn
			sum.Full += c.Full
			sum.Busy += c.Busy
			sum.Failed += c.Failed
		}
		out[name] = sum
	}
	return out, nil
}
