package resize

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/cilium/ebpf"

	"github.com/placid-net/placid/bench/internal/packets"
	"github.com/placid-net/placid/internal/datapath"
	"github.com/placid-net/placid/internal/datapath/abi"
)

// The programs that are compared.
const (
	programReal  = "resizable (Placid)"
	programPlain = "plain maps"
)

// The states that a packet may meet.
const (
	stateBefore = "before"
	stateOld    = "in the old table only"
	stateAfter  = "moved"
)

const (
	// packetTable is the size of the table that packets are measured with.
	packetTable = 1 << 17
	// openFlows are established before anything is measured.
	openFlows = 60_000
	flowsPort = 20_000
	newPort   = 30_000
	// newFlows are more than a case can use up.
	newFlows   = 1 << 30
	sampleRuns = 6000
	warmRuns   = 300
)

// kind is a kind of packets that programs are measured with.
type kind struct {
	name  string
	flows uint32 // in turn; 0: each packet begins one
}

func kinds() []kind {
	return []kind{
		{"established, 1 flow", 1},
		{"established, 1,000 flows in turn", 1000},
		{"established, 60,000 flows in turn", openFlows},
		{"new flow (SYN)", 0},
	}
}

func (k kind) stream() stream {
	if k.flows == 0 {
		return stream{flows: newFlows, port: newPort, opening: true}
	}
	return stream{flows: k.flows, port: flowsPort}
}

// runs is the length of a sample. All flows have a turn in each, so that none finds
// what the sample before has left in the CPU's caches.
func (k kind) runs() int { return max(sampleRuns, int(k.flows)) }

// packets compares programs with tables of each kind, and then what a packet costs
// while its entry is still in the old table.
func (m *measurement) packets(ctx context.Context) error {
	opener, err := packets.NewOpener(m.pods[0], m.pods[1], flowsPort)
	if err != nil {
		return err
	}
	defer opener.Close()
	if err = opener.Open(openFlows); err != nil {
		return err
	}
	n, err := m.entries(datapath.CTTCPMap)
	if err != nil {
		return err
	}
	if n != openFlows {
		return fmt.Errorf("%d established flows, want %d", n, openFlows)
	}
	if err = m.comparePrograms(); err != nil {
		return err
	}
	return m.compareStates(ctx)
}

func (m *measurement) comparePrograms() error {
	cfg, err := configOf(m.program)
	if err != nil {
		return err
	}
	simple, err := loadPlain(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = simple.Close() }()
	programs := map[string]*ebpf.Program{programReal: m.program, programPlain: simple}
	idle, err := newRunner(nil, m.pods, stream{flows: 1, port: flowsPort})
	if err != nil {
		return err
	}
	defer idle.close()
	runners := map[string]map[string]*runner{}
	for name, p := range programs {
		m.report.Programs[name] = map[string][]float64{}
		if runners[name], err = m.runners(p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer closeAll(runners[name])
	}
	order := []string{programReal, programPlain}
	for range m.spec.Size.Samples {
		_, each, err := idle.run(sampleRuns)
		if err != nil {
			return err
		}
		m.report.Idle = append(m.report.Idle, each)
		for _, i := range rand.Perm(len(kinds())) {
			k := kinds()[i]
			for _, j := range rand.Perm(len(order)) {
				each, err := m.sample(runners[order[j]][k.name], k)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", order[j], k.name, err)
				}
				m.report.Programs[order[j]][k.name] = append(m.report.Programs[order[j]][k.name], each)
			}
		}
	}
	return nil
}

// compareStates measures the same packets before a move, after it has begun, and
// after it has ended, in tables of one size.
func (m *measurement) compareStates(ctx context.Context) error {
	runners, err := m.runners(m.program)
	if err != nil {
		return err
	}
	defer closeAll(runners)
	for _, state := range []string{stateBefore, stateOld, stateAfter} {
		m.report.States[state] = map[string][]float64{}
	}
	// The first table has entries in the order of their flows, all others in that of
	// the walk.
	if err := errors.Join(m.begin(packetTable), m.end(ctx, openFlows)); err != nil {
		return err
	}
	for range m.spec.Size.States {
		for _, step := range []struct {
			state string
			do    func() error
		}{
			{stateBefore, func() error { return nil }},
			{stateOld, func() error { return m.begin(packetTable) }},
			{stateAfter, func() error { return m.end(ctx, openFlows) }},
		} {
			if err := step.do(); err != nil {
				return err
			}
			for _, i := range rand.Perm(len(kinds())) {
				k := kinds()[i]
				each, err := m.sample(runners[k.name], k)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", step.state, k.name, err)
				}
				m.report.States[step.state][k.name] = append(m.report.States[step.state][k.name], each)
			}
		}
	}
	return nil
}

// runners makes one of the program for each kind of packets, and checks it.
func (m *measurement) runners(p *ebpf.Program) (map[string]*runner, error) {
	out := map[string]*runner{}
	for _, k := range kinds() {
		r, err := newRunner(p, m.pods, k.stream())
		if err == nil {
			out[k.name] = r
			err = m.verify(r, k)
		}
		if err != nil {
			closeAll(out)
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return out, nil
}

func closeAll(all map[string]*runner) {
	for _, r := range all {
		r.close()
	}
}

// verify looks at what the packets leave: an entry each if they begin flows, else
// none.
func (m *measurement) verify(r *runner, k kind) error {
	if err := m.emptyNew(); err != nil {
		return err
	}
	verdict, _, err := r.run(sampleRuns)
	if err != nil {
		return err
	}
	left, err := m.entries(datapath.CTNewMap)
	if err != nil {
		return err
	}
	want := 0
	if k.flows == 0 {
		want = sampleRuns
	}
	if verdict != verdictRedirect || left != want {
		return fmt.Errorf("verdict %d, want %d; %d packets left %d entries of new flows, want %d",
			int32(verdict), verdictRedirect, sampleRuns, left, want)
	}
	return nil
}

// sample returns nanoseconds a packet, after a warm-up. New flows begin in an empty
// table.
func (m *measurement) sample(r *runner, k kind) (float64, error) {
	if k.flows == 0 {
		if err := m.emptyNew(); err != nil {
			return 0, err
		}
	}
	if k.flows <= sampleRuns {
		if _, _, err := r.run(warmRuns); err != nil {
			return 0, err
		}
	}
	_, each, err := r.run(k.runs())
	return each, err
}

// emptyNew deletes all embryonic flows.
func (m *measurement) emptyNew() error {
	const batch = 4096
	keys, values := make([]abi.CCtKey, batch), make([]abi.CCtEntry, batch)
	var cursor ebpf.MapBatchCursor
	for {
		_, err := m.loader.Map(datapath.CTNewMap).Table.Map().BatchLookupAndDelete(&cursor, keys, values, nil)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("empty the table of new flows: %w", err)
		}
	}
}
