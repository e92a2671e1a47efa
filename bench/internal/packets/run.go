package packets

import (
	"context"
	"fmt"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
	"github.com/placid-net/placid/internal/state"
)

// manyPods is how many pods kubelet allows on a node by default.
const manyPods = 110

// Run measures a node in native routing and one with a tunnel, each in a
// process of its own: childArgs are the arguments that make this program call
// Child.
func Run(ctx context.Context, childArgs ...string) ([]Result, error) {
	var out []Result
	for _, tunnel := range []bool{false, true} {
		results, err := runNode(ctx, tunnel, childArgs)
		if err != nil {
			return nil, fmt.Errorf("measure packets (tunnel: %t): %w", tunnel, err)
		}
		out = append(out, results...)
	}
	return out, nil
}

func runNode(ctx context.Context, tunnel bool, childArgs []string) ([]Result, error) {
	self, other, err := segment()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	defer other.Close()
	spec := node.Spec{Self: node.Describe(1), Peers: []state.Node{node.Describe(2)}, Device: node.Device, Tunnel: tunnel}
	for i := 1; i <= manyPods; i++ {
		pod, podErr := netlab.New()
		if podErr != nil {
			return nil, podErr
		}
		defer pod.Close()
		spec.Pods = append(spec.Pods, node.Pod{
			Netns: pod.Path(), IPv4: node.PodAddr(1, i, false), IPv6: node.PodAddr(1, i, true),
		})
	}
	var results []Result
	if err := node.Measure(ctx, self, spec, &results, childArgs...); err != nil {
		return nil, err
	}
	return results, nil
}

// segment makes a node's namespace, and another at the far end of its device
// that does not answer but is known.
func segment() (self, other *netlab.Namespace, err error) {
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
	}
	return self, other, nil
}
