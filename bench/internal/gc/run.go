package gc

import (
	"context"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/bench/internal/trips"
	"github.com/placid-net/placid/internal/datapath"
)

// Config says how much to measure.
type Config struct {
	Args  []string // make this program call Child
	Trips trips.Commands
	Short bool
}

// size is how much is measured.
type size struct {
	Entries  int     `json:"entries"` // in the table
	Rounds   int     `json:"rounds"`
	Seconds  float64 `json:"seconds"`  // of round trips a round
	NewFlows int     `json:"newFlows"` // opened in all
	Rate     int     `json:"rate"`     // of new flows, a second
}

func newSize(short bool) size {
	s := size{Entries: 1_000_000, Rounds: 9, Seconds: 2, NewFlows: 500_000, Rate: 50_000}
	if short {
		s.Entries, s.Rounds, s.Seconds, s.NewFlows = s.Entries/10, 2, 0.5, s.NewFlows/10
	}
	return s
}

// spec is what Child gets.
type spec struct {
	Node  node.Spec      `json:"node"`
	Size  size           `json:"size"`
	Trips trips.Commands `json:"trips"`
}

// Run measures in a node of its own, with two pods.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	err = node.WithPods(2, func(self *netlab.Namespace, pods []node.Pod) error {
		s := spec{Size: newSize(cfg.Short), Trips: cfg.Trips}
		s.Node = node.Spec{
			Self: node.Describe(1), Device: node.Device, Pods: pods,
			Tables: datapath.TableSizes{TCP: uint32(2*s.Size.Entries + stormStretch*s.Size.NewFlows)},
		}
		return node.Measure(ctx, self, s, &r, cfg.Args...)
	})
	return r, err
}
