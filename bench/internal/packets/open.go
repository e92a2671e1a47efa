package packets

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/bench/internal/bpf"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
)

// open opens the probe's connections and makes its runners: with its program,
// and with an empty one. idle is nil for what is measured alone.
func (p probe) open(size int) (full, idle *runner, err error) {
	for _, t := range p.talks {
		if err = t.open(p.flows); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.path, err)
		}
	}
	frames, err := p.wire(size)
	if err != nil {
		return nil, nil, err
	}
	t := target{own: p.own, attach: ebpf.AttachTCXIngress, bare: p.path == pathEmpty}
	if p.own == "" {
		if t, err = p.side.target(p.flows); err != nil {
			return nil, nil, err
		}
		defer func() { _ = t.program.Close() }()
	}
	if full, err = newRunner(t, p.side.ifindex, frames); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.path, err)
	}
	if t.bare {
		return full, nil, nil
	}
	t.program, t.own = nil, bpf.BenchProgEmpty
	idle, err = newRunner(t, p.side.ifindex, frames)
	return full, idle, err
}

// newFlows is the table of new flows, emptied or filled before samples.
type newFlows struct{ table *ebpf.Map }

func openNewFlows() (newFlows, error) {
	table, err := node.OpenTable(datapath.CTNewMap)
	return newFlows{table}, err
}

func (n newFlows) close() { _ = n.table.Close() }

// batch is how many entries are deleted at once.
const batch = 4096

// empty deletes all entries.
func (n newFlows) empty() error {
	keys, values := make([]abi.CCtKey, batch), make([]abi.CCtEntry, batch)
	var cursor ebpf.MapBatchCursor
	for {
		_, err := n.table.BatchLookupAndDelete(&cursor, keys, values, nil)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("empty the table of new flows: %w", err)
		}
	}
}

// count counts the entries.
func (n newFlows) count() (entries int, err error) {
	var key abi.CCtKey
	var value abi.CCtEntry
	rows := n.table.Iterate()
	for rows.Next(&key, &value) {
		entries++
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("count new flows: %w", err)
	}
	return entries, nil
}

// prepare brings the table into the state that the case wants, with new flows of
// the case's own.
func (n newFlows) prepare(want tableState, r *runner) error {
	switch want {
	case emptied:
		return n.empty()
	case filled:
		_, _, err := r.run(n.table.MaxEntries())
		return err
	case asItIs:
	}
	return nil
}
