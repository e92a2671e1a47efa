package gc

import (
	"context"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/datapath"
)

// Config says how much to measure.
type Config struct {
	Args           []string // make this program call Child
	Server, Client []string // make it call tcp.Serve and tcp.Trips
	Short          bool
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
	Node   node.Spec `json:"node"`
	Size   size      `json:"size"`
	Server []string  `json:"server"`
	Client []string  `json:"client"`
}

// Run measures in a node of its own.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	ns := make([]*netlab.Namespace, 4)
	for i := range ns {
		if ns[i], err = netlab.New(); err != nil {
			return r, err
		}
		defer ns[i].Close()
	}
	if err = netlab.Join(node.Side(ns[0], 1), node.Side(ns[1], 2)); err != nil {
		return r, err
	}
	s := spec{Size: newSize(cfg.Short), Server: cfg.Server, Client: cfg.Client}
	s.Node = node.Spec{
		Self: node.Describe(1), Device: node.Device,
		Tables: datapath.TableSizes{TCP: uint32(2*s.Size.Entries + stormStretch*s.Size.NewFlows)},
	}
	for i, pod := range ns[2:] {
		s.Node.Pods = append(s.Node.Pods, node.Pod{
			Netns: pod.Path(), IPv4: node.PodAddr(1, i+1, false), IPv6: node.PodAddr(1, i+1, true),
		})
	}
	err = node.Measure(ctx, ns[0], s, &r, cfg.Args...)
	return r, err
}
