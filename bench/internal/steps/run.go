package steps

import (
	"context"

	"github.com/placid-net/placid/bench/internal/netlab"
	"github.com/placid-net/placid/bench/internal/node"
)

// Rounds of a run that is published, and of a short one.
const (
	fullRounds  = 40
	shortRounds = 5
)

// Run measures in a node of its own: childArgs make this program call Child.
func Run(ctx context.Context, short bool, childArgs ...string) (r Results, err error) {
	self, err := netlab.New()
	if err != nil {
		return r, err
	}
	defer self.Close()
	other, err := netlab.New()
	if err != nil {
		return r, err
	}
	defer other.Close()
	if err = netlab.Join(node.Side(self, 1), node.Side(other, 2)); err != nil {
		return r, err
	}
	s := spec{Node: node.Spec{Self: node.Describe(1), Device: node.Device}, Rounds: fullRounds}
	if short {
		s.Rounds = shortRounds
	}
	err = node.Measure(ctx, self, s, &r, childArgs...)
	return r, err
}
