package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync/atomic"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/tcp"
	"github.com/placid-net/placid/internal/datapath/conntrack"
)

// Report is what was measured.
type Report struct {
	Size size `json:"size"`
	// CPU has the seconds of CPU of each way's passes, for a million entries.
	CPU map[string][]float64 `json:"cpu"`
	// Latency has the round trips of each round, by the way that collected
	// meanwhile.
	Latency map[string][]tcp.Latency `json:"latency"`
	// Work is what was collected while round trips were measured, by way.
	Work  map[string]Work `json:"work"`
	Storm Storm           `json:"storm"`
}

// Work is how many passes came to their end, and the seconds of CPU of all.
type Work struct {
	Passes int     `json:"passes"`
	CPU    float64 `json:"cpu"`
}

// Child is the process of the node: it reads a spec, measures, and writes the
// Report, both as JSON.
func Child(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	m := measurement{report: Report{
		CPU: map[string][]float64{}, Latency: map[string][]tcp.Latency{}, Work: map[string]Work{},
	}}
	if err = json.NewDecoder(in).Decode(&m.spec); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	m.report.Size = m.spec.Size
	m.cpu = runtime.NumCPU() - 1
	for i := range runtime.NumCPU() {
		m.cpus = append(m.cpus, i)
	}
	runtime.LockOSThread() // what this thread starts ends with it
	if err = node.BindProcess(m.cpu); err != nil {
		return err
	}
	if m.node, err = node.Start(ctx, m.spec.Node, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.node.Close()) }()
	if m.tables, err = node.OpenTables(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.CloseTables(m.tables)) }()
	if m.table, err = openTable(m.tables); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.table.close()) }()
	if m.collector, err = m.node.Collector(ctx); err != nil {
		return err
	}
	if err = m.table.fill(m.spec.Size.Entries); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{m.costs, m.latencies, m.storm} {
		if err = step(ctx); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(m.report)
}

// measurement is what the steps work with.
type measurement struct {
	spec      spec
	cpu       int          // that all is bound to
	cpus      []int        // all
	passes    atomic.Int32 // of the storm
	node      *node.Node
	tables    conntrack.Tables
	table     *table
	collector *conntrack.Collector
	report    Report
}

// costs compares the ways in random order; each finds the same table.
func (m *measurement) costs(ctx context.Context) error {
	n := m.spec.Size.Entries
	for range m.spec.Size.Rounds {
		for _, i := range rand.Perm(len(ways())) {
			way := ways()[i]
			if err := m.table.expire(n); err != nil {
				return err
			}
			o, err := collect(ctx, way, m.collector, m.table)
			if err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			if want := (n + expiredShare - 1) / expiredShare; o.deleted != want {
				return fmt.Errorf("%s: %d entries were deleted, %d had expired", way, o.deleted, want)
			}
			m.report.CPU[way] = append(m.report.CPU[way], o.cpu.Seconds()*1e6/float64(n))
		}
	}
	return nil
}
