package packets

import (
	"errors"
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
	result     Result
	full, idle *runner // idle is nil for what is measured alone
	table      tableState
	samples
}

// samples are nanoseconds, a value a round: of the case, of what the measurement
// itself costs, and the difference.
type samples struct{ fulls, idles, nets []float64 }

func (s *samples) add(full, idle float64) {
	s.fulls, s.idles, s.nets = append(s.fulls, full), append(s.idles, idle), append(s.nets, full-idle)
}

func (s *samples) join(o samples) {
	s.fulls, s.idles, s.nets = append(s.fulls, o.fulls...), append(s.idles, o.idles...), append(s.nets, o.nets...)
}

// sum fills in what the samples say.
func (s *samples) sum(r *Result) {
	r.Restore = stats.Min(s.idles)
	r.Min = stats.Min(s.fulls) - r.Restore
	r.Median = stats.Median(s.nets)
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
	verdict, err := s.verified(p)
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
	if n := after - before; p.own == "" && (n < verifiedRuns || n > verifiedRuns+strayPackets) {
		return fmt.Errorf("%s (IPv6: %t): %d of %d packets were counted as %q", p.path, s.result.IPv6, after-before, verifiedRuns, p.reason)
	}
	return nil
}

// verified runs the program. Where all flows are to be new, each must leave an
// entry.
func (s *series) verified(p probe) (verdict uint32, err error) {
	if p.table != emptied {
		verdict, _, err = s.full.run(verifiedRuns)
		return verdict, err
	}
	fresh, err := openNewFlows()
	if err != nil {
		return 0, err
	}
	defer fresh.close()
	if err = fresh.empty(); err != nil {
		return 0, err
	}
	if verdict, _, err = s.full.run(verifiedRuns); err != nil {
		return 0, err
	}
	if left, err := fresh.count(); err != nil || left < verifiedRuns {
		return 0, errors.Join(err, fmt.Errorf("%d flows left %d entries", verifiedRuns, left))
	}
	return verdict, nil
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
	s.add(full, idle)
	return nil
}

func (s *series) finish() Result {
	s.full.close()
	if s.idle != nil {
		s.idle.close()
	}
	s.sum(&s.result)
	return s.result
}

// sampleAll interleaves all cases in random order, so many rounds.
func sampleAll(all []*series, rounds int) error {
	fresh, err := openNewFlows()
	if err != nil {
		return err
	}
	defer fresh.close()
	for range rounds {
		for _, i := range rand.Perm(len(all)) {
			if err := all[i].sample(fresh); err != nil {
				return fmt.Errorf("%s: %w", all[i].result.Path, err)
			}
		}
	}
	return nil
}

// measure measures all cases beside each other.
func measure(all []*series, rounds int) ([]Result, error) {
	if err := sampleAll(all, rounds); err != nil {
		return nil, err
	}
	out := make([]Result, 0, len(all))
	for _, s := range all {
		out = append(out, s.finish())
	}
	return out, nil
}
