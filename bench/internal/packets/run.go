package packets

import (
	"context"
	"fmt"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/state"
)

// Config says how much to measure.
type Config struct {
	Args  []string // make this program call Child
	Short bool     // a tenth of it, with few pods
}

// Report is what was measured.
type Report struct {
	Rounds, Pods int
	Results      []Result
}

// newReport gives the size of a run: as many pods as kubelet allows on a node by
// default.
func newReport(short bool) Report {
	if short {
		return Report{Rounds: 6, Pods: 12}
	}
	return Report{Rounds: 60, Pods: 110}
}

// Run measures a node in native routing and one with a tunnel, each in a
// process of its own.
func Run(ctx context.Context, cfg Config) (Report, error) {
	r := newReport(cfg.Short)
	for _, tunnel := range []bool{false, true} {
		results, err := runNode(ctx, r, tunnel, cfg.Args)
		if err != nil {
			return r, fmt.Errorf("measure packets (tunnel: %t): %w", tunnel, err)
		}
		r.Results = append(r.Results, results...)
	}
	return r, nil
}

func runNode(ctx context.Context, r Report, tunnel bool, childArgs []string) ([]Result, error) {
	self, other, err := wire()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	defer other.Close()
	n := node.Spec{Self: node.Describe(1), Peers: []state.Node{node.Describe(2)}, Device: node.Device, Tunnel: tunnel}
	for i := 1; i <= r.Pods; i++ {
		pod, podErr := netlab.New()
		if podErr != nil {
			return nil, podErr
		}
		defer pod.Close()
		n.Pods = append(n.Pods, node.Pod{
			Netns: pod.Path(), IPv4: node.PodAddr(1, i, false), IPv6: node.PodAddr(1, i, true),
		})
	}
	var results []Result
	if err := node.Measure(ctx, self, spec{n, r.Rounds}, &results, childArgs...); err != nil {
		return nil, err
	}
	return results, nil
}

// wire makes a node's namespace, and another at the far end of its device
// that does not answer but is known.
func wire() (self, other *netlab.Namespace, err error) {
	if self, err = netlab.New(); err != nil {
		return nil, nil, err
	}
	if other, err = netlab.New(); err != nil {
		return nil, nil, err
	}
	if err = netlab.Join(node.Side(self, 1), node.Side(other, 2)); err != nil {
		return nil, nil, err
	}
	mac, err := other.MAC(node.Device)
	if err != nil {
		return nil, nil, err
	}
	for _, is6 := range []bool{false, true} {
		if err := self.AddNeighbour(node.Device, node.Underlay(2, is6).Addr(), mac); err != nil {
			return nil, nil, err
		}
		if err := self.AddDefaultRoute(node.Device, node.Underlay(2, is6).Addr()); err != nil {
			return nil, nil, err
		}
	}
	return self, other, nil
}
