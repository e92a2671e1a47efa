package services

import (
	"context"
	"fmt"
	"io"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/tcp"
	"github.com/placid-net/placid/internal/state"
)

// Counts of services that everything is measured with.
func Counts(short bool) []int {
	if short {
		return []int{10, 200}
	}
	return []int{10, 1000, 10_000}
}

// Config says how much to measure.
type Config struct {
	Args     []string // make this program call Child
	Short    bool
	Progress io.Writer
}

// Size is how much one count is measured.
type Size struct {
	Counts  []int
	Starts  int // cold starts of each part
	Changes int // of each cold start of the agent's
}

// Report is what was measured.
type Report struct {
	Size   Size
	Agents map[int]Agent
}

// Agent is what the agent's part took with one number of services.
type Agent struct {
	Cold          map[Part][]Cost
	Entries       int
	Changes       []float64 // milliseconds
	Before, After []Memory
}

// Run measures each start in a process of its own.
func Run(ctx context.Context, cfg Config) (Report, error) {
	r := Report{Size: Size{Counts: Counts(cfg.Short), Starts: 3, Changes: 500}, Agents: map[int]Agent{}}
	if cfg.Short {
		r.Size.Starts, r.Size.Changes = 1, 20
	}
	for _, count := range r.Size.Counts {
		_, _ = fmt.Fprintf(cfg.Progress, "services: %d services: cold starts and changes\n", count)
		a := Agent{Cold: map[Part][]Cost{}}
		for range r.Size.Starts {
			for _, part := range []Part{PartAgent, PartWriter, PartMaps} {
				one, err := runChild(ctx, spec{Part: part, Count: count, Changes: r.Size.Changes}, cfg.Args)
				if err != nil {
					return r, fmt.Errorf("%d services, %s: %w", count, part, err)
				}
				a.Cold[part] = append(a.Cold[part], one.Cold)
				a.Entries = max(a.Entries, one.Entries)
				if part == PartAgent {
					a.Changes = append(a.Changes, one.Changes...)
					a.Before, a.After = append(a.Before, one.Before), append(a.After, one.After)
				}
			}
		}
		r.Agents[count] = a
	}
	return r, nil
}

// runChild starts a node without pods, at the far end of whose device nobody is.
func runChild(ctx context.Context, s spec, args []string) (out result, err error) {
	self, err := netlab.New()
	if err != nil {
		return out, err
	}
	defer self.Close()
	other, err := netlab.New()
	if err != nil {
		return out, err
	}
	defer other.Close()
	if err = netlab.Join(node.Side(self, 1), node.Side(other, 2)); err != nil {
		return out, err
	}
	s.Node = node.Spec{
		Self: node.Describe(1), Peers: []state.Node{node.Describe(2)}, Device: node.Device, Tables: tcp.ServiceTables(),
		Serving: &node.Serving{},
	}
	return out, node.Measure(ctx, self, s, &out, args...)
}
