package resize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/tcp"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/conntrack"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/state"
)

// Report is what was measured.
type Report struct {
	Size size `json:"size"`
	// Programs has the nanoseconds a packet of each case, by program; Idle those of
	// an empty one.
	Programs map[string]map[string][]float64 `json:"programs"`
	Idle     []float64                       `json:"idle"`
	// States has the nanoseconds a packet of each case, by the state of the move.
	States map[string]map[string][]float64 `json:"states"`
	// Moves has what each way to move took.
	Moves map[string][]Cost `json:"moves"`
	// Latency has the round trips of each round, by what moved meanwhile.
	Latency map[string][]tcp.Latency `json:"latency"`
	// Work is what moved while round trips were measured.
	Work map[string]Work `json:"work"`
}

// measurement is what the steps work with.
type measurement struct {
	spec      spec
	cpu       int // that all is bound to
	pods      []state.Endpoint
	program   *ebpf.Program // from_pod
	loader    *loader.Loader
	tables    conntrack.Tables
	collector *conntrack.Collector
	counter   *conntrack.Counter
	report    Report
}

// Child is the process of the node: it reads a spec, measures, and writes the
// Report, both as JSON.
func Child(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	m := measurement{report: Report{
		Programs: map[string]map[string][]float64{}, States: map[string]map[string][]float64{},
		Moves: map[string][]Cost{}, Latency: map[string][]tcp.Latency{}, Work: map[string]Work{},
	}}
	if err = json.NewDecoder(in).Decode(&m.spec); err != nil {
		return fmt.Errorf("read the node's description: %w", err)
	}
	m.report.Size = m.spec.Size
	m.cpu = runtime.NumCPU() - 1
	runtime.LockOSThread() // what this thread starts ends with it
	if err = node.BindProcess(m.cpu); err != nil {
		return err
	}
	if err = m.start(ctx, log); err != nil {
		return err
	}
	if err = m.open(log); err != nil {
		return errors.Join(err, m.close())
	}
	defer func() { err = errors.Join(err, m.close()) }()
	for _, step := range []func(context.Context) error{m.packets, m.moves, m.latencies} {
		if err = step(ctx); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(m.report)
}

// start makes the node, and leaves it without its agent, which would end the moves
// that it finds.
func (m *measurement) start(ctx context.Context, log *slog.Logger) error {
	n, err := node.Start(ctx, m.spec.Node, log)
	if err != nil {
		return err
	}
	m.pods, err = n.Endpoints()
	return errors.Join(err, n.Close())
}

// open opens what the node has pinned, in the agent's place.
func (m *measurement) open(log *slog.Logger) (err error) {
	if m.program, err = openProgram(loader.FromPod); err != nil {
		return err
	}
	cfg, err := configOf(m.program)
	if err != nil {
		return err
	}
	if m.loader, err = loader.Open(filepath.Dir(node.Root), cfg, nil); err != nil {
		return err
	}
	if m.tables, err = node.OpenTables(); err != nil {
		return err
	}
	m.collector = conntrack.New(conntrack.Config{Tables: m.tables, Log: log})
	m.counter, err = conntrack.NewCounter(map[string]*ebpf.Map{
		datapath.CTTCPMap: m.tables.TCP, datapath.CTNewMap: m.tables.New,
	})
	return err
}

func (m *measurement) close() (err error) {
	if m.counter != nil {
		err = m.counter.Close()
	}
	if m.collector != nil {
		err = errors.Join(err, m.collector.Close(), node.CloseTables(m.tables))
	}
	if m.loader != nil {
		err = errors.Join(err, m.loader.Close())
	}
	if m.program != nil {
		err = errors.Join(err, m.program.Close())
	}
	return err
}

// flows is the map of established TCP flows.
func (m *measurement) flows() *loader.Map { return m.loader.Map(datapath.CTTCPMap) }

// entries counts those of a map's current table.
func (m *measurement) entries(mapName string) (int, error) {
	counts, _, err := m.counter.Count()
	return int(counts[mapName]), err
}
