package resize

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
	Entries  int     `json:"entries"`  // that move
	Backends int     `json:"backends"` // that move
	Moves    int     `json:"moves"`    // of each kind
	Rounds   int     `json:"rounds"`   // of round trips
	Seconds  float64 `json:"seconds"`  // of each
	Samples  int     `json:"samples"`  // of programs beside each other
	States   int     `json:"states"`   // rounds of packets before, during and after a move
}

func newSize(short bool) size {
	s := size{Entries: 1_000_000, Backends: 1 << 16, Moves: 7, Rounds: 7, Seconds: 2, Samples: 150, States: 20}
	if short {
		s.Entries, s.Moves, s.Rounds, s.Seconds, s.Samples, s.States = s.Entries/10, 2, 2, 0.5, 6, 2
	}
	return s
}

// tableSize holds the entries, and is full with few more.
func (s size) tableSize() uint32 {
	n := uint32(1)
	for int(n) < s.Entries {
		n *= 2
	}
	return n
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
			Self: node.Describe(1), Device: node.Device, Serving: &node.Serving{}, Pods: pods,
			Tables: datapath.TableSizes{TCP: packetTable, Backend: uint32(s.Size.Backends)},
		}
		return node.Measure(ctx, self, s, &r, cfg.Args...)
	})
	return r, err
}
