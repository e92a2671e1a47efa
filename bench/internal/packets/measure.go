package packets

import (
	"fmt"
	"math/rand/v2"

	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/stats"
)

// Result is the cost of one case in nanoseconds a packet, without what the
// measurement itself costs.
type Result struct {
	Path string `json:"path"`
	IPv6 bool   `json:"ipv6"`
	Size int    `json:"size"` // of the frame, bytes
	Pods int    `json:"pods"` // endpoints of the node
	// Policy is set where groups of pods are compared. Group is the pods'.
	Policy bool       `json:"policy"`
	Group  node.Group `json:"group"`
	Min    float64    `json:"min"`
	Median float64    `json:"median"`
	// Restore is what was subtracted: the least that restoring the packet and
	// tail-calling an empty program took.
	Restore float64 `json:"restore"`
}

// series is a case while it is measured.
type series struct {
	result       Result
	full, idle   *runner // idle is nil for what is measured alone
	table        tableState
	fulls, idles []float64
	nets         []float64
}

// openSeries opens a probe, and checks what its program does with the packet.
func openSeries(n *node.Node, p probe, r Result) (*series, error) {
	full, idle, err := p.open(r.Size)
	if err != nil {
		return nil, err
	}
	s := &series{result: r, full: full, idle: idle, table: p.table}
	s.result.Path, s.result.Size = p.path, len(full.frame)
	return s, s.verify(n, p)
}

// verify runs the program and compares its verdict and the counter it moves
// with what is expected.
func (s *series) verify(n *node.Node, p probe) error {
	before, err := counted(n, p)
	if err != nil {
		return err
	}
	verdict, _, err := s.full.run(verifiedRuns)
	if err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	after, err := counted(n, p)
	if err != nil {
		return err
	}
	if verdict != p.verdict {
		return fmt.Errorf("%s (IPv6: %t): verdict %d, want %d", p.path, s.result.IPv6, int32(verdict), int32(p.verdict))
	}
	if p.own == "" && after-before != verifiedRuns {
		return fmt.Errorf("%s (IPv6: %t): %d of %d packets were counted as %q", p.path, s.result.IPv6, after-before, verifiedRuns, p.reason)
	}
	return nil
}

func counted(n *node.Node, p probe) (uint64, error) {
	counters, err := n.Counters()
	if err != nil {
		return 0, err
	}
	for _, c := range counters {
		if c.Program == p.side.program && c.Reason == p.reason {
			return c.Packets, nil
		}
	}
	return 0, nil
}

// sample adds one round. The two runners follow each other, so that both meet
// the same noise.
func (s *series) sample(n newFlows) error {
	idle := 0.0
	if s.idle != nil {
		var err error
		if idle, err = s.idle.sample(); err != nil {
			return err
		}
	}
	if err := n.prepare(s.table, s.full); err != nil {
		return err
	}
	full, err := s.full.sample()
	if err != nil {
		return err
	}
	s.idles, s.fulls = append(s.idles, idle), append(s.fulls, full)
	s.nets = append(s.nets, full-idle)
	return nil
}

func (s *series) finish() Result {
	s.full.close()
	if s.idle != nil {
		s.idle.close()
	}
	s.result.Restore = stats.Min(s.idles)
	s.result.Min = stats.Min(s.fulls) - s.result.Restore
	s.result.Median = stats.Median(s.nets)
	return s.result
}

// measure interleaves all cases in random order, so many rounds.
func measure(all []*series, rounds int) ([]Result, error) {
	fresh, err := openNewFlows()
	if err != nil {
		return nil, err
	}
	defer fresh.close()
	for range rounds {
		for _, i := range rand.Perm(len(all)) {
			if err := all[i].sample(fresh); err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].result.Path, err)
			}
		}
	}
	out := make([]Result, 0, len(all))
	for _, s := range all {
		out = append(out, s.finish())
	}
	return out, nil
}
